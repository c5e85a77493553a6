"""HAProxy's settings for a DigitalOcean load balancer: pure text, no engine.

Facts about the load balancer (defaults, ranges) are from DigitalOcean's API document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lab.cloud import CloudError, Member

ADMIN_SOCKET = "/run/haproxy-admin.sock"
STATE_FILE = "/var/lib/haproxy/server-state"
CERTIFICATES = "/etc/haproxy/certificates"
"""Directory with `CERTIFICATE_ID.pem` (chain and key) for rules that end TLS."""

_TCP = ("tcp",)
_HTTP = ("http", "https", "http2")


def server_name(member: Member) -> str:
    """The droplet as HAProxy calls it; unique, as droplet names need not be."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', member.name)}:{member.droplet_id}"


def render(load_balancer: dict[str, Any], members: Sequence[Member]) -> str:
    """The whole haproxy.cfg of an API object.

    Members are checked once, in the backend `members`, whatever the number of rules. Raises CloudError for
    what the lab's load balancer cannot do (UDP, HTTP/3, a rule without a certificate).
    """
    idle = int(load_balancer.get("http_idle_timeout_seconds") or 60)
    lines = [
        "global",
        "  log stdout format raw local0 info",
        f"  stats socket {ADMIN_SOCKET} mode 600 level admin",
        f"  server-state-file {STATE_FILE}",
        "  hard-stop-after 10m",
        "  maxconn 4000",
        "defaults",
        "  log global",
        "  option dontlognull",
        "  option redispatch",
        "  retries 3",
        "  load-server-state-from-file global",
        "  timeout connect 5s",
        f"  timeout client {idle}s",
        f"  timeout server {idle}s",
        f"  timeout tunnel {idle}s",
        *_members(load_balancer.get("health_check") or {}, members),
    ]
    rules = load_balancer.get("forwarding_rules") or []
    redirects = bool(load_balancer.get("redirect_http_to_https"))
    for rule in rules:
        lines += _rule(load_balancer, rule, members, redirect=redirects and rule["entry_protocol"] == "http")
    return "\n".join(lines) + "\n"


def _members(check: dict[str, Any], members: Sequence[Member]) -> list[str]:
    protocol = check.get("protocol") or "http"
    lines = ["backend members", f"  mode {'tcp' if protocol == 'tcp' else 'http'}"]
    lines.append(f"  timeout check {int(check.get('response_timeout_seconds') or 5)}s")
    if protocol != "tcp":
        lines += [f"  option httpchk GET {check.get('path') or '/'}", "  http-check expect rstatus ^[23]"]
    server = (
        f"check port {int(check.get('port') or 80)}"
        f" inter {int(check.get('check_interval_seconds') or 10)}s"
        f" fall {int(check.get('unhealthy_threshold') or 5)}"
        f" rise {int(check.get('healthy_threshold') or 3)}"
    )
    if protocol == "https":
        server += " check-ssl verify none"
    return lines + [f"  server {server_name(member)} {member.address}:1 {server}" for member in members]


def _rule(
    load_balancer: dict[str, Any], rule: dict[str, Any], members: Sequence[Member], *, redirect: bool
) -> list[str]:
    protocol, port = rule["entry_protocol"], int(rule["entry_port"])
    passes_tls = bool(rule.get("tls_passthrough"))
    if protocol not in _TCP + _HTTP:
        raise CloudError(f"the lab's load balancer has no {protocol} (rule for port {port})")
    mode = "tcp" if protocol in _TCP or passes_tls else "http"
    bind = f"  bind :{port}"
    if mode == "http" and protocol != "http":
        if not rule.get("certificate_id"):
            raise CloudError(f"the rule for port {port} ends TLS and names no certificate_id")
        bind += f" ssl crt {CERTIFICATES}/{rule['certificate_id']}.pem alpn h2,http/1.1"
    name = _rule_name(rule)
    lines = [f"frontend {name}", f"  mode {mode}", f"  option {mode}log", bind]
    if redirect:
        return [*lines, "  http-request redirect scheme https code 307"]
    lines += [f"  default_backend {name}", f"backend {name}", f"  mode {mode}", "  balance roundrobin"]
    if mode == "http":
        lines += ["  option forwardfor", f"  http-request set-header X-Forwarded-Proto {_scheme(protocol)}"]
        lines += _stickiness(load_balancer.get("sticky_sessions") or {})
    extra = "track members/{name}"
    if load_balancer.get("enable_proxy_protocol"):
        extra += " send-proxy"
    if mode == "http" and rule["target_protocol"] in ("https", "http2"):
        extra += " ssl verify none"
    if mode == "http" and load_balancer.get("sticky_sessions", {}).get("type") == "cookies":
        extra += " cookie {name}"
    for member in members:
        server = server_name(member)
        target = f"{member.address}:{int(rule['target_port'])}"
        lines.append(f"  server {server} {target} {extra.format(name=server)}")
    return lines


def state_of_new(load_balancer: dict[str, Any], members: Sequence[Member], known: str = "") -> str:
    """A server state file in which members that `known` (HAProxy's own, from before) lacks are down.

    HAProxy would send clients to a new member until its first checks have failed; DigitalOcean sends none
    until they have passed.
    """
    lines = [line for line in known.splitlines() if line.strip()]
    if not lines:
        lines = ["1", "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state ..."]
    seen = {tuple(line.split()[1:4:2]) for line in lines[2:]}
    check_port = int((load_balancer.get("health_check") or {}).get("port") or 80)
    backends = [("members", 1)]
    backends += [
        (_rule_name(rule), int(rule["target_port"])) for rule in load_balancer.get("forwarding_rules") or []
    ]
    for number, (backend, port) in enumerate(backends, start=2):
        for index, member in enumerate(members, start=1):
            if (backend, server_name(member)) not in seen:
                checked = backend == "members"
                lines.append(
                    f"{number} {backend} {index} {server_name(member)} {member.address} 0 0 1 1 0"
                    f" {8 if checked else 1} {2 if checked else 0} 0 {6 if checked else 0} 0 0 0"
                    f" - {port} - 0 {check_port if checked else 0} - - {check_port if checked else 0}"
                )
    return "\n".join(lines) + "\n"


def _rule_name(rule: dict[str, Any]) -> str:
    return f"{rule['entry_protocol']}-{int(rule['entry_port'])}"


def _scheme(protocol: str) -> str:
    return "http" if protocol == "http" else "https"


def _stickiness(sticky: dict[str, Any]) -> list[str]:
    if sticky.get("type") != "cookies":
        return []
    name, seconds = sticky.get("cookie_name") or "DO-LB", int(sticky.get("cookie_ttl_seconds") or 300)
    return [f"  cookie {name} insert indirect nocache maxlife {seconds}s"]


def statuses(csv: str) -> dict[str, str]:
    """Member name -> `UP`, `DOWN`, `UP 1/3`, ... from the answer to `show stat`."""
    lines = csv.lstrip("# ").splitlines()
    if not lines:
        return {}
    columns = lines[0].split(",")
    backend, server, status = (columns.index(name) for name in ("pxname", "svname", "status"))
    found = {}
    for line in lines[1:]:
        cells = line.split(",")
        if len(cells) > status and cells[backend] == "members" and cells[server] != "BACKEND":
            found[cells[server].rpartition(":")[0]] = cells[status]
    return found

"""A worker with everything the other way round."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lab.config import Lab
from lab.emulators.cloudflare import CDN_ADDRESSES
from tests.visitor import health

LAB = Lab.load(os.environ.get("LAB_NAME") or "test")
SCENARIO = Path(__file__).parents[1]
CLOUDFLARE = str(next(ipaddress.ip_network(CDN_ADDRESSES["ipv4"][0]).hosts()))
"""An address of the emulated Cloudflare."""


@pytest.fixture(name="variables")
def _variables(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


@pytest.fixture(name="load_balancer")
def _load_balancer(variables: dict[str, Any]) -> Any:
    """Asks as the load balancer does, from the private network: plain HTTP with X-Forwarded headers."""

    def get(path: str, **headers: str) -> tuple[int, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(variables["do_private_ipv4"], 80, timeout=15)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers={"Host": variables["mastodon_local_domain"], **names})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers

    return get


def output(host: Any, *argv: str) -> str:
    result = host.run(shlex.join(argv))
    assert result.rc == 0, result.stderr
    return str(result.stdout).strip()


def test_visitor_who_came_by_https(load_balancer: Any) -> None:
    status, headers = load_balancer("/robots.txt", X_Forwarded_Proto="https", X_Forwarded_For="203.0.113.5")
    assert status == 200
    assert headers.get_all("Strict-Transport-Security") == ["max-age=63072000; includeSubDomains"]


def test_visitor_who_came_by_http(load_balancer: Any, variables: dict[str, Any]) -> None:
    status, headers = load_balancer("/robots.txt", X_Forwarded_Proto="http", X_Forwarded_For="203.0.113.5")
    assert status == 301
    assert headers["Location"] == f"https://{variables['mastodon_local_domain']}/robots.txt"


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        # Through Cloudflare: it says who, and the load balancer says that it was Cloudflare.
        ({"X_Forwarded_For": f"203.0.113.5, {CLOUDFLARE}", "CF_Connecting_IP": "203.0.113.5"}, "203.0.113.5"),
        ({"X_Forwarded_For": CLOUDFLARE, "CF_Connecting_IP": "2001:db8::5"}, "2001:db8::5"),
        # Past Cloudflare: what the visitor says of itself does not count.
        ({"X_Forwarded_For": "198.51.100.7", "CF_Connecting_IP": "203.0.113.5"}, "198.51.100.7"),
        ({"X_Forwarded_For": "203.0.113.5, 198.51.100.7"}, "198.51.100.7"),
        # No address at all in the header: no text gets into the log or to Mastodon.
        ({"X_Forwarded_For": CLOUDFLARE, "CF_Connecting_IP": 'x" y'}, CLOUDFLARE),
    ],
)
def test_client_address(host: Any, load_balancer: Any, headers: dict[str, str], client: str) -> None:
    mark = f"/health?{time.time_ns()}"
    load_balancer(mark, X_Forwarded_Proto="https", **headers)
    lines = [line for line in output(host, "cat", "/var/log/nginx/access.log").splitlines() if mark in line]
    assert [line.split()[0] for line in lines] == [client]


def test_health(variables: dict[str, Any]) -> None:
    assert health(variables["do_private_ipv4"]) == (200, "no-store")


def test_listening_sockets(host: Any, variables: dict[str, Any]) -> None:
    found = {line.split()[3] for line in output(host, "ss", "-Hltn").splitlines()}
    open_to_others = {address for address in found if not address.startswith(("127.", "[::1]"))}
    private = variables["do_private_ipv4"]
    assert open_to_others == {"0.0.0.0:22", "[::]:22", "0.0.0.0:80", f"{private}:8080"}
    assert "127.0.0.1:6379" not in found


def test_no_tunnel(host: Any) -> None:
    assert not host.file("/etc/systemd/system/mastodon-redis-tunnel.service").exists


def test_sidekiqs(host: Any) -> None:
    queues = {}
    for name in ("mastodon-sidekiq", "mastodon-sidekiq-slow"):
        words = json.loads(output(host, "docker", "inspect", "--format={{json .Config.Cmd}}", name))
        queues[name] = {words[i + 1].split(",")[0] for i, word in enumerate(words) if word == "--queue"}
        assert output(host, "docker", "inspect", "--format={{.State.Health.Status}}", name) == "healthy"
    assert queues == {
        "mastodon-sidekiq": {"default", "ingress", "mailers"},
        "mastodon-sidekiq-slow": {"push", "pull", "fasp"},
    }


def test_sidekiq_reaches_redis_by_tls(host: Any) -> None:
    """Sidekiq is ready only when it has read its queues from Redis, and there is no other way to it."""
    environment = output(host, "docker", "inspect", "--format={{json .Config.Env}}", "mastodon-sidekiq")
    assert [name for name in json.loads(environment) if name.startswith("REDIS_URL=rediss://")]


def test_stop_limit(host: Any) -> None:
    shown = output(host, "systemctl", "show", "mastodon-sidekiq", "--property=TimeoutStopUSec", "--value")
    assert shown == "45s"


def test_admin_has_the_last_word_on_the_engine(host: Any) -> None:
    settings = json.loads(output(host, "cat", "/etc/docker/daemon.json"))
    assert settings["debug"] is True
    assert settings["iptables"] is False


# nginx in its container

# Linux's numbers (capability.h): chown, dac_override, kill, setgid, setuid, net_bind_service.
CAPABILITIES = sum(1 << number for number in (0, 1, 5, 6, 7, 10))


def test_nginx_is_not_on_the_host(host: Any) -> None:
    assert not host.package("nginx").is_installed
    service = host.service("nginx")
    assert service.is_running
    assert service.is_enabled
    assert output(host, "systemctl", "show", "nginx", "--property=FragmentPath", "--value") == (
        "/etc/systemd/system/nginx.service"
    )
    assert output(host, "docker", "inspect", "--format={{.State.Health.Status}}", "nginx") == "healthy"


def test_nginx_is_hardened(host: Any) -> None:
    """The master process can bind ports, read the key and change its user; the others can nothing."""
    assert "Read-only file system" in host.run("docker exec nginx touch /etc/nginx/x").stderr
    master = output(host, "docker", "inspect", "--format={{.State.Pid}}", "nginx")
    children = output(host, "pgrep", "--parent", master).split()
    assert children
    wanted = {master: ("0", CAPABILITIES)} | dict.fromkeys(children, ("33", 0))
    for pid, (uid, capabilities) in wanted.items():
        status = dict(line.split(":", 1) for line in output(host, "cat", f"/proc/{pid}/status").splitlines())
        assert status["Uid"].split() == [uid] * 4
        assert status["NoNewPrivs"].strip() == "1"
        assert int(status["CapEff"], 16) == capabilities


def test_nginx_is_limited_and_pinned(host: Any, variables: dict[str, Any]) -> None:
    assert int(output(host, "docker", "inspect", "--format={{.HostConfig.Memory}}", "nginx")) == 256 << 20
    record = json.loads(output(host, "cat", "/etc/mastodon/images.json"))
    reference, _, digest = output(host, "docker", "inspect", "--format={{.Config.Image}}", "nginx").partition(
        "@"
    )
    assert reference == variables["worker_nginx_image"]
    assert record[reference] == digest


def test_nginx_that_is_killed_comes_back(host: Any, variables: dict[str, Any]) -> None:
    output(host, "docker", "kill", "nginx")
    for _ in range(60):
        try:
            if health(variables["do_private_ipv4"]) == (200, "no-store"):
                return
        except OSError:
            pass
        time.sleep(0.5)
    pytest.fail(output(host, "journalctl", "--no-pager", "--lines=40", "--unit=nginx"))


# Cloudflare's addresses


def test_addresses_of_cloudflare_are_those_that_it_says(host: Any) -> None:
    kept = json.loads(output(host, "cat", "/var/lib/vmstio-cloudflare-ranges.json"))
    assert set(kept["ranges"]) == {*CDN_ADDRESSES["ipv4"], *CDN_ADDRESSES["ipv6"]}
    settings = output(host, "cat", "/etc/mastodon/nginx/nginx.conf")
    for each in kept["ranges"]:
        assert f"{each} 1;" in settings


def test_last_good_list_is_kept_while_cloudflare_does_not_answer(host: Any) -> None:
    before = output(host, "cat", "/etc/mastodon/nginx/nginx.conf")
    failing = [{"match": {"path": "/client/v4/ips"}, "times": 99, "action": {"status": 500}}]
    run("lab", "--name", LAB.name, "fault", "cloudflare", "set", json.dumps(failing))
    try:
        said = run(
            "ansible-playbook", "-i", LAB.state / "inventory", SCENARIO.parent / "worker/converge.yml",
            "-e", f"@{SCENARIO}/group_vars/worker.yml",
        )  # fmt: skip
    finally:
        run("lab", "--name", LAB.name, "fault", "cloudflare", "clear")
    assert "changed=0 " in said
    assert re.search(r"\[WARNING\].*/client/v4/ips", " ".join(said.split())), said
    assert output(host, "cat", "/etc/mastodon/nginx/nginx.conf") == before


def run(*argv: str | Path) -> str:
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout

"""nginx moves into a container and back, and visitors see no difference.

Last of the scenario: the tests that are imported here run once more, with nginx in a container.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_worker import (
    _back_in_rotation,
    _serves_again,
    test_address_comes_from_the_load_balancer,
    test_api,
    test_assets_live_long,
    test_drain_and_admit,
    test_drain_that_the_load_balancer_does_not_notice,
    test_engine_restarted,
    test_health,
    test_health_needs_streaming,
    test_http2_is_offered,
    test_old_tls_is_refused,
    test_other_names_are_refused,
    test_others_cannot_forge_an_address,
    test_page,
    test_page_by_http2,
    test_plain_http_is_redirected,
    test_requests_with_another_name_are_not_answered,
    test_text_is_compressed,
    test_tls_versions,
    test_upload,
    test_upload_that_is_too_large,
    test_websocket,
    test_without_web,
)

from lab.config import Lab
from tests.visitor import Visitor

__all__ = [
    "_back_in_rotation",
    "_serves_again",
    "test_address_comes_from_the_load_balancer",
    "test_api",
    "test_assets_live_long",
    "test_drain_and_admit",
    "test_drain_that_the_load_balancer_does_not_notice",
    "test_engine_restarted",
    "test_health",
    "test_health_needs_streaming",
    "test_http2_is_offered",
    "test_old_tls_is_refused",
    "test_other_names_are_refused",
    "test_others_cannot_forge_an_address",
    "test_page",
    "test_page_by_http2",
    "test_plain_http_is_redirected",
    "test_requests_with_another_name_are_not_answered",
    "test_text_is_compressed",
    "test_tls_versions",
    "test_upload",
    "test_upload_that_is_too_large",
    "test_websocket",
    "test_without_web",
]

RENEW = """
set -eu
cd /etc/mastodon/share
cp -a generations/1 generations/2
openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=renewed \\
  -keyout generations/2/tls/privkey.pem -out generations/2/tls/fullchain.pem 2>/dev/null
ln -sfn generations/2 current
"""

Shell = Callable[..., str]
SCENARIO = Path(__file__).parents[1]


def play(lab: Lab, name: str, *, in_container: bool) -> None:
    done = subprocess.run(
        ["ansible-playbook", "-i", lab.state / "inventory", SCENARIO / f"{name}.yml",
         "-e", json.dumps({"worker_nginx_in_container": in_container})],
        env={**os.environ, "NO_COLOR": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


def move(lab: Lab, shell: Shell, visitor: Visitor, *, in_container: bool) -> None:
    """The playbook changes nothing that visitors notice; the restart, out of rotation, moves nginx."""
    play(lab, "converge", in_container=in_container)
    assert "nginx" in json.loads(shell("mastodon-worker", "state"))["outdated"]
    assert visitor.get("/api/v2/instance").status == 200
    shell("systemctl", "reload", "nginx")
    play(lab, "roll", in_container=in_container)
    assert visitor.get("/api/v2/instance").status == 200
    state = json.loads(shell("mastodon-worker", "state"))
    assert (state["outdated"], state["quiet"], state["draining"]) == ([], [], "")
    # nginx's log says what the load balancer was told: that the worker is out, and that it is back.
    told = [line.split()[1] for line in shell("tail", "-n", "400", "/var/log/nginx/health.log").splitlines()]
    assert "503" in told[told.index("200") :]
    assert told[-1] == "200"


@pytest.fixture(autouse=True, scope="module")
def _in_container(host: Any, lab: Lab) -> Iterator[None]:
    def shell(*argv: str) -> str:
        result = host.run(" ".join(argv))
        assert result.rc == 0, result.stderr
        return str(result.stdout)

    variables = host.ansible.get_variables()
    visitor = Visitor(variables["do_private_ipv4"], variables["mastodon_local_domain"], str(lab.ca))
    move(lab, shell, visitor, in_container=True)
    assert "nginx" in shell("docker", "ps", "--format", "{{.Names}}").split()
    yield
    move(lab, shell, visitor, in_container=False)
    assert "nginx" not in shell("docker", "ps", "--format", "{{.Names}}").split()
    assert "/usr/sbin/nginx" in shell("ps", "axww", "-o", "args")


def soon(condition: Callable[[], bool]) -> None:
    """nginx answers a signal first, and then does what it says."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("not true after 10 s")


def certificate(visitor: Visitor) -> bytes:
    """What nginx shows, whoever signed it."""
    raw = socket.create_connection((visitor.address, 443), visitor.timeout)
    raw.sendall(f"PROXY TCP4 {visitor.client} 198.51.100.1 40000 443\r\n".encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(raw, server_hostname=visitor.host) as connection:
        return connection.getpeercert(binary_form=True) or b""


def test_certificate_is_renewed_by_a_reload(shell: Shell, visitor: Visitor) -> None:
    """The local copy is another directory then: a mount of single files would keep the old one."""
    before = certificate(visitor)
    shell("sh", "-c", RENEW)
    try:
        shell("systemctl", "reload", "nginx")
        soon(lambda: certificate(visitor) != before)
    finally:
        shell("sh", "-c", "cd /etc/mastodon/share && ln -sfn generations/1 current && rm -r generations/2")
        shell("systemctl", "reload", "nginx")
    soon(lambda: certificate(visitor) == before)


def test_settings_that_nginx_refuses_fail_the_reload(host: Any, shell: Shell, visitor: Visitor) -> None:
    shell(
        "sh", "-c", "mkdir -p /etc/mastodon/nginx/conf.d && echo nonsense > /etc/mastodon/nginx/conf.d/x.conf"
    )
    try:
        assert host.run("systemctl reload nginx").rc != 0
        assert visitor.get("/api/v2/instance").status == 200
    finally:
        shell("rm", "-r", "/etc/mastodon/nginx/conf.d")
        shell("systemctl", "reload", "nginx")


def test_logs_are_rotated(shell: Shell, visitor: Visitor) -> None:
    visitor.get("/about?before")
    shell("logrotate", "--force", "/etc/logrotate.d/nginx")
    visitor.get("/about?after")
    assert "/about?before" in shell("cat", "/var/log/nginx/access.log.1")
    assert "/about?after" in shell("cat", "/var/log/nginx/access.log")

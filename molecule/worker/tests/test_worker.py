"""A converged worker, by what it does."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from lab.config import Lab
from lab.instance import Instance
from lab.load import assets
from lab.runtime import Runtime
from tests.exposure import exposure
from tests.media import picture, stored
from tests.scanner import open_ports
from tests.visitor import Visitor, ask, health, lies

CONTAINERS = ("mastodon-web", "mastodon-streaming", "mastodon-sidekiq")
HSTS = "max-age=63072000; includeSubDomains"
Shell = Callable[..., str]


@contextmanager
def load_balancer(address: str) -> Iterator[None]:
    """Asks for the worker's health, as the load balancer does, all the time."""
    end = threading.Event()

    def probe() -> None:
        while not end.wait(0.2):
            health(address)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


@pytest.fixture(autouse=True)
def _back_in_rotation(in_rotation: Callable[[], None]) -> Iterator[None]:
    """The next test finds the worker as this one did."""
    yield
    in_rotation()


def wait_until_healthy(shell: Shell) -> None:
    shell("mastodon-worker", "healthy", "--count=2", "--limit=180")


# Web


def test_page(visitor: Visitor) -> None:
    answer = visitor.get("/")
    assert answer.status == 200
    assert (answer.header("Content-Type") or "").startswith("text/html")
    assert answer.header("Strict-Transport-Security") == HSTS


def test_api(visitor: Visitor) -> None:
    answer = visitor.get("/api/v2/instance")
    assert answer.status == 200
    assert json.loads(answer.body)["domain"] == visitor.host


def test_upload(instance: Instance, token: str, lab: Lab) -> None:
    """A picture larger than what nginx, or the application, keeps in memory."""
    content = picture(1200, 1200)
    media = instance.upload(token, "noise.png", content)
    assert stored(lab, media["url"]) == content


def test_upload_that_is_too_large(visitor: Visitor) -> None:
    """It is refused before it is sent."""
    connection = visitor.connect()
    connection.putrequest("POST", "/api/v2/media", skip_host=True)
    connection.putheader("Host", visitor.host)
    connection.putheader("Content-Length", str((99 << 20) + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_plain_http_is_redirected(visitor: Visitor) -> None:
    answer = visitor.get("/about?x=1", port=80, tls=False)
    assert answer.status == 301
    assert answer.header("Location") == f"https://{visitor.host}/about?x=1"


def test_assets_live_long(visitor: Visitor) -> None:
    page = visitor.get("/").body.decode()
    found = assets(page)
    assert found, page
    answer = visitor.get(found[0])
    assert answer.status == 200
    assert answer.header("Cache-Control") == "public, max-age=2419200, must-revalidate"
    assert answer.header("Strict-Transport-Security") == HSTS
    assert visitor.get(found[0]).header("X-Cached") == "HIT"


def test_missing_asset_is_not_cached_for_long(visitor: Visitor) -> None:
    answer = visitor.get("/packs/there-is-no-such-file.js")
    assert answer.status == 404
    assert "2419200" not in (answer.header("Cache-Control") or "")


def test_text_is_compressed(visitor: Visitor) -> None:
    answer = visitor.get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.header("Content-Encoding") == "gzip"


def test_websocket(visitor: Visitor) -> None:
    with visitor.open() as connection:
        connection.sendall(
            f"GET /api/v1/streaming?stream=public HTTP/1.1\r\nHost: {visitor.host}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n".encode()
        )
        answer = connection.recv(4096).decode()
    # Without a token Mastodon says 401: either way it is streaming that answers.
    assert answer.split()[1] in ("101", "401"), answer
    assert HSTS in answer


# TLS


def test_http2_is_offered(visitor: Visitor) -> None:
    with replace(visitor, protocols=["h2", "http/1.1"]).open() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.selected_alpn_protocol() == "h2"


def test_page_by_http2(shell: Shell, visitor: Visitor) -> None:
    page = shell(
        *("curl", "--silent", "--http2", "--insecure", "--haproxy-protocol", "--output", "/dev/null"),
        *("--resolve", f"{visitor.host}:443:127.0.0.1", "--write-out", "%{http_version} %{http_code}"),
        f"https://{visitor.host}/about",
    )
    assert page == "2 200"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_versions(visitor: Visitor, version: ssl.TLSVersion) -> None:
    visitor.open(minimum=version, maximum=version).close()


def test_old_tls_is_refused(visitor: Visitor) -> None:
    """By the server's own alert: the client is willing."""
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        visitor.open(
            minimum=ssl.TLSVersion.TLSv1_1, maximum=ssl.TLSVersion.TLSv1_1, ciphers="DEFAULT:@SECLEVEL=0"
        )


def test_other_names_are_refused(visitor: Visitor) -> None:
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        visitor.open(server_name="other.example")


@pytest.mark.parametrize(
    "request_",
    [
        "GET / HTTP/1.0",
        "GET /health HTTP/1.0",
        "GET / HTTP/1.1\r\nHost: other.example",
        "GET /health HTTP/1.1\r\nHost: 127.0.0.1",
        "GET https://other.example/ HTTP/1.1\r\nHost: HOST",
    ],
)
def test_requests_with_another_name_are_not_answered(visitor: Visitor, request_: str) -> None:
    """However right the name in the handshake was."""
    with visitor.open() as connection:
        lines = request_.replace("HOST", visitor.host)
        connection.sendall(f"{lines}\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(4096) == b""


# Who asks


@pytest.mark.usefixtures("token")
def test_what_visitors_claim_changes_no_page(visitor: Visitor, reader: str) -> None:
    """Not theirs, and not what the cache gives to the next one. One of them says by what address it was asked
    for."""
    pages = ("/about", f"/users/{reader}/outbox")
    honest = {}
    for path in pages:
        answer = visitor.get(f"{path}?honest")
        assert answer.status == 200
        honest[path] = answer.body
    assert f"https://{visitor.host}/users/{reader}/outbox?honest".encode() in honest[pages[1]]
    wrong = []
    for number, (name, value) in enumerate(lies(visitor.host).items()):
        for path in pages:
            for said in ({name: value}, {}):
                answer = visitor.get(f"{path}?liar{number}", headers=said)
                body = answer.body.replace(b"?liar%d" % number, b"?honest")
                if (answer.status, body) != (200, honest[path]) or answer.header("X-Request-Id") == "liar":
                    wrong.append((name, path, "the liar" if said else "the next one", answer.status))
    assert wrong == []


def last_visit(shell: Shell, mark: str) -> str:
    lines = [line for line in shell("cat", "/var/log/nginx/access.log").splitlines() if mark in line]
    assert len(lines) == 1, lines
    return lines[0].split()[0]


def test_address_comes_from_the_load_balancer(visitor: Visitor, shell: Shell) -> None:
    mark = f"/health?{time.time_ns()}"
    forged = {"X-Forwarded-For": "192.0.2.1", "CF-Connecting-IP": "192.0.2.2", "X-Real-IP": "192.0.2.3"}
    visitor.get(mark, headers=forged)
    assert last_visit(shell, mark) == visitor.client


def test_others_cannot_forge_an_address(visitor: Visitor, shell: Shell, variables: dict[str, Any]) -> None:
    """A PROXY header that does not come from the load balancer's range says nothing. The firewall keeps
    strangers away from here; the worker itself, by its public address, is one that it lets in."""
    own = variables["do_public_ipv4"]
    mark = f"/about?{time.time_ns()}"
    program = (
        "import socket, sys\n"
        "s = socket.create_connection((sys.argv[1], 80), 10)\n"
        "s.sendall(b'PROXY TCP4 192.0.2.99 198.51.100.1 40000 80\\r\\n'"
        " + f'GET {sys.argv[2]} HTTP/1.1\\r\\nHost: {sys.argv[3]}\\r\\n"
        "Connection: close\\r\\n\\r\\n'.encode())\n"
        "print(s.recv(100))\n"
    )
    assert " 301 " in shell("python3", "-c", program, own, mark, visitor.host)
    assert last_visit(shell, mark) == own


def test_no_droplet_of_the_instance_speaks_for_visitors(
    visitor: Visitor, shell: Shell, variables: dict[str, Any]
) -> None:
    """The worker's own address in the VPC is in the load balancer's range, and its containers have it."""
    program = (
        "import socket, sys\n"
        "s = socket.create_connection((sys.argv[1], 80), 10)\n"
        "s.sendall(b'PROXY TCP4 192.0.2.99 198.51.100.1 40000 80\\r\\n'"
        " + f'GET /about HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\n\\r\\n'.encode())\n"
        "print(s.recv(100))\n"
    )
    assert shell("python3", "-c", program, variables["do_private_ipv4"], visitor.host) == "b''"


SECRET = "s3cr3t-w0rd"


def found_in_logs(shell: Shell, word: str) -> str:
    """The number of lines with that word, which may begin with a dash, in nginx's logs and the journal."""
    count = f"grep --text --count --fixed-strings --regexp='{word}'"
    # 1: nothing found; anything else is grep's own failure.
    return shell(
        "sh", "-c", f"(cat /var/log/nginx/*.log; journalctl --output=cat) | {count} || test $? -eq 1"
    )


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/streaming?stream=user&access_token={}",
        "/api/v1/streaming/health?access%5Ftoken={0}&access_token={0}",
        "/api/v1/timelines/home?limit=1&access_token={}",
        "/auth/password/edit?reset_password_token={}",
        "/auth/confirmation?confirmation_token={}&redirect_to_app=true",
        "/auth/sign_up?invite_code={}",
        "/auth/sign_up?user%5Binvite_code%5D={}",
        "/about?client_secret={}",
        "/invite/{}",
        "/unsubscribe?token={}&type=follow",
        "/oauth/authorize/native?code={}",
        "/auth/auth/openid_connect/callback?code=1&state={}",
        "/auth/auth/cas/callback?ticket={}",
    ],
)
def test_no_log_has_a_token(visitor: Visitor, shell: Shell, address: str) -> None:
    page = f"/about?{time.time_ns()}"
    visitor.get(address.format(SECRET))
    visitor.get(page, headers={"Referer": f"https://{visitor.host}{address.format(SECRET)}"})
    shell("sh", "-c", f"grep --quiet --fixed-strings 'GET {page} ' /var/log/nginx/access.log")
    assert found_in_logs(shell, SECRET) == "0"


def test_a_session_leaves_no_token_in_a_log(token: str, visitor: Visitor, shell: Shell) -> None:
    """An access token that is good, in a stream's address too, with streaming away as well."""
    address = f"/api/v1/streaming?stream=user&access_token={token}"
    visitor.get(f"/api/v1/accounts/verify_credentials?access_token={token}")
    shell("systemctl", "stop", "mastodon-streaming")
    try:
        assert visitor.get(address).status == 502
    finally:
        shell("systemctl", "start", "mastodon-streaming")
    assert found_in_logs(shell, token) == "0"


# Health and rotation


def test_health(variables: dict[str, Any]) -> None:
    assert health(variables["do_private_ipv4"]) == (200, "no-store")


def test_health_needs_streaming(variables: dict[str, Any], shell: Shell) -> None:
    shell("systemctl", "stop", "mastodon-streaming")
    try:
        assert health(variables["do_private_ipv4"]) == (503, "no-store")
    finally:
        shell("systemctl", "start", "mastodon-streaming")
    assert health(variables["do_private_ipv4"]) == (200, "no-store")


def test_without_web(variables: dict[str, Any], visitor: Visitor, shell: Shell) -> None:
    """Health fails, visitors see the error page; the next start takes the settings that are there then."""
    environment = "/etc/mastodon/share/current/web.env"
    shell("cp", "--preserve", environment, "/root/web.env")
    shell("systemctl", "stop", "mastodon-web")
    try:
        shell("sh", "-c", f"echo X_TEST=1 >> {environment}")
        assert health(variables["do_private_ipv4"]) == (503, "no-store")
        answer = visitor.get(f"/about?{time.time_ns()}")
    finally:
        shell("systemctl", "start", "mastodon-web")
        shell("cp", "--preserve", "/root/web.env", environment)
    assert answer.status == 502
    assert b"Something went wrong on our end" in answer.body
    assert answer.header("Strict-Transport-Security") == HSTS
    assert health(variables["do_private_ipv4"]) == (200, "no-store")
    assert "X_TEST=1" in shell("docker", "exec", "mastodon-web", "env")
    assert json.loads(shell("mastodon-worker", "state"))["outdated"] == ["mastodon-web"]


def test_drain_and_admit(visitor: Visitor, shell: Shell, variables: dict[str, Any]) -> None:
    address = variables["do_private_ipv4"]
    kept = visitor.connect()
    assert ask(kept, "/api/v2/instance", visitor.host).status == 200
    with load_balancer(address):
        shell("mastodon-worker", "drain", "--probes=3", "--quiet=2", "--limit=60")
        assert health(address) == (503, "no-store")
        # Who has a connection still gets an answer; the connection itself was ended.
        assert visitor.get("/api/v2/instance").status == 200
        with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
            ask(kept, "/api/v2/instance", visitor.host)
        assert json.loads(shell("mastodon-worker", "state"))["draining"] == "admin"
        assert shell("mastodon-worker", "start", "--limit=10") == ""

        shell("mastodon-worker", "quiet", "--limit=60")
        assert json.loads(shell("mastodon-worker", "state"))["quiet"] == ["mastodon-sidekiq"]
        restarted = shell("mastodon-worker", "restart", "--count=1", "--limit=180").split()
        assert "mastodon-sidekiq" in restarted
        assert json.loads(shell("mastodon-worker", "state"))["outdated"] == []
        assert json.loads(shell("mastodon-worker", "state"))["quiet"] == []

        shell("mastodon-worker", "admit", "--probes=3", "--limit=60")
        assert health(address) == (200, "no-store")


def test_drain_that_the_load_balancer_does_not_notice(
    shell: Shell, host: Any, variables: dict[str, Any]
) -> None:
    try:
        result = host.run("mastodon-worker drain --probes=1000 --limit=2")
        assert result.rc == 1
        assert "no load balancer has been told 503 1000 times" in result.stderr
        assert health(variables["do_private_ipv4"]) == (503, "no-store")
    finally:
        shell("mastodon-worker", "admit", "--probes=0")


# Containers


@pytest.mark.parametrize("unit", ["nginx", "mastodon-redis-tunnel"])
def test_the_units_are_confined(host: Any, unit: str) -> None:
    assert exposure(host, f"{unit}.service") <= 4.0


def test_nginx_is_confined(shell: Shell, host: Any) -> None:
    # What runs is, and by what the package does not own.
    shown = shell("systemctl", "show", "nginx", "--property=MainPID,FragmentPath,DropInPaths")
    found = dict(line.split("=", 1) for line in shown.splitlines())
    assert found["FragmentPath"] == "/usr/lib/systemd/system/nginx.service"
    assert host.run("dpkg --search %s", found["DropInPaths"]).rc != 0
    pid = found["MainPID"]
    status = dict(line.split(":", 1) for line in shell("cat", f"/proc/{pid}/status").splitlines())
    # DAC_OVERRIDE is the only one for files besides CHOWN; nothing of SYS_ or NET_ but the low ports.
    assert int(status["CapBnd"], 16) == sum(1 << number for number in (0, 1, 5, 6, 7, 10))
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    inside = ("nsenter", f"--target={pid}", "--mount")
    for path in ("/etc/nginx/x", "/usr/local/sbin/x", "/etc/mastodon/x", "/var/lib/mastodon/x"):
        refused = host.run(shlex.join([*inside, "touch", path]))
        assert "Read-only file system" in refused.stderr
    shell(*inside, "touch", "/var/cache/nginx/x", "/var/log/nginx/x")
    shell("rm", "/var/cache/nginx/x", "/var/log/nginx/x")


@pytest.mark.parametrize("name", CONTAINERS)
def test_hardening_is_effective(shell: Shell, host: Any, name: str) -> None:
    pid = shell("docker", "inspect", "--format={{.State.Pid}}", name)
    status = dict(line.split(":", 1) for line in shell("cat", f"/proc/{pid}/status").splitlines())
    assert status["Uid"].split() == ["991"] * 4
    assert status["Gid"].split() == ["991"] * 4
    assert {status[field].strip() for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        "0" * 16
    }
    assert status["NoNewPrivs"].strip() == "1"
    refused = host.run("docker exec %s touch /opt/mastodon/x", name)
    assert refused.rc != 0
    assert "Read-only file system" in refused.stderr
    shell("docker", "exec", name, "touch", "/tmp/x", "/opt/mastodon/tmp/x")


COMPILED = "/opt/mastodon/tmp/cache/bootsnap"
RUBY = ("mastodon-web", "mastodon-sidekiq")


@pytest.mark.parametrize("name", RUBY)
def test_compiled_code_is_the_images_and_read_only(shell: Shell, host: Any, name: str) -> None:
    mounts = json.loads(shell("docker", "inspect", "--format={{json .Mounts}}", name))
    (mount,) = (mount for mount in mounts if mount["Destination"] == COMPILED)
    assert (mount["Type"], mount["RW"]) == ("bind", False)
    assert shell("stat", "--format=%U %a", mount["Source"]) == "root 755"
    assert "BOOTSNAP_READONLY=true" in shell("docker", "exec", name, "env").splitlines()
    assert "Read-only file system" in host.run("docker exec %s touch %s/x", name, COMPILED).stderr


def variables_of(shell: Shell, name: str) -> dict[str, str]:
    """What the first process of a container runs with."""
    pid = shell("docker", "inspect", "--format={{.State.Pid}}", name)
    return dict(pair.split("=", 1) for pair in shell("cat", f"/proc/{pid}/environ").split("\0") if pair)


def test_streaming_runs_with_what_it_reads_and_no_secret_besides(shell: Shell) -> None:
    image = shell("docker", "inspect", "--format={{.Image}}", "mastodon-streaming")
    own = json.loads(shell("docker", "inspect", "--format={{json .Config.Env}}", image))
    found = set(variables_of(shell, "mastodon-streaming"))
    found -= {pair.split("=", 1)[0] for pair in own} | {"HOSTNAME", "HOME"}
    wanted = {"DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASS", "DB_SSLMODE", "DB_POOL"}
    wanted |= {"REDIS_HOST", "REDIS_PORT", "REDIS_USER", "REDIS_PASSWORD", "NODE_EXTRA_CA_CERTS"} | {
        "LOG_LEVEL"
    }
    # An image may have these of its own, too.
    assert found - {"NODE_ENV", "BIND", "PORT"} == wanted


@pytest.mark.parametrize("name", RUBY)
def test_what_loads_rails_runs_with_the_secrets(shell: Shell, name: str) -> None:
    found = variables_of(shell, name)
    assert {"SECRET_KEY_BASE", "VAPID_PRIVATE_KEY", "S3_BUCKET", "SMTP_SERVER", "LOCAL_DOMAIN"} <= set(found)


def test_compiled_code_of_an_image_is_what_its_containers_see(shell: Shell, host: Any) -> None:
    """An image as the official ones: compiled code below the directory for temporary files."""
    image = shell("docker", "inspect", "--format={{.Config.Image}}", "mastodon-web")
    target = "/var/cache/mastodon/code/test"
    shell(
        "sh", "-c", "mkdir -p /root/code/ab && echo compiled > /root/code/ab/cd && chmod -R o-rwx /root/code"
    )
    try:
        shell("docker", "create", "--name=test-code", image)
        shell("docker", "cp", "/root/code", f"test-code:{COMPILED}")
        shell("docker", "commit", "test-code", "test-code:1")
        shell("mastodon-worker", "code", "test-code:1", COMPILED, target)
        options = ["--rm", "--user=991:991", "--read-only", "--network=none"]
        options += [
            "--tmpfs=/opt/mastodon/tmp",
            f"--mount=type=bind,source={target},target={COMPILED},readonly",
        ]
        assert shell("docker", "run", *options, "test-code:1", "cat", f"{COMPILED}/ab/cd") == "compiled"
        assert "mastodon-web" not in shell("docker", "ps", "--all", "--filter=status=created")
    finally:
        host.run("docker rm --force test-code; docker rmi test-code:1; rm -r /root/code %s", target)


def test_a_full_temporary_directory_harms_nobody(
    shell: Shell, host: Any, visitor: Visitor, instance: Instance, token: str
) -> None:
    """Nothing that serves visitors or runs jobs writes there; uploads are on disk, in /tmp."""
    full = "/opt/mastodon/tmp/full"
    for name in RUBY:
        filled = host.run("docker exec %s dd if=/dev/zero of=%s bs=64k", name, full)
        assert "No space left on device" in filled.stderr
    try:
        assert visitor.get(f"/?{time.time_ns()}").status == 200
        instance.upload(token, "noise.png", picture(400, 400))
        instance.post(token, f"full {time.time_ns()}")
        assert "accounts" in shell("docker", "exec", "mastodon-web", "bin/tootctl", "help")
        shell("mastodon-worker", "start", "--limit=10")
        # Also its start: the new process finds room for the file that says it is ready.
        shell("docker", "exec", "mastodon-sidekiq", "touch", "/opt/mastodon/tmp/ready")
    finally:
        for name in RUBY:
            shell("docker", "exec", name, "rm", "--force", full)


@pytest.mark.parametrize("name", CONTAINERS)
def test_container_sees_authorities_and_no_key(shell: Shell, host: Any, name: str) -> None:
    copy = "/etc/mastodon/share/current"
    assert "BEGIN CERTIFICATE" in shell("docker", "exec", name, "cat", f"{copy}/db-ca.pem")
    assert host.run("docker exec %s ls %s/tls", name, copy).rc != 0


@pytest.mark.parametrize("name", CONTAINERS)
def test_memory_is_limited(shell: Shell, name: str) -> None:
    assert int(shell("docker", "inspect", "--format={{.HostConfig.Memory}}", name)) > 0
    assert shell("docker", "inspect", "--format={{.State.OOMKilled}}", name) == "false"


@pytest.mark.parametrize("name", CONTAINERS)
def test_health_check_of_container(shell: Shell, name: str) -> None:
    wait_until_healthy(shell)
    for _ in range(30):
        if (status := shell("docker", "inspect", "--format={{.State.Health.Status}}", name)) == "healthy":
            break
        time.sleep(1)
    assert status == "healthy"


@pytest.mark.parametrize("name", CONTAINERS)
def test_image_is_pinned(shell: Shell, name: str) -> None:
    record = json.loads(shell("cat", "/etc/mastodon/images.json"))
    reference, _, digest = shell("docker", "inspect", "--format={{.Config.Image}}", name).partition("@")
    assert record[reference] == digest


def test_sidekiq_hears_all_queues_but_the_scheduler(shell: Shell) -> None:
    command = shell("docker", "inspect", "--format={{json .Config.Cmd}}", "mastodon-sidekiq")
    words = json.loads(command)
    queues = {words[i + 1].split(",")[0] for i, word in enumerate(words) if word == "--queue"}
    assert queues == {"default", "push", "ingress", "mailers", "pull", "fasp"}


@pytest.mark.parametrize("name", CONTAINERS)
def test_unit(host: Any, shell: Shell, name: str) -> None:
    service = host.service(name)
    assert service.is_enabled
    assert service.is_running
    properties = dict(
        line.split("=", 1)
        for line in shell(
            "systemctl", "show", name, "--property=Restart,TimeoutStopUSec,Requires,WantedBy"
        ).splitlines()
    )
    assert properties["Restart"] == "always"
    assert "docker.service" in properties["Requires"]
    assert "docker.service" in properties["WantedBy"]
    if name == "mastodon-sidekiq":
        assert properties["TimeoutStopUSec"] == "1min 15s"


def test_no_secret_in_a_process_list_or_a_unit(shell: Shell, variables: dict[str, Any]) -> None:
    seen = shell("ps", "axww", "-o", "args") + shell("sh", "-c", "cat /etc/systemd/system/mastodon-*")
    for name in ("mastodon_db_password", "mastodon_redis_password"):
        assert variables[name] not in seen


def test_listening_sockets(shell: Shell, variables: dict[str, Any]) -> None:
    found = {line.split()[3] for line in shell("ss", "-Hltn").splitlines()}
    open_to_others = {address for address in found if not address.startswith(("127.", "[::1]"))}
    assert open_to_others == {
        "0.0.0.0:22", "[::]:22", "0.0.0.0:80", "[::]:80", "0.0.0.0:443", "[::]:443",
        f"{variables['do_private_ipv4']}:8080",
    }  # fmt: skip
    assert {"127.0.0.1:3000", "127.0.0.1:4000", "127.0.0.1:6379", "127.0.0.1:8080"} <= found


def documented_ports(variables: dict[str, Any]) -> dict[str, list[int]]:
    """As role base's README has them: the load balancer comes over the private network, and by default SSH is
    all that the public one needs."""
    return {variables["do_public_ipv4"]: [22], variables["do_private_ipv4"]: [22, 80, 443, 8080]}


def test_open_ports(lab: Lab, variables: dict[str, Any]) -> None:
    """Seen by a neighbour in both networks."""
    documented = documented_ports(variables)
    assert open_ports(lab.container("dns"), *documented) == documented


def test_the_engine_left_the_firewall_alone(shell: Shell) -> None:
    rules = shell("iptables-save")
    assert "docker0" not in rules
    assert "DOCKER-" not in rules


def test_logs_of_nginx_are_rotated(shell: Shell) -> None:
    shell("logrotate", "--force", "/etc/logrotate.d/nginx")
    assert "/var/log/nginx/access.log.1" in shell("sh", "-c", "ls /var/log/nginx/*")


# Start, which looks at what runs as well


def started(host: Any, limit: int = 60) -> tuple[int, str, float]:
    """Exit code of `start`, what it says is wrong, and how long it took."""
    began = time.monotonic()
    result = host.run("mastodon-worker start --limit=%s", str(limit))
    return result.rc, result.stderr, time.monotonic() - began


def test_start_of_what_runs_is_quick(host: Any, measured: Callable[[str], None]) -> None:
    code, said, seconds = started(host)
    assert (code, said) == (0, "")
    assert seconds < 5
    measured(f"mastodon-worker start, where everything runs: {seconds:.1f} s")


def test_containers_that_end_at_once_are_all_named(shell: Shell, host: Any, lab: Lab) -> None:
    """Whatever their units do at the moment of the look, and by the playbook as well."""
    for name in CONTAINERS:
        shell("mkdir", "-p", f"/etc/systemd/system/{name}.service.d")
        override = f"[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo {name} is broken; exit 1'\n"
        shell("sh", "-c", f"printf '%s' \"$0\" > /etc/systemd/system/{name}.service.d/test.conf", override)
    try:
        shell("systemctl", "daemon-reload")
        host.run(f"systemctl restart {' '.join(CONTAINERS)}")
        for pause in (0, 0.7, 1.9):
            time.sleep(pause)
            code, said, seconds = started(host)
            assert code == 1
            for name in CONTAINERS:
                assert f"\n{name}: is " in said, said
                assert f"{name} is broken" in said
            assert seconds < 40
        played = subprocess.run(
            ["ansible-playbook", "-i", lab.state / "inventory", Path(__file__).parents[1] / "converge.yml"],
            env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert played.returncode == 2, played.stdout
        for name in CONTAINERS:
            assert f"{name} is broken" in played.stdout
    finally:
        shell("sh", "-c", "rm -r /etc/systemd/system/mastodon-*.service.d && systemctl daemon-reload")
        shell("systemctl", "restart", *CONTAINERS)


def test_a_tunnel_that_ends_at_once_is_named(shell: Shell, host: Any) -> None:
    settings = "/etc/mastodon/redis-tunnel.conf"
    shell("cp", "--preserve", settings, "/root/tunnel.conf")
    try:
        shell("sh", "-c", f"echo nonsense >> {settings}; systemctl restart mastodon-redis-tunnel")
        code, said, _ = started(host)
        assert code == 1
        assert "\nmastodon-redis-tunnel.service: " in said
        assert "nonsense" in said
    finally:
        shell("cp", "--preserve", "/root/tunnel.conf", settings)
        shell("systemctl", "restart", "mastodon-redis-tunnel")
        shell("mastodon-worker", "healthy", "--count=1", "--limit=60")


def test_a_worker_without_a_database_serves_no_page(
    shell: Shell, host: Any, lab: Lab, variables: dict[str, Any]
) -> None:
    """Its processes are well, and so is /health."""
    pooler = Runtime(docker.from_env(), lab).resolve("vmst-pg-pgbouncer")
    pooler.pause()
    try:
        assert health(variables["do_private_ipv4"])[0] == 200
        code, said, seconds = started(host, limit=1)
    finally:
        pooler.unpause()
    assert code == 1
    assert f"mastodon-web: a page of {variables['mastodon_local_domain']}" in said
    assert seconds < 40
    shell("mastodon-worker", "start", "--limit=60")


# Recovery without help


@pytest.fixture(name="serves_again")
def _serves_again(shell: Shell, instance: Instance, measured: Callable[[str], None]) -> Any:
    """A context: waits until everything works and the load balancer sends visitors, and notes how long it was
    since the context began."""

    def answers() -> bool:
        try:
            return instance.request("GET", "/api/v2/instance").status_code == 200
        except httpx.HTTPError:
            return False

    @contextmanager
    def after(what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        shell("mastodon-worker", "healthy", "--count=1", "--limit=180")
        end = time.monotonic() + 60
        while not answers():
            assert time.monotonic() < end, "the load balancer sends nobody here"
            time.sleep(0.2)
        measured(f"{what}: serves again after {time.monotonic() - started:.0f} s")

    return after


def test_killed_containers_come_back(shell: Shell, serves_again: Any) -> None:
    def identifiers() -> set[str]:
        return set(shell("docker", "ps", "--no-trunc", "--quiet").splitlines())

    before = identifiers()
    for name in CONTAINERS:
        shell("docker", "exec", name, "touch", "/tmp/scratch")
    with serves_again("containers killed"):
        shell("docker", "kill", *CONTAINERS)
        for _ in range(120):
            if not before & identifiers():
                break
            time.sleep(0.5)
    after = identifiers()
    assert len(after) == len(CONTAINERS)
    assert not before & after
    for name in CONTAINERS:
        assert "scratch" not in shell("docker", "exec", name, "ls", "/tmp").split()


@pytest.mark.parametrize(
    ("what", "command"),
    [
        # As an upgrade of the package does it.
        ("engine stopped and started", "systemctl stop docker docker.socket; systemctl start docker"),
        ("engine killed", "pkill -9 dockerd"),
    ],
)
def test_engine_restarted(shell: Shell, serves_again: Any, what: str, command: str) -> None:
    with serves_again(what):
        shell("sh", "-c", command)
    # Scratch volumes of containers that are gone do not pile up.
    volumes = set(shell("docker", "volume", "ls", "--quiet").splitlines())
    assert volumes == {f"{name}-scratch" for name in CONTAINERS}


def test_reboot(shell: Shell, serves_again: Any, lab: Lab, variables: dict[str, Any]) -> None:
    rules = shell("nft", "list", "table", "inet", "vmstio_base")
    before = shell("docker", "ps", "--no-trunc", "--quiet").splitlines()
    with serves_again("host rebooted"):
        reboot = [Path(sys.executable).parent / "lab", "--name", lab.name, "droplet", "reboot"]
        subprocess.run([*reboot, variables["inventory_hostname"]], check=True)
    after = shell("docker", "ps", "--no-trunc", "--quiet").splitlines()
    assert len(after) == len(CONTAINERS)
    assert not set(before) & set(after)
    assert shell("nft", "list", "table", "inet", "vmstio_base") == rules
    documented = documented_ports(variables)
    assert open_ports(lab.container("dns"), *documented, last=10_000) == documented


# Tunnel


def redis(shell: Shell, port: int, password: str) -> str:
    """What Redis answers to AUTH and PING through the tunnel on `port`; empty where the tunnel hangs up."""
    program = (
        "import socket,sys\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10)\n"
        "s.sendall(f'AUTH {sys.stdin.readline().strip()}\\r\\nPING\\r\\n'.encode())\n"
        "s.shutdown(socket.SHUT_WR)\n"
        "try:\n"
        "    print(b''.join(iter(lambda: s.recv(100), b'')).decode())\n"
        "except ConnectionResetError:\n"
        "    pass\n"
    )
    return shell("sh", "-c", f"printf '%s\\n' '{password}' | python3 -c \"$0\" {port}", program)


def test_redis_answers_on_loopback(shell: Shell, variables: dict[str, Any]) -> None:
    assert "PONG" in redis(shell, 6379, variables["mastodon_redis_password"])


@pytest.mark.parametrize(
    ("what", "edit"),
    [
        ("name", "s/^checkHost = .*/checkHost = other.example/"),
        ("authority", "s,^CAfile = .*,CAfile = /root/other-ca.crt,"),
        ("nothing", "s/^sni/sni/"),
    ],
)
def test_tunnel_refuses_a_wrong(shell: Shell, variables: dict[str, Any], what: str, edit: str) -> None:
    """The same tunnel on another port: with a wrong name or authority nothing comes through, else it does."""
    shell("sh", "-c", "openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=other "
          "-out /root/other-ca.crt 2>/dev/null")  # fmt: skip
    shell(
        "sh", "-c",
        f"sed -e '{edit}' -e 's/^accept = .*/accept = 127.0.0.1:6380/' /etc/mastodon/redis-tunnel.conf "
        "> /root/t.conf",
    )  # fmt: skip
    shell("systemd-run", "--unit=test-tunnel", "--collect", "stunnel4", "/root/t.conf")
    try:
        for _ in range(50):
            if "127.0.0.1:6380" in shell("ss", "-Hltn"):
                break
            time.sleep(0.1)
        answer = redis(shell, 6380, variables["mastodon_redis_password"])
    finally:
        shell("systemctl", "stop", "test-tunnel")
    assert ("PONG" in answer) == (what == "nothing")


def test_tunnel_comes_back(shell: Shell, variables: dict[str, Any]) -> None:
    shell("pkill", "-9", "stunnel4")
    for _ in range(50):
        if "127.0.0.1:6379" in shell("ss", "-Hltn"):
            break
        time.sleep(0.2)
    assert "PONG" in redis(shell, 6379, variables["mastodon_redis_password"])

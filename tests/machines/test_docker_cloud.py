"""`DockerCloud` on the real engine: droplets, a load balancer and database clusters in a lab of their own."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from lab import secret
from lab.cloud import CloudError, DatabaseState, DropletSpec, Endpoint, Member
from lab.config import Lab
from lab.docker_cloud import DockerCloud
from lab.engine import connect, containers
from lab.images import Images
from lab.pki import Authority
from lab.runtime import Runtime

NAME = "machines"
KEYS = "/etc/ssh/ssh_host_ed25519_key.pub"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    state = tmp_path_factory.mktemp("lab") / NAME
    public, private = ipaddress.IPv4Network("198.18.1.0/24"), ipaddress.IPv4Network("10.120.0.0/20")
    lab = Lab(NAME, public, private, state)
    runtime = Runtime(connect(), lab)
    runtime.down()
    state.mkdir()
    runtime.networks()
    yield lab
    runtime.down()


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> DockerCloud:
    client = connect(timeout=1800)
    images = Images(client, lab.cache)
    images.droplet()
    images.services()
    return DockerCloud(client, lab, lab.state / "cloud", Authority.open(lab.state / "pki", "Test CA"))


@pytest.fixture(scope="module")
def spec(lab: Lab) -> DropletSpec:
    _, public_key = secret.ssh_key(lab.state)
    return DropletSpec(11, "web-1", "debian-13-x64", "s-1vcpu-1gb", 1024, 1, (public_key,))


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(0.2)


def ssh(lab: Lab, address: str, command: str) -> subprocess.CompletedProcess[str]:
    key = lab.state / "ssh" / "id_ed25519"
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    options += ["-o", "ConnectTimeout=2", "-o", "BatchMode=yes", "-i", str(key)]
    return subprocess.run(
        ["ssh", *options, f"root@{address}", command], capture_output=True, text=True, check=False
    )


def test_a_droplet_is_reached_by_ssh_and_keeps_its_addresses(
    cloud: DockerCloud, lab: Lab, spec: DropletSpec
) -> None:
    addresses = cloud.create_droplet(spec)
    assert cloud.create_droplet(spec) == addresses
    assert addresses.public
    until(lambda: ssh(lab, str(addresses.public), "true").returncode == 0)
    facts = "hostname; systemctl is-system-running --wait; hostname -I"
    name, state, found = ssh(lab, addresses.public, facts).stdout.splitlines()
    assert (name, state) == ("web-1", "running")
    assert {addresses.public, addresses.private} <= set(found.split())
    first = ssh(lab, addresses.private, f"touch /root/mark; cat {KEYS}").stdout

    assert cloud.rebuild_droplet(dataclasses.replace(spec)) == addresses
    until(lambda: ssh(lab, str(addresses.public), "true").returncode == 0)
    second = ssh(lab, addresses.public, f"ls /root; cat {KEYS}").stdout
    assert "mark" not in second
    assert first.split()[1] not in second


def test_a_rebuild_that_was_cut_off_is_finished_by_the_next(
    cloud: DockerCloud, lab: Lab, spec: DropletSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cloud.create_droplet(spec)

    def killed(_container: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cloud, "_start", killed)
        with pytest.raises(KeyboardInterrupt):
            cloud.rebuild_droplet(spec)
    assert not cloud.droplet_is_running(spec.id)
    assert cloud.create_droplet(spec) == before
    assert cloud.droplet_is_running(spec.id)
    assert len(containers(cloud.client, NAME, "droplet")) == 1


def test_power(cloud: DockerCloud, spec: DropletSpec) -> None:
    cloud.create_droplet(spec)
    cloud.power_droplet(spec.id, on=False, graceful=True)
    assert not cloud.droplet_is_running(spec.id)
    cloud.power_droplet(spec.id, on=False, graceful=False)
    cloud.power_droplet(spec.id, on=True, graceful=True)
    assert cloud.droplet_is_running(spec.id)


def test_a_deleted_droplet_leaves_its_address_to_others(cloud: DockerCloud, spec: DropletSpec) -> None:
    cloud.create_droplet(spec)
    one = cloud.create_droplet(dataclasses.replace(spec, id=12, name="web-2"))
    cloud.delete_droplet(12)
    cloud.delete_droplet(12)
    two = cloud.create_droplet(dataclasses.replace(spec, id=13, name="web-3"))
    assert one == two
    cloud.delete_droplet(13)
    with pytest.raises(CloudError, match="no machine"):
        cloud.reboot_droplet(13)


def test_an_image_that_is_not_there(cloud: DockerCloud, spec: DropletSpec) -> None:
    with pytest.raises(CloudError, match="debian-1-x64"):
        cloud.create_droplet(dataclasses.replace(spec, id=14, image="debian-1-x64"))


SERVER = """
import http.server, os, socketserver, threading
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("/tmp/draining") else 200)
        self.end_headers()
class First(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline())
threading.Thread(target=http.server.HTTPServer(("", 8080), Health).serve_forever, daemon=True).start()
socketserver.ThreadingTCPServer(("", 443), First).serve_forever()
"""


def first_line(address: str) -> str:
    with socket.create_connection((address, 443), timeout=5) as connection:
        connection.sendall(b"hello\n")
        return connection.makefile("rb").readline().decode()


def test_the_load_balancer_follows_health_and_members(
    cloud: DockerCloud, lab: Lab, spec: DropletSpec
) -> None:
    addresses = cloud.create_droplet(spec)
    assert addresses.public
    rule = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
    check = {"protocol": "http", "port": 8080, "path": "/health", "check_interval_seconds": 1}
    check |= {"response_timeout_seconds": 1, "unhealthy_threshold": 2, "healthy_threshold": 2}
    balancer = {
        "id": "lb1",
        "name": "lb",
        "forwarding_rules": [rule],
        "health_check": check,
        "enable_proxy_protocol": True,
    }
    members = [Member(spec.id, spec.name, addresses.private)]
    address = cloud.apply_load_balancer(balancer, members)
    assert cloud.apply_load_balancer(balancer, members) == address
    [container] = containers(cloud.client, NAME, "load-balancer")
    runtime = Runtime(cloud.client, lab)

    def state() -> str:
        return runtime.members(container).get("web-1", "")

    assert state().startswith("DOWN")
    until(lambda: ssh(lab, str(addresses.public), "true").returncode == 0)
    started = ssh(lab, addresses.public, f"cat > /root/server.py <<'END'\n{SERVER}\nEND\n")
    assert started.returncode == 0
    ssh(lab, addresses.public, "systemd-run python3 /root/server.py")
    until(lambda: state() == "UP")
    assert first_line(address).startswith(f"PROXY TCP4 {lab.public[1]} {address} ")

    ssh(lab, addresses.public, "touch /tmp/draining")
    until(lambda: state() == "DOWN")
    ssh(lab, addresses.public, "rm /tmp/draining")
    until(lambda: state() == "UP")

    # A member that joins does not disturb the one that serves.
    other = Member(99, "web-9", str(lab.private[250]))
    cloud.apply_load_balancer(balancer, [*members, other])
    assert first_line(address).startswith("PROXY TCP4")
    until(lambda: set(runtime.members(container)) == {"web-1", "web-9"})
    assert state() == "UP"
    cloud.apply_load_balancer(balancer, [])
    until(lambda: runtime.members(container) == {})
    cloud.delete_load_balancer("lb1")
    cloud.delete_load_balancer("lb1")
    assert not containers(cloud.client, NAME, "load-balancer")


def test_a_load_balancer_that_cannot_be_is_refused(cloud: DockerCloud) -> None:
    rule = {"entry_protocol": "udp", "entry_port": 53, "target_protocol": "udp", "target_port": 53}
    with pytest.raises(CloudError, match="udp"):
        cloud.apply_load_balancer({"id": "lb2", "name": "lb2", "forwarding_rules": [rule]}, [])


POOL = {"name": "app-pool", "mode": "transaction", "size": 2, "db": "app", "user": "app"}
STATE = DatabaseState(("app",), {"app": 'it\'s "secret"'}, (POOL,))


@pytest.fixture(scope="module")
def postgres(cloud: DockerCloud) -> Endpoint:
    endpoint = cloud.create_database("pg1", "main", "pg", "17")
    cloud.apply_database("pg1", STATE)
    return endpoint


def address_of(cloud: DockerCloud, cluster: str) -> str:
    found = [c for c in containers(cloud.client, NAME, "database") if c.labels["io.vmst.lab.id"] == cluster]
    return str(next(c.labels["io.vmst.lab.private"] for c in found if "io.vmst.lab.private" in c.labels))


def dial(cloud: DockerCloud, endpoint: Endpoint, folder: Path, **changes: Any) -> psycopg.Connection[Any]:
    ca = folder / "ca.crt"
    ca.write_text(endpoint.ca)
    options: dict[str, Any] = {
        "host": endpoint.private_host,
        "hostaddr": address_of(cloud, "pg1"),
        "port": endpoint.port,
        "user": "app",
        "password": STATE.users["app"],
        "dbname": "app",
        "sslmode": "verify-full",
        "sslrootcert": str(ca),
        "autocommit": True,
        **changes,
    }
    return psycopg.connect(**options)


def test_postgresql_takes_tls_with_its_own_authority_only(
    cloud: DockerCloud, postgres: Endpoint, tmp_path: Path
) -> None:
    with dial(cloud, postgres, tmp_path) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("app",)
    assert cloud.create_database("pg1", "main", "pg", "17") == postgres
    for port in (postgres.port, postgres.pool_port):
        name = "app" if port == postgres.port else "app-pool"
        with pytest.raises(psycopg.OperationalError, match=r"no encryption|SSL required"):
            dial(cloud, postgres, tmp_path, port=port, dbname=name, sslmode="disable", sslrootcert=None)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            dial(cloud, postgres, tmp_path, port=port, dbname=name, password="wrong")
    other = Authority.open(tmp_path / "other", "Other CA").file
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        dial(cloud, postgres, tmp_path, sslrootcert=str(other))


def test_the_pool_forgets_prepared_statements(cloud: DockerCloud, postgres: Endpoint, tmp_path: Path) -> None:
    pooled = {"port": postgres.pool_port, "dbname": "app-pool"}
    with dial(cloud, postgres, tmp_path, **pooled) as one, dial(cloud, postgres, tmp_path, **pooled) as two:
        one.execute("SELECT 1", prepare=True)
        two.execute("BEGIN")  # takes the server connection that knows the statement
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            one.execute("SELECT 1", prepare=True)
        two.execute("ROLLBACK")


def test_the_cluster_holds_what_the_state_says(
    cloud: DockerCloud, postgres: Endpoint, tmp_path: Path
) -> None:
    more = DatabaseState(("app", "two"), {**STATE.users, "bob": "b"}, ())
    cloud.apply_database("pg1", more)
    cloud.apply_database("pg1", more)
    with dial(cloud, postgres, tmp_path, user="bob", password="b", dbname="two"):
        pass
    with pytest.raises(psycopg.OperationalError):
        dial(cloud, postgres, tmp_path, port=postgres.pool_port, dbname="app-pool")
    cloud.apply_database("pg1", STATE)
    with pytest.raises(psycopg.OperationalError):
        dial(cloud, postgres, tmp_path, user="bob", password="b")
    with dial(cloud, postgres, tmp_path, port=postgres.pool_port, dbname="app-pool"):
        pass


def test_another_version_is_refused(cloud: DockerCloud) -> None:
    with pytest.raises(CloudError, match="17"):
        cloud.create_database("pg2", "old", "pg", "13")


def test_valkey_speaks_tls_with_a_password_only(cloud: DockerCloud, lab: Lab) -> None:
    endpoint = cloud.create_database("vk1", "cache", "valkey", "8")
    address = address_of(cloud, "vk1")
    options: dict[str, Any] = {"host": address, "port": endpoint.port, "ssl_ca_certs": str(lab.ca)}
    client = redis.Redis(**options, ssl=True, password=endpoint.password)
    assert client.ping()
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(**options, ssl=True).ping()
    with socket.create_connection((address, endpoint.port), timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""
        assert not answer.startswith((b"+PONG", b"-NOAUTH"))
    context = ssl.create_default_context(cafile=lab.ca)
    with socket.create_connection((address, endpoint.port), timeout=5) as raw:
        context.wrap_socket(raw, server_hostname=endpoint.private_host).close()
    cloud.delete_database("vk1")
    assert not [c for c in containers(cloud.client, NAME) if c.labels["io.vmst.lab.id"] == "vk1"]

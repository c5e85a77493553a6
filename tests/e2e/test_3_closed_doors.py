"""What must be refused: plaintext, and every port that is not documented."""

from __future__ import annotations

import json

import pytest

from tests.scanner import open_ports

from .conftest import HOSTS, TestLab


def test_ports_on_the_public_addresses(converged: TestLab) -> None:
    variables = json.loads(inventory(converged))
    addresses = [variables["_meta"]["hostvars"][droplet]["do_public_ipv4"] for droplet in HOSTS]
    # From another container of the droplets' public network.
    scanned = open_ports(converged.settings.container("mirror"), *addresses)
    # The load balancer comes over the private network: by default SSH is all that the public one needs.
    assert scanned == {address: [22] for address in addresses}


@pytest.mark.parametrize("droplet", ["vmst-exec", "vmst-worker-2"])
def test_no_droplet_speaks_for_visitors(converged: TestLab, droplet: str) -> None:
    """With PROXY protocol it could claim any address; the load balancer alone may connect."""
    worker = json.loads(inventory(converged))["_meta"]["hostvars"]["vmst-worker-1"]["do_private_ipv4"]
    for port in (80, 443):
        probe = f"timeout 3 bash -c '</dev/tcp/{worker}/{port}'"
        assert converged.ssh(droplet, probe).code == 124
    # This one is not answered by the firewall alone: the port is open, to others.
    assert open_ports(converged.settings.container("dns"), worker, last=443)[worker] == [22, 80, 443]


def test_valkey_refuses_plaintext(converged: TestLab) -> None:
    probe = (
        "import os, socket; host, port = os.environ['ADDRESS'].split(':');"
        "s = socket.create_connection((host, int(port)), 5); s.sendall(b'PING\\r\\n'); print(s.recv(100))"
    )
    address = setting(converged, "mastodon_redis_host") + ":" + setting(converged, "mastodon_redis_port")
    done = converged.ssh("vmst-exec", f'ADDRESS={address} python3 -c "{probe}"')
    assert "PONG" not in done.output
    assert "NOAUTH" not in done.output


def test_postgresql_refuses_connections_without_tls(converged: TestLab) -> None:
    host = setting(converged, "mastodon_db_host")
    for port in ("mastodon_db_port", "mastodon_db_pool_port"):
        connection = (
            f"host={host} port={setting(converged, port)} dbname=mastodon user=mastodon sslmode=disable"
        )
        done = converged.ssh("vmst-exec", f"PGPASSWORD=wrong psql '{connection}' -c 'select 1'")
        assert done.code != 0
        assert "no encryption" in done.output or "SSL required" in done.output, done.output


def inventory(lab: TestLab) -> str:
    from .conftest import run

    return run("ansible-inventory", "-i", lab.inventory, "--list").must_succeed().output


def setting(lab: TestLab, name: str) -> str:
    hostvars = json.loads(inventory(lab))["_meta"]["hostvars"]
    return str(hostvars["vmst-exec"][name])

"""Who reaches the worker on one network does not reach the other network by it.

After test_worker.py: the engine and the host were restarted there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from lab.config import Lab
from lab.images import Images

Shell = Callable[..., str]

SEND = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as sender:
    for _ in range(5):
        sender.sendto(b"a packet", (sys.argv[1], 4000))
"""
COUNTER = """
table ip probe {
  chain leaving {
    type filter hook postrouting priority 0
    ip daddr %s udp dport 4000 counter
  }
}
"""


@pytest.fixture(name="forwarded")
def _forwarded(shell: Shell, lab: Lab, variables: dict[str, Any]) -> Iterator[Callable[[], int]]:
    """How many packets for a neighbour in the private network, which a host of the public one hands to the
    worker, leave the worker. They are counted there: the lab's own networks keep them from going further."""
    neighbour = str(lab.private[-9])
    client = docker.from_env()
    sender = client.containers.run(
        Images(client, lab.cache).services(),
        ["sleep", "infinity"],
        network=lab.container("public"),
        cap_add=["NET_ADMIN"],
        detach=True,
        init=True,
    )
    try:
        route = sender.exec_run(["ip", "route", "add", neighbour, "via", variables["do_public_ipv4"]])
        assert route.exit_code == 0, route.output

        def forwarded() -> int:
            shell("sh", "-c", f"echo '{COUNTER % neighbour}' | nft --file -")
            sent = sender.exec_run(["python3", "-c", SEND, neighbour])
            assert sent.exit_code == 0, sent.output
            found = re.search(r"counter packets (\d+)", shell("nft", "list", "table", "ip", "probe"))
            shell("nft", "delete", "table", "ip", "probe")
            assert found
            return int(found[1])

        yield forwarded
    finally:
        sender.remove(force=True)


@pytest.fixture(name="restored")
def _restored(shell: Shell) -> Iterator[None]:
    yield
    shell("sysctl", "--write", "net.ipv4.ip_forward=0")
    shell("systemctl", "reload", "nftables")


@pytest.mark.usefixtures("restored")
def test_packets_for_the_private_network_end_here(shell: Shell, forwarded: Callable[[], int]) -> None:
    assert forwarded() == 0
    # The kernel is told not to, and so is the firewall; each would do.
    shell("sysctl", "--write", "net.ipv4.ip_forward=1")
    assert forwarded() == 0
    shell("systemctl", "restart", "nftables")
    assert forwarded() == 0
    shell("nft", "delete", "chain", "inet", "vmstio_base", "forward")
    assert forwarded() == 5  # so they would have been seen
    shell("sysctl", "--write", "net.ipv4.ip_forward=0")
    assert forwarded() == 0

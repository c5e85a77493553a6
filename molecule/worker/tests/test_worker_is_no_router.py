"""Who reaches the worker on one network does not reach the other network by it.

After test_worker.py: the engine and the host were restarted there.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest

from lab.config import Lab
from lab.images import Images

Shell = Callable[..., str]

LISTEN = """
import socket
with socket.socket(type=socket.SOCK_DGRAM) as listener:
    listener.bind(("", 4000))
    listener.settimeout(3)
    print("ready", flush=True)
    try:
        print(listener.recv(9).decode())
    except TimeoutError:
        print("nothing")
"""
SEND = """
import socket, sys
with socket.socket(type=socket.SOCK_DGRAM) as sender:
    for _ in range(5):
        sender.sendto(b"a packet", (sys.argv[1], 4000))
"""


@contextmanager
def container(client: Any, image: str, network: str) -> Iterator[Any]:
    started = client.containers.run(
        image, ["sleep", "infinity"], network=network, cap_add=["NET_ADMIN"], detach=True, init=True
    )
    try:
        yield started
    finally:
        started.remove(force=True)


@pytest.fixture(name="arrived")
def _arrived(lab: Lab, variables: dict[str, Any]) -> Iterator[Callable[[], str]]:
    """Says what a host of the private network gets of packets that the public one sends it by the worker."""
    client = docker.from_env()
    image = Images(client, lab.cache).services()
    public, private = (lab.container(name) for name in ("public", "private"))
    with container(client, image, public) as sender, container(client, image, private) as neighbour:
        neighbour.reload()
        address = neighbour.attrs["NetworkSettings"]["Networks"][private]["IPAddress"]
        route = sender.exec_run(["ip", "route", "add", address, "via", variables["do_public_ipv4"]])
        assert route.exit_code == 0, route.output

        def arrived() -> str:
            listen = ["docker", "exec", neighbour.id, "python3", "-c", LISTEN]
            with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener:
                assert listener.stdout is not None
                assert listener.stdout.readline() == "ready\n"
                sent = sender.exec_run(["python3", "-c", SEND, address])
                assert sent.exit_code == 0, sent.output
                return listener.stdout.readline().strip()

        yield arrived


@pytest.fixture(name="restored")
def _restored(shell: Shell) -> Iterator[None]:
    yield
    shell("sysctl", "--write", "net.ipv4.ip_forward=0")
    shell("systemctl", "reload", "nftables")


@pytest.mark.usefixtures("restored")
def test_packets_for_the_private_network_end_here(shell: Shell, arrived: Callable[[], str]) -> None:
    assert arrived() == "nothing"
    # The kernel is told not to, and so is the firewall; each would do.
    shell("sysctl", "--write", "net.ipv4.ip_forward=1")
    assert arrived() == "nothing"
    shell("systemctl", "restart", "nftables")
    assert arrived() == "nothing"
    shell("nft", "delete", "chain", "inet", "vmstio_base", "forward")
    assert arrived() == "a packet"  # so it would have been seen
    shell("sysctl", "--write", "net.ipv4.ip_forward=0")
    assert arrived() == "nothing"

from __future__ import annotations

import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any

import docker
import pytest

from lab.config import Lab
from lab.docker_cloud import LABEL_PUBLIC
from lab.engine import containers
from lab.instance import Instance
from lab.runtime import Runtime
from tests.visitor import Visitor, health

LAB = Lab.load(os.environ.get("LAB_NAME") or "test")

_measured: list[str] = []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _measured:
        terminalreporter.section("measured")
        for line in _measured:
            terminalreporter.write_line(line)


@pytest.fixture(name="measured", scope="session")
def _measured_lines() -> Callable[[str], None]:
    """Keeps a line for the end of the run's output."""
    return _measured.append


@pytest.fixture(name="lab", scope="session")
def _lab() -> Lab:
    return LAB


@pytest.fixture(name="variables", scope="module")
def _variables(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


@pytest.fixture(name="visitor", scope="module")
def _visitor(variables: dict[str, Any]) -> Visitor:
    """Comes from the private network, as the load balancer does."""
    return Visitor(variables["do_private_ipv4"], variables["mastodon_local_domain"], str(LAB.ca))


@pytest.fixture(name="balancer", scope="session")
def _balancer() -> Any:
    """The container of the load balancer, whose only member is the worker."""
    (found,) = containers(docker.from_env(), LAB.name, "load-balancer")
    return found


@pytest.fixture(name="members", scope="session")
def _members(balancer: Any) -> Callable[[], dict[str, str]]:
    """Says what the load balancer thinks of each of its members, as `UP`."""
    runtime = Runtime(docker.from_env(), LAB)
    return lambda: runtime.members(balancer)


@pytest.fixture(name="in_rotation", scope="module")
def _in_rotation(members: Callable[[], dict[str, str]], variables: dict[str, Any]) -> Callable[[], None]:
    """Waits until what was done to the worker is over: it is well, and the load balancer, which notices late,
    sends visitors."""

    def state() -> tuple[object, set[str]]:
        try:
            answer: object = health(variables["do_private_ipv4"])[0]
        except OSError as error:
            answer = repr(error)
        # Asked second: who is well by then stays in rotation.
        return answer, set(members().values())

    def wait() -> None:
        end = time.monotonic() + 120
        while (found := state()) != (200, {"UP"}):
            assert time.monotonic() < end, f"health, and what the load balancer says of it: {found}"
            time.sleep(0.5)

    return wait


@pytest.fixture(name="instance", scope="module")
def _instance(
    balancer: Any, in_rotation: Callable[[], None], variables: dict[str, Any]
) -> Iterator[Instance]:
    """A client of the instance, through the load balancer."""
    in_rotation()
    with Instance(variables["mastodon_local_domain"], balancer.labels[LABEL_PUBLIC], LAB.ca) as client:
        yield client


@pytest.fixture(name="reader", scope="module")
def _reader() -> str:
    """The name of the account that `token` makes."""
    return f"reader_{secrets.token_hex(4)}"


@pytest.fixture(name="token", scope="module")
def _token(shell: Callable[..., str], instance: Instance, reader: str) -> str:
    """An access token of a fresh account."""
    name = reader
    # A domain that the lab's name server knows: Mastodon looks it up.
    email = f"{name}@{LAB.host('mail')}"
    created = shell(
        *("docker", "exec", "mastodon-web", "bin/tootctl", "accounts", "create", name),
        *("--email", email, "--confirmed", "--approve"),
    )
    password = re.search(r"New password: (\S+)", created)
    assert password, created
    return instance.log_in(email, password[1])


@pytest.fixture(name="shell", scope="module")
def _shell(host: Any) -> Any:
    """Runs a command, returns what it prints; where it fails, says so with the end of the journal."""

    def run(*argv: str) -> str:
        result = host.run(shlex.join(argv))
        if result.rc:
            journal = host.run("journalctl --no-pager --lines=60 --output=short").stdout
            pytest.fail(
                f"{shlex.join(argv)}: exit code {result.rc}\n{result.stderr}{result.stdout}\n{journal}"
            )
        return str(result.stdout).strip()

    return run

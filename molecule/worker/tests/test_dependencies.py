"""The databases go and come back; the worker goes on by itself, with the same processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
import httpx
import pytest
from websockets.exceptions import WebSocketException

from lab.cloud import CloudError
from lab.config import Lab
from lab.instance import Instance, Refused, Stream, streamed
from lab.runtime import Runtime
from tests.visitor import Visitor, health

ASKS_REDIS = "/api/v1/standin/schedulers"
ASKS_POSTGRESQL = "/api/v1/standin/job_runs"
PATIENCE = 180


class Servers:
    """The servers that the worker depends on."""

    def __init__(self, lab: Lab) -> None:
        self._runtime = Runtime(docker.from_env(), lab)
        self._network = self._runtime.client.networks.get(lab.container("private"))

    def restart(self, name: str) -> None:
        self._runtime.resolve(name).restart(timeout=5)

    @contextmanager
    def gone(self, *names: str) -> Iterator[None]:
        found = [self._runtime.resolve(name) for name in names]
        for container in found:
            container.stop(timeout=5)
        try:
            yield
        finally:
            for container in found:
                container.start()

    @contextmanager
    def moved(self, cluster: str, address: str, *servers: str) -> Iterator[None]:
        """As a failover does it that nobody planned: from one moment to the next the old address is nobody's,
        so that no connection is told of its end, and the cluster's name leads to `address`.

        Back again in good order: `servers`, which run in the cluster, stop before.
        """
        container = self._runtime.resolve(cluster)
        endpoint = container.attrs["NetworkSettings"]["Networks"][self._network.name]

        def take(there: str) -> None:
            self._network.disconnect(container)
            self._network.connect(container, ipv4_address=there, aliases=endpoint["Aliases"])

        take(address)
        try:
            yield
        finally:
            with self.gone(*servers):
                take(endpoint["IPAMConfig"]["IPv4Address"])


@pytest.fixture(name="servers", scope="module")
def _servers(lab: Lab) -> Servers:
    return Servers(lab)


def status(visitor: Visitor, path: str) -> int | None:
    """None where there was no answer in time."""
    try:
        return visitor.get(f"{path}?{time.time_ns()}").status
    except OSError:
        return None


@dataclass
class Worker:
    """The worker as visitors, programs, and the load balancer see it."""

    visitor: Visitor
    instance: Instance
    token: str
    websocket: Stream
    """Open all the time."""
    shell: Callable[..., str]
    members: Callable[[], dict[str, str]]

    def use(self) -> None:
        """A status goes through web, both databases, sidekiq and streaming. Raises what went wrong."""
        posted = self.instance.post(self.token, f"hello {time.time_ns()}")
        streamed(self.websocket, posted["id"], timeout=5)
        # Who comes now is let in, too: streaming asks PostgreSQL for that.
        with self.instance.stream(self.token):
            pass

    def recover(self) -> float:
        """Seconds until everything works again. Fails where it does not."""
        started = time.monotonic()
        while True:
            try:
                self.use()
                break
            except (httpx.HTTPError, OSError, WebSocketException, Refused) as error:
                if time.monotonic() > started + PATIENCE:
                    pytest.fail(f"still after {PATIENCE} s: {error!r}")
                time.sleep(1)
        assert status(self.visitor, ASKS_REDIS) == 200
        assert status(self.visitor, ASKS_POSTGRESQL) == 200
        return time.monotonic() - started

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No container is another one afterwards, and the load balancer never had a reason to send nothing:
        the worker itself is well, and to take it out of rotation would help nobody."""
        before = self.shell("docker", "ps", "--no-trunc", "--quiet")
        seen: set[tuple[Any, ...]] = set()
        end = threading.Event()

        def look() -> None:
            while not end.wait(0.5):
                try:
                    # A load balancer that is too busy to say so has not said that the worker is down.
                    if members := self.members():
                        seen.add((health(self.visitor.address), *members.values()))
                except (OSError, CloudError) as error:
                    seen.add((repr(error),))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()
        assert seen == {((200, "no-store"), "UP")}
        assert self.shell("docker", "ps", "--no-trunc", "--quiet") == before


@pytest.fixture(name="worker", scope="module")
def _worker(
    visitor: Visitor,
    instance: Instance,
    token: str,
    shell: Callable[..., str],
    members: Callable[[], dict[str, str]],
) -> Iterator[Worker]:
    with instance.stream(token) as websocket:
        worker = Worker(visitor, instance, token, websocket, shell, members)
        worker.use()
        yield worker


@pytest.mark.parametrize("name", ["vmst-valkey", "vmst-pg-pgbouncer", "vmst-pg-postgres"])
def test_restarted(worker: Worker, servers: Servers, measured: Callable[[str], None], name: str) -> None:
    with worker.undisturbed():
        servers.restart(name)
        took = worker.recover()
    measured(f"{name} restarted: everything works again after {took:.0f} s")


def test_gone_for_a_minute(worker: Worker, servers: Servers, measured: Callable[[str], None]) -> None:
    """Both databases, which know nothing of each other, at the same time."""
    with worker.undisturbed():
        with servers.gone("vmst-valkey", "vmst-pg-postgres"):
            back = time.monotonic() + 60
            assert status(worker.visitor, ASKS_REDIS) != 200
            assert status(worker.visitor, ASKS_POSTGRESQL) != 200
            time.sleep(max(0.0, back - time.monotonic()))
            assert status(worker.visitor, ASKS_REDIS) != 200
            assert status(worker.visitor, ASKS_POSTGRESQL) != 200
        took = worker.recover()
    measured(f"Valkey and PostgreSQL gone for 60 s: everything works again after {took:.0f} s")


def test_moved_to_another_address(
    worker: Worker, servers: Servers, measured: Callable[[str], None], lab: Lab
) -> None:
    valkey, postgresql = str(lab.private[250]), str(lab.private[251])
    # Every thread of web has a connection that nobody will tell of its end.
    with ThreadPoolExecutor(max_workers=40) as visitors:
        assert set(visitors.map(lambda _: status(worker.visitor, ASKS_POSTGRESQL), range(200))) == {200}
    with worker.undisturbed():
        with (
            servers.moved("vmst-valkey", valkey, "vmst-valkey"),
            servers.moved("vmst-pg", postgresql, "vmst-pg-pgbouncer", "vmst-pg-postgres"),
        ):
            took = worker.recover()
        worker.recover()
    measured(f"Valkey and PostgreSQL at other addresses: everything works again after {took:.0f} s")

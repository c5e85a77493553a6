"""A `Cloud` without machines: for unit tests of the emulator and of what talks to it."""

from __future__ import annotations

import ipaddress
import threading
from typing import Any

from lab.cloud import Addresses, CloudError, DatabaseState, DropletSpec, Endpoint, Member

CA = "-----BEGIN CERTIFICATE-----\nbGFi\n-----END CERTIFICATE-----\n"
"""Stands for the authority of a cluster; no certificate, since nothing here speaks TLS."""


class MemoryCloud:
    """Does at once, or when `release` is called, what a Cloud does, and remembers the calls.

    `pause()` holds every following operation until `release()`; `fail[METHOD] = sentence` makes a method
    raise CloudError once.
    """

    def __init__(self, public: str = "198.51.100.0/24", private: str = "10.118.0.0/20") -> None:
        self.public = ipaddress.IPv4Network(public)
        self.private = ipaddress.IPv4Network(private)
        self.calls: list[tuple[Any, ...]] = []
        self.droplets: dict[int, DropletSpec] = {}
        self.addresses: dict[int, Addresses] = {}
        self.running: set[int] = set()
        self.load_balancers: dict[str, list[Member]] = {}
        self.databases: dict[str, DatabaseState] = {}
        self.fail: dict[str, str] = {}
        self._lock = threading.Lock()
        self._free = threading.Event()
        self._free.set()
        self._next = 20

    def pause(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def _do(self, method: str, *arguments: Any) -> None:
        if not self._free.wait(timeout=30):
            raise CloudError("paused for 30 seconds: a test forgot to release the cloud")
        with self._lock:
            self.calls.append((method, *arguments))
            sentence = self.fail.pop(method, None)
        if sentence:
            raise CloudError(sentence)

    def create_droplet(self, spec: DropletSpec) -> Addresses:
        self._do("create_droplet", spec.id)
        with self._lock:
            self.droplets[spec.id] = spec
            self.running.add(spec.id)
            if spec.id not in self.addresses:
                self._next += 1
                # both networks, in step; a /24 has fewer hosts than a test may have droplets
                host = self._next % (self.public.num_addresses - 2) + 1
                self.addresses[spec.id] = Addresses(str(self.public[host]), str(self.private[self._next]))
            return self.addresses[spec.id]

    def rebuild_droplet(self, spec: DropletSpec) -> Addresses:
        self._do("rebuild_droplet", spec.id, spec.image)
        return self._again(spec)

    def _again(self, spec: DropletSpec) -> Addresses:
        with self._lock:
            self.droplets[spec.id] = spec
            self.running.add(spec.id)
            return self.addresses[spec.id]

    def power_droplet(self, droplet_id: int, *, on: bool, graceful: bool) -> None:
        self._do("power_droplet", droplet_id, on, graceful)
        (self.running.add if on else self.running.discard)(droplet_id)

    def reboot_droplet(self, droplet_id: int) -> None:
        self._do("reboot_droplet", droplet_id)
        self.running.add(droplet_id)

    def delete_droplet(self, droplet_id: int) -> None:
        self._do("delete_droplet", droplet_id)
        self.droplets.pop(droplet_id, None)
        self.running.discard(droplet_id)

    def droplet_is_running(self, droplet_id: int) -> bool:
        return droplet_id in self.running

    def apply_load_balancer(self, load_balancer: dict[str, Any], members: list[Member]) -> str:
        self._do("apply_load_balancer", load_balancer["id"], [member.droplet_id for member in members])
        self.load_balancers[load_balancer["id"]] = members
        return str(self.public[10 + list(self.load_balancers).index(load_balancer["id"])])

    def delete_load_balancer(self, load_balancer_id: str) -> None:
        self._do("delete_load_balancer", load_balancer_id)
        self.load_balancers.pop(load_balancer_id, None)

    def create_database(self, cluster_id: str, name: str, engine: str, version: str) -> Endpoint:
        self._do("create_database", cluster_id, engine, version)
        self.databases.setdefault(cluster_id, DatabaseState())
        pg = engine == "pg"
        return Endpoint(
            host=f"{name}.db.lab.internal",
            private_host=f"private-{name}.db.lab.internal",
            port=25060 if pg else 25061,
            pool_port=25061 if pg else None,
            user="doadmin" if pg else "default",
            password=f"password-of-{name}",
            database="defaultdb" if pg else "",
            ca=CA,
        )

    def apply_database(self, cluster_id: str, state: DatabaseState) -> None:
        self._do("apply_database", cluster_id)
        self.databases[cluster_id] = state

    def delete_database(self, cluster_id: str) -> None:
        self._do("delete_database", cluster_id)
        self.databases.pop(cluster_id, None)

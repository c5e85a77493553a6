"""The line between the emulated DigitalOcean API and the machines behind it.

The emulator keeps what an account can see (ids, tags, actions, paging); a `Cloud` makes it real. The lab's
is `lab.docker_cloud.DockerCloud` (containers); unit tests use `MemoryCloud`.

Methods block until done and raise `CloudError` with one sentence for the admin; the emulator runs them in a
thread and turns the outcome into the state of an action or a resource. All are idempotent: applied twice,
or after a crash half-way, they end in the same state. Names of arguments are DigitalOcean's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class CloudError(Exception):
    """The machine behind a resource could not be brought to the wanted state."""


@dataclass(frozen=True)
class Addresses:
    """Addresses of a droplet: `public` is None for a droplet without public networking."""

    public: str | None
    private: str


@dataclass(frozen=True)
class DropletSpec:
    """A droplet to run. `image` is a slug (`debian-13-x64`); `ssh_keys` are OpenSSH public keys for root."""

    id: int
    name: str
    image: str
    size: str
    memory_mib: int
    vcpus: int
    ssh_keys: tuple[str, ...]
    user_data: str | None = None


@dataclass(frozen=True)
class Member:
    """A droplet behind a load balancer, reached over the private network."""

    droplet_id: int
    name: str
    address: str


@dataclass(frozen=True)
class Endpoint:
    """Where a database cluster answers: names and ports as in DigitalOcean's `connection` objects."""

    host: str
    private_host: str
    port: int
    pool_port: int | None
    """PgBouncer's port; None for Valkey."""
    user: str
    password: str
    database: str
    ca: str
    """PEM of the authority that signed the server's certificate."""


@dataclass(frozen=True)
class DatabaseState:
    """What shall exist in a PostgreSQL cluster, whole: what is not listed is removed (except the default)."""

    dbs: tuple[str, ...] = ()
    users: dict[str, str] = field(default_factory=dict)
    """user name -> password"""
    pools: tuple[dict[str, Any], ...] = ()
    """DigitalOcean pool objects: name, mode, size, db, user"""


class Cloud(Protocol):
    def create_droplet(self, spec: DropletSpec) -> Addresses: ...

    def rebuild_droplet(self, spec: DropletSpec) -> Addresses:
        """A fresh disk from `spec.image` and new host keys; the addresses stay."""
        ...

    def power_droplet(self, droplet_id: int, *, on: bool, graceful: bool) -> None: ...

    def reboot_droplet(self, droplet_id: int) -> None: ...

    def delete_droplet(self, droplet_id: int) -> None: ...

    def droplet_is_running(self, droplet_id: int) -> bool: ...

    def apply_load_balancer(self, load_balancer: dict[str, Any], members: list[Member]) -> str:
        """Run it as the API object says (rules, health check, PROXY protocol); returns its public address."""
        ...

    def delete_load_balancer(self, load_balancer_id: str) -> None: ...

    def create_database(self, cluster_id: str, name: str, engine: str, version: str) -> Endpoint:
        """`engine` is `pg` or `valkey`."""
        ...

    def apply_database(self, cluster_id: str, state: DatabaseState) -> None: ...

    def delete_database(self, cluster_id: str) -> None: ...

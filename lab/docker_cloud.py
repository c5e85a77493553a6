"""DigitalOcean's machines as containers: what `lab.cloud.Cloud` says, done with Docker.

Droplets run systemd and sshd, a load balancer is HAProxy, a database cluster is PostgreSQL with PgBouncer, or
Valkey. Docker is the only memory: labels say what a container is and which addresses it has, so that a
killed emulator goes on where it was. Passwords of clusters are kept in the state directory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests.exceptions

from lab import haproxy
from lab import managed_databases as managed
from lab.cloud import Addresses, CloudError, DatabaseState, DropletSpec, Endpoint, Member
from lab.config import IMAGE_PREFIX, LABEL, LABEL_PART, Lab
from lab.engine import connect, find, healthcheck
from lab.pki import Authority

LABEL_ID = "io.vmst.lab.id"
"""The API's id of what a container is."""
LABEL_NAME = "io.vmst.lab.name"
LABEL_PUBLIC = "io.vmst.lab.public"
LABEL_PRIVATE = "io.vmst.lab.private"

_RANGES = {
    # part: first and last host number, in both networks
    "droplet": (20, 199),
    "load-balancer": (200, 229),
    "database": (230, 249),
}
_STOP_SECONDS = 30
_READY_SECONDS = 90

# Beside Docker's own choice: what systemd, nftables and a Docker engine inside the droplet need. Named one by
# one, since newer engines refuse a capability that their machine lacks, even to drop it from ALL; where
# machines are containers, that is often SYS_RESOURCE. SYS_ADMIN stands for BPF and PERFMON, which older
# engines do not know.
_CAPABILITIES = (
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "DAC_READ_SEARCH",
    "IPC_LOCK",
    "LINUX_IMMUTABLE",
    "NET_ADMIN",
    "NET_BROADCAST",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_PTRACE",
    "SYS_TTY_CONFIG",
    "SYSLOG",
)
_DROPLET_OPTIONS: dict[str, Any] = {
    "cap_add": list(_CAPABILITIES),
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "cgroupns": "host",
    "tmpfs": {"/run": "exec,mode=755", "/run/lock": ""},
}

# Which user a server runs as is the entry's business: the files of its settings are root's.
_POSTGRES_ENTRY = r"""
set -eu
install -d -o postgres -g postgres -m 0700 /data/pg /var/run/postgresql
chown -R postgres:postgres /etc/lab
as='setpriv --reuid=postgres --regid=postgres --init-groups'
bin=/usr/lib/postgresql/17/bin
if [ ! -e /data/pg/main ]; then
  rm -rf /data/pg/new
  $as $bin/initdb -D /data/pg/new -E UTF8 --locale=C.UTF-8 --no-sync --auth=peer >/dev/null
  mv /data/pg/new /data/pg/main
fi
exec $as $bin/postgres -D /data/pg/main -c config_file=/etc/lab/postgresql.conf
"""
_PGBOUNCER_ENTRY = r"""
set -eu
chown -R postgres:postgres /etc/lab
exec setpriv --reuid=postgres --regid=postgres --init-groups pgbouncer /etc/lab/pgbouncer.ini
"""
_VALKEY_ENTRY = r"""
set -eu
chown -R valkey:valkey /etc/lab /data
exec setpriv --reuid=valkey --regid=valkey --init-groups valkey-server /etc/lab/valkey.conf
"""
_HAPROXY_ENTRY = "exec haproxy -W -db -f /etc/haproxy/haproxy.cfg"


class DockerCloud:
    """A `lab.cloud.Cloud` on the local engine. Threads may call it at once."""

    def __init__(
        self,
        client: docker.DockerClient,
        lab: Lab,
        state: Path,
        authority: Authority,
        domain: str = "social.test",
    ) -> None:
        """`state` keeps clusters' passwords and certificates; `authority` is the lab's.

        `domain` is what certificates of load balancers that end TLS are made out to.
        """
        self.client = client
        self.lab = lab
        self.state = state
        self.authority = authority
        self.domain = domain
        self.public = lab.container("public")
        self.private = lab.container("private")
        self._addresses = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._locks_guard = threading.Lock()

    @classmethod
    def from_environment(cls, state: Path) -> DockerCloud:
        """For the emulator's container: `LAB_NAME` and subnets from the environment, the authority in `/pki`.

        `LAB_PKI` names another directory with `ca.crt` and `ca.key`.
        """
        pki = Path(os.environ.get("LAB_PKI", "/pki"))
        authority = Authority.open(pki, "lab")
        return cls(connect(), Lab.load(), state, authority, os.environ.get("LAB_DOMAIN", "social.test"))

    # -- droplets ---------------------------------------------------------------------------------------

    def create_droplet(self, spec: DropletSpec) -> Addresses:
        with self._errors(f"droplet {spec.name}"), self._lock(f"droplet-{spec.id}"):
            container = self._recovered(spec.id)
            if container is None:
                with self._addresses:
                    host = self._free_host("droplet")
                    addresses = Addresses(self._at(self.lab.public, host), self._at(self.lab.private, host))
                    container = self._new_droplet(spec, addresses, self._droplet_name(spec.id))
            if container.status == "created":
                self._start(container)
            return _addresses(container)

    def rebuild_droplet(self, spec: DropletSpec) -> Addresses:
        with self._errors(f"droplet {spec.name}"), self._lock(f"droplet-{spec.id}"):
            old = self._recovered(spec.id)
            if old is None:
                raise CloudError(f"droplet {spec.name} ({spec.id}) has no machine to rebuild")
            addresses = _addresses(old)
            # The new one is whole before the old one goes: `_recovered` finishes what a kill cuts off.
            new = self._new_droplet(spec, addresses, f"{self._droplet_name(spec.id)}-new")
            old.remove(force=True, v=True)
            new.rename(self._droplet_name(spec.id))
            self._start(new)
            return addresses

    def _droplet_name(self, droplet_id: int) -> str:
        return self.lab.container(f"droplet-{droplet_id}")

    def _recovered(self, droplet_id: int) -> Any | None:
        """The droplet's container; a rebuild that was cut off is finished or taken back first."""
        name = self._droplet_name(droplet_id)
        container, new = find(self.client, name), find(self.client, f"{name}-new")
        if new is None:
            return container
        if container is not None:
            new.remove(force=True, v=True)
            return container
        new.rename(name)
        return new

    def _new_droplet(self, spec: DropletSpec, addresses: Addresses, name: str) -> Any:
        image = f"{IMAGE_PREFIX}/droplet:{spec.image}"
        assert addresses.public is not None
        return self._create(
            name,
            "droplet",
            image,
            None,
            labels={LABEL_ID: str(spec.id), LABEL_NAME: spec.name},
            public=addresses.public,
            private=addresses.private,
            hostname=spec.name,
            environment={
                "DROPLET_SSH_KEYS": "\n".join(spec.ssh_keys),
                "DROPLET_NAMESERVER": self.lab.address("dns"),
                "DROPLET_USER_DATA": spec.user_data or "",
            },
            volumes=["/var/lib/docker"],
            host={
                **_DROPLET_OPTIONS,
                "binds": ["/sys/fs/cgroup:/sys/fs/cgroup:rw"],
                "mem_limit": spec.memory_mib * 1024 * 1024,
                "memswap_limit": spec.memory_mib * 1024 * 1024,
            },
        )

    def power_droplet(self, droplet_id: int, *, on: bool, graceful: bool) -> None:
        with self._errors(f"droplet {droplet_id}"), self._lock(f"droplet-{droplet_id}"):
            container = self._machine(droplet_id)
            if on:
                self._start(container)
            else:
                container.stop(timeout=_STOP_SECONDS if graceful else 0)

    def reboot_droplet(self, droplet_id: int) -> None:
        with self._errors(f"droplet {droplet_id}"), self._lock(f"droplet-{droplet_id}"):
            self._machine(droplet_id).restart(timeout=_STOP_SECONDS)

    def delete_droplet(self, droplet_id: int) -> None:
        with self._errors(f"droplet {droplet_id}"), self._lock(f"droplet-{droplet_id}"):
            for name in (self._droplet_name(droplet_id), f"{self._droplet_name(droplet_id)}-new"):
                self._remove(name)

    def droplet_is_running(self, droplet_id: int) -> bool:
        with self._errors(f"droplet {droplet_id}"):
            container = find(self.client, self._droplet_name(droplet_id))
            return container is not None and container.status == "running"

    def _machine(self, droplet_id: int) -> Any:
        container = self._recovered(droplet_id)
        if container is None:
            raise CloudError(f"droplet {droplet_id} has no machine")
        return container

    # -- load balancers ---------------------------------------------------------------------------------

    def apply_load_balancer(self, load_balancer: dict[str, Any], members: list[Member]) -> str:
        identifier, name = str(load_balancer["id"]), load_balancer.get("name", "")
        with self._errors(f"load balancer {name}"), self._lock(f"lb-{identifier}"):
            files = {"etc/haproxy/haproxy.cfg": haproxy.render(load_balancer, members).encode()}
            for rule in load_balancer.get("forwarding_rules") or []:
                if rule.get("certificate_id"):
                    files |= self._lb_certificate(rule["certificate_id"])
            container = find(self.client, self._lb_name(identifier))
            if container is None:
                with self._addresses:
                    host = self._free_host("load-balancer")
                    container = self._create(
                        self._lb_name(identifier),
                        "load-balancer",
                        f"{IMAGE_PREFIX}/services:current",
                        ["sh", "-c", _HAPROXY_ENTRY],
                        labels={LABEL_ID: identifier, LABEL_NAME: str(name)},
                        healthy=_HAPROXY_READY,
                        public=self._at(self.lab.public, host),
                        private=self._at(self.lab.private, host),
                    )
            address = str(container.labels[LABEL_PUBLIC])
            if container.status == "running":
                self._reload_haproxy(container, files, load_balancer, members)
            else:
                state = haproxy.state_of_new(load_balancer, members)
                _put(container, files | {haproxy.STATE_FILE.lstrip("/"): state.encode()})
                self._start(container)
            self._wait(lambda: _succeeds(container, _HAPROXY_READY), "HAProxy")
            return address

    def _lb_name(self, identifier: str) -> str:
        return self.lab.container(f"lb-{identifier}")

    def _reload_haproxy(
        self,
        container: Any,
        files: dict[str, bytes],
        load_balancer: dict[str, Any],
        members: Sequence[Member],
    ) -> None:
        """New settings without a dropped connection: the old worker serves out what it has.

        What HAProxy knows of its members' health goes on to the new worker; a member it has not seen yet
        counts as down until its checks have passed.
        """
        if all(_get(container, path) == content for path, content in files.items()):
            return
        _put(container, {f"{path}.next" if path.endswith(".cfg") else path: c for path, c in files.items()})
        _run(container, "haproxy -c -q -f /etc/haproxy/haproxy.cfg.next")
        known = _run(container, f"echo 'show servers state' | socat - UNIX-CONNECT:{haproxy.ADMIN_SOCKET}")
        state = haproxy.state_of_new(load_balancer, members, known)
        _put(container, {haproxy.STATE_FILE.lstrip("/"): state.encode()})
        _run(container, "mv /etc/haproxy/haproxy.cfg.next /etc/haproxy/haproxy.cfg")
        container.kill("SIGUSR2")

    def _lb_certificate(self, identifier: str) -> dict[str, bytes]:
        """The lab's authority stands for whoever signed it; the API does not keep private keys."""
        pair = self.authority.issue(
            f"lb-{identifier}", [self.domain, f"*.{self.domain}"], directory=self.state / "certificates"
        )
        path = f"{haproxy.CERTIFICATES}/{identifier}.pem".lstrip("/")
        return {path: pair.certificate.read_bytes() + pair.key.read_bytes()}

    def delete_load_balancer(self, load_balancer_id: str) -> None:
        with self._errors(f"load balancer {load_balancer_id}"), self._lock(f"lb-{load_balancer_id}"):
            self._remove(self._lb_name(load_balancer_id))

    # -- databases --------------------------------------------------------------------------------------

    def create_database(self, cluster_id: str, name: str, engine: str, version: str) -> Endpoint:
        with self._errors(f"database cluster {name}"), self._lock(f"db-{cluster_id}"):
            known = self._cluster(cluster_id)
            if known is None:
                known = {"name": name, "engine": engine, "password": secrets.token_hex(16)}
                self._remember(cluster_id, known)
            if engine == "pg":
                if version.partition(".")[0] != managed.POSTGRES_VERSION:
                    raise CloudError(f"the lab runs PostgreSQL {managed.POSTGRES_VERSION}, not {version}")
                return self._postgres(cluster_id, known)
            if engine == "valkey":
                return self._valkey(cluster_id, known)
            raise CloudError(f"the lab has no database engine {engine!r}, only pg and valkey")

    def _postgres(self, cluster_id: str, known: dict[str, str]) -> Endpoint:
        """Three containers: the first holds the address, so that either server may restart by itself."""
        name = known["name"]
        host, private_host = _hosts(name)
        holder = self._database_container(
            cluster_id, name, command=["sleep", "infinity"], aliases=(host, private_host)
        )
        authority = Authority.open(self.state / "databases" / "pki", "Lab Project CA")
        files = self._server_files(authority, name, (host, private_host), holder.labels[LABEL_PRIVATE])
        server = self._member(
            holder,
            "postgres",
            _POSTGRES_ENTRY,
            files
            | {
                "etc/lab/postgresql.conf": managed.postgresql_conf().encode(),
                "etc/lab/pg_hba.conf": managed.pg_hba().encode(),
            },
            healthy=_PG_READY,
            binds=[f"{self.lab.container(f'db-{cluster_id}')}:/data"],
        )
        self._wait(lambda: _succeeds(server, _PG_READY), "PostgreSQL")
        self._sql(server, managed.admin_sql(known["password"]))
        pools = _bouncer_files(DatabaseState(), known["password"])
        listens = f"socat -u OPEN:/dev/null TCP:127.0.0.1:{managed.POOL_PORT}"
        self._member(holder, "pgbouncer", _PGBOUNCER_ENTRY, files | pools, healthy=listens)
        return Endpoint(
            host=host,
            private_host=private_host,
            port=managed.POSTGRES_PORT,
            pool_port=managed.POOL_PORT,
            user=managed.ADMIN,
            password=known["password"],
            database=managed.DEFAULT_DATABASE,
            ca=authority.pem,
        )

    def _valkey(self, cluster_id: str, known: dict[str, str]) -> Endpoint:
        name = known["name"]
        host, private_host = _hosts(name)
        container = self._database_container(
            cluster_id,
            name,
            command=["sh", "-c", _VALKEY_ENTRY],
            aliases=(host, private_host),
            healthy=_VALKEY_READY,
            host={"binds": [f"{self.lab.container(f'db-{cluster_id}')}:/data"]},
            files=lambda address: (
                self._server_files(self.authority, name, (host, private_host), address)
                | {"etc/lab/valkey.conf": managed.valkey_conf(known["password"]).encode()}
            ),
        )
        self._wait(lambda: _succeeds(container, _VALKEY_READY), "Valkey")
        return Endpoint(
            host=host,
            private_host=private_host,
            port=managed.VALKEY_PORT,
            pool_port=None,
            user="default",
            password=known["password"],
            database="",
            ca=self.authority.pem,
        )

    def apply_database(self, cluster_id: str, state: DatabaseState) -> None:
        known = self._cluster(cluster_id)
        if known is None:
            raise CloudError(f"database cluster {cluster_id} has no server")
        with self._errors(f"database cluster {known['name']}"), self._lock(f"db-{cluster_id}"):
            if known["engine"] != "pg":
                return
            server = self.client.containers.get(self.lab.container(f"db-{cluster_id}-postgres"))
            users = self._query(server, "SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper")
            databases = self._query(
                server, "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
            )
            self._sql(server, managed.apply_sql(state, users, databases))
            bouncer = self.client.containers.get(self.lab.container(f"db-{cluster_id}-pgbouncer"))
            files = _bouncer_files(state, known["password"])
            if any(_get(bouncer, path) != content for path, content in files.items()):
                _put(bouncer, files, owner="postgres")
                bouncer.kill("SIGHUP")

    def delete_database(self, cluster_id: str) -> None:
        with self._errors(f"database cluster {cluster_id}"), self._lock(f"db-{cluster_id}"):
            for suffix in ("-pgbouncer", "-postgres", ""):
                self._remove(self.lab.container(f"db-{cluster_id}{suffix}"))
            with contextlib.suppress(docker.errors.NotFound):
                self.client.volumes.get(self.lab.container(f"db-{cluster_id}")).remove(force=True)
            (self.state / "databases" / f"{cluster_id}.json").unlink(missing_ok=True)

    def _database_container(
        self,
        cluster_id: str,
        name: str,
        *,
        command: list[str],
        aliases: tuple[str, ...],
        healthy: str | None = None,
        host: dict[str, Any] | None = None,
        files: Callable[[str], dict[str, bytes]] = lambda _: {},
    ) -> Any:
        """The container with the cluster's address, running; `files` gets the address."""
        container = find(self.client, self.lab.container(f"db-{cluster_id}"))
        if container is None:
            self._volume(cluster_id)
            with self._addresses:
                address = self._at(self.lab.private, self._free_host("database"))
                container = self._create(
                    self.lab.container(f"db-{cluster_id}"),
                    "database",
                    f"{IMAGE_PREFIX}/services:current",
                    command,
                    labels={LABEL_ID: cluster_id, LABEL_NAME: name},
                    private=address,
                    aliases=aliases,
                    host=host,
                    healthy=healthy,
                )
        if container.status != "running":
            _put(container, files(container.labels[LABEL_PRIVATE]))
            self._start(container)
        return container

    def _member(
        self,
        holder: Any,
        role: str,
        entry: str,
        files: dict[str, bytes],
        *,
        healthy: str,
        binds: Sequence[str] = (),
    ) -> Any:
        """A server of a cluster, in the network of `holder`, running."""
        cluster_id, name = holder.labels[LABEL_ID], holder.labels[LABEL_NAME]
        container = find(self.client, self.lab.container(f"db-{cluster_id}-{role}"))
        network = f"container:{holder.id}"
        if container is not None and container.attrs["HostConfig"]["NetworkMode"] != network:
            container.remove(force=True)  # of a holder that is gone
            container = None
        if container is None:
            container = self._create(
                self.lab.container(f"db-{cluster_id}-{role}"),
                "database",
                f"{IMAGE_PREFIX}/services:current",
                ["sh", "-c", entry],
                labels={LABEL_ID: cluster_id, LABEL_NAME: f"{name}-{role}"},
                host={"network_mode": network, "binds": list(binds), "shm_size": "256m"},
                healthy=healthy,
            )
        if container.status == "created":
            _put(container, files)
        if container.status != "running":
            container.start()
            container.reload()
        return container

    def _volume(self, cluster_id: str) -> None:
        name = self.lab.container(f"db-{cluster_id}")
        self.client.volumes.create(name, labels={LABEL: self.lab.name, LABEL_PART: "database"})

    def _server_files(
        self, authority: Authority, name: str, names: tuple[str, ...], address: str
    ) -> dict[str, bytes]:
        pair = authority.issue(name, names, [address], directory=self.state / "databases" / "certificates")
        return {
            "etc/lab/server.crt": pair.certificate.read_bytes(),
            "etc/lab/server.key": pair.key.read_bytes(),
            "etc/lab/ca.crt": authority.pem.encode(),
        }

    def _cluster(self, cluster_id: str) -> dict[str, str] | None:
        path = self.state / "databases" / f"{cluster_id}.json"
        if not path.exists():
            return None
        found: dict[str, str] = json.loads(path.read_text())
        return found

    def _remember(self, cluster_id: str, known: dict[str, str]) -> None:
        path = self.state / "databases" / f"{cluster_id}.json"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(known, file)
        beside.replace(path)

    def _sql(self, server: Any, script: str) -> None:
        """Run as the server's superuser. By file: a process list shows no password."""
        _put(server, {"etc/lab/script.sql": script.encode()}, owner="postgres")
        _run(server, f"{_PSQL} -f /etc/lab/script.sql; code=$?; rm -f /etc/lab/script.sql; exit $code")

    def _query(self, server: Any, sql: str) -> list[str]:
        return _run(server, f'{_PSQL} -At -c "{sql}"').splitlines()

    # -- containers -------------------------------------------------------------------------------------

    def _create(
        self,
        name: str,
        part: str,
        image: str,
        command: list[str] | None,
        *,
        labels: Mapping[str, str],
        public: str | None = None,
        private: str | None = None,
        aliases: Sequence[str] = (),
        hostname: str | None = None,
        environment: Mapping[str, str] | None = None,
        volumes: list[str] | None = None,
        host: dict[str, Any] | None = None,
        healthy: str | None = None,
    ) -> Any:
        """A container that is not started; labels tell its addresses. `healthy` is a shell command."""
        api = self.client.api
        where = {key: value for key, value in ((LABEL_PUBLIC, public), (LABEL_PRIVATE, private)) if value}
        options = {"restart_policy": {"Name": "unless-stopped"}, **(host or {})}
        # The engine takes one network here; `_start` connects the other one.
        first = next(((net, at) for net, at in ((self.public, public), (self.private, private)) if at), None)
        networking = None
        if first:
            options["network_mode"] = first[0]
            endpoints: Any = {
                first[0]: api.create_endpoint_config(ipv4_address=first[1], aliases=list(aliases))
            }
            networking = api.create_networking_config(endpoints)
        host_config = api.create_host_config(**options)
        if part == "droplet":
            # The command line's `--security-opt systempaths=unconfined`: /proc/sys is writable.
            host_config.update(MaskedPaths=[], ReadonlyPaths=[])
        try:
            made = api.create_container(
                image,
                command,
                name=name,
                hostname=hostname,
                environment=dict(environment or {}),
                labels={LABEL: self.lab.name, LABEL_PART: part, **where, **labels},
                volumes=volumes,
                healthcheck=healthcheck(healthy) if healthy else None,
                host_config=host_config,
                networking_config=networking,
            )
        except docker.errors.ImageNotFound as error:
            raise CloudError(f"there is no image {image}: `lab up` builds it") from error
        return self.client.containers.get(made["Id"])

    def _start(self, container: Any) -> None:
        """Start a container on all of its networks."""
        connected = container.attrs["NetworkSettings"]["Networks"]
        address = container.labels.get(LABEL_PRIVATE)
        if address and self.private not in connected:
            self.client.networks.get(self.private).connect(container, ipv4_address=address)
        container.start()
        container.reload()

    def _remove(self, name: str) -> None:
        container = find(self.client, name)
        if container is not None:
            container.remove(force=True, v=True)

    def _free_host(self, part: str) -> int:
        """The lowest host number of the part's range that no container of the lab has. Hold `_addresses`."""
        found = self.client.containers.list(
            all=True, filters={"label": f"{LABEL}={self.lab.name}"}, sparse=True
        )
        taken = set()
        for container in found:
            for label, network in ((LABEL_PUBLIC, self.lab.public), (LABEL_PRIVATE, self.lab.private)):
                address = container.attrs["Labels"].get(label)
                if address:
                    taken.add(_host_number(address, str(network.network_address)))
        first, last = _RANGES[part]
        for host in range(first, last + 1):
            if host not in taken:
                return host
        raise CloudError(f"the lab has no address left for another {part} ({last - first + 1} exist)")

    @staticmethod
    def _at(network: Any, host: int) -> str:
        return str(network[host])

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _READY_SECONDS
        while not ready():
            if time.monotonic() > end:
                raise CloudError(f"{what} did not answer within {_READY_SECONDS} s; see `lab logs`")
            time.sleep(0.2)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with self._locks_guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            yield

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except docker.errors.APIError as error:
            raise CloudError(f"{what}: the engine refused: {error.explanation or error}") from error
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise CloudError(f"{what}: the engine does not answer: {error}") from error


_HAPROXY_READY = f"echo 'show info' | socat - UNIX-CONNECT:{haproxy.ADMIN_SOCKET} | grep -q ."
_PG_READY = f"pg_isready -q -h /var/run/postgresql -p {managed.POSTGRES_PORT}"
_VALKEY_READY = (
    f"REDISCLI_AUTH=$(sed -n 's/^requirepass //p' {managed.FILES}/valkey.conf) valkey-cli --tls"
    f" --cacert {managed.FILES}/ca.crt -p {managed.VALKEY_PORT} ping | grep -q PONG"
)
_PSQL = (
    "setpriv --reuid=postgres --regid=postgres --init-groups"
    f" psql -X -q -v ON_ERROR_STOP=1 -h /var/run/postgresql -p {managed.POSTGRES_PORT} -d postgres"
)


def _addresses(container: Any) -> Addresses:
    return Addresses(container.labels.get(LABEL_PUBLIC), container.labels[LABEL_PRIVATE])


def _host_number(address: str, network: str) -> int:
    def number(text: str) -> int:
        return int.from_bytes(bytes(int(part) for part in text.split(".")), "big")

    return number(address) - number(network)


def _hosts(name: str) -> tuple[str, str]:
    return f"{name}.db.lab.internal", f"private-{name}.db.lab.internal"


def _bouncer_files(state: DatabaseState, admin_password: str) -> dict[str, bytes]:
    users = {managed.ADMIN: admin_password, **state.users}
    return {
        "etc/lab/pgbouncer.ini": managed.pgbouncer_ini(state).encode(),
        "etc/lab/userlist.txt": managed.userlist(users).encode(),
    }


def _put(container: Any, files: dict[str, bytes], owner: str | None = None) -> None:
    """Write files (paths without leading slash) into a container, running or not; mode 0600 but for *.crt."""
    if not files:
        return
    directories = sorted(
        {str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in directories:
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    container.put_archive("/", buffer.getvalue())
    if owner and container.status == "running":
        _run(container, f"chown {owner}: {' '.join('/' + path for path in files)}")


def _get(container: Any, path: str) -> bytes | None:
    """A file of a container, None where there is none."""
    try:
        chunks, _ = container.get_archive(f"/{path}")
    except docker.errors.NotFound:
        return None
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        member = archive.extractfile(archive.next())  # type: ignore[arg-type]
        return member.read() if member else None


def _run(container: Any, script: str) -> str:
    """Run a shell script in a container; its output. Raises CloudError where it fails."""
    code, output = container.exec_run(["sh", "-c", script])
    text = output.decode(errors="replace") if output else ""
    if code:
        raise CloudError(f"{container.name}: {text.strip()[-400:] or f'exit {code}'}")
    return text


def _succeeds(container: Any, script: str) -> bool:
    try:
        return bool(container.exec_run(["sh", "-c", script]).exit_code == 0)
    except docker.errors.APIError:  # it restarts just now
        return False

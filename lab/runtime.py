"""Starts, watches and removes the containers of a lab.

Docker is the memory: a part runs as it should when its container carries the digest of its settings. So
every step can be cut off and done again.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import docker
import docker.errors
import docker.types

from lab import haproxy
from lab.cloud import CloudError
from lab.config import IMAGE_PREFIX, LABEL, LABEL_PART, Lab
from lab.docker_cloud import LABEL_ID, LABEL_NAME, LABEL_PRIVATE, LABEL_PUBLIC
from lab.engine import LabError, containers, find, healthcheck
from lab.parts import INSTANCE, Part
from lab.threads import workers

LABEL_CONFIG = "io.vmst.lab.config"
"""Digest of what a fixed part was started with."""

_HEALTHY_SECONDS = 90
_CLOUD_PARTS = ("droplet", "load-balancer", "database")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One line of `lab status`. `since` is when it was started, RFC 3339, UTC."""

    kind: str
    name: str
    public: str
    private: str
    state: str
    health: str
    since: str
    container: str
    ill: bool


class Runtime:
    def __init__(self, client: docker.DockerClient, lab: Lab, report: Report = lambda _: None) -> None:
        self.client = client
        self.lab = lab
        self.report = report

    # -- networks ---------------------------------------------------------------------------------------

    def networks(self) -> None:
        """Make the public and the private network. Raises LabError where a subnet is taken."""
        for name, subnet, internal in (
            ("public", self.lab.public, False),
            ("private", self.lab.private, True),
        ):
            full = self.lab.container(name)
            try:
                network = self.client.networks.get(full)
            except docker.errors.NotFound:
                self._refuse_taken(subnet)
                pool = docker.types.IPAMPool(subnet=str(subnet), gateway=str(subnet[1]))
                self.client.networks.create(
                    full,
                    driver="bridge",
                    internal=internal,
                    ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                    labels={LABEL: self.lab.name},
                )
            else:
                found = network.attrs["IPAM"]["Config"][0]["Subnet"]
                if found != str(subnet):
                    raise LabError(f"network {full} has subnet {found}, not {subnet}: run `lab down` first")

    def _refuse_taken(self, subnet: ipaddress.IPv4Network) -> None:
        """A subnet that this machine uses elsewhere would cut it off from there."""
        try:
            listed = subprocess.run(
                ["ip", "-json", "-4", "route"], capture_output=True, text=True, check=True
            ).stdout
        except (FileNotFoundError, subprocess.CalledProcessError):
            return  # not every machine has iproute2; Docker itself refuses what its networks use
        for route in json.loads(listed or "[]"):
            if route.get("dst") in (None, "default"):
                continue
            if ipaddress.IPv4Network(route["dst"], strict=False).overlaps(subnet):
                raise LabError(
                    f"subnet {subnet} of lab {self.lab.name!r} is in use here ({route['dst']} on"
                    f" {route.get('dev')}): set LAB_PUBLIC and LAB_PRIVATE to free ones"
                )

    # -- fixed parts ------------------------------------------------------------------------------------

    def start(self, parts: list[Part]) -> None:
        """Run these parts, each as it should be, and wait until all are well."""
        with workers() as pool:
            list(pool.map(self._ensure, parts))
            list(pool.map(self._await, parts))

    def _ensure(self, part: Part) -> None:
        name = self.lab.container(part.name)
        image = self.client.images.get(f"{IMAGE_PREFIX}/{part.image}:current")
        digest = self._digest(part, str(image.id))
        container = find(self.client, name)
        if container is not None and container.labels.get(LABEL_CONFIG) != digest:
            container.remove(force=True)
            container = None
        if container is None:
            self.report(f"starting {part.name}")
            container = self._create(part, name, str(image.id), digest)
        if container.status == "paused":
            container.unpause()
        elif container.status != "running":
            container.start()

    def _digest(self, part: Part, image: str) -> str:
        found = hashlib.sha256(image.encode())
        plain = {key: value for key, value in vars(part).items() if key != "sources"}
        found.update(json.dumps(plain, default=dict, sort_keys=True).encode())
        found.update(f"{self.lab.public}{self.lab.private}".encode())
        for source in part.sources:
            found.update(f"{source.name}\0".encode() + source.read_bytes())
        return found.hexdigest()[:16]

    def _create(self, part: Part, name: str, image: str, digest: str) -> Any:
        api = self.client.api
        binds = [
            f"{source}:{target if ':' in target else target + ':ro'}" for source, target in part.binds.items()
        ]
        if part.volume:
            self.client.volumes.create(name, labels={LABEL: self.lab.name, LABEL_PART: part.name})
            binds.append(f"{name}:{part.volume}")
        public, address = self.lab.container("public"), self.lab.address(part.name)
        aliases = [self.lab.host(part.name), *part.names]
        endpoints: Any = {public: api.create_endpoint_config(ipv4_address=address, aliases=aliases)}
        labels = {LABEL: self.lab.name, LABEL_PART: part.name, LABEL_CONFIG: digest, LABEL_PUBLIC: address}
        private = None
        if part.private:
            offset = int(ipaddress.IPv4Address(address)) - int(self.lab.public.network_address)
            private = str(self.lab.private[offset])
            labels[LABEL_PRIVATE] = private
        made = api.create_container(
            image,
            list(part.command),
            name=name,
            hostname=part.name,
            environment=dict(part.environment),
            labels=labels,
            healthcheck=healthcheck(part.healthy),
            host_config=api.create_host_config(
                binds=binds, network_mode=public, restart_policy={"Name": "unless-stopped"}
            ),
            networking_config=api.create_networking_config(endpoints),
        )
        if private:
            api.connect_container_to_network(made["Id"], self.lab.container("private"), ipv4_address=private)
        return self.client.containers.get(made["Id"])

    def _await(self, part: Part) -> None:
        container = self.client.containers.get(self.lab.container(part.name))
        end = time.monotonic() + _HEALTHY_SECONDS
        said = ""
        while time.monotonic() < end:
            try:
                code, output = container.exec_run(["sh", "-c", part.healthy])
                said = cast(bytes, output or b"").decode(errors="replace").strip()
            except docker.errors.APIError as error:  # it is restarting
                code, said = 1, str(error)
            if code == 0:
                return
            self.report(f"waiting for {part.name}")
            time.sleep(0.3)
        tail = container.logs(tail=15).decode(errors="replace").strip()
        raise LabError(
            f"part {part.name} is not well after {_HEALTHY_SECONDS} s: {said}\n{tail}"
            f"\n(`lab logs {part.name}` shows more)"
        )

    def resume(self) -> None:
        """Start load balancers and databases that are stopped, as after the engine was restarted.

        Droplets stay as they are: one may be powered off on purpose.
        """
        stopped = [
            container
            for part in ("database", "load-balancer")
            for container in containers(self.client, self.lab.name, part)
            if container.status in ("exited", "dead")
        ]
        # first those that hold an address, then those that share it
        for container in sorted(stopped, key=lambda each: LABEL_PRIVATE not in each.labels):
            container.start()

    # -- down -------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Remove everything that carries the lab's label, and its directory; nothing else."""
        # The emulator first: it would see its machines go and might bring them back.
        for name in ("digitalocean",):
            container = find(self.client, self.lab.container(name))
            if container is not None:
                container.remove(force=True, v=True)
        found = containers(self.client, self.lab.name)
        with workers() as pool:
            list(pool.map(self._remove, found))
        label = {"label": f"{LABEL}={self.lab.name}"}
        for volume in self.client.volumes.list(filters=label):
            volume.remove(force=True)
        for network in self.client.networks.list(filters=label):
            network.remove()
        shutil.rmtree(self.lab.state, ignore_errors=True)

    def _remove(self, container: Any) -> None:
        self.report(f"removing {container.name}")
        try:
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:  # a removal that is under way already
                raise

    # -- status -----------------------------------------------------------------------------------------

    def status(self) -> list[Row]:
        """What there is of the lab, fixed parts first; a load balancer's members have a line each."""
        rows = []
        for container in containers(self.client, self.lab.name):
            part = container.labels.get(LABEL_PART, "")
            state, labels = container.attrs["State"], container.labels
            running = container.status == "running"
            health = (state.get("Health") or {}).get("Status", "")
            row = Row(
                kind=part if part in _CLOUD_PARTS else "part",
                name=labels.get(LABEL_NAME) or part,
                public=labels.get(LABEL_PUBLIC, ""),
                private=labels.get(LABEL_PRIVATE, ""),
                state=container.status,
                health=health,
                since=state["StartedAt"] if running else state["FinishedAt"],
                container=container.name,
                # A droplet may be switched off on purpose.
                ill=health == "unhealthy" or not (running or part == "droplet"),
            )
            rows.append(row)
            if part == "load-balancer" and running:
                rows += self._member_rows(container, row)
        order = ("part", "database", "load-balancer", "member", "droplet")
        return sorted(rows, key=lambda each: (order.index(each.kind), each.name))

    def _member_rows(self, container: Any, balancer: Row) -> list[Row]:
        try:
            members = self.members(container)
        except CloudError as error:
            members = {"?": str(error)}
        return [
            replace(
                balancer, kind="member", name=name, public="", private="", state="", health=said, ill=False
            )
            for name, said in members.items()
        ]

    def members(self, container: Any) -> dict[str, str]:
        """A load balancer's droplets and what its health checks say of them."""
        script = f"echo 'show stat' | socat - UNIX-CONNECT:{haproxy.ADMIN_SOCKET}"
        code, output = container.exec_run(["sh", "-c", script])
        if code:
            raise CloudError("HAProxy does not answer")
        return haproxy.statuses(output.decode(errors="replace"))

    def resolve(self, name: str) -> Any:
        """The container of a part, droplet, load balancer or cluster.

        By any of its names, with or without `vmst-`. Raises LabError, naming what there is.
        """
        found = containers(self.client, self.lab.name)
        by_name: dict[str, Any] = {}
        for container in found:
            for label in (LABEL_ID, LABEL_PART, LABEL_NAME):
                key = container.labels.get(label)
                if key and not (label == LABEL_PART and key in _CLOUD_PARTS):
                    by_name.setdefault(key, container)
            by_name[container.name] = container
        for candidate in (name, f"{INSTANCE}-{name}"):
            if candidate in by_name:
                return by_name[candidate]
        known = sorted({c.labels.get(LABEL_NAME) or c.labels.get(LABEL_PART, c.name) for c in found})
        raise LabError(
            f"lab {self.lab.name!r} has nothing called {name!r}; it has: {', '.join(known) or 'nothing'}"
        )

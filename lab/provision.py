"""What an admin orders in the control panels before the first converge, done through the emulated APIs.

Everything is looked up by name first, so that it can be cut off and run again.
"""

from __future__ import annotations

import base64
import re
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg import sql

from lab.config import Lab
from lab.docker_cloud import LABEL_NAME, LABEL_PRIVATE
from lab.engine import LabError, connect, containers
from lab.parts import DOMAIN, INSTANCE

REGION = "ams3"
IMAGE = "debian-13-x64"
SIZES = {"exec": "s-2vcpu-4gb", "worker": "s-2vcpu-4gb"}
POSTGRES = f"{INSTANCE}-pg"
VALKEY = f"{INSTANCE}-valkey"
POOL = "mastodon-pool"
DEFAULT_DROPLETS = "exec,worker:3"

_WAIT_SECONDS = 180
Report = Callable[[str], None]


@dataclass(frozen=True)
class Database:
    """A managed cluster as its clients see it."""

    host: str
    port: int
    user: str
    password: str
    ca: str


@dataclass(frozen=True)
class Provisioned:
    """What there is when everything is ordered. `droplets` are API objects by name."""

    postgres: Database
    valkey: Database
    load_balancer: str
    droplets: dict[str, dict[str, Any]]


class Api:
    """One of the emulated APIs. Any answer that is not expected raises LabError with the API's words."""

    def __init__(self, url: str, token: str, ca: Path) -> None:
        self.url = url
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=str(ca)),
            timeout=60,
            trust_env=False,
        )

    def __call__(self, method: str, path: str, body: Any = None, **query: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, json=body, params=query)
        except httpx.HTTPError as error:
            raise LabError(f"{method} {self.url}{path}: {error or type(error).__name__}") from error
        if response.is_error:
            raise LabError(f"{method} {self.url}{path}: {response.status_code} {response.text[:300]}")
        return dict(response.json()) if response.content else {}

    def pages(self, path: str, key: str, **query: Any) -> Iterable[dict[str, Any]]:
        """Every object of a DigitalOcean list."""
        page = 1
        while True:
            found = self("GET", path, per_page=200, page=page, **query)
            yield from found[key]
            if not (found.get("links") or {}).get("pages", {}).get("next"):
                return
            page += 1


def parse_droplets(text: str) -> list[str]:
    """Names of droplets from `exec,worker:3` (`none`: no droplet). Raises ValueError."""
    names: list[str] = []
    for item in text.split(","):
        if item.strip() in ("", "none"):
            continue
        group, _, count = item.strip().partition(":")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", group) or (count and not re.fullmatch(r"[1-9]\d?", count)):
            raise ValueError(f"{item.strip()!r} is neither GROUP nor GROUP:COUNT, as in {DEFAULT_DROPLETS}")
        if count:
            names += [f"{INSTANCE}-{group}-{number}" for number in range(1, int(count) + 1)]
        else:
            names.append(f"{INSTANCE}-{group}")
    return names


def group_of(droplet: str) -> str:
    """`worker` of `vmst-worker-2`."""
    return re.sub(r"-\d+$", "", droplet.removeprefix(f"{INSTANCE}-"))


def tags_of(droplet: str) -> list[str]:
    """A worker's second tag makes it a member of the load balancer."""
    group = group_of(droplet)
    return [f"{INSTANCE}-{group}"] + ([f"{INSTANCE}-lb"] if group == "worker" else [])


class Provisioner:
    def __init__(self, lab: Lab, secrets: dict[str, str], report: Report = lambda _: None) -> None:
        self.lab = lab
        self.secrets = secrets
        self.report = report
        self.digitalocean = Api(
            f"https://{lab.address('digitalocean')}", secrets["digitalocean_token"], lab.ca
        )
        self.cloudflare = Api(f"https://{lab.address('cloudflare')}", secrets["cloudflare_token"], lab.ca)

    def everything(self, droplets: list[str], public_key: str) -> Provisioned:
        """Order what is missing and wait until it is there. Droplets that exist stay, named here or not.

        Everything lands in the region's default VPC, whose range is the lab's private network.
        """
        key = self._ssh_key(public_key)
        for tag in ("exec", "worker", "lb"):
            self._tag(f"{INSTANCE}-{tag}")
        self._order_droplets(droplets, key)
        postgres, valkey = self._order_cluster(POSTGRES), self._order_cluster(VALKEY)
        balancer = self._order_load_balancer()
        self.report("waiting for PostgreSQL")
        database = self._postgres(postgres)
        self.report("waiting for Valkey")
        cache = self._valkey(valkey)
        found = self.await_droplets()
        address = self._await_load_balancer(balancer)
        self._zone()
        return Provisioned(database, cache, address, found)

    # -- account ----------------------------------------------------------------------------------------

    def _ssh_key(self, public_key: str) -> int:
        for key in self.digitalocean.pages("/v2/account/keys", "ssh_keys"):
            if key["public_key"].split()[:2] == public_key.split()[:2]:
                return int(key["id"])
        body = {"name": f"lab-{self.lab.name}", "public_key": public_key}
        return int(self.digitalocean("POST", "/v2/account/keys", body)["ssh_key"]["id"])

    def _tag(self, name: str) -> None:
        if not any(tag["name"] == name for tag in self.digitalocean.pages("/v2/tags", "tags")):
            self.digitalocean("POST", "/v2/tags", {"name": name})

    # -- droplets ---------------------------------------------------------------------------------------

    def droplets(self) -> dict[str, dict[str, Any]]:
        return {droplet["name"]: droplet for droplet in self.digitalocean.pages("/v2/droplets", "droplets")}

    def _order_droplets(self, names: list[str], key: int) -> None:
        present = self.droplets()
        for name in names:
            if name in present and self._was_refused(present[name]):
                self.report(f"removing droplet {name}, whose machine could not be made before")
                self.digitalocean("DELETE", f"/v2/droplets/{present.pop(name)['id']}")
                self.until_gone(name)
            if name not in present:
                self.report(f"ordering droplet {name}")
                self.order_droplet(name, key)

    def _was_refused(self, droplet: dict[str, Any]) -> bool:
        """Whether nothing will come of a new droplet: it stays `new` when its first action has failed."""
        if droplet["status"] != "new":
            return False
        actions = self.digitalocean.pages(f"/v2/droplets/{droplet['id']}/actions", "actions")
        return any(action["type"] == "create" and action["status"] == "errored" for action in actions)

    def order_droplet(self, name: str, key: int | None = None) -> None:
        group = group_of(name)
        body = {
            "name": name,
            "region": REGION,
            "size": SIZES.get(group, SIZES["worker"]),
            "image": IMAGE,
            "ssh_keys": [key if key is not None else self._only_key()],
            "tags": tags_of(name),
        }
        self.digitalocean("POST", "/v2/droplets", body)

    def _only_key(self) -> int:
        for key in self.digitalocean.pages("/v2/account/keys", "ssh_keys"):
            return int(key["id"])
        raise LabError("the account has no SSH key yet: run `lab up`")

    def droplet(self, name: str) -> dict[str, Any]:
        found = self.droplets()
        if name not in found:
            raise LabError(f"there is no droplet {name!r}; there are: {', '.join(sorted(found)) or 'none'}")
        return found[name]

    def act(self, name: str, **action: Any) -> None:
        """Order a droplet's action, as `type="reboot"`, and wait for its end."""
        droplet = self.droplet(name)
        made = self.digitalocean("POST", f"/v2/droplets/{droplet['id']}/actions", action)["action"]
        self._until(
            lambda: self._action_done(f"/v2/actions/{made['id']}"), f"{action['type']} of droplet {name}"
        )

    def _action_done(self, path: str) -> bool:
        status = self.digitalocean("GET", path)["action"]["status"]
        if status == "errored":
            raise LabError("the action ended in an error; `lab logs digitalocean` says why")
        return bool(status == "completed")

    def await_droplets(self) -> dict[str, dict[str, Any]]:
        def ready() -> bool:
            droplets = self.droplets()
            for name, droplet in droplets.items():
                if self._was_refused(droplet):
                    raise LabError(
                        f"droplet {name} could not be made; `lab logs digitalocean` says why, "
                        "and `lab up` orders it again"
                    )
            return all(
                droplet["status"] != "new" and droplet["networks"]["v4"] for droplet in droplets.values()
            )

        self._until(ready, "droplets (`lab logs digitalocean` says more)")
        return self.droplets()

    def until_gone(self, name: str) -> None:
        self._until(lambda: name not in self.droplets(), f"the end of droplet {name}")

    # -- load balancer ----------------------------------------------------------------------------------

    def _order_load_balancer(self) -> str:
        name = f"{INSTANCE}-lb"
        for balancer in self.digitalocean.pages("/v2/load_balancers", "load_balancers"):
            if balancer["name"] == name:
                return str(balancer["id"])
        rule = {"entry_protocol": "tcp", "target_protocol": "tcp"}
        body = {
            "name": name,
            "region": REGION,
            "tag": f"{INSTANCE}-lb",
            "forwarding_rules": [{**rule, "entry_port": port, "target_port": port} for port in (443, 80)],
            "health_check": {
                "protocol": "http",
                "port": 8080,
                "path": "/health",
                "check_interval_seconds": 3,
                "response_timeout_seconds": 3,
                "unhealthy_threshold": 2,
                "healthy_threshold": 2,
            },
            "enable_proxy_protocol": True,
        }
        return str(self.digitalocean("POST", "/v2/load_balancers", body)["load_balancer"]["id"])

    def _await_load_balancer(self, identifier: str) -> str:
        address = ""

        def ready() -> bool:
            nonlocal address
            found = self.digitalocean("GET", f"/v2/load_balancers/{identifier}")["load_balancer"]
            if found["status"] == "errored":
                raise LabError("the load balancer could not be made; `lab logs digitalocean` says why")
            address = found.get("ip") or ""
            return bool(found["status"] == "active" and address)

        self._until(ready, "load balancer")
        return address

    # -- databases --------------------------------------------------------------------------------------

    def _order_cluster(self, name: str) -> str:
        for cluster in self.digitalocean("GET", "/v2/databases").get("databases") or []:
            if cluster["name"] == name:
                return str(cluster["id"])
        self.report(f"ordering database cluster {name}")
        engine, version = ("pg", "17") if name == POSTGRES else ("valkey", "8")
        body = {
            "name": name,
            "engine": engine,
            "version": version,
            "region": REGION,
            "size": "db-s-1vcpu-1gb",
            "num_nodes": 1,
        }
        return str(self.digitalocean("POST", "/v2/databases", body)["database"]["id"])

    def _cluster(self, identifier: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def ready() -> bool:
            nonlocal found
            found = self.digitalocean("GET", f"/v2/databases/{identifier}")["database"]
            return bool(found["status"] == "online")

        self._until(ready, f"database cluster {identifier} (`lab logs digitalocean` says more)")
        return found

    def _ca(self, identifier: str) -> str:
        try:
            answer = self.digitalocean("GET", f"/v2/databases/{identifier}/ca")
        except LabError as error:
            if ": 404 " in str(error):  # Valkey has a certificate of a public authority
                return ""
            raise
        return base64.b64decode(answer["ca"]["certificate"]).decode()

    def _postgres(self, identifier: str) -> Database:
        cluster = self._cluster(identifier)
        root = f"/v2/databases/{identifier}"
        if "mastodon" not in [each["name"] for each in self.digitalocean("GET", f"{root}/dbs")["dbs"]]:
            self.digitalocean("POST", f"{root}/dbs", {"name": "mastodon"})
        users = {each["name"]: each for each in self.digitalocean("GET", f"{root}/users")["users"]}
        if "mastodon" not in users:
            users["mastodon"] = self.digitalocean("POST", f"{root}/users", {"name": "mastodon"})["user"]
        if POOL not in [each["name"] for each in self.digitalocean("GET", f"{root}/pools")["pools"]]:
            pool = {"name": POOL, "mode": "transaction", "size": 20, "db": "mastodon", "user": "mastodon"}
            self.digitalocean("POST", f"{root}/pools", pool)
        private = cluster["private_connection"]
        ca = self._ca(identifier)
        admin = Database(private["host"], private["port"], private["user"], private["password"], ca)
        self._until(lambda: self._grant(admin), "PostgreSQL's database mastodon")
        return Database(private["host"], private["port"], "mastodon", users["mastodon"]["password"], ca)

    def _grant(self, admin: Database) -> bool:
        """A user made by the API may not create tables, since PostgreSQL 15; the admin allows it by hand."""
        ca = self.lab.state / "pki" / "postgres-ca.crt"
        if not ca.exists() or ca.read_text() != admin.ca:
            ca.write_text(admin.ca)
        try:
            with psycopg.connect(
                host=admin.host,
                hostaddr=self._address_of_cluster(),
                port=admin.port,
                user=admin.user,
                password=admin.password,
                dbname="mastodon",
                sslmode="verify-full",
                sslrootcert=str(ca),
                connect_timeout=5,
            ) as connection:
                user = sql.Identifier("mastodon")
                connection.execute(sql.SQL("GRANT ALL ON DATABASE mastodon TO {}").format(user))
                connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(user))
        except psycopg.OperationalError:  # the API has answered, the server is not there yet
            return False
        return True

    def _address_of_cluster(self) -> str:
        """This machine does not resolve the lab's names."""
        for container in containers(connect(), self.lab.name, "database"):
            if container.labels.get(LABEL_NAME) == POSTGRES and LABEL_PRIVATE in container.labels:
                return str(container.labels[LABEL_PRIVATE])
        raise LabError(f"the container of {POSTGRES} is gone: run `lab down`, then `lab up`")

    def _valkey(self, identifier: str) -> Database:
        private = self._cluster(identifier)["private_connection"]
        ca = self._ca(identifier) or self.lab.ca.read_text()
        return Database(private["host"], private["port"], private["user"], private["password"], ca)

    # -- others -----------------------------------------------------------------------------------------

    def _zone(self) -> None:
        """The domain's zone exists, without records: the playbooks make those."""
        path = "/client/v4/zones"
        if not self.cloudflare("GET", path, name=DOMAIN)["result"]:
            self.cloudflare("POST", path, {"name": DOMAIN, "type": "full"})

    def _until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _WAIT_SECONDS
        while not done():
            if time.monotonic() > end:
                raise LabError(f"{what}: not there after {_WAIT_SECONDS} s")
            time.sleep(0.5)

"""Mastodon's images beside real databases, without droplets: needs the engine and the lab's images.

Which images: the stand-in's, unless MASTODON_IMAGES names others and MASTODON_VERSIONS their versions, one of
each of the series 4.5, 4.6 and 4.7: `MASTODON_IMAGES=prefix MASTODON_VERSIONS=v4.5.15,v4.6.5,v4.7.0` takes
prefix/mastodon:v4.5.15, prefix/mastodon-streaming:v4.5.15 and so on.
"""

from __future__ import annotations

import os
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import httpx
import pytest

from lab import standin
from lab.config import Lab
from lab.engine import connect
from lab.images import Images

VERSIONS = tuple(os.environ.get("MASTODON_VERSIONS", ",".join(standin.VERSIONS)).split(","))
OLD, MIDDLE, NEW = VERSIONS
REAL = "MASTODON_IMAGES" in os.environ

DOMAIN = "social.test"
PASSWORD = secrets.token_hex(8)
KEYS = ("PRIMARY_KEY", "DETERMINISTIC_KEY", "KEY_DERIVATION_SALT")

ENVIRONMENT = {
    "LOCAL_DOMAIN": DOMAIN,
    "SECRET_KEY_BASE": secrets.token_hex(64),
    **{f"ACTIVE_RECORD_ENCRYPTION_{name}": secrets.token_hex(16) for name in KEYS},
    "DB_HOST": "database",
    "DB_PORT": "6432",
    "DB_NAME": "mastodon-pool",
    "DB_USER": "mastodon",
    "DB_PASS": PASSWORD,
    "DB_SSLMODE": "require",
    "PREPARED_STATEMENTS": "false",
    "REDIS_HOST": "database",
    "SMTP_SERVER": "database",
    "SMTP_PORT": "2525",
    "SMTP_AUTH_METHOD": "none",
    "SMTP_ENABLE_STARTTLS": "never",
    "WEB_CONCURRENCY": "0",
    "NODE_EXTRA_CA_CERTS": "/authority.crt",
}

DIRECT = {"DB_PORT": "5432", "DB_NAME": "mastodon"}
"""Migrations pass by the transaction pool."""

# PostgreSQL that takes TLS alone, PgBouncer without prepared statements and with one connection, Valkey, and
# a mail server that keeps what it gets.
DATABASES = """
set -eu
cd /var/lib/postgresql
openssl req -quiet -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
openssl req -quiet -newkey rsa:2048 -nodes -subj /CN=database -keyout db.key -out db.csr
printf 'subjectAltName=DNS:database' > san
openssl x509 -req -in db.csr -CA ca.crt -CAkey ca.key -days 2 -extfile san -out db.crt 2>/dev/null
chown postgres *.key *.crt && chmod 600 *.key
bin=$(echo /usr/lib/postgresql/*/bin)
as="setpriv --reuid postgres --regid postgres --clear-groups"
$as $bin/initdb --pgdata data --auth trust >/dev/null
printf 'local all all trust\\nhostssl all all all trust\\n' > data/pg_hba.conf
cat >> data/postgresql.conf <<EOF
listen_addresses = '*'
ssl = on
ssl_cert_file = '$PWD/db.crt'
ssl_key_file = '$PWD/db.key'
fsync = off
EOF
$as $bin/pg_ctl --pgdata data --wait --log data/log start >/dev/null
psql -U postgres -qc "CREATE ROLE mastodon LOGIN" -c "CREATE DATABASE mastodon OWNER mastodon"
echo '"mastodon" ""' > users
cat > pgbouncer.ini <<EOF
[databases]
mastodon-pool = host=127.0.0.1 dbname=mastodon pool_size=1
[pgbouncer]
listen_addr = *
listen_port = 6432
auth_type = trust
auth_file = users
pool_mode = transaction
max_prepared_statements = 0
server_tls_sslmode = require
client_tls_sslmode = require
client_tls_cert_file = db.crt
client_tls_key_file = db.key
EOF
valkey-server --bind '* -::*' --protected-mode no --save '' --daemonize yes >/dev/null
$as pgbouncer --quiet pgbouncer.ini &
python3 -m aiosmtpd -n -l 0.0.0.0:2525 -c aiosmtpd.handlers.Mailbox /var/lib/postgresql/mail &
touch ready
wait
"""


Environment = Mapping[str, str | None]
"""Changes to ENVIRONMENT; None leaves a variable out."""

NO_CHANGE: Environment = {}


@dataclass(frozen=True)
class Result:
    """How a command ended. `stdout` is what it said, `output` that and its complaints."""

    code: int
    stdout: str
    output: str


@dataclass
class World:
    """One network with databases on it, in which versions of Mastodon are started."""

    client: docker.DockerClient
    images: Mapping[str, str]
    network: str
    database: Any
    authority: Path
    started: list[Any] = field(default_factory=list)

    def sql(self, statement: str, database: str = "mastodon") -> str:
        command = ["psql", "-U", "postgres", "-h", "/var/run/postgresql", "-d", database, "-Atqc", statement]
        code, output = self.database.exec_run(command)
        assert code == 0, output.decode()
        return str(output.decode()).strip()

    def reset(self) -> None:
        """An empty database, and nothing of Mastodon running."""
        self.stop()
        self.database.exec_run(["valkey-cli", "flushall"])
        terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mastodon'"
        self.sql(terminate, "postgres")
        self.sql("DROP DATABASE mastodon", "postgres")
        self.sql("CREATE DATABASE mastodon OWNER mastodon", "postgres")

    def stop(self) -> None:
        while self.started:
            self.started.pop().remove(force=True, v=True)

    def _create(self, image: str, command: str | list[str] | None, environment: Environment) -> Any:
        merged = {**ENVIRONMENT, **environment}
        return self.client.containers.create(
            image,
            shlex.split(command) if isinstance(command, str) else command,
            environment={name: value for name, value in merged.items() if value is not None},
            network=self.network,
            # As the workers run it.
            user="991:991",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            tmpfs={
                "/opt/mastodon/tmp": "uid=991,gid=991",
                "/opt/mastodon/public/system": "uid=991,gid=991",
                "/tmp": "mode=1777",
            },
            volumes={str(self.authority): {"bind": "/authority.crt", "mode": "ro"}},
            labels={"io.vmst.mastodon-test": self.network},
        )

    def run(
        self, tag: str, command: str | list[str], part: str = "mastodon", environment: Environment = NO_CHANGE
    ) -> Result:
        """A command in a container of one version, to its end."""
        container = self._create(self.images[f"{part}:{tag}"], command, environment)
        try:
            container.start()
            code = container.wait(timeout=240)["StatusCode"]
            return Result(code, container.logs(stderr=False).decode(), container.logs().decode())
        finally:
            container.remove(force=True, v=True)

    def start(
        self, tag: str, command: str | None, part: str = "mastodon", environment: Environment = NO_CHANGE
    ) -> Any:
        container = self._create(self.images[f"{part}:{tag}"], command, environment)
        self.started.append(container)
        container.start()
        return container

    def subnet(self) -> str:
        """The addresses of the network: the one that the tests ask from is among them."""
        found = self.client.networks.get(self.network).attrs["IPAM"]["Config"]
        return str(found[0]["Subnet"])

    def address(self, container: Any) -> str:
        container.reload()
        return str(container.attrs["NetworkSettings"]["Networks"][self.network]["IPAddress"])

    def web(self, tag: str, environment: Environment = NO_CHANGE) -> httpx.Client:
        """A web process of one version, as nginx would talk to it."""
        container = self.start(tag, "bundle exec puma -C config/puma.rb", environment=environment)
        client = httpx.Client(
            base_url=f"http://{self.address(container)}:3000",
            headers={"Host": DOMAIN, "X-Forwarded-Proto": "https"},
            timeout=20,
        )
        until(lambda: answers(client), lambda: container.logs().decode())
        return client

    def sidekiq(self, tag: str, *queues: str, environment: Environment = NO_CHANGE) -> Any:
        options = " ".join(f"-q {queue}" for queue in queues)
        container = self.start(tag, f"bundle exec sidekiq {options}", environment=environment)
        ready = "test -e tmp/sidekiq_process_has_started_and_will_begin_processing_jobs"
        until(lambda: container.exec_run(ready)[0] == 0, lambda: container.logs().decode())
        return container

    def migrate(self, tag: str, *, skip_post: bool = False, environment: Environment = NO_CHANGE) -> Result:
        skip = {"SKIP_POST_DEPLOYMENT_MIGRATIONS": "true"} if skip_post else {}
        return self.run(tag, "bundle exec rails db:migrate", environment={**DIRECT, **skip, **environment})

    def setup(self, tag: str) -> None:
        result = self.run(tag, "bundle exec rails db:migrate:setup", environment=DIRECT)
        assert result.code == 0, result.output

    def account(self, tag: str, name: str = "owner") -> str:
        """Creates an account with tootctl; its password. `database` is a name that resolves here. The account
        `owner` has that role."""
        role = "--role Owner" if name == "owner" else ""
        result = self.run(
            tag, f"tootctl accounts create {name} --email {name}@database --confirmed --approve {role}"
        )
        assert result.code == 0, result.output
        # Bundler says before that it cannot write to its home.
        said, password = result.stdout.splitlines()[-2:]
        assert said == "OK"
        return password.removeprefix("New password: ")


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").text == "OK"
    except httpx.TransportError:
        return False


def until(
    condition: Callable[[], bool], explain: Callable[[], str] = lambda: "", seconds: float = 240
) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {explain()[-4000:]}"
        time.sleep(0.2)


def images() -> dict[str, str]:
    """`mastodon:TAG` and `mastodon-streaming:TAG` of each version -> name in the engine."""
    prefix = os.environ.get("MASTODON_IMAGES")
    if not prefix:
        return standin.build_images()
    names = [f"{part}:{tag}" for tag in VERSIONS for part in ("mastodon", "mastodon-streaming")]
    return {name: f"{prefix}/{name}" for name in names}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    client = connect()
    services = Images(client, Lab.load().cache).services()
    network = client.networks.create(f"vmstio-mastodon-{os.getpid()}")
    database = None
    try:
        database = client.containers.create(services, ["sh", "-c", DATABASES], network=None, init=True)
        client.networks.get("bridge").disconnect(database)
        network.connect(database, aliases=["database"])
        database.start()
        until(
            lambda: database.exec_run("test -e /var/lib/postgresql/ready")[0] == 0,
            lambda: database.logs().decode(),
        )
        authority = tmp_path_factory.mktemp("pki") / "ca.crt"
        certificate = database.exec_run("cat /var/lib/postgresql/ca.crt").output
        assert isinstance(certificate, bytes)
        authority.write_bytes(certificate)
        authority.parent.chmod(0o755)
        authority.chmod(0o644)
        world = World(client, images(), str(network.name), database, authority)
        yield world
        world.stop()
    finally:
        for container in client.containers.list(
            all=True, filters={"label": f"io.vmst.mastodon-test={network.name}"}
        ):
            container.remove(force=True, v=True)
        if database:
            database.remove(force=True, v=True)
        network.remove()


@pytest.fixture
def empty(world: World) -> World:
    """A world without tables."""
    world.reset()
    return world

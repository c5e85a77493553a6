"""The whole instance in a lab of its own (`e2e`), as `make lab` makes it, and hands to work on it.

With $E2E_LAB the tests run on the lab of that name instead, which is up and converged: they leave it as it
was. They ask for nothing that Mastodon itself does not have.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.config import Lab
from lab.instance import Instance
from lab.managed_databases import FILES, POSTGRES_PORT, VALKEY_PORT

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
WORKERS = ("vmst-worker-1", "vmst-worker-2", "vmst-worker-3")
HOSTS = ("vmst-exec", *WORKERS)
DOMAIN = "social.test"
EXISTING = os.environ.get("E2E_LAB", "")


@dataclass(frozen=True)
class Recap:
    """One host's line of Ansible's PLAY RECAP."""

    ok: int
    changed: int
    unreachable: int
    failed: int


@dataclass(frozen=True)
class Run:
    """A finished command: exit code, both outputs in one text."""

    code: int
    output: str

    @property
    def recap(self) -> dict[str, Recap]:
        pattern = r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)"
        return {
            host: Recap(*map(int, numbers))
            for host, *numbers in re.findall(pattern, self.output, re.MULTILINE)
        }

    def must_succeed(self) -> Run:
        assert self.code == 0, self.output[-6000:]
        return self


def run(*command: str | Path, env: dict[str, str] | None = None, stdin: str | None = None) -> Run:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "NO_COLOR": "1", **(env or {})}
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environment,
        input=stdin or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(done.returncode, done.stdout)


class TestLab:
    """The lab: its commands, its droplets, its instance."""

    __test__ = False
    settings = Lab.load(EXISTING or "e2e")

    def __call__(self, *arguments: str) -> Run:
        return run(BIN / "lab", "--name", self.settings.name, *arguments)

    def ssh(self, droplet: str, command: str) -> Run:
        """A shell command as root on a droplet."""
        return self("ssh", droplet, "--", command)

    def server(self, name: str, command: str, stdin: str = "") -> str:
        """What a shell command prints in the container of a managed database, where passwords lie."""
        container = next(row["container"] for row in status(self) if row["name"] == name)
        return run("docker", "exec", "-i", container, "sh", "-c", command, stdin=stdin).must_succeed().output

    def sql(self, query: str) -> list[str]:
        """Rows of Mastodon's database, columns separated by `|`."""
        user = "setpriv --reuid=postgres --regid=postgres --init-groups"
        psql = f"{user} psql -h /var/run/postgresql -p {POSTGRES_PORT} -XqAt -v ON_ERROR_STOP=1 mastodon"
        return self.server("vmst-pg-postgres", psql, query).splitlines()

    def valkey(self, *command: str) -> list[str]:
        """Lines that a command of Valkey answers."""
        client = (
            f"REDISCLI_AUTH=$(sed -n 's/^requirepass //p' {FILES}/valkey.conf) valkey-cli --tls"
            f" --cacert {FILES}/ca.crt -p {VALKEY_PORT} --raw"
        )
        return self.server("vmst-valkey", f"{client} {shlex.join(command)}").splitlines()

    @property
    def inventory(self) -> Path:
        return self.settings.state / "inventory"

    def playbook(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> Run:
        return run("ansible-playbook", "-i", self.inventory, f"playbooks/{name}.yml", *arguments, env=env)


@pytest.fixture(scope="session")
def lab() -> Iterator[TestLab]:
    lab = TestLab()
    if not EXISTING:
        lab("down").must_succeed()
    yield lab
    if not EXISTING:
        lab("down").must_succeed()


@pytest.fixture(scope="session")
def fresh_droplets(lab: TestLab) -> TestLab:
    """Everything an admin has before the first converge."""
    if EXISTING:
        # A first converge needs hosts that never had one: `make test` makes them.
        pytest.skip(f"the droplets of lab {EXISTING!r} are converged: a first converge cannot be seen there")
    lab("up", "--no-converge").must_succeed()
    return lab


@pytest.fixture(scope="session")
def converged(request: pytest.FixtureRequest, lab: TestLab) -> TestLab:
    """The instance, by `lab up`; the first attempt is killed half-way, without a chance to clean up."""
    if EXISTING:
        return lab
    fresh_droplets: TestLab = request.getfixturevalue("fresh_droplets")
    killed = subprocess.Popen(
        [BIN / "lab", "--name", fresh_droplets.settings.name, "up"],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: "release" in fresh_droplets.ssh("vmst-exec", "ls /opt/mastodon").output, 300)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    fresh_droplets("up").must_succeed()
    return fresh_droplets


@pytest.fixture(scope="session")
def instance(converged: TestLab) -> Iterator[Instance]:
    address = load_balancer_address(converged)
    with Instance(DOMAIN, address, converged.settings.ca) as client:
        yield client


def status(lab: TestLab) -> list[dict[str, str]]:
    """The rows of `lab status`. Its exit code is not looked at: a test may have made something ill."""
    rows: list[dict[str, str]] = json.loads(lab("status", "--json").output)
    return rows


def jobs(lab: TestLab, droplet: str, since: float = 0) -> set[str]:
    """Classes of the background jobs that the Sidekiqs of a droplet have done; Sidekiq 7 and 8 say it."""
    journal = f"journalctl --unit 'mastodon-sidekiq*' --output cat --since @{since:.6f}"
    done = lab.ssh(droplet, journal).must_succeed().output
    return set(re.findall(r" class=(\S+) .*: done$", done, re.MULTILINE))


def served_by(lab: TestLab, address: str) -> set[str]:
    """The workers whose web answers visitors of the load balancer, each with a connection of its own."""
    path = f"/auth/sign_in?{secrets.token_hex(8)}"  # no cache has it
    for _ in range(12):
        with Instance(DOMAIN, address, lab.settings.ca) as visitor:
            visitor.request("GET", path).raise_for_status()
    count = f"grep --count --fixed-strings 'GET {path} ' /var/log/nginx/access.log"
    return {worker for worker in WORKERS if int(lab.ssh(worker, count).output)}


def members_up(lab: TestLab) -> set[str]:
    """The droplets that the load balancer sends visitors to."""
    return {row["name"] for row in status(lab) if row["kind"] == "member" and row["health"].startswith("UP")}


def load_balancer_address(lab: TestLab) -> str:
    return next(row["public"] for row in status(lab) if row["kind"] == "load-balancer")


def until(condition: Callable[[], bool], seconds: float, pause: float = 1) -> None:
    """Waits for a condition; fails the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(pause)

"""The whole instance in a lab of its own (`e2e`), as `make lab` makes it, and hands to work on it."""

from __future__ import annotations

import json
import os
import re
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

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
WORKERS = ("vmst-worker-1", "vmst-worker-2", "vmst-worker-3")
HOSTS = ("vmst-exec", *WORKERS)
DOMAIN = "social.test"


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
    """The lab `e2e`: its commands, its droplets, its instance."""

    __test__ = False
    settings = Lab.load("e2e")

    def __call__(self, *arguments: str) -> Run:
        return run(BIN / "lab", "--name", self.settings.name, *arguments)

    def ssh(self, droplet: str, command: str) -> Run:
        """A shell command as root on a droplet."""
        return self("ssh", droplet, "--", command)

    @property
    def inventory(self) -> Path:
        return self.settings.state / "inventory"

    def playbook(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> Run:
        return run("ansible-playbook", "-i", self.inventory, f"playbooks/{name}.yml", *arguments, env=env)


@pytest.fixture(scope="session")
def lab() -> Iterator[TestLab]:
    """$KEEP_LAB goes on with the lab of the run before, and leaves it for the next."""
    lab = TestLab()
    keep = bool(os.environ.get("KEEP_LAB"))
    if not keep:
        lab("down").must_succeed()
    yield lab
    if not keep:
        lab("down").must_succeed()


@pytest.fixture(scope="session")
def fresh_droplets(lab: TestLab) -> TestLab:
    """Everything an admin has before the first converge."""
    lab("up", "--no-converge").must_succeed()
    return lab


@pytest.fixture(scope="session")
def converged(fresh_droplets: TestLab) -> TestLab:
    """The instance, by `lab up`; the first attempt is killed half-way, without a chance to clean up."""
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


def load_balancer_address(lab: TestLab) -> str:
    return next(row["public"] for row in status(lab) if row["kind"] == "load-balancer")


def until(condition: Callable[[], bool], seconds: float, pause: float = 1) -> None:
    """Waits for a condition; fails the test when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true within {seconds} s"
        time.sleep(pause)

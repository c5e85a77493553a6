"""The two machines, as the tests see them. Limits of time are where a wait is given up, nothing more."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import vm
from lab.config import Lab

LAB = Lab.load(os.environ.get("LAB_VM_NAME", "vm"))
INSTANCE = LAB.state / "instance"
COPY = "/etc/mastodon/share/current"
MOUNT = "/mnt/mastodon"


@pytest.fixture(scope="session", autouse=True)
def power_at_the_end() -> Iterator[None]:
    """Both are on afterwards, whatever failed: the next step of the scenario converges them."""
    yield
    for machine in vm.load(LAB):
        machine.power_on()


@pytest.fixture(scope="session")
def exec_host() -> vm.Machine:
    return vm.get(LAB, "vm-exec")


@pytest.fixture(scope="session")
def worker() -> vm.Machine:
    return vm.get(LAB, "vm-worker")


@pytest.fixture(scope="session", autouse=True)
def first_generation(exec_host: vm.Machine, power_at_the_end: None) -> Iterator[None]:
    """What converge published is published again at the end: the tests leave no setting of theirs."""
    script = (
        "import json, pathlib; root = pathlib.Path('/srv/mastodon/share/current');"
        "manifest = json.loads((root / 'manifest.json').read_text());"
        "print(json.dumps({'files': {name: {'content': (root / name).read_text(),"
        " 'public': name in manifest['public']} for name in manifest['files']}}))"
    )
    found = exec_host.run("python3", "-c", f'"{script}"').stdout
    yield
    exec_host.power_on()
    exec_host.run("mastodon-share-publish", stdin=found)


def publish(exec_host: vm.Machine, files: dict[str, str]) -> int:
    """Publish these files beside what is there; returns the number of the generation."""
    request = json.dumps({"files": {name: {"content": content} for name, content in files.items()}})
    return int(
        json.loads(exec_host.run("mastodon-share-publish", "--keep", stdin=request).stdout)["generation"]
    )


def copy_of(worker: vm.Machine) -> int:
    """Number of the generation that the worker's services read; 0 where there is none."""
    link = worker.run("readlink", COPY, check=False).stdout.strip()
    return int(Path(link).name) if link else 0


def until(done: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"still not, after {seconds:.0f} s: {what}"
        time.sleep(2)

"""The lab's machines themselves: killed while it starts them, they are found and removed; and made again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import vm
from lab.config import Lab

NAME = "vmkill"
ENVIRONMENT = {
    **os.environ,
    "LAB_VM_NAME": NAME,
    "LAB_PUBLIC": "198.18.2.0/24",
    "LAB_PRIVATE": "10.121.0.0/20",
}
COMMAND = [str(Path(sys.executable).with_name("lab")), "vm"]


def processes(state: Path) -> list[str]:
    """Command lines on this machine that name a file below `state`, zombies and this test left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(state) in line:
                found.append(line)
    return found


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    for name in ("LAB_PUBLIC", "LAB_PRIVATE"):
        monkeypatch.setenv(name, ENVIRONMENT[name])
    found = Lab.load(NAME)
    vm.down(found)
    yield found
    vm.down(found)


def test_up_that_is_killed_leaves_nothing_that_down_does_not_find(lab: Lab) -> None:
    up = subprocess.Popen([*COMMAND, "up"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    for line in up.stdout:
        if "starting" in line:
            break
    up.send_signal(signal.SIGKILL)
    up.wait()
    machines = vm.load(lab)
    assert [machine.name for machine in machines] == list(vm.MACHINES)
    assert all(machine.process() for machine in machines)

    # What was begun is taken up: the same machines, not new ones.
    machines[0].power_off()
    assert machines[0].process() is None
    machines[0].power_on(wait=False)
    assert vm.load(lab) == machines
    assert machines[0].process() is not None

    done = subprocess.run([*COMMAND, "down"], env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert "removed 2 machines" in done.stdout
    deadline = time.monotonic() + 30
    while processes(lab.state):
        assert time.monotonic() < deadline, processes(lab.state)
        time.sleep(0.5)
    assert not (lab.state / "machines").exists()

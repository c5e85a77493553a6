"""Runs site.yml on the lab as an admin would, with its output in a log and its progress on the screen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab.config import REPOSITORY, Lab
from lab.engine import LabError
from lab.progress import Step

_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\] \**$")
_PLAY = re.compile(r"^PLAY \[(.*?)\] \**$")
_FAILURE = re.compile(r"^(?:fatal|failed): \[|^\[ERROR\]|^ERROR!")
_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")


def environment() -> dict[str, str]:
    """For Ansible's programs: this environment's tools, the repository's settings."""
    tools = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": f"{tools}:{os.environ.get('PATH', '')}",
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "PYTHONUNBUFFERED": "1",
    }


class Watcher:
    """Reads the default callback's output line by line."""

    def __init__(self) -> None:
        self.play = self.task = ""
        self.tasks = 0
        self.changed: dict[str, int] = {}
        self.failure: list[str] = []
        self._failing = False

    def read(self, line: str) -> bool:
        """Take in a line; whether a new play or task began."""
        if found := _PLAY.match(line):
            self.play, self.task, self._failing = found[1], "", False
            return True
        if found := _TASK.match(line):
            self.task, self._failing = found[1], False
            self.tasks += 1
            return True
        if found := _RECAP.match(line):
            self.changed[found[1]] = int(found[3])
            self._failing = False
        if line.startswith(("PLAY RECAP", "ok: [", "changed: [", "skipping: [")):
            self._failing = False
        if _FAILURE.match(line):
            if not self._failing:
                self.failure.append(f"in play [{self.play}], task [{self.task}]:")
            self._failing = True
        if self._failing:
            self.failure.append(line)
        return False


def converge(lab: Lab, inventory: Path, step: Step) -> dict[str, int]:
    """`ansible-playbook site.yml`; how many tasks changed something, by host. Raises LabError on failure."""
    log = lab.state / "logs" / "converge.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = lab.cache / "converge-tasks"
    total = int(known.read_text()) if known.exists() and known.read_text().strip().isdigit() else None
    watcher = Watcher()
    command = ["ansible-playbook", "-i", str(inventory), "playbooks/site.yml"]
    if shutil.which("setpriv"):
        # When this process is killed, no playbook must go on behind the back of the next `lab up`.
        command = ["setpriv", "--pdeathsig", "TERM", *command]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment() | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as playbook,
    ):
        log.chmod(0o600)
        try:
            for line in playbook.stdout or ():
                output.write(line)
                output.flush()
                if watcher.read(line.rstrip("\n")):
                    step.far(watcher.tasks, total)
                    step.say(f"{watcher.play}: {watcher.task}" if watcher.task else watcher.play)
        except BaseException:
            playbook.terminate()
            raise
    if playbook.returncode:
        reason = "\n".join(watcher.failure[:60]) or f"exit code {playbook.returncode}"
        raise LabError(f"site.yml failed {reason}\n(whole output: {log}; run `lab up` again to go on)")
    known.write_text(str(watcher.tasks))
    return watcher.changed

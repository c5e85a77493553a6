"""The action plugin of droplet_rebuild: it waits, and shows progress while it waits."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ansible.errors import AnsibleConnectionFailure

from lab.emulators import digitalocean
from lab.emulators.common import grant
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import eventually, running
from lab.pki import Authority
from tests.unit.plugins.tasks import run_task

TOKEN = "t0k3n-of-the-lab"


def step(*notes: str, state: Any = None, pause: float = 0.0, waiting_for: str = "rebuild 6") -> Any:
    """A result of the module that leads on, or (without `state`) ends."""
    left = {"notes": list(notes), "state": state, "pause": pause, "waiting_for": waiting_for}
    return {"step": {"timeout": 30, "interval": 10.0, **left}}


class Task:
    """One task. `answers` are what the module answers, an exception is raised; `log` is what happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Any] = []
        self.log: list[Any] = []
        self.now = 50.0
        self.step_seconds = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self.sleep)
        monkeypatch.setattr(
            "ansible.utils.display.Display.v", lambda _display, text, host: self.log.append((host, text))
        )

    def sleep(self, seconds: float) -> None:
        self.log.append(seconds)
        self.now += seconds

    def module(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self.log.append(arguments.get("_step"))
        self.now += self.step_seconds
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def run(self, **more: Any) -> dict[str, Any]:
        result = run_task("droplet_rebuild", {"id": 7, "image": "debian-13-x64"}, self.module, **more)
        assert self.answers == []
        assert "step" not in result
        return result


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    return Task(monkeypatch)


def test_shows_each_line_before_it_waits_on(task: Task) -> None:
    task.step_seconds = 2
    task.answers = [
        step(state={"a": 1}),
        step("rebuild 6 is in-progress", state={"b": 1}, pause=10),
        step("rebuild 6 is in-progress", state={"b": 1}, pause=10),
        {"changed": True, **step("rebuild 6 is completed")},
    ]
    lines = ["4 s: rebuild 6 is in-progress", "28 s: rebuild 6 is completed"]
    assert task.run() == {"changed": True, "progress": lines}
    assert task.log == [
        None,
        {"state": {"a": 1}, "left": 28},
        ("worker-1", lines[0]),
        10,
        {"state": {"b": 1}, "left": 16},
        10,
        {"state": {"b": 1}, "left": 4},
        ("worker-1", lines[1]),
    ]


def test_a_task_with_no_log_shows_nothing(task: Task) -> None:
    task.answers = [step("rebuild 6 is in-progress", state={}, pause=10), step("rebuild 6 is completed")]
    assert len(task.run(no_log=True)["progress"]) == 2
    assert task.log == [None, 10, {"state": {}, "left": 20}]


def test_the_time_of_the_steps_counts(task: Task) -> None:
    task.step_seconds = 11
    task.answers = [step("rebuild 6 is in-progress", state={}, pause=10)] * 2
    assert task.run() == {
        "failed": True,
        "msg": "rebuild 6 is not over after 30 s. It may still end well: run again, which waits for it, or "
        "raise wait_timeout.",
        "progress": ["11 s: rebuild 6 is in-progress"],
    }


def test_a_host_that_is_lost_gets_the_same_step_again(task: Task) -> None:
    lost = AnsibleConnectionFailure("Connection reset by peer")
    task.answers = [
        step(state={"a": 1}, waiting_for=""),
        lost,
        step("rebuild 6 is in-progress", state={"b": 1}, pause=10),
        lost,
        {"changed": True, **step("rebuild 6 is completed")},
    ]
    result = task.run()
    assert [line.split(": ", 1)[1][:20] for line in result["progress"]] == [
        "no connection to the",
        "rebuild 6 is in-prog",
        "no connection to the",
        "rebuild 6 is complet",
    ]
    steps = [entry["state"] for entry in task.log if isinstance(entry, dict)]
    assert steps == [{"a": 1}, {"a": 1}, {"b": 1}, {"b": 1}]
    assert [entry for entry in task.log if isinstance(entry, float | int)] == [10, 10, 10]


def test_a_host_that_stays_away(task: Task) -> None:
    task.answers = [step(state={}, waiting_for="")] + [AnsibleConnectionFailure("No route to host")] * 4
    assert task.run()["msg"].startswith("the rebuild is not over after 30 s.")


def test_a_host_that_was_never_reached(task: Task) -> None:
    task.answers = [AnsibleConnectionFailure("No route to host")]
    with pytest.raises(AnsibleConnectionFailure):
        task.run()


@pytest.mark.parametrize("end", [{}, step("rebuild 6 is errored")])
def test_an_error_ends_it(task: Task, end: dict[str, Any]) -> None:
    task.answers = [
        step("rebuild 6 is in-progress", state={}, pause=10),
        {"failed": True, "msg": "no", **end},
    ]
    result = task.run()
    assert (result["failed"], result["msg"]) == (True, "no")
    assert len(result["progress"]) == (2 if end else 1)


# --- a real run


@pytest.fixture
def sea(tmp_path: Path) -> Iterator[tuple[MemoryCloud, str, Path]]:
    """An emulated DigitalOcean: its cloud, its URL and its authority."""
    cloud = MemoryCloud()
    authority = Authority.open(tmp_path / "pki", "test")
    app = digitalocean.create_app(cloud, tokens=grant(TOKEN), contract="off")
    with running(app, authority.issue("api", ["localhost"], ["127.0.0.1"])) as url:
        yield cloud, url, authority.file
        cloud.release()


def test_ansible_playbook_shows_progress_while_the_rebuild_runs(
    sea: tuple[MemoryCloud, str, Path], tmp_path: Path
) -> None:
    cloud, url, ca_file = sea
    trust = ssl.create_default_context(cafile=str(ca_file))
    client = httpx.Client(base_url=url, verify=trust, headers={"authorization": f"Bearer {TOKEN}"})
    wanted = {"name": "w1", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-12-x64"}
    droplet = client.post("/v2/droplets", json=wanted).json()["droplet"]["id"]
    eventually(lambda: client.get(f"/v2/droplets/{droplet}").json()["droplet"]["status"] == "active")
    options = {"id": droplet, "image": "debian-13-x64", "wait_interval": 0.2, "wait_timeout": 60}
    play = {
        "hosts": "worker-1",
        "gather_facts": False,
        "module_defaults": {
            "group/vmstio.mastodon.all": {"api_token": TOKEN, "endpoint": url, "ca_file": str(ca_file)}
        },
        "tasks": [{"vmstio.mastodon.droplet_rebuild": options, "delegate_to": "localhost"}],
    }
    playbook, inventory = tmp_path / "play.yml", tmp_path / "hosts.yml"
    playbook.write_text(json.dumps([play]))
    inventory.write_text(json.dumps({"all": {"hosts": {"worker-1": {}}}}))
    # Held until the test has read a line: a line that came at the end would never be read.
    cloud.pause()
    program = Path(sys.executable).parent / "ansible-playbook"
    with subprocess.Popen(
        [program, "-v", "-i", inventory, playbook],
        # Python keeps back what goes into a pipe, not what goes to a terminal.
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stdout is not None
        read = []
        for line in process.stdout:
            read.append(line)
            if "is in-progress" in line:
                break
        assert read[-1].startswith("<worker-1> "), read
        assert process.poll() is None
        cloud.release()
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert "is completed" in rest.splitlines()[0]
    assert "changed=1" in rest
    assert TOKEN not in "".join(read) + rest
    assert [call[0] for call in cloud.calls].count("rebuild_droplet") == 1

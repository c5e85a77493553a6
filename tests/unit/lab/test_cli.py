from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lab import cli, config
from lab.docker_cloud import LABEL_PUBLIC
from lab.engine import LabError
from lab.load import Load
from lab.pki import Authority
from lab.runtime import Row


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may touch a real lab."""

    def connect(*_: Any, **__: Any) -> Any:
        raise LabError("the Docker engine does not answer")

    monkeypatch.setattr(cli, "connect", connect)
    monkeypatch.delenv("LAB_NAME", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments)


def test_an_error_is_one_sentence_and_exit_code_1() -> None:
    done = run("status")
    assert done.exit_code == 1
    assert done.output == "lab: the Docker engine does not answer\n"


def test_a_name_without_subnets() -> None:
    done = run("--name", "nobody", "status")
    assert done.exit_code == 1
    assert "LAB_PUBLIC" in done.output


@pytest.mark.parametrize("droplets", ["worker:0", "UPPER", "a:b"])
def test_wrong_droplets_are_refused_before_anything_is_done(
    droplets: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "up", lambda *_, **__: pytest.fail("started"))
    done = run("up", "--droplets", droplets)
    assert done.exit_code == 1
    assert droplets in done.output


def row(**changes: Any) -> Row:
    fields: dict[str, Any] = {
        "kind": "part",
        "name": "mail",
        "public": "198.51.100.6",
        "private": "",
        "state": "running",
        "health": "healthy",
        "since": "2026-01-01T00:00:00.000000001Z",
        "container": "vmstio-lab-mail",
        "ill": False,
    }
    return Row(**{**fields, **changes})


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    found: list[Row] = []

    class Runtime:
        def __init__(self, *_: Any) -> None:
            pass

        def status(self) -> list[Row]:
            return found

    monkeypatch.setattr(cli, "connect", lambda: None)
    monkeypatch.setattr(cli, "Runtime", Runtime)
    return found


def test_status_of_a_lab_that_is_well(rows: list[Row]) -> None:
    rows += [row(), row(kind="member", name="vmst-worker-1", public="", state="", health="UP")]
    done = run("status")
    assert done.exit_code == 0
    [line] = [line for line in done.output.splitlines() if "vmst-worker-1" in line]
    assert "UP" in line
    assert json.loads(run("status", "--json").output)[0]["public"] == "198.51.100.6"


def test_status_says_by_its_exit_code_that_something_is_ill(rows: list[Row]) -> None:
    rows += [row(), row(name="spaces", health="unhealthy", ill=True)]
    assert run("status").exit_code == 3


def test_status_of_nothing(rows: list[Row]) -> None:
    done = run("status")
    assert done.exit_code == 1
    assert "lab up" in done.output


@pytest.mark.parametrize("name", ["mail", "vmst-lb"])
def test_rules_are_for_emulators(name: str) -> None:
    done = run("fault", name, "set", "[]")
    assert done.exit_code == 1
    assert "digitalocean" in done.output


class Loaded:
    """In place of a load: what it was asked for; it waits until it is stopped, and reports `ill`."""

    ill = 0
    asked: dict[str, Any]

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        balancer = SimpleNamespace(labels={LABEL_PUBLIC: "127.0.0.1"})
        monkeypatch.setattr(config, "REPOSITORY", tmp_path)
        Authority.open(tmp_path / ".lab" / "lab" / "pki", "test")
        monkeypatch.setattr(cli, "connect", lambda: None)
        monkeypatch.setattr(cli, "containers", lambda *_: [balancer])
        monkeypatch.setattr(cli, "log_in", lambda lab, instance, name: f"token of {name}")
        loaded = self

        class Replaced(Load):
            async def run(self, seconds: float) -> dict[str, Any]:
                tokens = [user.token for user in self._users]
                loaded.asked = {"seconds": seconds, "tokens": tokens, "streams": len(self._watchers)}
                os.kill(os.getpid(), signal.SIGINT)
                await self._stop.wait()
                return {"ill": loaded.ill}

        monkeypatch.setattr(cli, "Load", Replaced)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Loaded:
    return Loaded(monkeypatch, tmp_path)


@pytest.mark.parametrize(("ill", "code"), [(0, 0), (1, 3)])
def test_a_load_that_is_interrupted_reports_as_well(loaded: Loaded, ill: int, code: int) -> None:
    loaded.ill = ill
    done = run("load", "--seconds", "600", "--users", "2", "--streams", "5")
    assert done.exit_code == code, done.output
    assert json.loads(done.stdout) == {"ill": ill}
    assert loaded.asked == {"seconds": 600, "tokens": ["token of load_1", "token of load_2"], "streams": 5}


def test_no_load_without_a_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "connect", lambda: None)
    monkeypatch.setattr(cli, "containers", lambda *_: [])
    done = run("load")
    assert done.exit_code == 1
    assert "lab up" in done.output

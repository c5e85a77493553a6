"""The program on a worker that takes it out of rotation and knows what runs with old settings."""

from __future__ import annotations

import dataclasses
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/worker/files/mastodon_worker.py"


@pytest.fixture(name="worker")
def _worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mastodon_worker", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mastodon_worker", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STAMPS", tmp_path / "stamps")
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    return module


@pytest.fixture(name="url")
def _url() -> Iterator[Callable[[int], str]]:
    """A server on loopback; `url(503)` is an address that answers 503."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.end_headers()
            self.wfile.write(b"draining\n")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield lambda status: f"http://127.0.0.1:{server.server_port}/{status}"
    server.shutdown()
    server.server_close()


class Host:
    """Answers the commands that the program runs; `titles` are the processes of the sidekiq container."""

    def __init__(self) -> None:
        self.active = {"mastodon-web", "mastodon-sidekiq"}
        self.titles: list[str] = []
        self.calls: list[tuple[str, ...]] = []
        self.peers: list[str] = []
        self.containers: set[str] = set()
        self.refused = ""

    def __call__(self, *argv: str) -> subprocess.CompletedProcess[str]:
        self.calls.append(argv)
        out, code = "", 0
        if argv[:2] == ("systemctl", "is-active"):
            out = "active\n" if argv[-1] in self.active else "inactive\n"
        elif argv[:3] == ("docker", "container", "top"):
            assert "pid" in argv[-1], "Docker wants the field"
            title = self.titles.pop(0) if len(self.titles) > 1 else (self.titles or [""])[0]
            out = f"PID   COMMAND\n  17  tini -- bundle\n  23  {title}\n"
        elif argv[:3] == ("docker", "container", "inspect"):
            code = int(argv[-1] not in self.containers)
        elif argv[-2] == "-s" and self.refused:
            return subprocess.CompletedProcess(argv, 1, "", self.refused)
        elif argv[0] == "ss":
            out = "\n".join(f"ESTAB 0 0 10.0.0.1:443 {peer}" for peer in self.peers)
        return subprocess.CompletedProcess(argv, code, out, "")


@pytest.fixture(name="host")
def _host(worker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(worker, "run", host)
    return host


@pytest.fixture(name="configuration")
def _configuration(worker: ModuleType, tmp_path: Path, url: Callable[[int], str]) -> Any:
    return worker.Configuration(
        files={
            "mastodon-web": [str(tmp_path / "web.env")],
            "mastodon-sidekiq": [str(tmp_path / "sidekiq.env")],
        },
        urls={"mastodon-web": url(200)},
        sidekiq=["mastodon-sidekiq"],
        health=url(200),
        flag=tmp_path / "drain",
        nginx_in_container="/elsewhere/nginx.conf",
        access_log=tmp_path / "access.log",
        health_log=tmp_path / "health.log",
    )


def test_changed_file_makes_a_unit_outdated(
    worker: ModuleType, host: Host, configuration: Any, tmp_path: Path
) -> None:
    (tmp_path / "web.env").write_text("A=1\n")
    for unit in ("mastodon-web", "mastodon-sidekiq"):
        worker.prepare(configuration, unit)
    assert worker.outdated(configuration) == []
    (tmp_path / "web.env").write_text("A=2\n")
    assert worker.outdated(configuration) == ["mastodon-web"]
    (tmp_path / "sidekiq.env").write_text("B=1\n")
    assert worker.outdated(configuration) == ["mastodon-web", "mastodon-sidekiq"]
    host.active.remove("mastodon-web")
    assert worker.outdated(configuration) == ["mastodon-sidekiq"]


@pytest.mark.parametrize(
    ("containers", "command"),
    [
        (set(), ("nginx", "-s", "reload")),
        ({"nginx"}, ("docker", "exec", "nginx", "nginx", "-c", "/elsewhere/nginx.conf", "-s", "reload")),
    ],
)
def test_nginx_hears_wherever_it_runs(
    worker: ModuleType, host: Host, configuration: Any, containers: set[str], command: tuple[str, ...]
) -> None:
    host.containers = containers
    worker.signal_nginx(configuration, "reload")
    assert host.calls[-1] == command


def test_nginx_that_refuses_its_settings(worker: ModuleType, host: Host, configuration: Any) -> None:
    host.refused = "[emerg] unknown directive\n"
    with pytest.raises(worker.NotSo, match="unknown directive"):
        worker.signal_nginx(configuration, "reload")


def test_nginx_that_moves_into_a_container_is_outdated(
    worker: ModuleType, host: Host, configuration: Any, tmp_path: Path
) -> None:
    unit = tmp_path / "nginx.service"
    moving = dataclasses.replace(configuration, files={"nginx": [str(unit)]}, urls={"nginx": "http://..."})
    host.active = {"nginx"}
    worker.prepare(moving, "nginx")
    assert ("docker", "container", "rm", "--force", "--volumes", "nginx") in host.calls
    assert worker.outdated(moving) == []
    unit.write_text("[Service]\n")
    assert worker.outdated(moving) == ["nginx"]


def test_what_a_killed_container_left_is_removed(worker: ModuleType, host: Host, configuration: Any) -> None:
    """Also where the settings name it no more; the engine itself is not a container."""
    worker.clean("mastodon-sidekiq-old")
    assert host.calls == [
        ("docker", "container", "rm", "--force", "--volumes", "mastodon-sidekiq-old"),
        ("docker", "volume", "rm", "--force", "mastodon-sidekiq-old-scratch"),
    ]
    worker.clean("docker")
    assert len(host.calls) == 2


def test_unit_that_was_never_prepared_is_outdated(worker: ModuleType, host: Host, configuration: Any) -> None:
    assert worker.outdated(configuration) == ["mastodon-web", "mastodon-sidekiq"]


def test_same_content_is_not_outdated(
    worker: ModuleType, host: Host, configuration: Any, tmp_path: Path
) -> None:
    (tmp_path / "web.env").write_text("A=1\n")
    for unit in ("mastodon-web", "mastodon-sidekiq"):
        worker.prepare(configuration, unit)
    (tmp_path / "web.env").unlink()
    (tmp_path / "web.env").write_text("A=1\n")
    assert worker.outdated(configuration) == []


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("sidekiq 7.3.9 mastodon [0 of 10 busy]", "still takes jobs"),
        ("sidekiq 8.1.6 mastodon [3 of 10 busy] stopping", "3 jobs still run"),
        ("sidekiq 8.1.6 mastodon [0 of 10 busy] stopping", None),
        ("ruby something else", "no sidekiq"),
    ],
)
def test_jobs(worker: ModuleType, host: Host, title: str, said: str | None) -> None:
    host.titles = [title]
    answer = worker.jobs("mastodon-sidekiq")
    assert answer is None if said is None else said in answer


def test_quieten_waits_for_the_last_job(worker: ModuleType, host: Host, configuration: Any) -> None:
    host.titles = ["sidekiq 8.1.6 mastodon [3 of 10 busy]"] * 2
    host.titles += [f"sidekiq 8.1.6 mastodon [{busy} of 10 busy] stopping" for busy in (2, 1, 0)]
    worker.quieten(configuration, limit=60)
    assert ("docker", "container", "kill", "--signal", "TSTP", "mastodon-sidekiq") in host.calls
    assert host.titles == ["sidekiq 8.1.6 mastodon [0 of 10 busy] stopping"]


def test_quieten_gives_up(worker: ModuleType, host: Host, configuration: Any) -> None:
    host.titles = ["sidekiq 8.1.6 mastodon [2 of 10 busy] stopping"]
    with pytest.raises(worker.NotSo, match="2 jobs still run"):
        worker.quieten(configuration, limit=0)


def test_tail_follows_a_rotated_log(worker: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("old\n")
    tail = worker.Tail(log)
    assert tail.lines() == []
    with log.open("a") as file:
        file.write("one\ntw")
    assert tail.lines() == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert tail.lines() == ["two"]
    log.rename(tmp_path / "access.log.1")
    assert tail.lines() == []
    log.write_text("three\n")
    assert tail.lines() == ["three"]


def test_every_load_balancer_node_must_know(worker: ModuleType) -> None:
    probes = worker.Probes("503")
    assert not probes.enough(2)
    probes.add(["10.0.0.2 200 t", "10.0.0.2 503 t", "10.0.0.3 200 t", "10.0.0.2 503 t"])
    assert not probes.enough(2)
    probes.add(["10.0.0.3 503 t", "10.0.0.3 503 t"])
    assert probes.enough(2)
    probes.add(["10.0.0.2 200 t"])
    assert not probes.enough(2)
    assert probes.enough(0)


def test_drain_that_nginx_does_not_notice(worker: ModuleType, host: Host, configuration: Any) -> None:
    with pytest.raises(worker.NotSo, match="still answers 200"):
        worker.drain(configuration, reason="test", probes=0, quiet=0, limit=5)


def test_drain_that_the_load_balancer_does_not_notice(
    worker: ModuleType, host: Host, configuration: Any, url: Callable[[int], str]
) -> None:
    configuration = dataclasses.replace(configuration, health=url(503))
    with pytest.raises(worker.NotSo, match="nobody asked"):
        worker.drain(configuration, reason="test", probes=3, quiet=0, limit=0)
    assert configuration.flag.read_text() == "test\n"


def test_drain_and_admit(
    worker: ModuleType, host: Host, configuration: Any, url: Callable[[int], str]
) -> None:
    out = dataclasses.replace(configuration, health=url(503))
    worker.drain(out, reason="test", probes=0, quiet=0, limit=5)
    assert ("systemctl", "reload", "nginx.service") in host.calls
    worker.admit(configuration, probes=0, limit=5)
    assert not configuration.flag.exists()


def test_admit_of_a_sick_worker(
    worker: ModuleType, host: Host, configuration: Any, url: Callable[[int], str]
) -> None:
    sick = dataclasses.replace(configuration, health=url(502))
    with pytest.raises(worker.NotSo, match="answers 502"):
        worker.admit(sick, probes=0, limit=0)


def test_requests_tell_new_connections(worker: ModuleType) -> None:
    assert list(worker.requests(['192.0.2.1 - - [t] "GET / HTTP/2.0" 200 5 "-" "a" 0.001 1', "x 2"])) == [
        True,
        False,
    ]


def test_sick_is_not_said_of_a_drained_worker(
    worker: ModuleType, host: Host, configuration: Any, url: Callable[[int], str]
) -> None:
    drained = dataclasses.replace(configuration, health=url(503), sidekiq=[])
    assert worker.sick(drained) is None
    broken = dataclasses.replace(configuration, health=url(500), sidekiq=[])
    assert "answers 500" in worker.sick(broken)


def test_start_of_a_container_that_ended_is_not_waited_for(
    worker: ModuleType,
    host: Host,
    configuration: Any,
    url: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = dataclasses.replace(configuration, urls={"mastodon-web": url(502)})
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    assert "answers 502" in worker.starting(broken, "mastodon-web")
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setenv("MAINPID", str(ended.pid))
    with pytest.raises(worker.NotSo, match="ended while it started"):
        worker.starting(broken, "mastodon-web")


def test_orphans(worker: ModuleType, configuration: Any, tmp_path: Path) -> None:
    for name in ("mastodon-web", "mastodon-sidekiq", "mastodon-sidekiq-push", "mastodon-sidekiq-pull"):
        (tmp_path / f"{name}.service").touch()
    known = dataclasses.replace(configuration, files={"mastodon-web": [], "mastodon-sidekiq-push": []})
    assert worker.orphans(known, tmp_path) == ["mastodon-sidekiq-pull"]

"""The program on a worker that takes it out of rotation and knows what runs with old settings."""

from __future__ import annotations

import dataclasses
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

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
    """A server on loopback; `url(503)` is an address that answers 503. Its page leads to another one."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/?"):
                self.send_response(302)
                self.send_header("Location", f"/{self.headers['Host'].removeprefix('social.example') or 200}")
            else:
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
        self.units: dict[str, dict[str, str]] = {}
        self.health = "healthy"

    def __call__(self, *argv: str) -> subprocess.CompletedProcess[str]:
        self.calls.append(argv)
        out, code = "", 0
        if argv[:2] == ("systemctl", "is-active"):
            out = "active\n" if argv[-1] in self.active else "inactive\n"
        elif argv[:3] == ("docker", "container", "top"):
            assert "pid" in argv[-1], "Docker wants the field"
            title = self.titles.pop(0) if len(self.titles) > 1 else (self.titles or [""])[0]
            out = f"PID   COMMAND\n  17  tini -- bundle\n  23  {title}\n"
        elif argv[:2] == ("systemctl", "show"):
            out = "\n".join(self.shown(name) for name in argv[argv.index("--") + 1 :])
        elif argv[0] == "journalctl":
            out = f"the reason of {argv[-1].removeprefix('--unit=')}\n"
        elif argv[:4] == ("docker", "container", "inspect", "--format"):
            out = f"{self.health}\n"
        elif argv[:3] == ("docker", "container", "inspect"):
            code = int(argv[-1] not in self.containers)
        elif argv[-2] == "-s" and self.refused:
            return subprocess.CompletedProcess(argv, 1, "", self.refused)
        elif argv[0] == "ss":
            out = "\n".join(f"ESTAB 0 0 10.0.0.1:443 {peer}" for peer in self.peers)
        return subprocess.CompletedProcess(argv, code, out, "")

    def shown(self, name: str) -> str:
        """What systemd says of a unit. One that is restarted at all is so before each look."""
        unit = self.units.get(name.removesuffix(".service"), {})
        found = {
            "LoadState": "loaded",
            "ActiveState": "active",
            "SubState": "running",
            "Result": "success",
            "NRestarts": "0",
            "ActiveEnterTimestampMonotonic": str(int((time.monotonic() - 1) * 1e6)),
            **unit,
        }
        if "NRestarts" in unit:
            unit["NRestarts"] = str(int(unit["NRestarts"]) + 1)
        return "".join(f"{key}={value}\n" for key, value in found.items())


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
        needed=["share.timer"],
        page=worker.Page(
            host="social.example", port=urlsplit(url(200)).port, tls=False, proxy_protocol=False
        ),
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
    assert worker.sick(configuration) == {}
    assert worker.sick(dataclasses.replace(configuration, health=url(503))) == {}
    broken = dataclasses.replace(configuration, health=url(500))
    assert "answers 500" in worker.sick(broken)["nginx"]


def test_a_worker_that_serves_no_page_is_sick(
    worker: ModuleType, host: Host, configuration: Any, url: Callable[[int], str]
) -> None:
    """Whatever its health says, and drained as well."""
    page = dataclasses.replace(configuration.page, host="500")
    for health in (200, 503):
        broken = dataclasses.replace(configuration, health=url(health), page=page)
        assert "answers 500" in worker.sick(broken)["mastodon-web"]
    closed = dataclasses.replace(configuration, page=dataclasses.replace(configuration.page, port=1))
    assert "refused" in worker.sick(closed)["mastodon-web"]


def test_every_kind_of_sickness_is_named(
    worker: ModuleType, host: Host, configuration: Any, url: Callable[[int], str]
) -> None:
    host.units["share.timer"] = {"ActiveState": "failed", "SubState": "failed", "Result": "resources"}
    host.health = "unhealthy"
    found = worker.sick(dataclasses.replace(configuration, urls={"mastodon-web": url(502)}))
    assert found["share.timer"] == "is failed (failed), last result: resources"
    assert found["mastodon-sidekiq"] == "unhealthy"
    assert found["mastodon-web"].endswith("/502 answers 502 draining")


def test_a_unit_of_another_role_may_be_missing(worker: ModuleType, host: Host, configuration: Any) -> None:
    gone = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}
    host.units["share.timer"] = gone
    assert worker.sick(configuration) == {}
    host.units["mastodon-sidekiq"] = gone
    assert worker.sick(configuration) == {"mastodon-sidekiq": "is inactive (dead)"}


@pytest.mark.parametrize(
    ("restarts", "up", "well"),
    [
        (0, 0, True),
        (1, 4, False),
        (1, 6, True),
        (4, 19, False),
        (4, 21, True),
        (90, 59, False),
        (90, 61, True),
    ],
)
def test_who_was_restarted_has_to_show_that_it_lasts(
    worker: ModuleType, restarts: int, up: float, well: bool
) -> None:
    unit = worker.Unit(
        exists=True, active="active", sub="running", result="success", restarts=restarts, up=up
    )
    assert (unit.trouble is None) is well


@pytest.mark.parametrize(
    "moment",
    [
        {"ActiveState": "activating", "SubState": "auto-restart"},
        {"ActiveState": "activating", "SubState": "start-post"},
        {"ActiveState": "active"},
    ],
    ids=lambda moment: moment.get("SubState", "running"),
)
def test_units_that_are_restarted_for_ever_are_named_whatever_they_do_now(
    worker: ModuleType, host: Host, configuration: Any, moment: dict[str, str]
) -> None:
    host.units = {name: {**moment, "NRestarts": "5"} for name in ("mastodon-web", "mastodon-sidekiq")}
    with pytest.raises(worker.NotSo) as error:
        worker.await_health(configuration, count=1, limit=600)
    said = str(error.value)
    assert "restarted again and again" in said
    for name in host.units:
        assert f"The journal of {name} ends with:\nthe reason of {name}" in said
    assert "share.timer" not in said


def test_a_unit_that_hangs_is_given_up(worker: ModuleType, host: Host, configuration: Any) -> None:
    host.units["mastodon-web"] = {"ActiveState": "activating", "SubState": "start-post"}
    with pytest.raises(worker.NotSo, match=r"(?s)after 0 s.*mastodon-web: is activating \(start-post\)"):
        worker.await_health(configuration, count=1, limit=0)


def test_health_is_seen_as_often_as_it_is_wanted(worker: ModuleType, host: Host, configuration: Any) -> None:
    worker.await_health(configuration, count=3, limit=60)
    assert sum(argv[:2] == ("systemctl", "show") for argv in host.calls) == 3


@pytest.fixture(name="installed")
def _installed(worker: ModuleType, configuration: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.Configuration, "load", lambda: configuration)


@pytest.mark.usefixtures("installed")
def test_start_looks_also_where_there_is_nothing_to_start(
    worker: ModuleType, host: Host, configuration: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for unit in configuration.files:
        worker.prepare(configuration, unit)
    assert worker.main(["start"]) == 0
    assert capsys.readouterr().out == ""
    host.health = "unhealthy"
    assert worker.main(["start", "--limit=0"]) == 1
    assert "mastodon-sidekiq: unhealthy" in capsys.readouterr().err
    host.health = "healthy"
    host.active.remove("mastodon-sidekiq")
    assert worker.main(["start"]) == 0
    assert ("systemctl", "start", "--no-block", "mastodon-sidekiq") in host.calls
    assert capsys.readouterr().out == "mastodon-sidekiq\n"


@pytest.mark.usefixtures("installed")
def test_start_leaves_to_the_restart_what_runs_with_old_settings(
    worker: ModuleType, host: Host, configuration: Any, tmp_path: Path
) -> None:
    """Else new settings could never mend a worker that the old ones made sick."""
    host.health = "unhealthy"
    assert worker.outdated(configuration)
    assert worker.main(["start", "--limit=0"]) == 0
    assert worker.main(["restart", "--limit=0"]) == 1


# The compiled code of an image


class Engine:
    """Makes a container of any image but `no-such`, and copies its one file; `empty` has none."""

    def __init__(self, said: str = "Could not find the file /code in container c1") -> None:
        self.calls: list[tuple[str, ...]] = []
        self.said = said

    def __call__(self, *argv: str) -> subprocess.CompletedProcess[str]:
        self.calls.append(argv)
        code, out, error = 0, "", ""
        if argv[2:3] == ("create",):
            out, code = f"{argv[-1]}\n", int(argv[-1] == "no-such")
            error = "No such image\n" if code else ""
        elif argv[2:3] == ("cp",):
            if argv[3].startswith("empty:"):
                code, error = 1, self.said
            else:
                Path(argv[4], "compiled").write_text(argv[3], encoding="utf-8")
        return subprocess.CompletedProcess(argv, code, out, error)


@pytest.fixture(name="engine")
def _engine(worker: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(worker, "run", engine)
    return engine


def test_code_of_an_image_is_copied_once(worker: ModuleType, engine: Engine, tmp_path: Path) -> None:
    target = tmp_path / "code" / "1"
    worker.copy_code("web", "/code", target, tmp_path)
    assert (target / "compiled").read_text(encoding="utf-8") == "web:/code/."
    assert ("docker", "container", "rm", "--force", "web") in engine.calls
    before = len(engine.calls)
    worker.copy_code("web", "/code", target, tmp_path)
    assert len(engine.calls) == before


def test_an_image_without_code_gives_an_empty_directory(
    worker: ModuleType, engine: Engine, tmp_path: Path
) -> None:
    worker.copy_code("empty", "/code", tmp_path / "code" / "1", tmp_path)
    assert list((tmp_path / "code" / "1").iterdir()) == []


def test_code_is_copied_whole_or_not_at_all(worker: ModuleType, engine: Engine, tmp_path: Path) -> None:
    target = tmp_path / "code" / "1"
    engine.said = "no space left on device"
    with pytest.raises(worker.NotSo, match="no space left"):
        worker.copy_code("empty", "/code", target, tmp_path)
    assert not target.exists()
    assert ("docker", "container", "rm", "--force", "empty") in engine.calls
    with pytest.raises(worker.NotSo, match="No such image"):
        worker.copy_code("no-such", "/code", target, tmp_path)
    worker.copy_code("web", "/code", target, tmp_path)
    assert [path.name for path in target.parent.iterdir()] == ["1"]


def test_code_that_no_unit_names_is_removed(worker: ModuleType, engine: Engine, tmp_path: Path) -> None:
    code, units = tmp_path / "code", tmp_path / "units"
    units.mkdir()
    for name in ("old", "before"):
        worker.copy_code("web", "/code", code / name, units)
        (units / "mastodon-sidekiq.service").write_text(f"source={code / name},target=x")
    worker.copy_code("web", "/code", code / "now", units)
    assert {path.name for path in code.iterdir()} == {"before", "now"}


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

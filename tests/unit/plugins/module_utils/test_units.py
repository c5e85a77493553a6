from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils import _units
from ansible_collections.vmstio.mastodon.plugins.module_utils._units import UnitsError, apply


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_units.time, "sleep", lambda _: None)


class Systemd:
    """Answers `systemctl show`, notes what else is called."""

    def __init__(self, *units: dict[str, str], fail: str = "") -> None:
        self.units = {unit["Id"]: unit for unit in units}
        self.fail = fail
        self.calls: list[str] = []

    def __call__(self, argv: list[str]) -> tuple[int, str, str]:
        if argv[0] == "journalctl":
            return 0, "the reason\n", ""
        if argv[1] == "show":
            names = argv[argv.index("--") + 1 :]
            blocks = ["".join(f"{k}={v}\n" for k, v in self.units[name].items()) for name in names]
            return 0, "\n".join(blocks), ""
        if argv[1] == "list-units":
            return 0, "".join(f"{name} loaded active running x\n" for name in self.units), ""
        call = " ".join(argv[1:])
        self.calls.append(call)
        if call == self.fail:
            return 1, "", "Job failed"
        if argv[1] == "start" and self.units[argv[2]]["ConditionResult"] == "yes":
            self.units[argv[2]]["ActiveState"] = "active"
        return 0, "", ""


def unit(name: str, started_ago: float = 10, **changes: str) -> dict[str, str]:
    monotonic = str(int((time.monotonic() - started_ago) * 1e6))
    return {
        "Id": name,
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "NRestarts": "0",
        "ActiveEnterTimestampMonotonic": monotonic,
        "UnitFileState": "enabled",
        "NeedDaemonReload": "no",
        "FragmentPath": "",
        "DropInPaths": "",
        "ConditionResult": "yes",
        "ConditionTimestampMonotonic": monotonic,
        "ExecMainStartTimestampMonotonic": monotonic,
        "InactiveExitTimestampMonotonic": monotonic,
        "StateChangeTimestampMonotonic": monotonic,
        **changes,
    }


def wanted(name: str, **options: Any) -> dict[str, Any]:
    return {
        "name": name,
        "enabled": True,
        "state": "started",
        "restart_on": None,
        "reload_on": None,
        **options,
    }


def run(systemd: Systemd, *entries: dict[str, Any], check: bool = False) -> list[str]:
    return list(apply(list(entries), systemd, daemon_reload=False, check=check).actions)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    file = tmp_path / "settings"
    file.write_text("x")
    return file


def aged(file: Path, seconds: float) -> str:
    os.utime(file, (time.time() - seconds,) * 2)
    return str(file)


def test_what_is_in_place_stays() -> None:
    systemd = Systemd(unit("a.service"), unit("b.timer"))
    assert run(systemd, wanted("a.service", restart_on=[]), wanted("b.timer")) == []
    assert systemd.calls == []


def test_enables_and_starts_in_order() -> None:
    systemd = Systemd(
        unit("a.service", ActiveState="inactive", UnitFileState="disabled"),
        unit("b.service", ActiveState="failed"),
    )
    run(systemd, wanted("a.service"), wanted("b.service"))
    assert systemd.calls == ["enable a.service", "start a.service", "start b.service"]


def test_stops_and_disables() -> None:
    systemd = Systemd(unit("a.timer"))
    run(systemd, wanted("a.timer", enabled=False, state="stopped"))
    assert systemd.calls == ["disable a.timer", "stop a.timer"]


def test_restarts_what_started_before_its_file_changed(file: Path) -> None:
    path = aged(file, 5)
    assert run(Systemd(unit("a.service", 10)), wanted("a.service", restart_on=[path])) == [
        "restart a.service"
    ]
    assert run(Systemd(unit("a.service", 1)), wanted("a.service", restart_on=[path])) == []
    assert run(Systemd(unit("a.service", 10)), wanted("a.service")) == []


def test_a_new_link_is_a_change_also_where_its_target_is_old(file: Path, tmp_path: Path) -> None:
    aged(file, 100)
    (tmp_path / "current").symlink_to(file)
    entry = wanted("a.service", restart_on=[str(tmp_path / "current")])
    assert run(Systemd(unit("a.service", 10)), entry) == ["restart a.service"]


def test_the_units_own_file_counts(file: Path) -> None:
    systemd = Systemd(unit("a.service", 10, FragmentPath=aged(file, 5)))
    assert run(systemd, wanted("a.service", restart_on=[])) == ["restart a.service"]


def test_reloads_where_the_last_change_of_state_is_older_than_the_file(file: Path) -> None:
    path = aged(file, 5)
    assert run(Systemd(unit("a.service")), wanted("a.service", reload_on=[path])) == ["reload a.service"]
    fresh = unit("a.service", StateChangeTimestampMonotonic=str(int(time.monotonic() * 1e6)))
    assert run(Systemd(fresh), wanted("a.service", reload_on=[path])) == []


def test_a_timer_has_no_main_process(file: Path) -> None:
    timer = unit("a.timer", 10)
    del timer["ExecMainStartTimestampMonotonic"]
    assert run(Systemd(timer), wanted("a.timer", restart_on=[aged(file, 5)])) == ["restart a.timer"]


def test_outdated_configuration_is_reloaded_first() -> None:
    systemd = Systemd(unit("a.service", NeedDaemonReload="yes"))
    run(systemd, wanted("a.service"))
    assert systemd.calls == ["daemon-reload"]


def test_check_mode_predicts_and_does_nothing() -> None:
    missing = unit("a.service", LoadState="not-found", ActiveState="inactive", UnitFileState="")
    systemd = Systemd(missing)
    assert run(systemd, wanted("a.service"), check=True) == ["enable a.service", "start a.service"]
    assert systemd.calls == []


def test_a_missing_unit_is_named() -> None:
    systemd = Systemd(unit("a.service", LoadState="not-found", ActiveState="inactive", UnitFileState=""))
    with pytest.raises(UnitsError, match=r"a\.service does not exist"):
        run(systemd, wanted("a.service"))


def test_a_missing_unit_may_be_stopped() -> None:
    systemd = Systemd(unit("a.service", LoadState="not-found", ActiveState="inactive", UnitFileState=""))
    assert run(systemd, wanted("a.service", enabled=False, state="stopped")) == []


def test_a_unit_that_its_condition_keeps_back_is_no_change() -> None:
    systemd = Systemd(unit("swap.service", ActiveState="inactive", ConditionResult="no"))
    assert run(systemd, wanted("swap.service")) == []
    assert systemd.calls == ["start swap.service"]


def test_others_of_a_kind_are_stopped_first() -> None:
    systemd = Systemd(unit("a@1.service", ActiveState="inactive"), unit("a@2.service"))
    apply([wanted("a@1.service")], systemd, daemon_reload=False, check=False, stop_others=["a@*.service"])
    assert systemd.calls == ["stop a@2.service", "disable a@2.service", "start a@1.service"]


def test_a_failed_start_shows_the_journal_and_stops_there() -> None:
    systemd = Systemd(
        unit("a.service", ActiveState="inactive"),
        unit("b.service", ActiveState="inactive"),
        fail="start a.service",
    )
    with pytest.raises(UnitsError, match=r"Job failed\nThe journal of a\.service ends with:\nthe reason"):
        run(systemd, wanted("a.service"), wanted("b.service"))
    assert "start b.service" not in systemd.calls


def test_no_units_but_others_to_stop() -> None:
    systemd = Systemd(
        unit("old.service", UnitFileState="disabled"), unit("dead.service", ActiveState="inactive")
    )
    outcome = apply([], systemd, daemon_reload=False, check=False, stop_others=["*.service"])
    assert outcome.actions == ["disable dead.service", "stop old.service"]


def test_nothing_else_to_stop() -> None:
    systemd = Systemd(unit("a.service"))
    outcome = apply([wanted("a.service")], systemd, daemon_reload=True, check=True, stop_others=["a*"])
    assert outcome.actions == ["daemon-reload"]
    assert systemd.calls == []


def test_systemd_does_not_answer() -> None:
    def dead(argv: list[str]) -> tuple[int, str, str]:
        return 1, "", "Failed to connect to bus: Host is down\n"

    with pytest.raises(UnitsError, match="systemctl show failed: Failed to connect to bus: Host is down"):
        apply([wanted("a.service")], dead, daemon_reload=False, check=False)

    def half(argv: list[str]) -> tuple[int, str, str]:
        return (1, "", "no memory\n") if argv[1] == "list-units" else Systemd(unit("a.service"))(argv)

    with pytest.raises(UnitsError, match="systemctl list-units failed: no memory"):
        apply([wanted("a.service")], half, daemon_reload=False, check=False, stop_others=["b*"])


def test_a_file_that_is_gone_does_not_count(tmp_path: Path) -> None:
    entry = wanted("a.service", restart_on=[str(tmp_path / "gone")], reload_on=[str(tmp_path / "gone")])
    assert run(Systemd(unit("a.service")), entry) == []


def test_what_stopped_by_a_condition_is_asked_again() -> None:
    skipped = unit("a.service", ActiveState="inactive", ConditionResult="no")
    assert run(Systemd(dict(skipped)), wanted("a.service")) == [], "it refused again"
    assert run(Systemd(dict(skipped)), wanted("a.service"), check=True) == []

    class Now(Systemd):
        def __call__(self, argv: list[str]) -> tuple[int, str, str]:
            if argv[1] == "start":
                self.units[argv[2]]["ConditionResult"] = "yes"
            return super().__call__(argv)

    assert run(Now(dict(skipped)), wanted("a.service")) == ["start a.service"]


def test_a_unit_may_be_left_as_it_runs() -> None:
    systemd = Systemd(unit("a.service", ActiveState="inactive", UnitFileState="disabled"))
    assert run(systemd, wanted("a.service", enabled=None, state=None)) == []
    assert run(systemd, wanted("a.service", enabled=False, state="stopped")) == []


RESTARTING = {"ActiveState": "activating", "SubState": "auto-restart"}


class Restarting(Systemd):
    """Each look finds the units whose NRestarts is not 0 restarted once more."""

    def __call__(self, argv: list[str]) -> tuple[int, str, str]:
        answer = super().__call__(argv)
        for found in self.units.values():
            if argv[1] == "show" and found["NRestarts"] != "0":
                found["NRestarts"] = str(int(found["NRestarts"]) + 1)
        return answer


@pytest.mark.parametrize(
    "moment",
    [
        RESTARTING,
        {"ActiveState": "activating", "SubState": "start"},
        {"ActiveState": "deactivating", "SubState": "stop-sigterm"},
        {"SubState": "running"},
    ],
    ids=["waits", "starts", "ends", "runs"],
)
def test_units_that_are_restarted_for_ever_do_not_run(moment: dict[str, str]) -> None:
    systemd = Restarting(
        unit("a@1.service", 1, NRestarts="7", **moment),
        unit("well.service"),
        unit("a@2.service", 1, NRestarts="4", **RESTARTING),
    )
    with pytest.raises(UnitsError) as error:
        run(systemd, *(wanted(name) for name in systemd.units))
    assert set(systemd.calls) <= {"start a@1.service"}
    said = str(error.value)
    assert "a@1.service " in said
    assert "The journal of a@2.service ends with:\nthe reason" in said
    assert "well.service" not in said


def test_a_unit_on_its_way_up_is_waited_for() -> None:
    class Slow(Systemd):
        looks = 0

        def __call__(self, argv: list[str]) -> tuple[int, str, str]:
            self.looks += argv[1] == "show"
            if self.looks == 5:
                self.units["a.service"].update(ActiveState="active", SubState="running")
            return super().__call__(argv)

    assert run(Slow(unit("a.service", ActiveState="activating", SubState="start")), wanted("a.service")) == []


def test_a_unit_that_was_restarted_long_ago_is_well() -> None:
    assert run(Systemd(unit("a.service", 61, NRestarts="40")), wanted("a.service")) == []


def test_a_unit_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_units, "LIMIT", 0)
    systemd = Systemd(unit("a.service", ActiveState="activating", SubState="start"))
    with pytest.raises(UnitsError, match=r"a\.service is activating \(start\)"):
        run(systemd, wanted("a.service"))


def test_a_failed_start_names_the_others_that_are_sick() -> None:
    systemd = Systemd(
        unit("a.service", ActiveState="inactive"), unit("b.service", 10, **RESTARTING), fail="start a.service"
    )
    with pytest.raises(UnitsError, match=r"(?s)start a\.service failed.*b\.service is activating"):
        run(systemd, wanted("a.service"), wanted("b.service"))


def test_check_mode_does_not_wait() -> None:
    assert run(Systemd(unit("a.service", 10, **RESTARTING)), wanted("a.service"), check=True) == []

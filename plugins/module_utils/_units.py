# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Bring a list of systemd units into their wanted state."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Run = Callable[[list[str]], tuple[int, str, str]]
"""Runs a command; returns its exit code, standard output and standard error."""

_PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,NRestarts,UnitFileState,NeedDaemonReload,FragmentPath,DropInPaths,"
    "ConditionResult,ConditionTimestampMonotonic,ActiveEnterTimestampMonotonic,"
    "ExecMainStartTimestampMonotonic,InactiveExitTimestampMonotonic,StateChangeTimestampMonotonic"
)
LIMIT = 200.0
"""Seconds that units get until they run; longer than the longest start of a unit of this collection."""
RESTARTS = 3
"""So many restarts while somebody watches are no accident."""


class UnitsError(Exception):
    """Units are not in their wanted state; the text says which, and what their journals say."""


@dataclass
class Unit:
    """What systemd says of a unit.

    `skipped`: a condition kept it from starting. `started`, `changed`: seconds of the epoch, 0 for never.
    `up`: seconds since it became active. `restarts`: how often systemd itself restarted it since somebody
    started it.
    """

    name: str
    exists: bool
    active: str
    sub: str
    restarts: int
    up: float
    enabled: str
    reload_needed: bool
    skipped: bool
    files: tuple[str, ...]
    started: float
    changed: float

    @property
    def trouble(self) -> str | None:
        """None where it runs and can be expected to go on, else what is wrong.

        The more often systemd had to restart it, the longer it has to run until that is believed.
        """
        if self.active in ("activating", "deactivating", "failed"):
            return f"is {self.active} ({self.sub}), restarted {self.restarts} times"
        if self.active == "active" and self.up < min(5 * self.restarts, 60):
            return f"runs for {self.up:.0f} s only, restarted {self.restarts} times"
        return None


@dataclass
class Outcome:
    actions: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)


def _epoch(monotonic_us: str) -> float:
    value = int(monotonic_us or 0)
    return time.time() - time.monotonic() + value / 1e6 if value else 0.0


def read(names: Sequence[str], run: Run) -> list[Unit]:
    """The state of `names`, in their order. Raises UnitsError where systemd does not answer."""
    if not names:  # systemctl would show itself
        return []
    code, out, error = run(["systemctl", "show", f"--property={_PROPERTIES}", "--", *names])
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in out.strip().split("\n\n")]
    if code or len(blocks) != len(names):
        raise UnitsError(f"systemctl show failed: {(error or out).strip()}")
    return [
        Unit(
            name=name,
            exists=block["LoadState"] not in ("not-found", "error", "bad-setting"),
            active=block["ActiveState"],
            sub=block["SubState"],
            restarts=int(block.get("NRestarts", 0)),
            up=time.monotonic() - int(block["ActiveEnterTimestampMonotonic"]) / 1e6,
            enabled=block["UnitFileState"],
            reload_needed=block["NeedDaemonReload"] == "yes",
            skipped=block["ActiveState"] == "inactive"
            and block["ConditionResult"] == "no"
            and block["ConditionTimestampMonotonic"] != "0",
            files=tuple(path for path in (block["FragmentPath"], *block["DropInPaths"].split()) if path),
            # Only services have a main process; 0 is one that never ran.
            started=_epoch(
                (
                    block.get("ExecMainStartTimestampMonotonic", "0").strip("0")
                    and block["ExecMainStartTimestampMonotonic"]
                )
                or block["InactiveExitTimestampMonotonic"]
            ),
            changed=_epoch(block["StateChangeTimestampMonotonic"]),
        )
        for name, block in zip(names, blocks, strict=True)
    ]


def newest(paths: Sequence[str]) -> float:
    """When the youngest of `paths` was changed; a link counts as well as its target."""
    found = 0.0
    for path in paths:
        for follow in (False, True):
            try:
                found = max(found, Path(path).stat(follow_symlinks=follow).st_mtime)
            except (FileNotFoundError, NotADirectoryError):
                continue
    return found


def others(patterns: Sequence[str], names: Sequence[str], run: Run) -> list[str]:
    """Units that match one of `patterns` and are loaded, but are not among `names`."""
    if not patterns:
        return []
    code, out, error = run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "--", *patterns])
    if code:
        raise UnitsError(f"systemctl list-units failed: {error.strip()}")
    loaded = [line.split()[0] for line in out.splitlines() if line.strip()]
    return sorted(set(loaded) - set(names))


def _with_journal(run: Run, problem: str, unit: str) -> str:
    journal = run(["journalctl", "--no-pager", "--lines=25", "--output=cat", f"--unit={unit}"])[1]
    return f"{problem}\nThe journal of {unit} ends with:\n{journal.strip()}"


def _must(run: Run, argv: list[str], unit: str) -> None:
    code, out, error = run(argv)
    if code:
        raise UnitsError(_with_journal(run, f"{' '.join(argv)} failed: {(error or out).strip()}", unit))


def _sick(units: Sequence[Unit], run: Run) -> list[str]:
    return [
        _with_journal(run, f"{unit.name} {trouble}", unit.name) for unit in units if (trouble := unit.trouble)
    ]


def _insist(names: Sequence[str], run: Run, *, acted: bool) -> None:
    """Wait until all of `names` run and can be expected to go on.

    Raises UnitsError with every one that does not, as soon as one is seen to be restarted again and again.
    """
    if acted:
        time.sleep(1)  # Whoever ends at once has ended.
    end = time.monotonic() + LIMIT
    first: dict[str, int] = {}
    while True:
        units = read(names, run)
        sick = [unit for unit in units if unit.trouble]
        if not sick:
            return
        first = first or {unit.name: unit.restarts for unit in units}
        again = any(unit.restarts - first[unit.name] >= RESTARTS for unit in sick)
        if again or all(unit.active == "failed" for unit in sick) or time.monotonic() > end:
            raise UnitsError("\n".join(_sick(sick, run)))
        time.sleep(1)


def _act(run: Run, outcome: Outcome, argv: list[str], unit: str, *, check: bool) -> None:
    outcome.actions.append(" ".join(argv))
    if not check:
        _must(run, ["systemctl", *argv], unit)


def _bring(entry: Mapping[str, Any], unit: Unit, run: Run, outcome: Outcome, *, check: bool) -> None:
    """One unit into the state that `entry` wants."""
    if not unit.exists and not check and (entry["enabled"] or entry["state"] == "started"):
        raise UnitsError(f"{unit.name} does not exist, or cannot be loaded; see systemctl status {unit.name}")
    if entry["enabled"] is True and unit.enabled not in ("enabled", "static", "generated", "indirect"):
        _act(run, outcome, ["enable", unit.name], unit.name, check=check)
    if entry["enabled"] is False and unit.enabled in ("enabled", "enabled-runtime"):
        _act(run, outcome, ["disable", unit.name], unit.name, check=check)
    running = unit.active in ("active", "reloading", "activating")
    if entry["state"] == "stopped" and running:
        _act(run, outcome, ["stop", unit.name], unit.name, check=check)
    if entry["state"] != "started":
        return
    restart_files = [*(entry["restart_on"] or []), *unit.files]
    if not running:
        if unit.skipped and not check:
            # A condition kept it from starting before; it is asked again, and may refuse again.
            _must(run, ["systemctl", "start", unit.name], unit.name)
            if read([unit.name], run)[0].active != "inactive":
                outcome.actions.append(f"start {unit.name}")
        elif not unit.skipped:
            _act(run, outcome, ["start", unit.name], unit.name, check=check)
    elif entry["restart_on"] is not None and newest(restart_files) > unit.started:
        _act(run, outcome, ["restart", unit.name], unit.name, check=check)
        outcome.restarted.append(unit.name)
    elif entry["reload_on"] and newest(entry["reload_on"]) > unit.changed:
        _act(run, outcome, ["reload", unit.name], unit.name, check=check)


def apply(
    wanted: Sequence[Mapping[str, Any]],
    run: Run,
    *,
    daemon_reload: bool,
    check: bool,
    stop_others: Sequence[str] = (),
) -> Outcome:
    """Apply `wanted` (`name`, `enabled`, `state`, `restart_on`, `reload_on`) in order.

    Before that, units that match `stop_others` and are not wanted are stopped and disabled.

    Raises UnitsError at the first unit that cannot be brought into its state, and at the end with all that do
    not stay in it: a unit that systemd restarts for ever does not run, whatever it does at the moment.
    """
    outcome = Outcome()
    names = [entry["name"] for entry in wanted]
    units = read(names, run)
    if daemon_reload or any(unit.reload_needed for unit in units):
        _act(run, outcome, ["daemon-reload"], "init.scope", check=check)
        if not check:
            units = read(names, run)
    unwanted = others(stop_others, names, run)
    for unit in read(unwanted, run) if unwanted else []:
        if unit.active in ("active", "reloading", "activating"):
            _act(run, outcome, ["stop", unit.name], unit.name, check=check)
        if unit.enabled in ("enabled", "enabled-runtime"):
            _act(run, outcome, ["disable", unit.name], unit.name, check=check)
    started = [entry["name"] for entry in wanted if entry["state"] == "started"]
    for entry, unit in zip(wanted, units, strict=True):
        try:
            _bring(entry, unit, run, outcome, check=check)
        except UnitsError as error:
            rest = [name for name in started if name != unit.name]
            raise UnitsError("\n".join([str(error), *_sick(read(rest, run), run)])) from error
    if started and not check:
        acted = any(action.startswith(("start ", "restart ")) for action in outcome.actions)
        _insist(started, run, acted=acted)
    return outcome

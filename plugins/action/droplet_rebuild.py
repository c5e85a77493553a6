# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits for the rebuild of a droplet and shows its progress, which a module cannot while it runs."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "vmstio.mastodon.droplet_rebuild"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs the module for one step after the other; module_utils/_rebuild.py says what a step is."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname")
        progress = Progress(host, shows=not self._task.no_log)
        step: dict[str, Any] | None = None
        arguments = dict(self._task.args)
        while True:
            if step is not None:
                arguments["_step"] = {"state": step["state"], "left": step["timeout"] - progress.seconds}
            try:
                result: dict[str, Any] = self._execute_module(
                    module_name=MODULE, module_args=arguments, task_vars=task_vars
                )
            except AnsibleConnectionFailure as error:
                if step is None:
                    raise
                # The same step again. That is safe: each looks first at what the lost one may have done.
                progress.note(f"no connection to the host that runs the module ({error}); trying again")
                step = {
                    **step,
                    "pause": step["interval"],
                    "waiting_for": step["waiting_for"] or "the rebuild",
                }
            else:
                step = result.pop("step", None)
                for note in step["notes"] if step else []:
                    progress.note(note)
                if result.get("failed") or step is None or step["state"] is None:
                    return {**result, "progress": progress.lines}
            if not step["pause"]:
                continue
            if progress.seconds + step["pause"] > step["timeout"]:
                return {
                    "failed": True,
                    "msg": f"{step['waiting_for']} is not over after {step['timeout']:.0f} s. It may still "
                    "end well: run again, which waits for it, or raise wait_timeout.",
                    "progress": progress.lines,
                }
            time.sleep(step["pause"])


class Progress:
    """What was seen and after how many seconds: kept in `lines`, and shown at -v as it comes."""

    def __init__(self, host: str | None, *, shows: bool) -> None:
        self.lines: list[str] = []
        self._host = host
        self._shows = shows
        self._last = ""
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def note(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        self.lines.append(f"{self.seconds:.0f} s: {text}")
        if self._shows:
            Display().v(self.lines[-1], host=self._host)

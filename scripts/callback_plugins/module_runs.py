"""Ansible callback for `make bench`: one line `HOST<TAB>MODULE` per module that ran, in $MODULE_RUNS_FILE.

Module runs are what a converge costs; a task may run none (assert) or several (template: stat, copy).
Counted where every one of them passes, `ActionBase._execute_module`, in the forked worker: hence a file.
"""

from __future__ import annotations

import os
from functools import wraps
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: module_runs
type: aggregate
short_description: Counts module runs per host
description: Appends a line to the file named by E(MODULE_RUNS_FILE) for each module run.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible is untyped
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "module_runs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        runs = Path(os.environ["MODULE_RUNS_FILE"])
        original = ActionBase._execute_module

        @wraps(original)
        def counted(action: Any, *args: Any, **kwargs: Any) -> Any:
            task_vars = kwargs.get("task_vars") or {}
            name = kwargs.get("module_name") or (args[0] if args else None) or action._task.action
            with runs.open("a") as stream:
                stream.write(f"{task_vars.get('inventory_hostname', '?')}\t{name}\n")
            return original(action, *args, **kwargs)

        ActionBase._execute_module = counted

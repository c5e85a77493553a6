"""Runs a module as a task does: through its action plugin, where it has one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

PACKAGE = "ansible_collections.vmstio.mastodon.plugins"

Module = Callable[[dict[str, Any]], dict[str, Any]]


def run_task(
    name: str, arguments: dict[str, Any], module: Module, *, check: bool = False, no_log: bool = False
) -> dict[str, Any]:
    """The result of a task with these arguments. `module` runs the module itself, once, in this process.

    Beside the controller's code a module shows its warnings instead of returning them: here they are put
    where a task has them.
    """
    with mock.patch("ansible.utils.display.Display.warning") as warning:
        result = _run(name, arguments, module, check=check, no_log=no_log)
    if warning.called:
        result["warnings"] = [call.kwargs["msg"] for call in warning.call_args_list]
    return result


def _run(
    name: str, arguments: dict[str, Any], module: Module, *, check: bool, no_log: bool
) -> dict[str, Any]:
    if not importlib.util.find_spec(f"{PACKAGE}.action.{name}"):
        return module(arguments)
    action = importlib.import_module(f"{PACKAGE}.action.{name}")
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=check, no_log=no_log, action=action.MODULE)
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    plugin = action.ActionModule(task, connection, None, None, None, None)

    def execute(module_name: str, module_args: dict[str, Any], task_vars: Any) -> dict[str, Any]:
        assert module_name == f"vmstio.mastodon.{name}"
        return module(module_args)

    plugin._execute_module = execute
    result: dict[str, Any] = plugin.run(task_vars={"inventory_hostname": "worker-1"})
    return result

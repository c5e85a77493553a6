"""Runs a module as a task does: through its action plugin, where it has one."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

PACKAGE = "ansible_collections.vmstio.mastodon.plugins"

Module = Callable[[dict[str, Any]], dict[str, Any]]


def run_task(
    name: str, arguments: dict[str, Any], module: Module, *, check: bool = False, no_log: bool = False
) -> dict[str, Any]:
    """The result of a task with these arguments. `module` runs the module itself, once, in this process."""
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

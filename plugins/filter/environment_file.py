# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `environment_file`; its documentation is in environment_file.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._environment import line_problem, text


def environment_file(variables: Mapping[str, Any]) -> str:
    """`NAME=value` lines of `variables`. AnsibleFilterError names the variable, never its value."""
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError(f"environment_file: needs a mapping, not {type(variables).__name__}")
    lines = []
    for name in sorted(variables):
        value = text(variables[name])
        if value == "":
            continue
        if problem := line_problem(name, value):
            raise AnsibleFilterError(f"environment_file: {problem}")
        lines.append(f"{name}={value}\n")
    return "".join(lines)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"environment_file": environment_file}

# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `environment_file`; its documentation is in environment_file.yml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._environment import line_problem, text


def environment_file(variables: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> str:
    """`NAME=value` lines. Empty values of `variables` are left out; those of `more` are meant.

    AnsibleFilterError names the variable, never its value.
    """
    more = {} if more is None else more
    for given in (variables, more):
        if not isinstance(given, Mapping):
            raise AnsibleFilterError(f"environment_file: needs a mapping, not {type(given).__name__}")
    texts = {name: text(value) for name, value in variables.items() if text(value) != ""}
    texts |= {name: text(value) for name, value in more.items() if value is not None}
    lines = []
    for name, value in sorted(texts.items()):
        if problem := line_problem(name, value):
            raise AnsibleFilterError(f"environment_file: {problem}")
        lines.append(f"{name}={value}\n")
    return "".join(lines)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"environment_file": environment_file}

# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Environment variables in files that Docker and systemd both read."""

from __future__ import annotations

import re
from typing import Any

# The names in lower case are those that Mastodon reads itself.
_NAME = re.compile(r"[A-Z][A-Z0-9_]*|http_proxy|http_hidden_proxy")


def text(value: Any) -> str:
    """A variable's value as text; None is empty, booleans are Mastodon's `true` and `false`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def line_problem(name: str, value: str) -> str | None:
    """Why `name=value` cannot stand in an environment file, without the value; None where it can.

    Docker takes a line as it is; systemd strips blanks, and gives quotes and backslashes a meaning.
    """
    if not _NAME.fullmatch(name):
        return f"{name!r} is not a name of an environment variable (capital letters, digits, underscores)"
    if "\n" in value or "\r" in value or "\0" in value:
        return f"{name} holds a line break; environment files cannot carry it"
    if value != value.strip():
        return f"{name} begins or ends with a blank; remove it"
    if found := next((character for character in "\"'\\" if character in value), None):
        return f"{name} holds the character {found}, which Docker and systemd read differently; remove it"
    return None

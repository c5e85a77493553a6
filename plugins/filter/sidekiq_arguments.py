# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `sidekiq_arguments`; its documentation is in sidekiq_arguments.yml."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._sidekiq import concurrency

_QUEUE = re.compile(r"[a-z][a-z0-9_]*(,[1-9][0-9]*)?")


def _queue(name: Any, weight: Any) -> str:
    # A bool is an int to Python, and no weight to anybody.
    if isinstance(weight, bool) or not isinstance(weight, int) or weight < 1:
        raise AnsibleFilterError(f"sidekiq_arguments: the weight of {name} must be 1 or more, not {weight!r}")
    return f"{name},{weight}"


def sidekiq_arguments(process: Mapping[str, Any], timeout: int | None = None) -> str:
    """Arguments of `sidekiq` in the order of the queues. AnsibleFilterError for what is no process."""
    if not isinstance(process, Mapping):
        raise AnsibleFilterError(f"sidekiq_arguments: needs a mapping, not {type(process).__name__}")
    given = process.get("queues")
    if not given or isinstance(given, str):
        raise AnsibleFilterError("sidekiq_arguments: queues must be a list, or a mapping of names to weights")
    queues = [_queue(*item) for item in given.items()] if isinstance(given, Mapping) else list(given)
    names = [str(queue).partition(",")[0] for queue in queues]
    for queue, name in zip(queues, names, strict=True):
        if not isinstance(queue, str) or not _QUEUE.fullmatch(queue):
            raise AnsibleFilterError(f"sidekiq_arguments: {queue!r} is no queue: write default or default,8")
        if names.count(name) > 1:
            raise AnsibleFilterError(f"sidekiq_arguments: the queue {name} is listed twice; give it a weight")
    threads = concurrency(process)
    if threads < 1:
        raise AnsibleFilterError(f"sidekiq_arguments: concurrency must be 1 or more, not {threads}")
    patience = [] if timeout is None else ["--timeout", str(timeout)]
    return " ".join(
        ["--concurrency", str(threads), *patience, *(word for queue in queues for word in ("--queue", queue))]
    )


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"sidekiq_arguments": sidekiq_arguments}

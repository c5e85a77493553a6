# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `connection_budget`; its documentation is in connection_budget.yml."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._sidekiq import Budget


def _problems(budget: Budget, pool_clients: int, pool_size: int, server: int, direct: int) -> Iterator[str]:
    if pool_clients and budget.total > pool_clients:
        yield (
            f"The processes want {budget.total} connections ({budget.workers} workers x {budget.worker}, "
            f"exec {budget.exec_sidekiq}) and the pool accepts {pool_clients}: lower their threads, or "
            "enlarge the pool."
        )
    if pool_size and server and pool_size + direct > server:
        yield (
            f"The pool's {pool_size} connections and {direct} direct ones are more than the server's "
            f"{server}: make the pool smaller, or take a larger server."
        )
    if not pool_size and server and budget.total + direct > server:
        yield (
            f"Without a pool, the processes' {budget.total} connections and {direct} direct ones are more "
            f"than the server's {server}: lower their threads, put a pool before it, or take a larger server."
        )


def connection_budget(
    settings: Mapping[str, Any],
    pool_clients: int = 0,
    pool_size: int = 0,
    server: int = 0,
    direct: int = 5,
) -> dict[str, Any]:
    """Connections by process, and the limits they break. AnsibleFilterError for what `settings` lacks."""
    try:
        budget = Budget.of(
            workers=int(settings["workers"]),
            web=int(settings["web_processes"]) * int(settings["web_threads"]),
            streaming=int(settings["streaming"]),
            worker_sidekiq=settings["worker_sidekiq"],
            exec_sidekiq=settings["exec_sidekiq"],
        )
    except KeyError as error:
        raise AnsibleFilterError(f"connection_budget: the settings lack {error}") from error
    return {
        "worker": {
            "web": budget.web,
            "streaming": budget.streaming,
            "sidekiq": budget.worker_sidekiq,
            "total": budget.worker,
        },
        "exec": budget.exec_sidekiq,
        "total": budget.total,
        "problems": list(_problems(budget, pool_clients, pool_size, server, direct)),
    }


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"connection_budget": connection_budget}

# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Sidekiq processes, and the database connections of an instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

CONCURRENCY = 5
"""Threads of a process that does not say: Sidekiq's own default since 7."""


def concurrency(process: Mapping[str, Any]) -> int:
    return int(process.get("concurrency", CONCURRENCY))


class Budget(NamedTuple):
    """Database connections when every thread of every process has one. A sidekiq has one for each thread."""

    workers: int
    web: int
    streaming: int
    worker_sidekiq: int
    exec_sidekiq: int

    @classmethod
    def of(
        cls,
        *,
        workers: int,
        web: int,
        streaming: int,
        worker_sidekiq: Sequence[Mapping[str, Any]],
        exec_sidekiq: Sequence[Mapping[str, Any]],
    ) -> Budget:
        """`web` and `streaming`: connections of one worker. The others: processes of it, and of exec."""
        return cls(
            workers,
            web,
            streaming,
            sum(concurrency(process) for process in worker_sidekiq),
            sum(concurrency(process) for process in exec_sidekiq),
        )

    @property
    def worker(self) -> int:
        """Of one worker."""
        return self.web + self.streaming + self.worker_sidekiq

    @property
    def total(self) -> int:
        return self.workers * self.worker + self.exec_sidekiq

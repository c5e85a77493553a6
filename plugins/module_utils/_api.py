# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: what the clients of the three APIs share: the error and the retry policy."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any


class ApiError(Exception):
    """A call to an API failed for good.

    `str()` is one sentence for the admin: the call, what came back, what to do. `status` is the HTTP status
    (None: no answer was had), `code` the API's own code, where it gave one.
    """

    def __init__(
        self,
        call: str,
        problem: str,
        advice: str,
        *,
        status: int | None = None,
        code: str | int | None = None,
    ) -> None:
        super().__init__(f"{call}: {problem.rstrip('.')}. {advice}" if advice else f"{call}: {problem}")
        self.call = call
        self.problem = problem
        self.advice = advice
        self.status = status
        self.code = code

    def failure(self) -> dict[str, Any]:
        """The same as plain data, for a module's `failure` return value."""
        return {"call": self.call, "problem": self.problem, "status": self.status, "code": self.code}


class UnclearError(ApiError):
    """A call that may have been carried out, and must not be repeated blindly: read, then decide."""

    @classmethod
    def of(cls, error: ApiError) -> UnclearError:
        return cls(error.call, error.problem, error.advice, status=error.status, code=error.code)


def hide(text: str, secret: str) -> str:
    """`text` without `secret`: an API or a proxy may echo the header that it refused."""
    return text.replace(secret, "********") if secret else text


def excerpt(text: str, limit: int = 200) -> str:
    """The start of a body that was not what was expected, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[:limit]}..."


def retry_after(headers: Any) -> float | None:
    """Seconds that Retry-After asks for; None without one, or with a date (no API here sends that)."""
    value = headers.get("retry-after") or headers.get("Retry-After") if headers else None
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Retry:
    """When to call again.

    `attempts` is the number of calls in all, `first` the first pause in seconds (it doubles), `cap` the
    longest pause. A Retry-After above the cap is not worth waiting for: the admin is told instead. No pause
    goes beyond `deadline`, a time of time.monotonic().
    """

    attempts: int = 5
    first: float = 0.5
    cap: float = 60.0
    deadline: float = math.inf

    def pause(self, attempt: int, asked: float | None = None) -> float | None:
        """Seconds to wait after the failed call number `attempt` (from 1); None: give up.

        `asked` is the Retry-After of the answer.
        """
        if attempt >= self.attempts:
            return None
        pause = min(self.first * 2.0 ** (attempt - 1), self.cap) if asked is None else asked
        return pause if pause <= min(self.cap, self.deadline - time.monotonic()) else None

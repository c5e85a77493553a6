"""What goes wrong between a client and an API, and the emulator that makes it go wrong."""

from __future__ import annotations

from typing import Any

import httpx

FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429},
    "429 with Retry-After": {"status": 429, "retry_after": 7},
    "429 for minutes": {"status": 429, "retry_after": 300},
    "500": {"status": 500},
    "503": {"status": 503},
    "cut off": {"cut": True},
    "no JSON": {"status": 200, "body": "<html>log in</html>", "content_type": "text/html"},
    "HTML error": {"status": 502, "body": "<html>Bad Gateway</html>"},
    "time-out": {"delay": 60},
}
"""Names of faults, and the emulators' actions for them (lab/emulators/common.py)."""

RATE_LIMITS = ("429", "429 with Retry-After")
"""Waited for, whatever was asked."""

REPEATED = ("500", "503", "cut off", "no JSON")
"""Asked again, where asking twice is the same as once."""

UNCLEAR = ("500", "HTML error", "cut off")
"""What was asked may have been done."""

PATIENCE = {name: 0.5 if name == "time-out" else 30.0 for name in FAULTS}
"""Seconds for the option `timeout`: no test waits for long."""

NETWORK = "Check the network, proxy and endpoint, then run again."
JSON_API_ENDS = (
    ("429 for minutes", "429", "The rate limit is used up: run again in 300 s."),
    ("429", "429", "The rate limit is used up: run again later."),
    ("500", "500", "The API has a problem: run again later."),
    ("cut off", "no answer (IncompleteRead", NETWORK),
    ("time-out", "timed out", NETWORK),
    (
        "no JSON",
        "an answer that is no JSON (<html>log in</html>)",
        "Check that the endpoint is the API and that no proxy answers in its place.",
    ),
)
"""Faults that stay, and what the clients of Cloudflare and SendGrid say then: problem and advice."""


class Emulated:
    """An emulator behind `client`."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def fault(
        self, path: str, times: int | None = 1, method: str | None = None, skip: int = 0, **action: Any
    ) -> None:
        """Lets the next `times` calls go wrong (None: all), but for the first `skip`; `path` is a pattern."""
        match = {"method": method, "path": path}
        rules = [{"match": match, "times": times, "skip": skip, "action": action}]
        self.client.put("/_lab/faults", json=rules).raise_for_status()

    def log(self, method: str | None = None, path: str = "") -> list[dict[str, Any]]:
        """The calls so far, or since `calls`."""
        query = {"path": path, **({"method": method} if method else {})}
        found: list[dict[str, Any]] = self.client.get("/_lab/requests", params=query).json()["requests"]
        return found

    def calls(self) -> list[str]:
        """Method and path of the calls since the last look."""
        found = self.log()
        self.client.delete("/_lab/requests")
        return [f"{call['method']} {call['path']}" for call in found]

    def last_parts(self) -> list[str]:
        """The same with the last part of each path only."""
        return [f"{call.split()[0]} {call.rsplit('/', 1)[-1]}" for call in self.calls()]

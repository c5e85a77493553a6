"""The Cloudflare emulator's state, its envelope and its way to say no.

Error codes are those that clients of the real API report; its document names none.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lab.emulators.common import (
    Call,
    JsonObject,
    Problem,
    Reply,
    Routes,
    Store,
    Token,
    Tokens,
    Vendor,
    Window,
)

PREFIX = "/client/v4"

WINDOW_SECONDS = 300
"""Cloudflare counts calls in five minutes, 1200 are allowed."""


def timestamp() -> str:
    """The time as this API writes it, with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def new_id() -> str:
    return secrets.token_hex(16)


def refuse(code: int, message: str, status: int = 400) -> Problem:
    return Problem(status, code, message)


@dataclass
class State:
    """Zones by id; the records, settings and rulesets of each."""

    account_id: str = field(default_factory=new_id)
    zones: dict[str, JsonObject] = field(default_factory=dict)
    records: dict[str, dict[str, JsonObject]] = field(default_factory=dict)
    settings: dict[str, dict[str, JsonObject]] = field(default_factory=dict)
    rulesets: dict[str, dict[str, JsonObject]] = field(default_factory=dict)
    purges: dict[str, list[JsonObject]] = field(default_factory=dict)
    """What was purged from a zone's cache, oldest first."""


class Cloudflare(Vendor):
    """One account with some zones, all of them active."""

    name = "cloudflare"
    document = "cloudflare-fixed.json"
    server = PREFIX

    def __init__(
        self,
        routes: Iterable[Routes],
        tokens: Tokens,
        *,
        store: Store,
        zones: Iterable[str],
        limit: int | None,
        cdn_addresses: Mapping[str, list[str]],
    ) -> None:
        super().__init__(routes, tokens)
        self.store = store
        saved = store.load()
        self.state = State(**saved) if saved else State()
        self.limit = limit
        self.cdn_addresses = cdn_addresses
        self._windows: dict[str, Window] = {}
        for zone in zones:
            self.add_zone(zone)
        self.save()

    def save(self) -> None:
        self.store.save(vars(self.state))

    def add_zone(self, name: str) -> None:
        """Have the zone, if it is not there yet."""
        name = name.lower()
        if any(zone["name"] == name for zone in self.state.zones.values()):
            return
        identifier = new_id()
        at = timestamp()
        self.state.zones[identifier] = {
            "id": identifier,
            "name": name,
            "status": "active",
            "paused": False,
            "type": "full",
            "development_mode": 0,
            "name_servers": ["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"],
            "original_name_servers": None,
            "original_registrar": None,
            "original_dnshost": None,
            "created_on": at,
            "modified_on": at,
            "activated_on": at,
            "meta": {
                "step": 2,
                "custom_certificate_quota": 0,
                "page_rule_quota": 3,
                "phishing_detected": False,
            },
            "owner": {"type": "user"},
            "account": {"id": self.state.account_id, "name": "Lab"},
            "permissions": ["#dns_records:edit", "#dns_records:read", "#zone:read"],
            "plan": {
                "id": "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee",
                "name": "Free Website",
                "price": 0,
                "currency": "USD",
                "frequency": "",
                "is_subscribed": False,
                "can_subscribe": False,
                "legacy_id": "free",
                "legacy_discount": False,
                "externally_managed": False,
            },
        }
        for table in (self.state.records, self.state.settings, self.state.rulesets):
            table[identifier] = {}
        self.state.purges[identifier] = []

    # words

    def error(self, problem: Problem) -> JsonObject:
        code = problem.code if isinstance(problem.code, int) else _CODES.get(problem.status, 10000)
        return {
            "success": False,
            "errors": [{"code": code, "message": problem.message}],
            "messages": [],
            "result": None,
        }

    def ok(self, result: Any, info: JsonObject | None = None) -> Reply:
        body = {"result": result, "success": True, "errors": [], "messages": []}
        return Reply(200, body | ({"result_info": info} if info else {}))

    def page(self, call: Call, items: list[JsonObject], *, default: int, most: int) -> Reply:
        """A page of a list with `result_info`."""
        page = max(1, self.number(call, "page", 1))
        size = min(max(1, self.number(call, "per_page", default)), most)
        shown = items[(page - 1) * size : page * size]
        info = {
            "page": page,
            "per_page": size,
            "count": len(shown),
            "total_count": len(items),
            "total_pages": -(-len(items) // size),
        }
        return self.ok(shown, info)

    @staticmethod
    def number(call: Call, key: str, default: int) -> int:
        """A number of the query. Raises Problem 400."""
        try:
            return int(call.query.get(key, default))
        except ValueError:
            raise refuse(1068, f"{key} has to be a number") from None

    def before(self, call: Call) -> None:
        if self.limit is None:
            return
        window = self._window(call)
        if not window.take():
            wait = max(1, round(window.reset - time.time()))
            message = "Please wait and consider throttling your request speed"
            raise Problem(429, "rate_limited", message, {"retry-after": str(wait)})

    def headers(self, call: Call) -> dict[str, str]:
        if self.limit is None:
            return {}
        window = self._window(call)
        wait = max(1, round(window.reset - time.time()))
        return {
            "ratelimit": f'"default";r={max(0, self.limit - window.used)};t={wait}',
            "ratelimit-policy": f'"default";q={self.limit};w={WINDOW_SECONDS}',
        }

    def _window(self, call: Call) -> Window:
        token = call.headers.get("authorization", "")
        if token not in self._windows:
            self._windows[token] = Window(self.limit, WINDOW_SECONDS)
        return self._windows[token]

    def authenticate(self, call: Call) -> Token:
        if call.path == PREFIX + "/ips":
            return Token("")  # the only public one
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not value:
            raise refuse(6003, "Invalid request headers")
        token = self.tokens.get(value.strip())
        if token is None:
            if call.path.endswith("/tokens/verify"):
                raise refuse(1000, "Invalid API Token", 401)
            raise refuse(9109, "Invalid access token", 403)
        return token

    def forbidden(self, _scope: str) -> Problem:
        return refuse(10000, "Authentication error", 403)

    def not_found(self) -> Problem:
        return refuse(7003, "Could not route, perhaps your object identifier is invalid?", 404)

    def wrong_method(self, allowed: Iterable[str]) -> Problem:
        allow = {"allow": ", ".join(sorted(set(allowed)))}
        return Problem(405, 10405, "Method not allowed for this authentication scheme", allow)

    def zone(self, call: Call) -> JsonObject:
        """The zone in the path. Raises Problem 404."""
        zone = self.state.zones.get(call.params["zone"])
        if zone is None:
            where = call.path.removeprefix(PREFIX)
            message = f"Could not route to {where}, perhaps your object identifier is invalid?"
            raise refuse(7003, message, 404)
        return zone


_CODES = {400: 9207, 429: 971, 500: 1000, 503: 1000}
"""Codes of refusals that no endpoint makes."""

# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: the one client of Cloudflare's API."""

from __future__ import annotations

from typing import Any

from ._api import ApiError
from ._http import JsonApi
from ._module import client_arguments, client_settings

ENDPOINT = "https://api.cloudflare.com/client/v4"
PAGE_SIZE = 5000
BATCH_SIZE = 200
"""Changes in one batch: the limit of the Free plan, which a zone is read with too."""


class Cloudflare(JsonApi):
    """Cloudflare's API with one token, or without for what is public; arguments as for JsonApi."""

    def __init__(self, token: str | None, *, endpoint: str = ENDPOINT, **settings: Any) -> None:
        super().__init__(
            token, endpoint=endpoint, option="api_token", variable="CLOUDFLARE_API_TOKEN", **settings
        )

    def ips(self) -> Any:
        """The whole answer about the address ranges of Cloudflare's proxies. Needs no token."""
        _status, answer = self.request("GET", "/ips")
        return answer

    def zone_id(self, name: str) -> str:
        """The id of the zone called `name`. Raises ApiError if the token sees none."""
        _status, answer = self.request(
            "GET", "/zones", query={"name": name, "per_page": 5}, scopes="Zone Read"
        )
        found = [zone["id"] for zone in self._list(answer, "GET", "/zones") if zone["name"] == name]
        if not found:
            raise ApiError(
                f"GET {self.endpoint}/zones",
                f"there is no zone {name} that the token may see",
                "Check the name, and that the token has the permission Zone Read for this zone.",
                code="no_zone",
            )
        return str(found[0])

    def records(self, zone_id: str) -> list[dict[str, Any]]:
        """All DNS records of the zone: one call for each 5,000."""
        path = f"/zones/{zone_id}/dns_records"
        records: dict[str, dict[str, Any]] = {}
        page, pages = 0, 1
        while page < pages:
            page += 1
            _status, answer = self.request(
                "GET", path, query={"per_page": PAGE_SIZE, "page": page}, scopes="DNS Read"
            )
            records.update((record["id"], record) for record in self._list(answer, "GET", path))
            pages = (answer.get("result_info") or {}).get("total_pages") or 1
        return list(records.values())

    def batch(self, zone_id: str, changes: dict[str, list[dict[str, Any]]]) -> None:
        """Carries out `changes`: `deletes`, `patches`, `puts`, `posts`, as the API's batch takes them.

        Up to 200 changes are one call and one transaction; more are several, deletions first. Raises
        UnclearError when it may or may not have been carried out.
        """
        path = f"/zones/{zone_id}/dns_records/batch"
        flat = [
            (kind, item) for kind in ("deletes", "patches", "puts", "posts") for item in changes.get(kind, ())
        ]
        for start in range(0, len(flat), BATCH_SIZE):
            body: dict[str, list[dict[str, Any]]] = {}
            for kind, item in flat[start : start + BATCH_SIZE]:
                body.setdefault(kind, []).append(item)
            self.request("POST", path, body=body, creates=True, scopes="DNS Write")

    def settings(self, zone_id: str) -> dict[str, Any]:
        """The zone's settings: id and value."""
        path = f"/zones/{zone_id}/settings"
        _status, answer = self.request("GET", path, scopes="Zone Settings Read")
        return {setting["id"]: setting.get("value") for setting in self._list(answer, "GET", path)}

    def set_setting(self, zone_id: str, setting: str, value: Any) -> None:
        self.request(
            "PATCH",
            f"/zones/{zone_id}/settings/{setting}",
            body={"value": value},
            scopes="Zone Settings Write",
        )

    def _list(self, answer: Any, method: str, path: str) -> list[dict[str, Any]]:
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, list):
            raise ApiError(
                f"{method} {self.endpoint}{path}",
                "the answer has no list `result`",
                "Check that the endpoint is Cloudflare's API (it ends in /client/v4).",
            )
        return result

    def _error(self, body: Any) -> tuple[str | int | None, str]:
        errors = body.get("errors") if isinstance(body, dict) else None
        if not errors:
            return None, ""
        messages = "; ".join(f"{error.get('message')} (code {error.get('code')})" for error in errors)
        return errors[0].get("code"), messages

    def _advice(self, code: str | int | None, scopes: str) -> str:
        # Both are answered to a wrong token and to one that lacks a permission.
        token = f"{self._token_advice} This call needs its permission {scopes}." if scopes else ""
        return {
            10000: token,
            9109: token,
            7003: "Check the zone id and that the endpoint ends in /client/v4.",
            81053: "A CNAME cannot stand beside an address: remove one of them.",
        }.get(code if isinstance(code, int) else 0, "")


def arguments() -> dict[str, Any]:
    """Argument spec of the modules that use this client on one zone."""
    return {
        **client_arguments("api_token", ["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_TOKEN"], "CLOUDFLARE", ENDPOINT),
        "zone": {"type": "str", "required": True},
        "zone_id": {"type": "str"},
    }


def client(module: Any) -> Cloudflare:
    return Cloudflare(
        module.params["api_token"], endpoint=module.params["endpoint"], **client_settings(module)
    )

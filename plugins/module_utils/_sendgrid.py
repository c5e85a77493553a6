# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: the one client of SendGrid's API."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ._api import ApiError
from ._http import JsonApi
from ._module import client_arguments, client_settings

ENDPOINTS = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}
TRACKING = ("click", "open", "subscription", "google_analytics")
PAGE_SIZE = 50
"""Authenticated domains a page; SendGrid does not say how many it gives at most."""


class SendGrid(JsonApi):
    """SendGrid's API with one key; `region` is `global` or `eu`, `endpoint` wins over it.

    `subuser` makes every call on behalf of that subuser. Other arguments as for JsonApi.
    """

    def __init__(
        self,
        token: str,
        *,
        region: str = "global",
        endpoint: str | None = None,
        subuser: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            token,
            endpoint=endpoint or ENDPOINTS[region],
            option="api_key",
            variable="SENDGRID_API_KEY",
            headers={"on-behalf-of": subuser} if subuser else None,
            **settings,
        )

    def tracking(self) -> dict[str, bool]:
        """Which of the four kinds of tracking are on: one call.

        The list names them `open`, `click`, `subscription` and `google_analytics`.
        """
        path = "/v3/tracking_settings"
        _status, answer = self.request("GET", path, scopes="tracking_settings.read")
        result = answer.get("result") if isinstance(answer, dict) else None
        found = {item.get("name"): item.get("enabled") for item in result or ()}
        missing = [kind for kind in TRACKING if not isinstance(found.get(kind), bool)]
        if missing:
            raise ApiError(
                f"GET {self.endpoint}{path}",
                f"the answer does not tell of {', '.join(missing)}",
                "Check that the endpoint is SendGrid's API.",
            )
        return {kind: found[kind] for kind in TRACKING}

    def set_tracking(self, kind: str, enabled: bool) -> None:
        self.request(
            "PATCH",
            f"/v3/tracking_settings/{kind}",
            body={"enabled": enabled},
            scopes=f"tracking_settings.{kind}.update",
        )

    def domains(self, domain: str) -> list[dict[str, Any]]:
        """The authenticated domains of exactly this name, oldest first."""
        path = "/v3/whitelabel/domains"
        found: list[dict[str, Any]] = []
        while True:
            _status, page = self.request(
                "GET",
                path,
                query={"domain": domain, "limit": PAGE_SIZE, "offset": len(found)},
                scopes="whitelabel.read",
            )
            if not isinstance(page, list):
                raise ApiError(
                    f"GET {self.endpoint}{path}",
                    "the answer is no list",
                    "Check that the endpoint is SendGrid's API.",
                )
            found += page
            if len(page) < PAGE_SIZE:
                break
        return sorted((item for item in found if item.get("domain") == domain), key=lambda item: item["id"])

    def create_domain(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises UnclearError when it may or may not have been created."""
        _status, answer = self.request(
            "POST", "/v3/whitelabel/domains", body=body, creates=True, scopes="whitelabel.create"
        )
        return dict(answer)

    def update_domain(self, domain_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        path = f"/v3/whitelabel/domains/{domain_id}"
        _status, answer = self.request("PATCH", path, body=body, scopes="whitelabel.update")
        # A list of one in the document, the domain itself in older texts.
        for item in answer if isinstance(answer, list) else [answer]:
            if isinstance(item, dict) and item.get("id") == domain_id:
                return item
        raise ApiError(
            f"PATCH {self.endpoint}{path}",
            f"the answer does not tell of domain {domain_id}",
            "Check that the endpoint is SendGrid's API.",
        )

    def validate_domain(self, domain_id: int) -> dict[str, Any]:
        """SendGrid's look at the DNS: `{valid, validation_results}`; `{}` when it could not look (500)."""
        status, answer = self.request(
            "POST",
            f"/v3/whitelabel/domains/{domain_id}/validate",
            scopes="whitelabel.update",
            also=(500,),
        )
        return dict(answer) if status != 500 and isinstance(answer, dict) else {}

    def _asked(self, headers: Mapping[str, str]) -> float | None:
        """Retry-After, or what is left until X-RateLimit-Reset when no request remains."""
        asked = super()._asked(headers)
        if asked is None and headers.get("x-ratelimit-remaining") == "0":
            try:
                return max(0.0, float(headers["x-ratelimit-reset"]) - time.time())
            except (KeyError, ValueError):
                return None
        return asked

    def _error(self, body: Any) -> tuple[str | int | None, str]:
        errors = body.get("errors") if isinstance(body, dict) else None
        if not errors:
            return None, ""
        texts = [
            f"{error.get('message')} (field {error['field']})"
            if error.get("field")
            else str(error.get("message"))
            for error in errors
        ]
        return None, "; ".join(texts)


def arguments() -> dict[str, Any]:
    """Argument spec of the modules that use this client."""
    return {
        **client_arguments("api_key", ["SENDGRID_API_KEY"], "SENDGRID", None),
        "region": {"type": "str", "choices": sorted(ENDPOINTS), "default": "global"},
        "subuser": {"type": "str"},
    }


def client(module: Any) -> SendGrid:
    return SendGrid(
        module.params["api_key"],
        region=module.params["region"],
        endpoint=module.params["endpoint"],
        subuser=module.params["subuser"],
        **client_settings(module),
    )

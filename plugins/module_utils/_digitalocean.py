# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: the one client of DigitalOcean's API, on pydo.

pydo is imported when a client is made, not with this file: it costs 0.2 s and 45 MiB, which an inventory
that is served from its cache should not pay. Its own retries are switched off: they repeat POST after 5xx (a
droplet would be created twice) and sleep for any Retry-After, however long.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ._api import (
    ApiError,
    Retry,
    UnclearError,
    excerpt,
    hide,
    retry_after,
)
from ._module import client_arguments, client_settings
from ._version import USER_AGENT

ENDPOINT = "https://api.digitalocean.com"
PAGE_SIZE = 200
"""The most that the API gives a page."""

PAGE_THREADS = 6
"""Pages fetched at once. The limit of 250 requests a minute allows 50,000 droplets; more have to wait."""

_REPEATABLE = frozenset({408, 429, 500, 502, 503, 504})
_NOT_DONE = frozenset({429})
"""Statuses after which a call that creates something may be repeated: it was refused unseen."""


class DigitalOcean:
    """DigitalOcean's API with one token.

    `endpoint` is an https URL without a path; `ca_file` a PEM file to verify it with in place of the usual
    authorities (it wins over REQUESTS_CA_BUNDLE); `timeout` in seconds is for connecting and for each read.
    Raises ApiError for settings that cannot work and, from every method, for a call that failed for good;
    ImportError without pydo.
    """

    def __init__(
        self,
        token: str,
        *,
        endpoint: str = ENDPOINT,
        ca_file: str | None = None,
        timeout: float = 30.0,
        retry: Retry | None = None,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token
        self._retry = retry or Retry()
        self._resume = 0.0
        self._lock = threading.Lock()
        if not token:
            raise ApiError(
                self.endpoint,
                "no API token is set",
                "Set api_token, or DIGITALOCEAN_TOKEN in the environment.",
            )
        if not self.endpoint.startswith("https://"):
            raise ApiError(
                self.endpoint,
                "the endpoint is not an https:// URL",
                "A token is never sent in clear: give an https:// endpoint, and its authority as ca_file.",
            )
        if ca_file and not Path(ca_file).is_file():
            raise ApiError(
                self.endpoint, f"there is no file {ca_file}", "Set ca_file to a PEM file of authorities."
            )
        from azure.core import exceptions  # noqa: PLC0415  (see the module's docstring)
        from pydo import Client  # noqa: PLC0415

        self._errors = exceptions
        self.api: Any = Client(
            token,
            endpoint=self.endpoint,
            user_agent=USER_AGENT,
            retry_total=0,
            connection_timeout=timeout,
            read_timeout=timeout,
            connection_verify=ca_file or True,
        )

    def call(
        self,
        call: str,
        function: Callable[..., Any],
        *args: Any,
        scopes: str,
        creates: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Calls a method of `api` until it succeeds or cannot.

        `call` names it in errors (`GET /v2/droplets`); `scopes` are the token scopes it needs, also for
        errors; `creates` says that a second call would do the thing twice, so that it is repeated only after
        an answer that proves it was not done (UnclearError: look, then decide). Returns the answer's JSON
        object.
        """
        call = self._named(call)
        attempt = 0
        while True:
            attempt += 1
            self._wait()
            try:
                answer = function(*args, **kwargs)
            except self._errors.HttpResponseError as error:
                pause = self._judge_answer(call, error, attempt, scopes, creates)
            except (self._errors.AzureError, OSError) as error:
                pause = self._judge_silence(call, error, attempt, creates)
            except ValueError as error:
                pause = self._judge_broken(call, error, attempt, creates)
            else:
                # pydo lets a 404 through as if it were the answer.
                if isinstance(answer, dict) and answer.get("id") == "not_found" and "message" in answer:
                    raise ApiError(
                        call,
                        f"404 {answer['message']}",
                        "It may have been deleted: check its id or name.",
                        status=404,
                        code="not_found",
                    )
                return answer if isinstance(answer, dict) else {}
            self._rest(pause)

    def pages(
        self, call: str, function: Callable[..., Any], key: str, *, scopes: str, **filters: Any
    ) -> list[dict[str, Any]]:
        """All items of a paged list, `key` naming them in each answer; `ceil(N / 200)` calls.

        The first page tells how many there are; the others are fetched at once. When the list changed
        meanwhile, so that items moved between pages, it is read again (twice at most).
        """
        items: dict[Any, dict[str, Any]] = {}
        for _unused in range(3):
            items = {}
            totals = set()
            for answer in self._all_pages(call, function, scopes=scopes, **filters):
                if not isinstance(answer.get(key), list):
                    raise ApiError(
                        self._named(call),
                        f"the answer has no list {key!r}",
                        "Check that endpoint is DigitalOcean's API.",
                    )
                totals.add(_total(answer, len(answer[key])))
                items.update((item["id"], item) for item in answer[key])
            if totals == {len(items)}:
                break
        return list(items.values())

    def _named(self, call: str) -> str:
        method, path = call.split(" ")
        return f"{method} {self.endpoint}{path}"

    def _all_pages(
        self, call: str, function: Callable[..., Any], *, scopes: str, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        def page(number: int) -> dict[str, Any]:
            return self.call(call, function, scopes=scopes, per_page=PAGE_SIZE, page=number, **filters)

        first = page(1)
        yield first
        last = -(-_total(first, 0) // PAGE_SIZE)
        if last < 2:
            return
        with ThreadPoolExecutor(max_workers=min(PAGE_THREADS, last - 1)) as pool:
            try:
                yield from pool.map(page, range(2, last + 1))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _judge_answer(self, call: str, error: Any, attempt: int, scopes: str, creates: bool) -> float:
        """The pause before the next try after an error answer; raises ApiError when there is no next."""
        status = error.status_code
        if status is None or status < 400:
            return self._judge_broken(call, error, attempt, creates)
        asked = retry_after(error.response.headers)
        pause = self._retry.pause(attempt, asked)
        if pause is not None and status in (_NOT_DONE if creates else _REPEATABLE):
            return pause
        code, message = _error_body(error.response)
        if status == 401:
            advice = "Set a valid token in api_token or DIGITALOCEAN_TOKEN."
        elif status == 403:
            advice = f"The token lacks a scope: this call needs {scopes}."
        elif status == 429:
            when = f"in {asked:.0f} s" if asked else "later (5,000 requests an hour, 250 a minute)"
            advice = f"The rate limit is used up: run again {when}."
        elif status >= 500:
            advice = "The API has a problem: see status.digitalocean.com, then run again."
        else:
            advice = "Change what was asked for, then run again."
        raise (UnclearError if creates and status >= 500 else ApiError)(
            call, hide(f"{status} {message}", self._token), advice, status=status, code=code
        ) from error

    def _judge_broken(self, call: str, error: Exception, attempt: int, creates: bool) -> float:
        """The same after an answer that broke off or is no JSON."""
        if not creates and (pause := self._retry.pause(attempt)) is not None:
            return pause
        raise (UnclearError if creates else ApiError)(
            call,
            f"the answer broke off or is no JSON ({hide(excerpt(str(error)), self._token)})",
            "Check the endpoint, the network and proxies, then run again.",
        ) from error

    def _judge_silence(self, call: str, error: Exception, attempt: int, creates: bool) -> float:
        """The same after no answer: no connection, no trust, a time-out, a reset."""
        text = hide(excerpt(str(error)), self._token)
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            raise ApiError(
                call,
                f"the server's certificate is not trusted ({text})",
                "Set ca_file to the authority that signed it.",
            ) from error
        sent = not isinstance(error, self._errors.ServiceRequestError)
        if not (creates and sent) and (pause := self._retry.pause(attempt)) is not None:
            return pause
        raise (UnclearError if creates and sent else ApiError)(
            call, f"no answer ({text})", "Check the network, proxy and endpoint, then run again."
        ) from error

    def _wait(self) -> None:
        """Holds every thread while one of them was told to pause: they share the token's rate limit."""
        with self._lock:
            pause = self._resume - time.monotonic()
        if pause > 0:
            time.sleep(pause)

    def _rest(self, pause: float) -> None:
        with self._lock:
            self._resume = max(self._resume, time.monotonic() + pause)


def _total(answer: dict[str, Any], default: int) -> int:
    meta = answer.get("meta")
    total = meta.get("total") if isinstance(meta, dict) else None
    return total if isinstance(total, int) else default


def _error_body(response: Any) -> tuple[str | None, str]:
    """Code and message of an error answer (`{id, message}`; NFS: `{code, message}`), or its first text."""
    text = str(response.text())
    try:
        body = json.loads(text)
        return body.get("id") or body.get("code"), body["message"]
    except (ValueError, KeyError, AttributeError):
        return None, excerpt(text) or str(response.reason)


def arguments() -> dict[str, Any]:
    """Argument spec of the modules that use this client."""
    variables = ["DIGITALOCEAN_TOKEN", "DIGITALOCEAN_ACCESS_TOKEN", "DO_API_TOKEN", "DO_API_KEY"]
    return client_arguments("api_token", variables, "DIGITALOCEAN", ENDPOINT)


def client(module: Any, retry: Retry | None = None) -> DigitalOcean:
    """The client that a module's arguments describe. Fails the module without pydo."""
    try:
        return DigitalOcean(
            module.params["api_token"],
            endpoint=module.params["endpoint"],
            retry=retry,
            **client_settings(module),
        )
    except ImportError as error:
        module.fail_json(
            msg=f"The Python that runs this module cannot import pydo ({error}). The module belongs on the "
            "controller: use `hosts: localhost` or `delegate_to: localhost`, and run "
            "`pip install 'pydo>=0.44,<0.45'`."
        )
        raise

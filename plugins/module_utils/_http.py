# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: JSON over HTTP for the clients of Cloudflare and SendGrid.

On http.client, with one kept-alive connection: ansible.module_utils.urls costs 50 ms more to import and a TLS
handshake for every request. Certificates are verified by OpenSSL's own authorities or by `ca_file`; the usual
proxy variables are honoured.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from ._api import ApiError, Retry, UnclearError, excerpt, hide, retry_after
from ._version import USER_AGENT

_REPEATABLE = frozenset({408, 429, 500, 502, 503, 504})


class NotSentError(Exception):
    """No connection was had, so that nothing can have been done."""


class NoAnswerError(Exception):
    """The request may have been sent and carried out, but no whole answer came back."""


class Answer(NamedTuple):
    status: int
    parsed: Any
    """The JSON body; None: it is none."""
    content: bytes


class Connection:
    """One connection to `endpoint`, opened when needed and kept.

    `exchange` sends one request and returns status, headers and body. Raises NotSentError, NoAnswerError.
    """

    def __init__(self, endpoint: str, *, ca_file: str | None, timeout: float) -> None:
        self._url = urlsplit(endpoint)
        self._timeout = timeout
        self._ca_file = ca_file
        self._http: http.client.HTTPConnection | None = None

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, Mapping[str, str], bytes]:
        connection = self._open()
        try:
            connection.request(method, self._url.path.rstrip("/") + target, body=body, headers=dict(headers))
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoAnswerError(f"{type(error).__name__}: {error}") from error
        if response.will_close:
            self.close()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, content

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
            self._http = None

    def _open(self) -> http.client.HTTPConnection:
        if self._http is not None:
            return self._http
        host, port = self._url.hostname or "", self._url.port
        try:
            if self._url.scheme == "https":
                context = ssl.create_default_context(cafile=self._ca_file)
                proxy = _proxy(host)
                if proxy is None:
                    made = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
                else:
                    made = http.client.HTTPSConnection(
                        proxy.hostname or "", proxy.port or 3128, timeout=self._timeout, context=context
                    )
                    made.set_tunnel(host, port or 443, _proxy_headers(proxy))
                connection: http.client.HTTPConnection = made
            else:
                connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
            connection.connect()
        except OSError as error:
            raise NotSentError(str(error) or type(error).__name__) from error
        self._http = connection
        return connection


def _proxy(host: str) -> Any:
    """The proxy for https to `host` that the environment names, split; None: go straight."""
    if not any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415  (25 ms that few need)

    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return None
    return urlsplit(proxy if "//" in proxy else f"http://{proxy}")


def _proxy_headers(proxy: Any) -> dict[str, str]:
    if proxy.username is None:
        return {}
    from base64 import b64encode  # noqa: PLC0415
    from urllib.parse import unquote  # noqa: PLC0415

    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


class JsonApi:
    """An API that speaks JSON and takes a bearer token. The clients subclass it.

    `option` and `variable` name where the token comes from, for advice; `token` None is for calls that need
    none. Every method raises ApiError for a call that failed for good.
    """

    def __init__(
        self,
        token: str | None,
        *,
        endpoint: str,
        option: str,
        variable: str,
        ca_file: str | None = None,
        timeout: float = 30.0,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._token = token or ""
        self._token_advice = f"Set a valid token in {option} or {variable}."
        self._retry = retry or Retry()
        url = urlsplit(self.endpoint)
        if token == "":
            raise ApiError(
                self.endpoint, "no API token is set", f"Set {option}, or {variable} in the environment."
            )
        if url.scheme != "https" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ApiError(
                self.endpoint,
                "the endpoint is not an https:// URL",
                "A token is never sent over a network in clear, nor an answer believed: give an https:// "
                "endpoint.",
            )
        if ca_file and not Path(ca_file).is_file():
            raise ApiError(
                self.endpoint, f"there is no file {ca_file}", "Set ca_file to a PEM file of authorities."
            )
        self._headers = {
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
            **({"Authorization": f"Bearer {token}"} if token else {}),
            **(headers or {}),
        }
        self._connection = Connection(self.endpoint, ca_file=ca_file, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        creates: bool = False,
        scopes: str = "",
        expected: tuple[int, ...] = (200, 201),
        also: tuple[int, ...] = (),
    ) -> tuple[int, Any]:
        """One call, repeated while that can help. Returns status and the JSON body.

        `creates` says that doing it twice is not the same as once: then it is repeated only where nothing
        can have been done, and UnclearError tells the other case. `scopes` names the permission for errors.
        A status of `also` is returned instead of raised.
        """
        call = f"{method} {self.endpoint}{path}"
        target = f"{path}?{urlencode(query)}" if query else path
        headers = dict(self._headers)
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        attempt = 0
        while True:
            attempt += 1
            asked = None
            try:
                status, answered, content = self._connection.exchange(method, target, headers, data)
            except NotSentError as error:
                failure = self._silence(call, str(error))
                again = "certificate" not in failure.problem
            except NoAnswerError as error:
                failure = self._silence(call, str(error))
                if creates:
                    failure = UnclearError.of(failure)
                again = not creates
            else:
                asked = self._asked(answered)
                parsed = _json(content)
                if status in expected and parsed is not None:
                    return status, parsed
                if status in also:
                    return status, parsed
                failure = self._failure(call, Answer(status, parsed, content), scopes, asked)
                again = status == 429 or (not creates and (status in _REPEATABLE or status in expected))
                if creates and (status >= 500 or status < 400):
                    failure = UnclearError.of(failure)
            pause = self._retry.pause(attempt, asked) if again else None
            if pause is None:
                raise failure
            time.sleep(pause)

    def rest(self, attempt: int) -> None:
        """Waits before a caller tries again after an UnclearError, the `attempt`th (from 1)."""
        time.sleep(self._retry.pause(attempt) or self._retry.cap)

    def _asked(self, headers: Mapping[str, str]) -> float | None:
        """Seconds that the answer asks to wait."""
        return retry_after(headers)

    def _error(self, body: Any) -> tuple[str | int | None, str]:
        """Code and message of a parsed error body; `""`: it has none. Each API's own."""
        raise NotImplementedError

    def _advice(self, _code: str | int | None, _scopes: str) -> str:
        """What to do about an error code that needs more than the status says."""
        return ""

    def _silence(self, call: str, problem: str) -> ApiError:
        problem = hide(excerpt(problem), self._token)
        if "CERTIFICATE_VERIFY_FAILED" in problem:
            return ApiError(
                call,
                f"the server's certificate is not trusted ({problem})",
                "Set ca_file to the authority that signed it.",
            )
        return ApiError(
            call, f"no answer ({problem})", "Check the network, proxy and endpoint, then run again."
        )

    def _failure(self, call: str, answer: Answer, scopes: str, asked: float | None) -> ApiError:
        code, message = (None, "") if answer.parsed is None else self._error(answer.parsed)
        status = answer.status
        if not message:
            kind = "no JSON" if answer.parsed is None else "JSON without a reason"
            message = f"an answer that is {kind} ({excerpt(answer.content.decode(errors='replace'))})"
        if status < 400 or (status in (401, 403) and not self._token):
            advice = "Check that the endpoint is the API and that no proxy answers in its place."
        elif status == 401:
            advice = self._token_advice
        elif status == 403:
            advice = f"The token lacks a permission: this call needs {scopes}."
        elif status == 429:
            advice = f"The rate limit is used up: run again {f'in {asked:.0f} s' if asked else 'later'}."
        elif status >= 500:
            advice = "The API has a problem: run again later."
        else:
            advice = "Change what was asked for, then run again."
        return ApiError(
            call,
            hide(f"{status} {message}", self._token),
            self._advice(code, scopes) or advice,
            status=status,
            code=code,
        )


def _json(content: bytes) -> Any:
    """The parsed body, or None if it is none (no API here answers a bare `null`)."""
    try:
        return json.loads(content)
    except ValueError:
        return None

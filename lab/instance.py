"""A client of the running instance: what a visitor, another program and a WebSocket client would do.

Goes through the load balancer's address with the lab's CA verified; names are not resolved by this machine.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import ClientConnection, connect

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
"""A PNG picture of one pixel."""
REDIRECT_URI = "urn:ietf:wg:oauth:2.0:oob"
"""The code is shown to the user, not handed to another site."""
SCOPES = "read write"

_PROCESSING, _PARTIAL = 202, 206
_MEDIA_SECONDS = 60
_ONLY_WHEN_CHOSEN = {"checkbox", "radio", "submit", "button"}
"""Inputs that a browser does not send by itself."""

_T = TypeVar("_T")


class Refused(Exception):
    """The instance did not let an account in, or its application, or a reader of a stream: one sentence."""


@dataclass(frozen=True)
class Application:
    """A program that is registered with the instance. Mastodon lets an address register 5 in 10 minutes: keep
    it where there are several logins."""

    client_id: str
    client_secret: str


class Instance:
    """`domain` is the instance's, `address` the load balancer's (IPv4), `ca` the PEM file that signed it all.
    `application`: the one to log in with; a new one is registered where there is none.

    Errors are httpx's: a status that was not expected raises `httpx.HTTPStatusError`.
    """

    def __init__(self, domain: str, address: str, ca: Path, application: Application | None = None) -> None:
        self.domain = domain
        self.address = address
        self.application = application
        self.tls = ssl.create_default_context(cafile=str(ca))
        self._http = self._client()

    def __enter__(self) -> Instance:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def _client(self) -> httpx.Client:
        """With cookies of its own."""
        return httpx.Client(
            base_url=f"https://{self.address}",
            headers={"Host": self.domain},
            verify=self.tls,
            timeout=15,
            trust_env=False,
        )

    def _send(self, client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
        return client.request(method, path, extensions={"sni_hostname": self.domain}, **arguments)

    def request(
        self, method: str, path: str, *, token: str | None = None, **arguments: Any
    ) -> httpx.Response:
        """One request; any status is returned."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._send(self._http, method, path, headers=headers, **arguments)

    def _json(self, method: str, path: str, *, token: str | None = None, **arguments: Any) -> Any:
        return self.request(method, path, token=token, **arguments).raise_for_status().json()

    def version(self) -> str:
        """The version the instance reports of itself (`4.7.0`)."""
        return str(self._json("GET", "/api/v2/instance")["version"])

    # -- logging in -------------------------------------------------------------------------------------

    def log_in(self, email: str, password: str) -> str:
        """Signs in by the web form, allows the application to act for the account, returns its access token.

        Raises Refused where the form is shown again, or the application is not known.
        """
        if self.application is None:
            registered = self._json(
                "POST",
                "/api/v1/apps",
                json={"client_name": "lab", "redirect_uris": REDIRECT_URI, "scopes": SCOPES},
            )
            self.application = Application(registered["client_id"], registered["client_secret"])
        with self._client() as browser:
            self._sign_in(browser, email, password)
            code = self._authorize(browser, self.application)
        grant = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": self.application.client_id,
            "client_secret": self.application.client_secret,
            "redirect_uri": REDIRECT_URI,
        }
        return str(self._json("POST", "/oauth/token", data=grant)["access_token"])

    def _sign_in(self, browser: httpx.Client, email: str, password: str) -> None:
        page = self._send(browser, "GET", "/auth/sign_in").raise_for_status()
        form = _form(page, "user[password]")
        fields = form.fields | {"user[email]": email, "user[password]": password}
        answer = self._send(browser, "POST", form.action, data=fields)
        if answer.status_code == 200:  # the form again
            raise Refused(f"the web form does not let {email} in")
        _location(answer)

    def _authorize(self, browser: httpx.Client, application: Application) -> str:
        """The code that is worth a token. Who allowed the application before is not asked again."""
        question = {
            "response_type": "code",
            "client_id": application.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": SCOPES,
        }
        answer = self._send(browser, "GET", "/oauth/authorize", params=question)
        if answer.status_code == 401:
            raise Refused("the application is not known")
        if not answer.is_redirect:
            form = _form(answer.raise_for_status(), "client_id")
            answer = self._send(browser, "POST", form.action, data=form.fields)
        code = _location(answer).params.get("code")
        if not code:
            raise Refused(f"no code, but a redirect to {_location(answer).path}")
        return str(code)

    # -- using it ---------------------------------------------------------------------------------------

    def upload(self, token: str, name: str, content: bytes, kind: str = "image/png") -> dict[str, Any]:
        """Uploads a picture, waits until it is processed; returns Mastodon's media attachment (`id`, ...)."""
        answer = self.request("POST", "/api/v2/media", token=token, files={"file": (name, content, kind)})
        end = time.monotonic() + _MEDIA_SECONDS
        while answer.raise_for_status().status_code in {_PROCESSING, _PARTIAL}:
            if time.monotonic() > end:
                raise TimeoutError(f"{name} is not processed after {_MEDIA_SECONDS} s")
            time.sleep(1)
            answer = self.request("GET", f"/api/v1/media/{answer.json()['id']}", token=token)
        media: dict[str, Any] = answer.json()
        return media

    def post(self, token: str, text: str, media_ids: list[str] | None = None) -> dict[str, Any]:
        """Posts a public status; returns Mastodon's status."""
        status: dict[str, Any] = self._json(
            "POST",
            "/api/v1/statuses",
            token=token,
            json={"status": text, "visibility": "public", "media_ids": media_ids or []},
        )
        return status

    def public_timeline(self, token: str) -> list[dict[str, Any]]:
        """An instance may show it to users only, as forks do by default."""
        timeline: list[dict[str, Any]] = self._json("GET", "/api/v1/timelines/public", token=token)
        return timeline

    @contextmanager
    def stream(self, token: str, name: str = "public") -> Iterator[Stream]:
        """A WebSocket on the streaming server; `streamed` waits for a status on it."""
        opened = Stream(websocket(self.domain, self.address, self.tls, token, name))
        try:
            yield opened
        finally:
            opened.close()


def websocket(domain: str, address: str, tls: ssl.SSLContext, token: str, name: str = "public") -> connect:
    """A connection to the streaming server, to be awaited. It takes what comes while nobody reads, since one
    that is full no longer answers the server's pings."""
    return connect(
        f"wss://{domain}/api/v1/streaming?stream={name}&access_token={token}",
        host=address,
        port=443,
        ssl=tls,
        open_timeout=15,
        close_timeout=5,
        max_queue=None,
        proxy=None,
    )


class Stream:
    """An open WebSocket. A thread of its own answers the server's pings while nobody reads."""

    def __init__(self, opening: connect) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

        async def opened() -> ClientConnection:
            return await opening

        try:
            self._websocket = self._do(opened())
        except BaseException:
            self._end()
            raise

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def receive(self, timeout: float) -> str | bytes:
        """The next message. TimeoutError after `timeout` seconds without one."""
        return self._do(asyncio.wait_for(self._websocket.recv(), timeout))

    def close(self) -> None:
        try:
            self._do(self._websocket.close())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def streamed(stream: Stream, status_id: str, timeout: float = 15) -> dict[str, Any]:
    """The status, as soon as the stream brings it. TimeoutError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        status = update(stream.receive(end - time.monotonic()))
        if status and status["id"] == status_id:
            return status


def update(message: str | bytes) -> dict[str, Any] | None:
    """The new status that a message of a stream brings, JSON within JSON; None where it brings another event.

    Raises Refused where it says that the stream brings nothing.
    """
    said = json.loads(message)
    if "error" in said:
        raise Refused(f"the stream: {said['error']}")
    return dict(json.loads(said["payload"])) if said.get("event") == "update" else None


@dataclass(frozen=True)
class Form:
    """An HTML form: where it goes, and what a browser would send where nobody fills anything in."""

    action: str
    fields: dict[str, str]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        name = attributes.get("name")
        if tag == "form":
            self._inside = True
            self.found.append(Form(attributes.get("action") or "", {}))
        elif tag == "input" and self._inside and name and attributes.get("type") not in _ONLY_WHEN_CHOSEN:
            self.found[-1].fields[name] = attributes.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


def forms(page: str) -> list[Form]:
    """The forms of an HTML page, in their order."""
    parser = _Forms()
    parser.feed(page)
    return parser.found


def _form(page: httpx.Response, field: str) -> Form:
    """The page's form that has `field` and is sent by POST; Rails writes other methods into `_method`."""
    for form in forms(page.text):
        if field in form.fields and "_method" not in form.fields:
            return form
    raise Refused(f"{page.request.url.path} shows no form with {field}")


def _location(answer: httpx.Response) -> httpx.URL:
    """Where a redirect leads; any other answer raises."""
    if not answer.is_redirect:
        answer.raise_for_status()
        raise Refused(f"{answer.request.url.path} answers {answer.status_code} instead of a redirect")
    return httpx.URL(answer.headers["location"])

"""A client of the running instance: what a visitor, another program and a WebSocket client would do.

Goes through the load balancer's address with the lab's CA verified; names are not resolved by this machine.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from websockets.sync.client import connect
from websockets.sync.connection import Connection

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
"""A PNG picture of one pixel."""
REDIRECT_URI = "urn:ietf:wg:oauth:2.0:oob"
SCOPES = "read write"


class Instance:
    """`domain` is the instance's, `address` the load balancer's (IPv4), `ca` the PEM file that signed it all.

    Errors are httpx's: a status that was not expected raises `httpx.HTTPStatusError`.
    """

    def __init__(self, domain: str, address: str, ca: Path) -> None:
        self.domain = domain
        self.address = address
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._http = httpx.Client(
            base_url=f"https://{address}",
            headers={"Host": domain},
            verify=self._tls,
            timeout=15,
        )

    def __enter__(self) -> Instance:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def request(
        self, method: str, path: str, *, token: str | None = None, **arguments: Any
    ) -> httpx.Response:
        """One request; any status is returned."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._http.request(
            method, path, headers=headers, extensions={"sni_hostname": self.domain}, **arguments
        )

    def _json(self, method: str, path: str, *, token: str | None = None, **arguments: Any) -> Any:
        return self.request(method, path, token=token, **arguments).raise_for_status().json()

    def version(self) -> str:
        """The version the instance reports of itself (`4.7.0`)."""
        return str(self._json("GET", "/api/v2/instance")["version"])

    def log_in(self, email: str, password: str) -> str:
        """Registers an application and returns an access token for the account."""
        application = self._json(
            "POST",
            "/api/v1/apps",
            json={"client_name": "lab", "redirect_uris": REDIRECT_URI, "scopes": SCOPES},
        )
        grant = {
            "grant_type": "password",
            "username": email,
            "password": password,
            "client_id": application["client_id"],
            "client_secret": application["client_secret"],
            "scope": SCOPES,
        }
        return str(self._json("POST", "/oauth/token", json=grant)["access_token"])

    def upload(self, token: str, name: str, content: bytes, kind: str = "image/png") -> dict[str, Any]:
        """Uploads a picture; returns Mastodon's media attachment (`id`, `url`, ...)."""
        media: dict[str, Any] = self._json(
            "POST", "/api/v2/media", token=token, files={"file": (name, content, kind)}
        )
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

    def public_timeline(self) -> list[dict[str, Any]]:
        timeline: list[dict[str, Any]] = self._json("GET", "/api/v1/timelines/public")
        return timeline

    @contextlib.contextmanager
    def stream(self, token: str, name: str = "public") -> Iterator[Connection]:
        """A WebSocket on the streaming server; messages are read with `next_event`."""
        connection = socket.create_connection((self.address, 443), timeout=15)
        with connect(
            f"wss://{self.domain}/api/v1/streaming?stream={name}&access_token={token}",
            sock=connection,
            ssl=self._tls,
            server_hostname=self.domain,
            proxy=None,
        ) as websocket:
            yield websocket


def next_event(websocket: Connection, event: str, timeout: float = 15) -> dict[str, Any]:
    """The payload of the next `event` on a stream. TimeoutError after `timeout` seconds without one."""
    while True:
        message = json.loads(websocket.recv(timeout=timeout))
        if message.get("event") == event:
            payload = message["payload"]
            return dict(json.loads(payload) if isinstance(payload, str) else payload)

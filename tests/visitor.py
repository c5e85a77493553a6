"""A visitor of one worker, as the load balancer hands them on: TCP with PROXY protocol."""

from __future__ import annotations

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

LIAR = "192.0.2.66"
"""An address that nobody has: wherever it is told, a lie was believed."""


def lies(host: str) -> dict[str, str]:
    """What a visitor of `host` may claim in headers that proxies set, each with a value that would count."""
    addresses = (
        *("X-Forwarded-For", "X-Real-IP", "Client-Ip", "CF-Connecting-IP", "Fastly-Client-Ip"),
        *("True-Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Forwarded"),
        "X-Forwarded-By",
    )
    names = ("X-Forwarded-Host", "X-Forwarded-Server", "X-Host", "X-Original-Host")
    schemes = ("X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Scheme", "X-Url-Scheme")
    paths = ("X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Prefix", "X-Script-Name")
    methods = ("X-Http-Method-Override", "X-Http-Method", "X-Method-Override")
    return {
        "Forwarded": f"for={LIAR};proto=http;host={host}:1234",
        "X-Forwarded-Port": "1234",
        "X-Forwarded-Ssl": "off",
        "Front-End-Https": "off",
        "CF-Visitor": '{"scheme":"http"}',
        "X-Sendfile-Type": "X-Accel-Redirect",
        "X-Accel-Mapping": "/opt/mastodon/=/",
        "X-Request-Id": "liar",
        "X-Origin": "https://liar.example",
        "Proxy": f"http://{LIAR}:3128",
        "Max-Forwards": "0",
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
        "tracestate": "liar=1",
        "baggage": "liar=1",
        "X-Amzn-Trace-Id": "Root=liar",
        "X-Request-Start": "t=1",
        "X-Queue-Start": "t=1",
        **dict.fromkeys(addresses, LIAR),
        **dict.fromkeys(names, f"{host}:1234"),
        **dict.fromkeys(schemes, "http"),
        **dict.fromkeys(paths, "/liar"),
        **dict.fromkeys(methods, "DELETE"),
    }


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header that must not be there twice."""
        values = self.headers.get_all(name) or []
        assert len(values) < 2, f"{name}: {values}"
        return values[0] if values else None


class _Connection(http.client.HTTPConnection):
    def __init__(self, opened: socket.socket, timeout: float) -> None:
        super().__init__("unused", timeout=timeout)
        self.sock = opened


@dataclass
class Visitor:
    """`address`: the worker's; `host`: the name that is asked for; `client`: the address that PROXY protocol
    says. `ca`: file with the authority that signed the instance's certificate."""

    address: str
    host: str
    ca: str
    client: str = "192.0.2.77"
    timeout: float = 15
    protocols: list[str] = field(default_factory=lambda: ["http/1.1"])

    def open(
        self, port: int = 443, *, tls: bool = True, server_name: str | None = None, **limits: Any
    ) -> socket.socket:
        """A connection. `minimum` and `maximum` limit the TLS version; `ciphers` as OpenSSL has them."""
        raw = socket.create_connection((self.address, port), self.timeout)
        raw.sendall(f"PROXY TCP4 {self.client} 198.51.100.1 40000 {port}\r\n".encode())
        if not tls:
            return raw
        context = ssl.create_default_context(cafile=self.ca)
        context.set_alpn_protocols(self.protocols)
        if "ciphers" in limits:
            context.set_ciphers(limits["ciphers"])
        context.minimum_version = limits.get("minimum", context.minimum_version)
        context.maximum_version = limits.get("maximum", context.maximum_version)
        return context.wrap_socket(raw, server_hostname=server_name or self.host)

    def connect(self, port: int = 443, *, tls: bool = True) -> http.client.HTTPConnection:
        """A connection for several requests."""
        return _Connection(self.open(port, tls=tls), self.timeout)

    def get(
        self, path: str, *, port: int = 443, tls: bool = True, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = self.connect(port, tls=tls)
        try:
            return ask(connection, path, self.host, headers)
        finally:
            connection.close()


def ask(
    connection: http.client.HTTPConnection, path: str, host: str, headers: dict[str, str] | None = None
) -> Answer:
    connection.request("GET", path, headers={"Host": host, **(headers or {})})
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def health(address: str) -> tuple[int, str]:
    """What the load balancer sees: status and Cache-Control."""
    try:
        with urllib.request.urlopen(f"http://{address}:8080/health", timeout=10) as answer:
            return answer.status, answer.headers["Cache-Control"]
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Cache-Control"]

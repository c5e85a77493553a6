"""An application behind nginx that answers every path and says what it was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PROGRAM = """
import http.server, json, sys
heard = {}
class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/heard":
            body = json.dumps(heard).encode()
        else:
            if "X-Mark" in self.headers:
                heard[self.headers["X-Mark"] + self.path.partition("?")[0]] = self.headers.items()
            body = json.dumps(self.headers.items()).encode()
        self.send_response(int(self.headers.get("X-Answer-Status", "200")))
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", self.headers.get("X-Answer-Type", "application/octet-stream"))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("X-Asked", self.path)
        if lifetime := self.headers.get("X-Answer-Cache-Control", "public, max-age=5"):
            self.send_header("Cache-Control", lifetime)
        if "X-Answer-Cookie" in self.headers:
            self.send_header("Set-Cookie", self.headers["X-Answer-Cookie"])
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.send_header("Content-Security-Policy", "default-src *")
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Application).serve_forever()
"""


@contextmanager
def application(host: Any, port: int) -> Iterator[str]:
    """Runs on `host` (testinfra) at 127.0.0.1:`port`; yields the name of its systemd unit.

    Its answers carry headers of their own for caches and browsers. X-Answer-Status, -Type, -Cache-Control and
    -Cookie in the question say what is answered (no Cache-Control where it is empty); X-Asked in the answer
    is the path. /heard tells what `heard` reads.
    """
    unit = f"test-application-{port}"
    started = host.run("systemd-run --unit=%s --collect python3 -c %s %s", unit, _PROGRAM, str(port))
    assert started.rc == 0, started.stderr
    try:
        until_it_listens(host, port)
        yield unit
    finally:
        host.run("systemctl stop %s", unit)


def heard(host: Any, port: int, path: str, mark: str) -> dict[str, str]:
    """The headers with which the application at `port` was asked for `path`, whoever got its answer. X-Mark
    (`mark`) in the question tells it from others'."""
    asked = host.run("curl --silent --fail http://127.0.0.1:%s/heard", str(port))
    assert asked.rc == 0, asked.stderr
    headers = told(json.dumps(json.loads(asked.stdout)[mark + path]))
    del headers["X-Mark"]
    return headers


def until_it_listens(host: Any, *ports: int) -> None:
    """Until somebody listens on each of the TCP ports of `host`."""
    waits = "; ".join(f"until ss -Hltn | grep -q ':{port} '; do sleep 0.1; done" for port in ports)
    waited = host.run("timeout 30 sh -c %s", waits)
    assert waited.rc == 0, f"not all of {ports} have a listener: {host.run('ss -Hltn').stdout}"


def told(body: bytes | str) -> dict[str, str]:
    """The headers that the application got, by name; none may be there twice."""
    pairs: list[tuple[str, str]] = json.loads(body)
    headers = dict(pairs)
    assert len(headers) == len(pairs), pairs
    return headers

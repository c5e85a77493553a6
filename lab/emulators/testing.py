"""Emulators for tests: a real server in a thread, with TLS where the client insists on it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import uvicorn
from starlette.applications import Starlette

from lab.pki import Certificate

T = TypeVar("T")

_START_SECONDS = 20


@contextlib.contextmanager
def running(app: Starlette, certificate: Certificate | None = None) -> Iterator[str]:
    """Serve an application on a free port of 127.0.0.1; gives its base URL.

    With a certificate (for 127.0.0.1) by https, else by http. Raises RuntimeError when it does not start.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        ssl_certfile=certificate.certificate if certificate else None,
        ssl_keyfile=certificate.key if certificate else None,
        log_level="critical",
        # clients keep connections open: nothing to wait for
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        eventually(lambda: server.started or not thread.is_alive(), _START_SECONDS)
        if not server.started:
            raise RuntimeError("the emulator did not start")
        yield f"{'https' if certificate else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=_START_SECONDS)
        listener.close()


def eventually(check: Callable[[], T], seconds: float = 15) -> T:
    """The first truthy result of `check`. Raises AssertionError when there is none for so long."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"still {result!r} after {seconds} s")
        time.sleep(0.01)

"""Parts of the client that need no instance; the whole of it is used by the lab's proof and the e2e tests."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from lab.instance import Form, Refused, Stream, forms, streamed

SIGN_IN = """
<input name="outside" value="1">
<form action="/search"><input name="q"></form>
<form class="simple_form" action="/auth/sign_in" method="post">
  <input type="hidden" name="authenticity_token" value="a&amp;b" autocomplete="off" />
  <input name="user[email]" type="email"><input type="password" name="user[password]">
  <input type="checkbox" name="user[remember]" value="1"><input type="submit" name="commit" value="Log in">
</form>
<input name="after" value="1">
"""


def test_what_a_browser_sends_of_a_form() -> None:
    fields = {"authenticity_token": "a&b", "user[email]": "", "user[password]": ""}
    assert forms(SIGN_IN) == [Form("/search", {"q": ""}), Form("/auth/sign_in", fields)]


@contextmanager
def server(handler: Callable[[ServerConnection], Awaitable[None]], **options: float | None) -> Iterator[str]:
    """A WebSocket server of its own thread; its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> str:
        started = await serve(handler, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
        port = next(iter(started.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}"

    yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@contextmanager
def stream(address: str) -> Iterator[Stream]:
    opened = Stream(connect(address, max_queue=None, proxy=None))
    try:
        yield opened
    finally:
        opened.close()


def event(name: str, payload: object) -> str:
    return json.dumps({"stream": ["public"], "event": name, "payload": json.dumps(payload)})


def test_waits_for_one_status_among_others() -> None:
    async def handler(client: ServerConnection) -> None:
        await client.send(event("update", {"id": "1"}))
        await client.send(event("delete", "2"))
        await client.send(event("update", {"id": "2", "content": "hello"}))
        await client.wait_closed()

    with server(handler) as address, stream(address) as opened:
        assert streamed(opened, "2")["content"] == "hello"
        with pytest.raises(TimeoutError):
            streamed(opened, "3", timeout=0.1)


def test_a_stream_that_is_refused_says_why() -> None:
    async def handler(client: ServerConnection) -> None:
        await client.send(json.dumps({"error": "Missing access token", "status": 401}))
        await client.wait_closed()

    with (
        server(handler) as address,
        stream(address) as opened,
        pytest.raises(Refused, match="Missing access"),
    ):
        streamed(opened, "1")


def test_who_does_not_read_is_still_there() -> None:
    """The server's pings are answered although nobody reads, whatever has come meanwhile."""

    async def handler(client: ServerConnection) -> None:
        for number in range(200):
            await client.send(event("update", {"id": str(number)}))
        for _ in range(3):
            await (await client.ping())
        await client.send(event("update", {"id": "last"}))
        await client.wait_closed()

    with server(handler) as address, stream(address) as opened:
        assert streamed(opened, "last")


def test_a_stream_that_ends() -> None:
    async def handler(client: ServerConnection) -> None:
        await client.close()

    with server(handler) as address, stream(address) as opened, pytest.raises(ConnectionClosed):
        streamed(opened, "1")


def test_an_address_where_nobody_is() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        Stream(connect("ws://127.0.0.1:9", proxy=None))

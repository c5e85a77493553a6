"""What h2load prints, as nghttp2 1.64 does; what a steady load counts."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from lab import load as load_module
from lab.engine import LabError
from lab.instance import Instance
from lab.load import API, POSTS, UPLOADS, Budget, Count, Limit, Load, Outcome, User, Watcher, assets, parse
from lab.pki import Authority

OUTPUT = """\
starting benchmark...
spawning thread #0: 100 total client(s). Timing-based test with 0s of warm-up time and 60s of main duration.
finished in 60.00s, 312.45 req/s, 1.02MB/s
requests: 18747 total, 18847 started, 18747 done, 18700 succeeded, 47 failed, 3 errored, 1 timeout
status codes: 18690 2xx, 10 3xx, 40 4xx, 4 5xx
traffic: 61.20MB (64172032) total, 5.01MB (5253120) headers (space savings 0.00%), 55.00MB (57671680) data
"""


def test_summary() -> None:
    assert parse(OUTPUT) == Outcome(312.45, 3, {2: 18690, 3: 10, 4: 40, 5: 4})


def test_without_a_summary() -> None:
    with pytest.raises(LabError, match="nothing that can be read: could not connect"):
        parse("could not connect\n")


def test_assets() -> None:
    page = '<link href="/packs/a.css"><link href="/about"><script src="https://files.example/packs/b.js"></script>'
    assert assets(page) == ["/packs/a.css", "/packs/b.js"]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_spent_and_comes_back() -> None:
    clock, hour = Clock(), Limit(2, 3600)
    budget = Budget(clock)
    assert [budget.spend(hour) for _ in range(3)] == [True, True, False]
    clock.now += 3599
    assert not budget.spend(hour)
    clock.now += 1
    assert [budget.spend(hour) for _ in range(3)] == [True, True, False]


def test_what_one_limit_forbids_counts_in_none() -> None:
    budget = Budget(Clock())
    few, many = Limit(1, 60), Limit(2, 60)
    assert budget.spend(few, many)
    assert not budget.spend(few, many)
    assert budget.spend(many)


@pytest.mark.parametrize("limit", [API, POSTS, UPLOADS])
def test_a_user_who_goes_on_for_ever_stays_within_the_limits(limit: Limit) -> None:
    reads = limit.seconds / load_module.READ_SECONDS
    posts = limit.seconds / load_module.POST_SECONDS
    uploads = posts / load_module.PICTURE_EVERY
    asked = {API: reads + posts + uploads, POSTS: posts, UPLOADS: uploads}[limit]
    assert asked < 0.95 * limit.most


@pytest.mark.parametrize(
    ("status", "counted"),
    [(None, "failed"), (502, "failed"), (404, "missing"), (429, "limited"), (403, "refused")],
)
def test_count(status: int | None, counted: str) -> None:
    count = Count()
    assert count.add(200, 0.1)
    assert count.add(302, 0.1)
    assert not count.add(status, 0.4)
    report = count.report()
    kinds = dict.fromkeys(("failed", "missing", "limited", "refused"), 0) | {counted: 1}
    assert report == {"asked": 3, **kinds, "median_ms": 100, "slowest_ms": 400}
    assert count.ill == 1


def test_when_a_stream_was_open() -> None:
    watcher = Watcher(open=[(10, 20), (22.5, 30)])
    assert watcher.was_open(11, 20)
    assert not watcher.was_open(19, 23)
    assert watcher.longest_gap(31) == 2.5
    assert watcher.longest_gap(40) == 10


class Web:
    """A web server with TLS. `answer` says status and body of a path; None: the connection ends without."""

    def __init__(self, folder: Path, answer: Callable[[str], tuple[int, str] | None]) -> None:
        authority = Authority.open(folder, "test")
        served = authority.issue("web", ["social.test"])
        self.ca = authority.file
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.tls.load_cert_chain(served.certificate, served.key)
        self.answer = answer
        self.connections = self.cookies = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if found := re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE):
                    await reader.readexactly(int(found[1]))
                answer = self.answer(head.split()[1])
                if answer is None:
                    await asyncio.sleep(0.5)
                    break
                self.cookies += "\r\ncookie:" in head.lower()
                status, body = answer
                writer.write(
                    f"HTTP/1.1 {status} X\r\nSet-Cookie: session=1; path=/\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
        writer.close()

    async def under(self, seconds: float, *, rate: float, streams: int = 0) -> dict[str, Any]:
        """The report of a load on this server, of one user."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        port = server.sockets[0].getsockname()[1]
        with Instance("social.test", f"127.0.0.1:{port}", self.ca) as instance:
            report = await Load(instance, [User("token")], rate=rate, streams=streams).run(seconds)
        server.close()
        return report


def test_a_file_that_a_worker_lacks_is_counted(tmp_path: Path) -> None:
    def answer(path: str) -> tuple[int, str]:
        if path.startswith("/api/"):
            return 200, '{"id": "1"}'
        if path == "/packs/new.js":
            return 404, ""
        return 200, '<script src="/packs/old.js"></script><script src="/packs/new.js"></script>'

    web = Web(tmp_path, answer)
    report = asyncio.run(web.under(0.5, rate=20))
    asked = {kind: report[kind]["asked"] for kind in ("pages", "assets", "api", "uploads", "statuses")}
    pages = asked["pages"]
    assert pages >= 5
    assert asked == {"pages": pages, "assets": 2 * pages, "api": 1, "uploads": 1, "statuses": 1}
    assert report["ill"] == report["assets"]["missing"] == pages
    assert report["examples"][0].endswith("GET /packs/new.js: 404")
    # A page and its files come by connections of their own, so that they may meet different workers.
    assert web.connections == sum(asked.values())
    assert web.cookies == 0


def test_who_comes_next_does_not_wait(tmp_path: Path) -> None:
    """An instance that is slow gets no fewer visitors; without an answer they are counted as failed."""
    report = asyncio.run(Web(tmp_path, lambda _: None).under(0.4, rate=20))
    assert report["pages"]["asked"] == report["pages"]["failed"] >= 5
    assert report["pages"]["slowest_ms"] >= 500


def test_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two streams one is cut off while the status is made, and one does not bring it."""
    asked = asyncio.Event()

    def answer(path: str) -> tuple[int, str]:
        if path == "/api/v1/statuses":
            asked.set()
        return 200, '{"id": "7"}'

    clients: list[ServerConnection] = []

    async def streaming(client: ServerConnection) -> None:
        clients.append(client)
        if len(clients) == 1:
            await asked.wait()
            await client.close()
        await client.wait_closed()

    async def scenario() -> dict[str, Any]:
        async with serve(streaming, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            address = f"ws://127.0.0.1:{port}"
            monkeypatch.setattr(load_module, "websocket", lambda *_: connect(address, proxy=None))
            return await Web(tmp_path, answer).under(1.5, rate=1, streams=2)

    monkeypatch.setattr(load_module, "_STREAM_SECONDS", 0.5)
    streams = asyncio.run(scenario())["streams"]
    assert 400 < streams.pop("longest_gap_ms") < 1400
    assert streams == {"open": 2, "failed": 0, "closed": 1, "brought": 0, "lost": 1, "away": 1}

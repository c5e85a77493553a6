"""What h2load prints, as nghttp2 1.64 does; what a steady load counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
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


Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    Authority.open(tmp_path, "test")
    return Instance("social.test", "127.0.0.1", tmp_path / "ca.crt")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Handler], None]:
    """The load's requests are answered by a function."""
    client = httpx.AsyncClient

    def by(handler: Handler) -> None:
        transport = httpx.MockTransport(handler)
        monkeypatch.setattr(
            httpx, "AsyncClient", lambda **options: client(base_url=options["base_url"], transport=transport)
        )

    return by


def answer(text: str, status: int = 200) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(text.encode()))


def run(load: Load, seconds: float) -> dict[str, Any]:
    return asyncio.run(load.run(seconds))


def test_a_file_that_a_worker_lacks_is_counted(
    instance: Instance, answers: Callable[[Handler], None]
) -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/api/"):
            return answer('{"id": "1"}')
        if request.url.path == "/packs/new.js":
            return answer("", 404)
        return answer('<script src="/packs/old.js"></script><script src="/packs/new.js"></script>')

    answers(handler)
    report = run(Load(instance, [User("token")], rate=20, streams=0), 0.5)
    assert report["pages"]["failed"] == 0
    assert report["assets"]["asked"] == 2 * report["pages"]["asked"] > 10
    assert report["ill"] == report["assets"]["missing"] == report["pages"]["asked"]
    assert report["examples"][0].endswith("GET /packs/new.js: 404")
    assert {kind: report[kind]["asked"] for kind in ("api", "uploads", "statuses")} == {
        "api": 1,
        "uploads": 1,
        "statuses": 1,
    }


def test_who_comes_next_does_not_wait(instance: Instance, answers: Callable[[Handler], None]) -> None:
    """An instance that is slow gets no fewer visitors; without an answer they are counted as failed."""

    async def handler(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.5)
        raise httpx.ReadTimeout("too slow", request=request)

    answers(handler)
    report = run(Load(instance, [User("token")], rate=20, streams=0), 0.4)
    assert report["pages"]["asked"] == report["pages"]["failed"] >= 7
    assert report["pages"]["slowest_ms"] >= 500


def test_streams(
    instance: Instance, answers: Callable[[Handler], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two streams one is cut off while the status is made, and one does not bring it."""
    asked = asyncio.Event()

    async def web(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/statuses":
            asked.set()
        return answer('{"id": "7"}')

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
            return await Load(instance, [User("token")], rate=1, streams=2).run(1.5)

    monkeypatch.setattr(load_module, "_STREAM_SECONDS", 0.5)
    answers(web)
    streams = asyncio.run(scenario())["streams"]
    assert 400 < streams.pop("longest_gap_ms") < 1400
    assert streams == {"open": 2, "failed": 0, "closed": 1, "brought": 0, "lost": 1, "away": 1}

"""Load on an instance: as many requests as it answers (`h2load`), or what people and programs do, at a steady
rate and within what Mastodon allows them (`Load`)."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import secrets
import statistics
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import docker
import httpx
from websockets.exceptions import WebSocketException

from lab.accounts import ADMIN
from lab.config import LABEL, LABEL_PART, Lab
from lab.engine import LabError
from lab.images import SERVICES
from lab.instance import PIXEL, Instance, Refused, update, websocket


@dataclass(frozen=True)
class Outcome:
    """What became of the requests: answers a second, requests without an answer (refused, broken off, timed
    out), and the number of answers by the first digit of their status (those that there were)."""

    per_second: float
    unanswered: int
    statuses: Mapping[int, int]


def h2load(
    client: docker.DockerClient,
    lab: Lab,
    urls: Sequence[str],
    *,
    network: str,
    connect_to: str,
    clients: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
) -> Outcome:
    """Asks for `urls`, which differ in their path only, in turn, on `clients` kept connections for `seconds`.

    Speaks HTTP/1.1. `network` is Docker's: a network's name, or `container:ID`. `connect_to`: ADDRESS:PORT,
    whatever the URLs' names mean. `headers` are sent besides. Raises LabError where h2load itself fails.
    """
    command = [
        "h2load",
        "--h1",
        f"--clients={clients}",
        f"--duration={seconds}",
        f"--connect-to={connect_to}",
    ]
    command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    container: Any = client.containers.run(
        SERVICES,
        [*command, *urls],
        detach=True,
        network_mode=network,
        labels={LABEL: lab.name, LABEL_PART: "load"},
    )
    try:
        code = container.wait(timeout=seconds + 120)["StatusCode"]
        output = container.logs().decode(errors="replace")
    finally:
        container.remove(force=True)
    if code:
        raise LabError(f"h2load ended with exit code {code}: {output.strip()[-600:]}")
    return parse(output)


def parse(output: str) -> Outcome:
    """h2load's summary. Raises LabError where there is none."""
    rate = re.search(r"^finished in .*?, ([\d.]+) req/s", output, re.MULTILINE)
    # Errored are those without an answer; failed counts answers of 400 and more besides.
    errored = re.search(r"^requests: .*? (\d+) errored, ", output, re.MULTILINE)
    statuses = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output, re.MULTILINE)
    if not (rate and errored and statuses):
        raise LabError(f"h2load said nothing that can be read: {output.strip()[-600:]}")
    numbers = {digit: int(text) for digit, text in enumerate(statuses.groups(), start=2)}
    return Outcome(float(rate[1]), int(errored[1]), {digit: n for digit, n in numbers.items() if n})


def assets(page: str) -> list[str]:
    """Paths of the static files that an HTML page of the instance asks for."""
    return re.findall(r'(?:src|href)="(?:https://[^/"]+)?(/(?:packs|assets)/[^"]+)"', page)


# -- what Mastodon allows -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limit:
    """So many requests in so many seconds."""

    most: int
    seconds: int


API = Limit(300, 5 * 60)
"""Of one access token; without a token, of one address. Pages and their files have no limit."""
POSTS = Limit(300, 3 * 60 * 60)
"""Of one account."""
UPLOADS = Limit(30, 30 * 60)
"""Of one account."""


class Budget:
    """What an account with one access token may still do, by the limits of Mastodon 4.5 to 4.7.

    Mastodon counts in periods that begin at fixed times. Here every period counts, hence those as well.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent: dict[Limit, deque[float]] = {}

    def spend(self, *limits: Limit) -> bool:
        """One request that counts in each of `limits`. Where one is reached: False, nothing is counted."""
        now = self._clock()
        for limit in limits:
            spent = self._spent.setdefault(limit, deque())
            while spent and spent[0] <= now - limit.seconds:
                spent.popleft()
            if len(spent) >= limit.most:
                return False
        for limit in limits:
            self._spent[limit].append(now)
        return True


@dataclass(frozen=True)
class User:
    token: str
    budget: Budget = field(default_factory=Budget)


# -- a steady, mixed load -------------------------------------------------------------------------------

PAGES = ("/", f"/@{ADMIN}", "/auth/sign_in")
READS = ("/api/v1/timelines/home", "/api/v1/timelines/public", "/api/v2/instance")
READ_SECONDS, POST_SECONDS = 1.25, 40
"""Between two of one user's: 250 requests in 5 minutes and 270 statuses in 3 hours, run after run."""
PICTURE_EVERY = 3
"""Statuses. Those of one user are 15 uploads in 30 minutes."""
_AT_ONCE = 6
"""Connections for the files of one page, as browsers have them."""
_MOST_VISITS = 100
"""Under way at the same time. What would begin beyond that is left out and counted."""
_TIMEOUT = 15
_STREAM_SECONDS = 10
"""A status that a stream has not brought by then is lost."""
_EXAMPLES = 20


class Count:
    """What became of the requests of one kind."""

    def __init__(self) -> None:
        self.asked = 0
        self.failed = 0
        self.missing = 0
        self.limited = 0
        self.refused = 0
        self._seconds: list[float] = []

    def add(self, status: int | None, seconds: float) -> bool:
        """`status` None: no answer, or a part of one. Returns whether it was a good one."""
        self.asked += 1
        self._seconds.append(seconds)
        if status is None or status >= 500:
            self.failed += 1
        elif status == 404:
            self.missing += 1
        elif status == 429:
            self.limited += 1
        elif status >= 400:
            self.refused += 1
        else:
            return True
        return False

    @property
    def ill(self) -> int:
        return self.failed + self.missing + self.limited + self.refused

    def report(self) -> dict[str, int]:
        return {
            "asked": self.asked,
            "failed": self.failed,
            "missing": self.missing,
            "limited": self.limited,
            "refused": self.refused,
            "median_ms": round(1000 * statistics.median(self._seconds or [0])),
            "slowest_ms": round(1000 * max(self._seconds, default=0)),
        }


@dataclass
class Watcher:
    """One stream: when it was open, and the ids of the statuses that it brought."""

    open: list[tuple[float, float]] = field(default_factory=list)
    brought: set[str] = field(default_factory=set)
    failed: int = 0
    """Attempts to open it."""

    def was_open(self, since: float, until: float) -> bool:
        return any(first <= since and until <= last for first, last in self.open)

    def longest_gap(self, end: float) -> float:
        """Seconds between two times that it was open, or from the last one to `end`."""
        again = [*(first for first, _ in self.open[1:]), end]
        return max((start - last for (_, last), start in zip(self.open, again, strict=True)), default=0)


class Load:
    """What people and programs do, at a steady rate, whether the instance keeps up or not.

    - `rate` pages a second, with all the files that each names. Every request has a connection of its own:
      the load balancer hands it to another worker, which needs the files of the page that this one made.
    - Requests to the API and statuses, some with a picture, of `users` in turn: more users, more requests.
    - `streams` WebSockets, opened again when they end. Each has to bring every status.
    """

    def __init__(self, instance: Instance, users: Sequence[User], *, rate: float, streams: int) -> None:
        self._instance = instance
        self._users = users
        self._turns = itertools.cycle(users)
        self._pages = itertools.cycle(PAGES)
        self._reads = itertools.cycle(READS)
        self._pictures = itertools.cycle([True, *[False] * (PICTURE_EVERY - 1)])
        self._rate = rate
        self._watchers = [Watcher() for _ in range(streams)]
        self._counts = {kind: Count() for kind in ("pages", "assets", "api", "statuses", "uploads")}
        self._visits = 0
        self._left_out = 0
        self._late = 0.0
        self._posted: dict[str, tuple[float, float]] = {}
        self._examples: list[str] = []
        self._stop = asyncio.Event()
        self._began = 0.0
        self._http = httpx.AsyncClient(
            base_url=f"https://{instance.address}",
            headers={"Host": instance.domain},
            verify=instance.tls,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # every visitor is a new one
            trust_env=False,
        )

    def stop(self) -> None:
        """Nothing new begins; what is under way ends."""
        self._stop.set()

    async def run(self, seconds: float) -> dict[str, Any]:
        """For `seconds`, or until `stop`; returns the report."""
        async with self._http, asyncio.TaskGroup() as streams:
            watching = [
                streams.create_task(self._watch(watcher, user.token))
                for watcher, user in zip(self._watchers, itertools.cycle(self._users), strict=False)
            ]
            while not all(watcher.open or watcher.failed for watcher in self._watchers):
                await asyncio.sleep(0.05)
            self._began = time.monotonic()
            asyncio.get_running_loop().call_later(seconds, self.stop)
            async with asyncio.TaskGroup() as under_way:
                for pause, begin in (
                    (1 / self._rate, self._visit),
                    (READ_SECONDS / len(self._users), self._read),
                    (POST_SECONDS / len(self._users), self._post),
                ):
                    under_way.create_task(self._every(pause, begin, under_way))
            ended = time.monotonic()
            await self._last_statuses()
            for task in watching:
                task.cancel()
        return self._report(ended)

    async def _every(
        self, pause: float, begin: Callable[[], Coroutine[Any, Any, None]], under_way: asyncio.TaskGroup
    ) -> None:
        """Does not wait for what it began: visitors do not come later because the instance is slow."""
        due = time.monotonic()
        while not self._stop.is_set():
            self._late = max(self._late, time.monotonic() - due)
            under_way.create_task(begin())
            due += pause
            try:
                await asyncio.wait_for(self._stop.wait(), max(0, due - time.monotonic()))
            except TimeoutError:
                continue

    async def _visit(self) -> None:
        if self._visits >= _MOST_VISITS:
            self._left_out += 1
            return
        self._visits += 1
        try:
            page = await self._ask("pages", "GET", next(self._pages))
            if page is not None:
                connections = asyncio.Semaphore(_AT_ONCE)
                files = dict.fromkeys(assets(page.decode(errors="replace")))
                await asyncio.gather(*(self._fetch(path, connections) for path in files))
        finally:
            self._visits -= 1

    async def _fetch(self, path: str, connections: asyncio.Semaphore) -> None:
        async with connections:
            await self._ask("assets", "GET", path)

    async def _read(self) -> None:
        if user := self._user(API):
            await self._ask("api", "GET", next(self._reads), user.token)

    async def _post(self) -> None:
        user = self._user(API, POSTS)
        if user is None:
            return
        media: list[str] = []
        if next(self._pictures) and user.budget.spend(API, UPLOADS):
            picture = {"file": ("pixel.png", PIXEL, "image/png")}
            if answer := await self._ask("uploads", "POST", "/api/v2/media", user.token, files=picture):
                media.append(json.loads(answer)["id"])
        status = {"status": f"load {secrets.token_hex(8)}", "visibility": "public", "media_ids": media}
        sent = time.monotonic()
        if answer := await self._ask("statuses", "POST", "/api/v1/statuses", user.token, json=status):
            self._posted[json.loads(answer)["id"]] = (sent, time.monotonic())

    def _user(self, *limits: Limit) -> User | None:
        """The next one who may."""
        for _, user in zip(self._users, self._turns, strict=False):
            if user.budget.spend(*limits):
                return user
        self._left_out += 1
        return None

    async def _ask(
        self, kind: str, method: str, path: str, token: str | None = None, **arguments: Any
    ) -> bytes | None:
        """The whole answer as it was sent, None where it was not a good one."""
        # What nobody reads need not be unpacked.
        headers = {"Accept-Encoding": "gzip" if kind == "assets" else "identity"}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        started = time.monotonic()
        body, status, said = b"", None, ""
        try:
            async with self._http.stream(
                method,
                path,
                headers=headers,
                extensions={"sni_hostname": self._instance.domain},
                **arguments,
            ) as answer:
                body = b"".join([part async for part in answer.aiter_raw()])
            status = answer.status_code
            said = str(status)
        except httpx.HTTPError as error:
            said = repr(error)
        if self._counts[kind].add(status, time.monotonic() - started):
            return body
        self._example(f"{method} {path}: {said}")
        return None

    def _example(self, text: str) -> None:
        if len(self._examples) < _EXAMPLES:
            self._examples.append(f"{time.monotonic() - self._began:.1f} s: {text}")

    async def _watch(self, watcher: Watcher, token: str) -> None:
        instance = self._instance
        while True:
            opened = False
            try:
                async with websocket(instance.domain, instance.address, instance.tls, token) as stream:
                    opened = True
                    watcher.open.append((time.monotonic(), math.inf))
                    try:
                        async for message in stream:
                            if status := update(message):
                                watcher.brought.add(status["id"])
                    finally:
                        watcher.open[-1] = (watcher.open[-1][0], time.monotonic())
                self._example("a stream ends")
            except (OSError, TimeoutError, WebSocketException, Refused) as error:
                watcher.failed += not opened or isinstance(error, Refused)
                self._example(f"a stream: {error!r}")
            await asyncio.sleep(0.5)

    async def _last_statuses(self) -> None:
        """Until every stream has brought what it can still bring."""
        end = time.monotonic() + _STREAM_SECONDS
        while time.monotonic() < end and not all(
            self._posted.keys() <= watcher.brought for watcher in self._watchers
        ):
            await asyncio.sleep(0.2)

    def _report(self, ended: float) -> dict[str, Any]:
        brought = lost = away = 0
        for watcher in self._watchers:
            for status, (sent, answered) in self._posted.items():
                until = min(answered + _STREAM_SECONDS, ended)
                if status in watcher.brought:
                    brought += 1
                elif watcher.was_open(sent, until):
                    lost += 1
                else:
                    away += 1
        streams = {
            "open": len(self._watchers),
            "failed": sum(watcher.failed for watcher in self._watchers),
            "closed": sum(last < ended for watcher in self._watchers for _, last in watcher.open),
            "longest_gap_ms": round(1000 * max((w.longest_gap(ended) for w in self._watchers), default=0)),
            "brought": brought,
            "lost": lost,
            "away": away,
        }
        ill = sum(count.ill for count in self._counts.values()) + streams["failed"] + lost
        return {
            "seconds": round(ended - self._began, 1),
            "ill": ill,
            "left_out": self._left_out,
            "late_ms": round(1000 * self._late),
            **{kind: count.report() for kind, count in self._counts.items()},
            "streams": streams,
            "examples": self._examples,
        }

"""The DigitalOcean emulator's heart: state, actions that take time, and the words every endpoint uses."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from lab.cloud import Cloud, CloudError, Member
from lab.emulators.common import (
    Call,
    JsonObject,
    Problem,
    Reply,
    Routes,
    Store,
    Tokens,
    Vendor,
    Window,
    now,
)
from lab.emulators.digitalocean import catalog

log = logging.getLogger("lab.digitalocean")

P = ParamSpec("P")
T = TypeVar("T")

MAX_PER_PAGE = 200


@dataclass
class State:
    """What an account has. Everything is JSON; keys are ids as strings."""

    next_droplet: int = 3164444
    next_action: int = 36804636
    next_key: int = 512189
    account_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    keys: dict[str, JsonObject] = field(default_factory=dict)
    tags: dict[str, JsonObject] = field(default_factory=dict)
    droplets: dict[str, JsonObject] = field(default_factory=dict)
    actions: dict[str, JsonObject] = field(default_factory=dict)
    load_balancers: dict[str, JsonObject] = field(default_factory=dict)
    vpcs: dict[str, JsonObject] = field(default_factory=dict)
    firewalls: dict[str, JsonObject] = field(default_factory=dict)
    databases: dict[str, JsonObject] = field(default_factory=dict)
    certificates: dict[str, JsonObject] = field(default_factory=dict)
    cdn_endpoints: dict[str, JsonObject] = field(default_factory=dict)
    spaces_keys: dict[str, JsonObject] = field(default_factory=dict)
    projects: dict[str, JsonObject] = field(default_factory=dict)
    doomed: list[list[str]] = field(default_factory=list)
    """[kind, id] of what the account has deleted and the Cloud has not yet: finished after a restart."""

    @classmethod
    def restore(cls, saved: JsonObject) -> State:
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in saved.items() if key in known})


@dataclass(frozen=True)
class Limits:
    """Calls a token may make. None: unlimited. DigitalOcean's are 250 and 5000."""

    per_minute: int | None = None
    per_hour: int | None = None


def unprocessable(message: str) -> Problem:
    return Problem(422, "unprocessable_entity", message)


class DigitalOcean(Vendor):
    """State of the emulated account and the jobs that make it real.

    `action_seconds` is the least time an action takes; it completes when the Cloud is done, too.
    """

    name = "digitalocean"
    document = "digitalocean-fixed.json"

    def __init__(
        self,
        routes: Iterable[Routes],
        tokens: Tokens,
        cloud: Cloud,
        *,
        store: Store,
        action_seconds: float,
        limits: Limits,
        public: ipaddress.IPv4Network,
        private: ipaddress.IPv4Network,
        watch_seconds: float,
        retry_seconds: Sequence[float],
    ) -> None:
        super().__init__(routes, tokens)
        self.cloud = cloud
        self.store = store
        self.action_seconds = action_seconds
        self.limits = limits
        self.public = public
        self.private = private
        self.watch_seconds = watch_seconds
        self.retry_seconds = retry_seconds
        saved = store.load()
        self.state = State.restore(saved) if saved else State()
        self.synthetic: dict[str, JsonObject] = {}
        """Droplets without a machine, for measurements; never saved."""
        self.cdn_window = Window(5 if limits.per_minute else None, 10)
        """All CDN calls together: 5 in 10 seconds, where limits are on at all."""
        self._windows: dict[str, tuple[Window, Window]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns: dict[str, Turn] = {}
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="cloud")
        self._resume: list[Callable[[DigitalOcean], None]] = []

    # life

    def on_start(self, resume: Callable[[DigitalOcean], None]) -> None:
        """Register what takes up unfinished work when the emulator starts."""
        self._resume.append(resume)

    async def start(self) -> None:
        self.save()
        for resume in self._resume:
            resume(self)
        if self.watch_seconds:
            self.spawn(self._watch())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def save(self) -> None:
        self.store.save(vars(self.state))

    def spawn(self, job: Coroutine[Any, Any, None]) -> None:
        """Run a job beside the calls."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("a job broke", exc_info=task.exception())

    async def in_cloud(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking method of the Cloud in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    # words

    def error(self, problem: Problem) -> JsonObject:
        return {"id": str(problem.code), "message": problem.message}

    def before(self, call: Call) -> None:
        minute, hour = self._window(call)
        if not hour.take():
            raise Problem(429, "too_many_requests", "API rate limit exceeded.")
        if not minute.take():
            # only the burst limit says when to come back
            wait = max(1, round(minute.reset - time.time()))
            raise Problem(429, "too_many_requests", "API rate limit exceeded.", {"retry-after": str(wait)})

    def headers(self, call: Call) -> dict[str, str]:
        _, hour = self._window(call)
        limit = hour.limit or 5000
        return {
            "ratelimit-limit": str(limit),
            "ratelimit-remaining": str(max(0, limit - hour.used) if hour.limit else limit),
            "ratelimit-reset": str(int(hour.reset)),
            "x-request-id": str(uuid.uuid4()),
        }

    def _window(self, call: Call) -> tuple[Window, Window]:
        token = call.headers.get("authorization", "")
        if token not in self._windows:
            self._windows[token] = (
                Window(self.limits.per_minute, 60),
                Window(self.limits.per_hour, 3600),
            )
        return self._windows[token]

    def page(self, call: Call, key: str, items: list[T], view: Callable[[T], Any] | None = None) -> Reply:
        """A page of a list, with `links` and `meta`; `view` makes an item's JSON."""
        page = max(1, _number(call.query.get("page"), 1))
        size = min(max(1, _number(call.query.get("per_page"), 20)), MAX_PER_PAGE)
        shown = items[(page - 1) * size : page * size]
        last = max(1, -(-len(items) // size))

        def link(number: int) -> str:
            query = [(k, v) for k, v in call.query.multi_items() if k not in ("page", "per_page")]
            query += [("page", str(number)), ("per_page", str(size))]
            return f"{call.base_url}{call.path}?" + "&".join(f"{k}={v}" for k, v in query)

        pages: dict[str, str] = {}
        if page > 1:
            pages |= {"first": link(1), "prev": link(page - 1)}
        if page < last:
            pages |= {"next": link(page + 1), "last": link(last)}
        return Reply(
            200,
            {
                key: [view(item) if view else item for item in shown],
                "links": {"pages": pages} if pages else {},
                "meta": {"total": len(items)},
            },
        )

    def need(self, table: Mapping[str, JsonObject], identifier: str) -> JsonObject:
        """A resource by id. Raises Problem 404."""
        try:
            return table[identifier]
        except KeyError:
            raise self.not_found() from None

    def need_scope(self, call: Call, scope: str) -> None:
        if not self.can(call, scope):
            raise self.forbidden(scope)

    def can(self, call: Call, scope: str) -> bool:
        return call.token is not None and call.token.may(scope)

    # droplets, tags and regions, as many endpoints need them

    def region(self, slug: Any, what: str) -> JsonObject:
        if slug not in catalog.REGIONS:
            raise unprocessable(f"You specified an invalid region for {what}.")
        return catalog.REGIONS[slug]

    def all_droplets(self) -> Iterable[JsonObject]:
        return itertools.chain(self.state.droplets.values(), self.synthetic.values())

    def tagged(self, tag: str) -> list[JsonObject]:
        return [droplet for droplet in self.all_droplets() if tag in droplet["tags"]]

    def add_tag(self, name: str) -> None:
        self.state.tags.setdefault(name, {"name": name})

    def default_vpc(self, region: str) -> JsonObject:
        """The region's VPC that is there without anybody making it."""
        for vpc in self.state.vpcs.values():
            if vpc["region"] == region and vpc["default"]:
                return vpc
        identifier = str(uuid.uuid4())
        used = [ipaddress.IPv4Network(vpc["ip_range"]) for vpc in self.state.vpcs.values()]
        free = next(
            network
            for network in itertools.chain(
                [self.private], ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=20)
            )
            if not any(network.overlaps(other) for other in used)
        )
        self.state.vpcs[identifier] = {
            "id": identifier,
            "urn": f"do:vpc:{identifier}",
            "name": f"default-{region}",
            "description": "",
            "region": region,
            "ip_range": str(free),
            "default": True,
            "created_at": now(),
        }
        return self.state.vpcs[identifier]

    # actions

    def pending(self, droplet: JsonObject) -> bool:
        """Whether an action of the droplet runs."""
        return any(
            action["status"] == "in-progress" and action["resource_id"] == droplet["id"]
            for action in self.state.actions.values()
        )

    def begin(self, kind: str, droplet: JsonObject, work: JsonObject) -> JsonObject:
        """Start an action on a droplet. `work` is what it needs to be done, or done again after a crash."""
        identifier = self.state.next_action
        self.state.next_action += 1
        action = {
            "id": identifier,
            "status": "in-progress",
            "type": kind,
            "started_at": now(),
            "completed_at": None,
            "resource_id": droplet["id"],
            "resource_type": "droplet",
            "region_slug": droplet["region"],
            "work": work,
        }
        self.state.actions[str(identifier)] = action
        return action

    def show_action(self, action: JsonObject) -> JsonObject:
        shown = {key: value for key, value in action.items() if key != "work"}
        return shown | {"region": catalog.REGIONS[action["region_slug"]]}

    async def insist(
        self,
        what: str,
        work: Callable[[], Awaitable[None]],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Do what has no action whose failure a client could see, again if need be; `then` it is done.

        What is given up is tried afresh after a restart.
        """
        for pause in (*self.retry_seconds, None):
            try:
                await work()
            except CloudError as error:
                log.error("%s: %s", what, error)
            else:
                then()
                return
            if pause is not None:
                await asyncio.sleep(pause)

    async def take_time(self, work: Awaitable[T]) -> T:
        """Await work and let it last at least `action_seconds`, also when the Cloud refuses."""
        least = asyncio.sleep(self.action_seconds)
        outcome, _ = await asyncio.gather(work, least, return_exceptions=True)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    # load balancers and databases are applied whole, one application at a time

    def turn(self, identifier: str) -> Turn:
        """Where the jobs on a load balancer or database cluster queue."""
        return self._turns.setdefault(identifier, Turn())

    def forget(self, kind: str, identifier: str) -> None:
        """A doomed resource is gone."""
        self.state.doomed.remove([kind, identifier])
        self._turns.pop(identifier, None)
        self.save()

    def members(self, load_balancer: JsonObject) -> list[Member]:
        """The droplets behind a load balancer that have an address."""
        if load_balancer["tag"]:
            droplets = self.tagged(load_balancer["tag"])
        else:
            wanted = load_balancer["droplet_ids"]
            droplets = [d for d in self.state.droplets.values() if d["id"] in wanted]
        return [
            Member(droplet["id"], droplet["name"], droplet["addresses"]["private"])
            for droplet in droplets
            if droplet["addresses"] and droplet["vpc_uuid"] == load_balancer["vpc_uuid"]
        ]

    def members_changed(self) -> None:
        """Tags, addresses or droplets changed: the load balancers whose members did follow."""
        for load_balancer in self.state.load_balancers.values():
            members = [[m.droplet_id, m.name, m.address] for m in self.members(load_balancer)]
            if members != load_balancer["applied_members"]:
                self.apply_load_balancer(load_balancer["id"])

    def apply_load_balancer(self, identifier: str) -> None:
        """Bring a load balancer to the state it has in the API, beside the call."""

        async def apply() -> None:
            load_balancer = self.state.load_balancers.get(identifier)
            if load_balancer is None:
                return
            members = self.members(load_balancer)
            shown = {k: v for k, v in load_balancer.items() if k != "applied_members"}
            try:
                address = await self.take_time(self.in_cloud(self.cloud.apply_load_balancer, shown, members))
            except CloudError:
                load_balancer["status"] = "errored"
                raise
            else:
                load_balancer |= {
                    "ip": address,
                    "status": "active",
                    "applied_members": [[m.droplet_id, m.name, m.address] for m in members],
                }
            finally:
                self.save()

        turn = self.turn(identifier)
        self.spawn(self.insist(f"load balancer {identifier}", lambda: turn.apply(apply)))

    async def _watch(self) -> None:
        """Notice droplets that stopped or started by themselves (`poweroff` inside, a dead machine)."""
        while True:
            await asyncio.sleep(self.watch_seconds)
            for droplet in list(self.state.droplets.values()):
                if droplet["status"] not in ("active", "off") or self.pending(droplet):
                    continue
                try:
                    running = await self.in_cloud(self.cloud.droplet_is_running, droplet["id"])
                except CloudError as error:
                    log.warning("droplet %s: %s", droplet["name"], error)
                    continue
                status = "active" if running else "off"
                if droplet["status"] != status and not self.pending(droplet):
                    droplet["status"] = status
                    self.save()


class Turn:
    """One job at a time on one resource: `async with turn.lock`."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._wanted = 0
        self._done = 0

    async def apply(self, work: Callable[[], Awaitable[None]]) -> None:
        """Apply the resource's state as it is now; several calls that wait are served by one application.

        Raises what `work` raises.
        """
        self._wanted += 1
        mine = self._wanted
        async with self.lock:
            if self._done >= mine:
                return
            covers = self._wanted
            await work()
            self._done = covers


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() else default


def state_file(directory: Path | None) -> Store:
    return Store(directory / "digitalocean.json" if directory else None)

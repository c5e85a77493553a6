"""What the three emulators share: routes, tokens, faults, the request log, state on disk, the control paths.

An emulator is a `Vendor`: a table of routes plus the vendor's way to say no. `build` makes an ASGI
application of it. Every emulator answers, beside the vendor's paths and without a token:

    GET    /_lab/health        200 once it serves
    GET    /_lab/requests      the calls so far, oldest first; ?method=POST&path=REGEX narrows the list
    DELETE /_lab/requests      forget them
    GET    /_lab/faults        the faults that are switched on, with the number of hits
    PUT    /_lab/faults        replace them: [{"match": {"method", "path"}, "times", "skip", "action"}]
    DELETE /_lab/faults        switch all off
    GET    /_lab/violations    exchanges that break the vendor's document (contract mode `log`)
    DELETE /_lab/violations    forget them
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lab.emulators.contract import Contract, Violation

log = logging.getLogger("lab.api")

JsonObject = dict[str, Any]

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_LOGGED_HEADERS = ("accept", "account-id", "content-type", "on-behalf-of", "user-agent")
"""Request headers the log keeps; a credential is in none of them."""

_SECRETS = re.compile(r"password|private_key|secret|token|user_data", re.IGNORECASE)


class Problem(Exception):
    """The API refuses a call. `code` is the vendor's name or number for the reason."""

    def __init__(
        self, status: int, code: str | int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Token:
    """An API token. `scopes` None means all."""

    value: str
    scopes: frozenset[str] | None = None

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes


Tokens = Mapping[str, Token]


def parse_tokens(text: str) -> dict[str, Token]:
    """Tokens from the lines of a file: `TOKEN` (all scopes) or `TOKEN scope,scope`; `#` starts a comment."""
    tokens = {}
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if words:
            scopes = frozenset(words[1].split(",")) if len(words) > 1 else None
            tokens[words[0]] = Token(words[0], scopes)
    return tokens


def grant(*values: str, **scoped: Iterable[str]) -> dict[str, Token]:
    """Tokens for tests: `grant("all", reader=["droplet:read"])`."""
    tokens = {value: Token(value) for value in values}
    return tokens | {value: Token(value, frozenset(scopes)) for value, scopes in scoped.items()}


Kind = type | tuple[type, ...]


def _is(value: Any, kind: Kind | list[Kind]) -> bool:
    """Whether a JSON value is of a kind; true and false are no numbers."""
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is(item, kind[0]) for item in value)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))


@dataclass
class Call:
    """One request to the API, read whole."""

    method: str
    path: str
    query: QueryParams
    headers: Mapping[str, str]
    body: bytes
    base_url: str
    token: Token | None = None
    params: dict[str, str] = field(default_factory=dict)
    """What the route's placeholders matched."""

    def json(self, **types: Kind | list[Kind]) -> JsonObject:
        """The body as an object; an empty body is an empty object.

        `types` says what some keys hold, where they are there and not null: a type, several, or a list of
        one type of item. Raises Problem 400 when the body or a key is something else.
        """
        try:
            value = json.loads(self.body) if self.body.strip() else {}
        except ValueError:
            raise Problem(400, "bad_request", "error parsing request body") from None
        if not isinstance(value, dict):
            raise Problem(400, "bad_request", "the request body has to be a JSON object")
        for key, kind in types.items():
            if value.get(key) is not None and not _is(value[key], kind):
                raise Problem(400, "bad_request", f"{key} can not be {value[key]!r}")
        return value


@dataclass
class Reply:
    """One answer. `body` None sends none (204)."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        if self.body is None:
            return b""
        return json.dumps(self.body, separators=(",", ":"), ensure_ascii=False).encode()


Handler = Callable[..., "Reply | Awaitable[Reply]"]
H = TypeVar("H", bound=Handler)


@dataclass(frozen=True)
class Endpoint:
    """A method and path of the vendor's API, and what answers it."""

    method: str
    path: str
    handler: Handler
    scopes: tuple[str, ...]
    pattern: re.Pattern[str]


class Routes:
    """The endpoints of one module, filled by decorators: `@routes.get("/v2/things/{id}", "thing:read")`.

    A placeholder matches one segment, or what a pattern after a colon says: `{id:[0-9]+}`. Handlers take
    the vendor and the `Call`, and return a `Reply` or an awaitable of one. Earlier routes win.
    """

    def __init__(self) -> None:
        self.endpoints: list[Endpoint] = []

    def add(self, method: str, path: str, *scopes: str) -> Callable[[H], H]:
        def register(handler: H) -> H:
            pattern = re.sub(r"\{(\w+)(?::([^{}]+))?\}", lambda m: f"(?P<{m[1]}>{m[2] or '[^/]+'})", path)
            plain = re.sub(r"\{(\w+):[^{}]+\}", r"{\1}", path)
            self.endpoints.append(Endpoint(method, plain, handler, scopes, re.compile(pattern)))
            return handler

        return register

    def get(self, path: str, *scopes: str) -> Callable[[H], H]:
        return self.add("GET", path, *scopes)

    def post(self, path: str, *scopes: str) -> Callable[[H], H]:
        return self.add("POST", path, *scopes)

    def put(self, path: str, *scopes: str) -> Callable[[H], H]:
        return self.add("PUT", path, *scopes)

    def patch(self, path: str, *scopes: str) -> Callable[[H], H]:
        return self.add("PATCH", path, *scopes)

    def delete(self, path: str, *scopes: str) -> Callable[[H], H]:
        return self.add("DELETE", path, *scopes)


class Vendor:
    """One emulated API. Subclasses hold its state and say how the vendor words errors.

    State is changed only by handlers and jobs on the event loop, so it needs no lock.
    """

    name: str
    document: str
    """File name of the vendor's document in `$VENDOR_OPENAPI`."""
    server: str = ""
    """Path that the document's servers put before every path."""

    def __init__(self, routes: Iterable[Routes], tokens: Tokens) -> None:
        self.endpoints = [endpoint for table in routes for endpoint in table.endpoints]
        self.tokens = dict(tokens)

    async def start(self) -> None:
        """Called before the first request."""

    async def stop(self) -> None:
        """Called after the last request."""

    def save(self) -> None:
        """Put the state on disk; called before a call that may have changed something is answered."""

    def error(self, problem: Problem) -> JsonObject:
        """The body of a refusal."""
        raise NotImplementedError

    def before(self, call: Call) -> None:
        """Refuse a call before it reaches its handler (rate limits)."""

    def headers(self, _call: Call) -> dict[str, str]:
        """Headers of every answer."""
        return {}

    def authenticate(self, call: Call) -> Token:
        """The token of a call. Raises Problem 401."""
        scheme, _, value = call.headers.get("authorization", "").partition(" ")
        token = self.tokens.get(value.strip())
        if scheme.lower() != "bearer" or token is None:
            raise self.unauthenticated()
        return token

    def unauthenticated(self) -> Problem:
        return Problem(401, "unauthorized", "Unable to authenticate you.")

    def forbidden(self, _scope: str) -> Problem:
        return Problem(403, "forbidden", "You are not authorized to perform this operation")

    def not_found(self) -> Problem:
        return Problem(404, "not_found", "The resource you requested could not be found.")

    def wrong_method(self, allowed: Iterable[str]) -> Problem:
        allow = {"allow": ", ".join(sorted(set(allowed)))}
        return Problem(405, "method_not_allowed", "This method is not allowed here.", allow)

    async def answer(self, call: Call) -> Reply:
        """Route a call. Every Problem becomes the vendor's answer."""
        try:
            self.before(call)
            endpoint = self._find(call)
            call.token = self.authenticate(call)
            for scope in endpoint.scopes:
                if not call.token.may(scope):
                    raise self.forbidden(scope)
            result = endpoint.handler(self, call)
            reply = await result if inspect.isawaitable(result) else result
        except Problem as problem:
            reply = Reply(problem.status, self.error(problem), problem.headers)
        if call.method not in ("GET", "HEAD"):
            self.save()
        reply.headers = self.headers(call) | reply.headers
        return reply

    def _find(self, call: Call) -> Endpoint:
        method = "GET" if call.method == "HEAD" else call.method
        allowed = []
        for endpoint in self.endpoints:
            match = endpoint.pattern.fullmatch(call.path)
            if match and endpoint.method == method:
                call.params = match.groupdict()
                return endpoint
            if match:
                allowed.append(endpoint.method)
        if allowed:
            raise self.wrong_method(allowed)
        raise self.not_found()


class Store:
    """A JSON file that is always whole: written beside and renamed. `path` None keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def load(self) -> JsonObject | None:
        """The saved state, None where there is none. Raises ValueError naming a file that is no JSON."""
        if self.path is None or not self.path.exists():
            return None
        try:
            return cast(JsonObject, json.loads(self.path.read_text()))
        except ValueError as error:
            raise ValueError(f"{self.path}: not the state of an emulator ({error}); remove it") from None

    def save(self, state: JsonObject) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(self.path.name + ".new")
        # 0600: the state holds database passwords
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(state, file)
        beside.replace(self.path)


@dataclass
class Fault:
    """A way to fail, for the calls that match.

    `times` None means until removed; `skip` lets that many matching calls pass first. `action` keys:
    `delay` seconds before anything else; `status` (with `retry_after` seconds, `body`: object or text,
    `content_type`) instead of the real answer; `cut` closes the connection half-way through the real
    answer; `after` true lets the call take effect first, as when an answer is lost on its way.
    """

    method: str | None
    path: re.Pattern[str]
    action: JsonObject
    times: int | None = 1
    skip: int = 0
    hits: int = 0

    _ACTION = frozenset({"delay", "status", "retry_after", "body", "content_type", "cut", "after"})

    @classmethod
    def parse(cls, rule: Any) -> Fault:
        """Raises ValueError, saying which part of the rule is wrong."""
        if not isinstance(rule, dict) or not isinstance(rule.get("action"), dict):
            raise ValueError(f"a fault is an object with an `action` object, not {rule!r}")
        unknown = set(rule) - {"match", "times", "skip", "action", "hits"} | set(rule["action"]) - cls._ACTION
        if unknown:
            raise ValueError(f"a fault knows no {', '.join(sorted(unknown))}")
        match = rule.get("match") or {}
        try:
            path = re.compile(match.get("path", ""))
        except re.error as error:
            raise ValueError(f"match.path {match['path']!r} is no regular expression: {error}") from None
        return cls(match.get("method"), path, rule["action"], rule.get("times", 1), rule.get("skip", 0))

    def show(self) -> JsonObject:
        match = {"method": self.method, "path": self.path.pattern}
        return {
            "match": match,
            "times": self.times,
            "skip": self.skip,
            "action": self.action,
            "hits": self.hits,
        }

    def strikes(self, call: Call) -> bool:
        """Whether it hits this call; counts."""
        if self.method not in (None, call.method) or not self.path.search(call.path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


class _CutResponse(Response):
    """Announces the whole body and sends half of it: the server then closes the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def _redact(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            k: "(redacted)" if _SECRETS.search(k) and isinstance(v, str) else _redact(v)
            for k, v in value.items()
        }
    return [_redact(item) for item in value] if isinstance(value, list) else value


def now() -> str:
    """The time as the APIs write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Emulator:
    """The ASGI side of a vendor: reads the call, strikes faults, checks the contract, keeps the log."""

    def __init__(self, vendor: Vendor, contract: Contract, latency: float) -> None:
        self.vendor = vendor
        self.contract = contract
        self.latency = latency
        self.faults: list[Fault] = []
        self.log: deque[JsonObject] = deque(maxlen=20_000)
        self.violations: deque[JsonObject] = deque(maxlen=1_000)
        self.calls = 0

    async def api(self, request: Request) -> Response:
        call = Call(
            method=request.method,
            path=request.scope["path"],
            query=request.query_params,
            headers=request.headers,
            body=await request.body(),
            base_url=str(request.base_url).rstrip("/"),
        )
        entry = self._record(call)
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = next((fault for fault in self.faults if fault.strikes(call)), None)
        response = await self._struck(call, fault) if fault else await self._answer(call)
        entry["status"] = response.status_code
        if call.method != "GET" or response.status_code >= 400:
            log.info("%s %s: %s", call.method, call.path, response.status_code)
        if fault:
            entry["fault"] = fault.action
        return response

    def _record(self, call: Call) -> JsonObject:
        self.calls += 1
        body: Any = None
        if call.body:
            try:
                body = _redact(json.loads(call.body))
            except ValueError:
                body = f"({len(call.body)} bytes that are no JSON)"
        entry = {
            "number": self.calls,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "method": call.method,
            "path": call.path,
            "query": dict(call.query),
            "headers": {name: call.headers[name] for name in _LOGGED_HEADERS if name in call.headers},
            "body": body,
            "status": None,
        }
        self.log.append(entry)
        return entry

    async def _answer(self, call: Call) -> Response:
        broken = self.contract.check_request(call) if self.contract.active else None
        if broken and self.contract.mode == "raise":
            return self._complain(call, broken)
        reply = await self.vendor.answer(call)
        body = reply.encode()
        if not broken and self.contract.active:
            broken = self.contract.check_reply(call, reply)
            if broken and self.contract.mode == "raise":
                return self._complain(call, broken)
        if broken:
            self.violations.append({"method": call.method, "path": call.path, **broken.show()})
        headers = dict(reply.headers)
        if reply.body is not None:
            headers.setdefault("content-type", "application/json; charset=utf-8")
        return Response(b"" if call.method == "HEAD" else body, reply.status, headers)

    def _complain(self, call: Call, broken: Violation) -> Response:
        what = f"{call.method} {call.path}: {broken.where} breaks {self.vendor.document}: {broken.what}"
        self.violations.append({"method": call.method, "path": call.path, **broken.show()})
        return JSONResponse({"id": "contract_violation", "message": what}, 500)

    async def _struck(self, call: Call, fault: Fault) -> Response:
        action = fault.action
        if action.get("delay"):
            await asyncio.sleep(float(action["delay"]))
        status = action.get("status")
        response = None
        if action.get("after") or action.get("cut") or (status is None and "body" not in action):
            response = await self._answer(call)
        if action.get("cut"):
            cut = _CutResponse(response.body if response else b"", response.status_code if response else 200)
            cut.headers["content-type"] = "application/json; charset=utf-8"
            return cut
        if status is None and "body" not in action:
            assert response is not None
            return response
        status = int(status or 200)
        body = action.get("body")
        if body is None:
            problem = Problem(
                status, *_FAULT_TEXT.get(status, ("server_error", "Unexpected server-side error"))
            )
            body = self.vendor.error(problem)
        text = body if isinstance(body, str) else json.dumps(body)
        kind = action.get("content_type") or ("text/html" if isinstance(body, str) else "application/json")
        headers = {"content-type": kind}
        if "retry_after" in action:
            headers["retry-after"] = str(action["retry_after"])
        return Response(text, status, headers)

    # control paths

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok", "emulator": self.vendor.name, "contract": self.contract.state})

    async def requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.log.clear()
            return Response(status_code=204)
        method, path = request.query_params.get("method"), request.query_params.get("path", "")
        entries = [
            entry
            for entry in self.log
            if method in (None, entry["method"]) and re.search(path, str(entry["path"]))
        ]
        return JSONResponse({"requests": entries, "total": len(entries)})

    async def fault_rules(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults = []
            return Response(status_code=204)
        if request.method == "PUT":
            try:
                rules = json.loads(await request.body())
                if not isinstance(rules, list):
                    raise ValueError("the body has to be a list of faults")
                self.faults = [Fault.parse(rule) for rule in rules]
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
        return JSONResponse([fault.show() for fault in self.faults])

    async def contract_violations(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.violations.clear()
            return Response(status_code=204)
        return JSONResponse({"violations": list(self.violations), "contract": self.contract.state})


_FAULT_TEXT: dict[int, tuple[str, str]] = {
    429: ("too_many_requests", "API rate limit exceeded."),
    500: ("server_error", "Unexpected server-side error"),
    503: ("service_unavailable", "Service Unavailable"),
}


def build(
    vendor: Vendor,
    *,
    contract: Contract,
    latency: float = 0.0,
    control: Iterable[Route] = (),
) -> Starlette:
    """The ASGI application of a vendor. `latency` (seconds) delays every answer; `control` adds paths."""
    emulator = Emulator(vendor, contract, latency)

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await vendor.start()
        try:
            yield
        finally:
            await vendor.stop()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route("/_lab/health", emulator.health),
            Route("/_lab/requests", emulator.requests, methods=["GET", "DELETE"]),
            Route("/_lab/faults", emulator.fault_rules, methods=["GET", "PUT", "DELETE"]),
            Route("/_lab/violations", emulator.contract_violations, methods=["GET", "DELETE"]),
            *control,
            Route("/{path:path}", emulator.api, methods=list(METHODS)),
        ],
    )
    app.state.vendor = vendor
    app.state.emulator = emulator
    return app


class Window:
    """A sliding window: at most `limit` calls in `seconds`. `limit` None counts without refusing."""

    def __init__(self, limit: int | None, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.limit = limit
        self.seconds = seconds
        self.clock = clock
        self.times: deque[float] = deque()

    def take(self) -> bool:
        """Count a call; False when it is one too many."""
        self._expire()
        if self.limit is not None and len(self.times) >= self.limit:
            return False
        self.times.append(self.clock())
        return True

    @property
    def used(self) -> int:
        self._expire()
        return len(self.times)

    @property
    def reset(self) -> float:
        """When the oldest call leaves the window (epoch seconds)."""
        return (self.times[0] if self.times else self.clock()) + self.seconds

    def _expire(self) -> None:
        oldest = self.clock() - self.seconds
        while self.times and self.times[0] <= oldest:
            self.times.popleft()

"""Runs modules as Ansible does, against scripted HTTP: every expected call in order, nothing else."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import yaml
from ansible.module_utils.testing import patch_module_args

from tests.unit.plugins.tasks import PACKAGE, run_task

SECRET = "s3cr3t-t0k3n"


@dataclass
class Exchange:
    """A call that must come next, and what answers it.

    `body` is the JSON body (None: there must be none). `answer` is the JSON to answer with, bytes for a raw
    body, or an exception to raise. `headers` are compared for the names given.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    answer: Any = None
    status: int = 200
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = SECRET


class Script:
    """The calls to come. `play` takes the next; what differs fails the test at once."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.sleeps: list[float] = []

    def expect(self, method: str, path: str, **details: Any) -> Script:
        self.exchanges.append(Exchange(method, path, **details))
        return self

    def play(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Exchange:
        assert self.exchanges, f"an unexpected call: {method} {url}"
        expected = self.exchanges.pop(0)
        split = urlsplit(url)
        called = (method, split.path, dict(parse_qsl(split.query)), json.loads(body) if body else None)
        assert called == (expected.method, expected.path, dict(expected.query), expected.body)
        sent = {name.lower(): value for name, value in headers.items()}
        assert sent.get("authorization") == (f"Bearer {expected.token}" if expected.token else None)
        assert sent["accept"] == "application/json"
        assert sent["user-agent"].startswith("vmstio.mastodon/")
        assert ("content-type" in sent) == (body is not None)
        for name, value in expected.headers.items():
            assert sent.get(name.lower()) == value
        if isinstance(expected.answer, Exception):
            raise expected.answer
        return expected

    def done(self) -> None:
        left = [f"{exchange.method} {exchange.path}" for exchange in self.exchanges]
        assert not left, f"calls that were not made: {left}"


def _content(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Scripted answers for all three clients. Pauses take no time and are noted in `sleeps`."""
    made = Script()
    http = importlib.import_module(f"{PACKAGE}.module_utils._http")

    class Connection:
        def __init__(self, endpoint: str, **settings: Any) -> None:
            self.prefix = urlsplit(endpoint).path.rstrip("/")

        def exchange(
            self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
        ) -> tuple[int, Mapping[str, str], bytes]:
            found = made.play(method, self.prefix + target, headers, body)
            return found.status, found.answer_headers, _content(found.answer)

    def send(session: Any, method: str, url: str, **settings: Any) -> requests.Response:
        body = settings.get("data")
        data = body.encode() if isinstance(body, str) else body
        found = made.play(method, url, settings["headers"], data)
        response = requests.Response()
        response.status_code = found.status
        response.url = url
        response.headers.update({"Content-Type": "application/json", **found.answer_headers})
        response._content = b"" if found.answer is None else _content(found.answer)
        response._content_consumed = True  # type: ignore[attr-defined]
        response.raw = SimpleNamespace(enforce_content_length=True)
        return response

    monkeypatch.setattr(http, "Connection", Connection)
    monkeypatch.setattr(requests.Session, "request", send)
    clock = SimpleNamespace(now=1_000.0)

    def sleep(seconds: float) -> None:
        made.sleeps.append(round(seconds, 3))
        clock.now += seconds

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    for variable in ("DIGITALOCEAN", "CLOUDFLARE", "SENDGRID"):
        for name in ("TOKEN", "API_TOKEN", "API_KEY", "ENDPOINT", "CA_FILE"):
            monkeypatch.delenv(f"{variable}_{name}", raising=False)
    yield made
    made.done()


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(script: Script, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a module: `run("cloudflare_dns", {...}, check=True)` gives its result.

    `token=None` is for a module that takes none. The result never holds the token, and only what the module
    documents.
    """

    def run_module(
        name: str, arguments: dict[str, Any], *, check: bool = False, token: str | None = SECRET
    ) -> dict[str, Any]:
        module = importlib.import_module(f"{PACKAGE}.modules.{name}")
        option = "api_key" if name.startswith("sendgrid") else "api_token"

        def run_once(given: dict[str, Any]) -> dict[str, Any]:
            internal = {"_ansible_check_mode": check, "_ansible_diff": True}
            with patch_module_args({**given, **internal}), pytest.raises(SystemExit) as exit_info:
                module.main()
            text = capsys.readouterr().out
            assert SECRET not in text
            answered: dict[str, Any] = json.loads(text)
            assert bool(answered.get("failed")) == (exit_info.value.code != 0)
            return answered

        result = run_task(name, {**({option: token} if token else {}), **arguments}, run_once, check=check)
        documented = set(yaml.safe_load(module.RETURN))
        always = {"changed", "diff", "failed", "msg", "invocation", "warnings", "exception"}
        assert set(result) <= documented | always
        result.pop("invocation", None)
        return result

    return run_module

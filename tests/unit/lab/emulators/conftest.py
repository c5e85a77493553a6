"""Clients of emulators that run in this process."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette

with warnings.catch_warnings():
    # Starlette's client would rather have a successor of httpx that the lab has no other use for
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

from lab.emulators import cloudflare, digitalocean, sendgrid
from lab.emulators.common import grant
from lab.emulators.memory_cloud import MemoryCloud

TOKEN = "all"

Open = Callable[[Starlette], TestClient]


@pytest.fixture
def enter() -> Iterator[Open]:
    """Start applications (their lifespan, too) and stop them after the test."""
    with contextlib.ExitStack() as stack:

        def start(app: Starlette) -> TestClient:
            client = TestClient(app, headers={"authorization": f"Bearer {TOKEN}"})
            return stack.enter_context(client)

        yield start


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


@pytest.fixture
def ocean(enter: Open, cloud: MemoryCloud) -> Callable[..., TestClient]:
    """Start a DigitalOcean emulator before `cloud`: `ocean(action_seconds=..., ...)`."""

    def start(**options: Any) -> TestClient:
        tokens = grant(TOKEN) | options.pop("tokens", {})
        options.setdefault("contract", "off")
        return enter(digitalocean.create_app(options.pop("cloud", cloud), tokens=tokens, **options))

    return start


@pytest.fixture
def flare(enter: Open) -> Callable[..., TestClient]:
    def start(**options: Any) -> TestClient:
        tokens = grant(TOKEN) | options.pop("tokens", {})
        options = {"contract": "off", "zones": ["social.test"]} | options
        return enter(cloudflare.create_app(tokens=tokens, **options))

    return start


@pytest.fixture
def grid(enter: Open) -> Callable[..., TestClient]:
    def start(**options: Any) -> TestClient:
        tokens = grant(TOKEN) | options.pop("tokens", {})
        options = {"contract": "off", "subusers": ["social"]} | options
        return enter(sendgrid.create_app(tokens=tokens, **options))

    return start

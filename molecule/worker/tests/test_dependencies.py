"""The databases go and come back; the worker goes on by itself, with the same processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import pytest

from lab.config import Lab
from lab.runtime import Runtime
from tests.visitor import Visitor

ASKS_REDIS = "/api/v1/standin/schedulers"
ASKS_POSTGRESQL = "/api/v1/standin/job_runs"
PATIENCE = 90


@contextmanager
def gone(lab: Lab, name: str) -> Iterator[None]:
    container: Any = Runtime(docker.from_env(), lab).resolve(name)
    container.stop(timeout=5)
    try:
        yield
    finally:
        container.start()


def status(visitor: Visitor, path: str) -> int | None:
    """None where there was no answer in time."""
    try:
        return visitor.get(f"{path}?{time.time_ns()}").status
    except OSError:
        return None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("vmst-valkey", ASKS_REDIS),
        ("vmst-pg-pgbouncer", ASKS_POSTGRESQL),
        ("vmst-pg-postgres", ASKS_POSTGRESQL),
    ],
)
def test_requests_recover(
    shell: Callable[..., str], visitor: Visitor, lab: Lab, name: str, path: str
) -> None:
    assert status(visitor, path) == 200
    containers = shell("docker", "ps", "--no-trunc", "--quiet")
    with gone(lab, name):
        assert status(visitor, path) != 200
        # The worker itself is well: to take it out of rotation would help nobody.
        assert status(visitor, "/health") == 200
    end = time.monotonic() + PATIENCE
    while (answer := status(visitor, path)) != 200:
        assert time.monotonic() < end, answer
        time.sleep(1)
    assert shell("docker", "ps", "--no-trunc", "--quiet") == containers

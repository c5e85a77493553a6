"""A worker stops, the others serve; it comes back and serves again."""

from __future__ import annotations

import time

import httpx

from lab.instance import Instance

from .conftest import DOMAIN, TestLab, status, until

HEALTH_CHECK_SECONDS = 40
"""The most a load balancer needs to see that a member is gone or back: threshold x interval, a timeout."""


def answers(lab: TestLab, address: str) -> bool:
    """Whether a new visitor is served."""
    try:
        with Instance(DOMAIN, address, lab.settings.ca) as visitor:
            return visitor.request("GET", "/api/v2/instance", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def member_is_up(lab: TestLab, name: str) -> bool:
    return any(
        row["health"].startswith("UP")
        for row in status(lab)
        if (row["kind"], row["name"]) == ("member", name)
    )


def test_a_worker_stops_and_starts(converged: TestLab, instance: Instance) -> None:
    assert answers(converged, instance.address)
    converged("droplet", "stop", "vmst-worker-2").must_succeed()
    try:
        until(lambda: not member_is_up(converged, "vmst-worker-2"), HEALTH_CHECK_SECONDS)
        deadline = time.monotonic() + 20
        served = []
        while time.monotonic() < deadline:
            served.append(answers(converged, instance.address))
            time.sleep(0.2)
        assert all(served), f"{served.count(False)} of {len(served)} requests failed"
    finally:
        converged("droplet", "start", "vmst-worker-2").must_succeed()
    until(lambda: member_is_up(converged, "vmst-worker-2"), 120)
    assert answers(converged, instance.address)

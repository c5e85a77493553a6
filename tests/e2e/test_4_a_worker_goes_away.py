"""A worker stops, the others serve; it comes back and serves again."""

from __future__ import annotations

import time

import httpx

from lab.instance import Instance

from .conftest import DOMAIN, TestLab, members_up, until

HEALTH_CHECK_SECONDS = 40
"""The most a load balancer needs to see that a member is gone or back: threshold x interval, a timeout."""


def answers(lab: TestLab, address: str) -> bool:
    """Whether a new visitor is served."""
    try:
        with Instance(DOMAIN, address, lab.settings.ca) as visitor:
            return visitor.request("GET", "/auth/sign_in", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_worker_stops_and_starts(converged: TestLab, instance: Instance) -> None:
    assert answers(converged, instance.address)
    converged("droplet", "stop", "vmst-worker-2").must_succeed()
    try:
        until(lambda: "vmst-worker-2" not in members_up(converged), HEALTH_CHECK_SECONDS)
        deadline = time.monotonic() + 20
        served = []
        while time.monotonic() < deadline:
            served.append(answers(converged, instance.address))
            time.sleep(0.2)
        assert all(served), f"{served.count(False)} of {len(served)} requests failed"
    finally:
        converged("droplet", "start", "vmst-worker-2").must_succeed()
    until(lambda: "vmst-worker-2" in members_up(converged), 120)
    assert answers(converged, instance.address)

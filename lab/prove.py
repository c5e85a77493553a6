"""Proves that a converged lab's instance works, by using it."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from lab.config import Lab
from lab.engine import LabError, connect, containers
from lab.instance import Instance
from lab.progress import Step
from lab.provision import DOMAIN
from lab.runtime import Runtime

_SECONDS = 90


def prove(lab: Lab, step: Step) -> None:
    """Raises LabError, saying what did not work."""
    client = connect()
    balancers = containers(client, lab.name, "load-balancer")
    if not balancers:
        raise LabError(f"lab {lab.name!r} has no load balancer")
    runtime = Runtime(client, lab)

    def all_up() -> bool:
        members = runtime.members(balancers[0])
        up = [name for name, state in members.items() if state.startswith("UP")]
        step.say(f"load balancer: {len(up)} of {len(members)} members up")
        return bool(members) and len(up) == len(members)

    _until(all_up, "not every member of the load balancer is up (`lab status`)")
    address = balancers[0].labels["io.vmst.lab.public"]
    with Instance(DOMAIN, address, lab.ca) as instance:
        for path in ("/health", "/auth/sign_in"):
            step.say(f"https://{DOMAIN}{path}")
            try:
                status = instance.request("GET", path).status_code
            except httpx.HTTPError as error:
                raise LabError(f"https://{DOMAIN}{path} through {address}: {error}") from error
            if status != 200:
                raise LabError(f"https://{DOMAIN}{path} through {address} answers {status}, not 200")


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _SECONDS
    while not done():
        if time.monotonic() > end:
            raise LabError(what)
        time.sleep(1)

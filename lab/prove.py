"""Proves that a converged lab's instance works, by using it."""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Callable

import httpx
from websockets.exceptions import WebSocketException

from lab.accounts import log_in
from lab.config import Lab
from lab.docker_cloud import LABEL_PUBLIC
from lab.engine import LabError, connect, containers
from lab.instance import PIXEL, Instance, Refused, streamed
from lab.parts import DOMAIN
from lab.progress import Step
from lab.runtime import Runtime

_SECONDS = 90


def prove(lab: Lab, step: Step) -> None:
    """Log in, post a status with a picture, see it come back. Raises LabError, saying what did not work."""
    client = connect()
    runtime = Runtime(client, lab)
    balancers = containers(client, lab.name, "load-balancer")
    if not balancers:
        raise LabError(f"lab {lab.name!r} has no load balancer")

    def all_up() -> bool:
        members = runtime.members(balancers[0])
        up = [name for name, state in members.items() if state.startswith("UP")]
        step.say(f"load balancer: {len(up)} of {len(members)} members up")
        return bool(members) and len(up) == len(members)

    _until(all_up, "not every member of the load balancer is up (`lab status`)")
    address = balancers[0].labels[LABEL_PUBLIC]
    with Instance(DOMAIN, address, lab.ca) as instance:
        try:
            step.say(f"https://{DOMAIN}/ through {address}")
            instance.request("GET", "/").raise_for_status()
            step.say("the admin logs in")
            token = log_in(lab, instance)
            step.say("a status with a picture, and a stream that brings it")
            _post(instance, token)
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise LabError(
                f"{answer.request.method} {answer.request.url.path} through {address} answers "
                f"{answer.status_code}: {answer.text[:300]}"
            ) from error
        except Refused as error:
            raise LabError(f"https://{DOMAIN} through {address}: {error}") from error
        except (httpx.HTTPError, WebSocketException, OSError, TimeoutError) as error:
            raise LabError(f"https://{DOMAIN} through {address}: {error!r}") from error


def _post(instance: Instance, token: str) -> None:
    """The stream brings what a sidekiq put there: a status that comes back was seen by every process."""
    with instance.stream(token) as stream:
        media = instance.upload(token, "pixel.png", PIXEL)
        status = instance.post(token, f"It works: {randomness.token_hex(4)}", [media["id"]])
        streamed(stream, status["id"])


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _SECONDS
    while not done():
        if time.monotonic() > end:
            raise LabError(what)
        time.sleep(1)

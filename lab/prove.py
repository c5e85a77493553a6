"""Proves that a converged lab's instance works, by using it."""

from __future__ import annotations

import re
import secrets as randomness
import subprocess
import time
from collections.abc import Callable

import httpx

from lab import secret
from lab.config import Lab
from lab.engine import LabError, connect, containers
from lab.instance import PIXEL, Instance, next_event
from lab.parts import DOMAIN
from lab.progress import Step
from lab.runtime import Runtime

ADMIN = "admin"
"""User name of the account that the proof makes, with the role Owner; its address is ADMIN@DOMAIN."""

_SECONDS = 90


def prove(lab: Lab, step: Step) -> None:
    """Log in, post a status with a picture, see it come back. Raises LabError, saying what did not work."""
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
        try:
            step.say(f"https://{DOMAIN}/ through {address}")
            instance.request("GET", "/").raise_for_status()
            step.say("the admin logs in")
            token = _log_in(lab, instance)
            step.say("a status with a picture, and a stream that brings it")
            _post(instance, token)
        except httpx.HTTPStatusError as error:
            answer = error.response
            raise LabError(
                f"{answer.request.method} {answer.request.url.path} through {address} answers "
                f"{answer.status_code}: {answer.text[:300]}"
            ) from error
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise LabError(f"https://{DOMAIN} through {address}: {error!r}") from error


def _log_in(lab: Lab, instance: Instance) -> str:
    """An access token of the admin's account, which is made here the first time."""
    email = f"{ADMIN}@{DOMAIN}"
    if password := secret.load(lab.state).get("admin_password"):
        try:
            return instance.log_in(email, password)
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in (400, 401):
                raise
    made = _tootctl(lab, "create", ADMIN, "--email", email, "--confirmed", "--approve", "--role", "Owner")
    if "password" not in made:  # it exists, and its password is not known here
        made = _tootctl(lab, "modify", ADMIN, "--reset-password")
    found = re.search(r"password: (\S+)", made)
    if not found:
        raise LabError(f"tootctl did not make the admin's account: {made.strip()}")
    secret.keep(lab.state, "admin_password", found[1])
    return instance.log_in(email, found[1])


def _tootctl(lab: Lab, *arguments: str) -> str:
    """What `tootctl accounts ARGUMENTS` on exec says."""
    container = Runtime(connect(), lab).resolve("vmst-exec")
    command = ["docker", "exec", container.name, "tootctl", "accounts", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


def _post(instance: Instance, token: str) -> None:
    """The stream brings what a sidekiq put there: a status that comes back was seen by every process."""
    with instance.stream(token) as stream:
        media = instance.upload(token, "pixel.png", PIXEL)
        status = instance.post(token, f"It works: {randomness.token_hex(4)}", [media["id"]])
        if next_event(stream, "update")["id"] != status["id"]:
            raise LabError("the stream brought another status than the one that was posted")


def _until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _SECONDS
    while not done():
        if time.monotonic() > end:
            raise LabError(what)
        time.sleep(1)

"""The Docker engine, as the lab uses it: one client, the lab's errors, what carries the lab's label."""

from __future__ import annotations

from typing import Any

import docker
import docker.errors
import requests.exceptions

from lab.config import LABEL, LABEL_PART

_SECOND = 1_000_000_000
"""Docker counts in nanoseconds."""


class LabError(Exception):
    """Something the lab could not do: one sentence on what, where, and what to do about it."""


def connect(timeout: int = 120) -> docker.DockerClient:
    """A client of the local engine. `timeout` is seconds of silence on one request.

    Raises LabError when no engine answers.
    """
    try:
        client = docker.from_env(timeout=timeout)
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
        advice = "scripts/bootstrap installs and starts it"
        if "Permission denied" in str(error):
            advice = "your user may not use it: use sudo"
        raise LabError(f"the Docker engine does not answer ({error}): {advice}") from error
    return client


def exists(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return False
    return True


def containers(client: docker.DockerClient, lab: str, part: str | None = None) -> list[Any]:
    """Containers of the lab called `lab`, running or not; only those of `part` if given."""
    labels = [f"{LABEL}={lab}"] + ([f"{LABEL_PART}={part}"] if part else [])
    found = client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
    return list(found)


def find(client: docker.DockerClient, name: str) -> Any | None:
    """The container with exactly this name, or None."""
    try:
        return client.containers.get(name)
    except docker.errors.NotFound:
        return None


def healthcheck(command: str) -> dict[str, Any]:
    """Docker's HEALTHCHECK by a shell command; three failures in a row make a container unhealthy."""
    return {
        "test": ["CMD-SHELL", command],
        "interval": 20 * _SECOND,
        "timeout": 10 * _SECOND,
        "retries": 3,
        "start_period": 5 * _SECOND,
    }

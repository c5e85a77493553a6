"""Load on an instance: many clients at the same time, by h2load, in a container of the services image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import docker

from lab.config import LABEL, LABEL_PART, Lab
from lab.engine import LabError
from lab.images import SERVICES


@dataclass(frozen=True)
class Outcome:
    """What became of the requests: answers a second, requests without an answer (refused, broken off, timed
    out), and the number of answers by the first digit of their status (those that there were)."""

    per_second: float
    unanswered: int
    statuses: Mapping[int, int]


def h2load(
    client: docker.DockerClient,
    lab: Lab,
    urls: Sequence[str],
    *,
    network: str,
    connect_to: str,
    clients: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
) -> Outcome:
    """Asks for `urls`, which differ in their path only, in turn, on `clients` kept connections for `seconds`.

    Speaks HTTP/1.1. `network` is Docker's: a network's name, or `container:ID`. `connect_to`: ADDRESS:PORT,
    whatever the URLs' names mean. `headers` are sent besides. Raises LabError where h2load itself fails.
    """
    command = [
        "h2load",
        "--h1",
        f"--clients={clients}",
        f"--duration={seconds}",
        f"--connect-to={connect_to}",
    ]
    command += [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    container: Any = client.containers.run(
        SERVICES,
        [*command, *urls],
        detach=True,
        network_mode=network,
        labels={LABEL: lab.name, LABEL_PART: "load"},
    )
    try:
        code = container.wait(timeout=seconds + 120)["StatusCode"]
        output = container.logs().decode(errors="replace")
    finally:
        container.remove(force=True)
    if code:
        raise LabError(f"h2load ended with exit code {code}: {output.strip()[-600:]}")
    return parse(output)


def parse(output: str) -> Outcome:
    """h2load's summary. Raises LabError where there is none."""
    rate = re.search(r"^finished in .*?, ([\d.]+) req/s", output, re.MULTILINE)
    # Errored are those without an answer; failed counts answers of 400 and more besides.
    errored = re.search(r"^requests: .*? (\d+) errored, ", output, re.MULTILINE)
    statuses = re.search(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output, re.MULTILINE)
    if not (rate and errored and statuses):
        raise LabError(f"h2load said nothing that can be read: {output.strip()[-600:]}")
    numbers = {digit: int(text) for digit, text in enumerate(statuses.groups(), start=2)}
    return Outcome(float(rate[1]), int(errored[1]), {digit: n for digit, n in numbers.items() if n})


def assets(page: str) -> list[str]:
    """Paths of the static files that an HTML page of the instance asks for."""
    return re.findall(r'(?:src|href)="(?:https://[^/"]+)?(/(?:packs|assets)/[^"]+)"', page)

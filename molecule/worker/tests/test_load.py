"""Many visitors at the same time, through the load balancer."""

from __future__ import annotations

from collections.abc import Callable

import docker

from lab.config import Lab
from lab.instance import Instance
from lab.load import assets, h2load


def test_a_hundred_clients_for_a_minute(
    lab: Lab, instance: Instance, measured: Callable[[str], None]
) -> None:
    page = instance.request("GET", "/").raise_for_status().text
    # Without the API, which answers 300 requests in five minutes to one address.
    paths = ["/", "/about", "/explore", assets(page)[0]]
    outcome = h2load(
        docker.from_env(),
        lab,
        [f"https://{instance.domain}{path}" for path in paths],
        network=lab.container("public"),
        connect_to=f"{instance.address}:443",
        clients=100,
        seconds=60,
    )
    measured(f"100 clients for 60 s: {dict(outcome.statuses)}, {outcome.per_second:.0f} answers a second")
    assert outcome.unanswered == 0
    assert outcome.statuses.keys() == {2}
    assert outcome.statuses[2] > 1000

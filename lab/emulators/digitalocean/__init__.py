"""An emulated DigitalOcean API in front of a `lab.cloud.Cloud`.

The API keeps what an account can see; the Cloud makes it real. Facts about the vendor come from its
OpenAPI document, what that leaves open from its documentation and from the behaviour other clients rely on.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette

from lab.cloud import Cloud
from lab.emulators.common import Tokens, build
from lab.emulators.contract import Contract, Mode
from lab.emulators.digitalocean import account, databases, droplets, load_balancers, networking, storage
from lab.emulators.digitalocean.api import DigitalOcean, Limits, state_file

__all__ = ["DigitalOcean", "Limits", "create_app"]

_MODULES = (account, droplets, load_balancers, networking, databases, storage)


def create_app(
    cloud: Cloud,
    *,
    tokens: Tokens,
    state: Path | None = None,
    action_seconds: float = 0.0,
    limits: Limits | None = None,
    contract: Mode = "log",
    latency: float = 0.0,
    watch_seconds: float = 0.0,
    retry_seconds: Sequence[float] = (2, 5, 10, 30),
    public: ipaddress.IPv4Network | str = "198.51.100.0/24",
    private: ipaddress.IPv4Network | str = "10.118.0.0/20",
    synthetic_droplets: int = 0,
    instance: str = "vmst",
) -> Starlette:
    """The ASGI application.

    `state`: directory that keeps the account over a restart. `action_seconds`: least time an action takes.
    `limits`: calls per token (default: none). `latency`: seconds before every answer. `watch_seconds`: how
    often the Cloud is asked whether the droplets run (0: never). `retry_seconds`: pauses before the next try
    of what the Cloud refused and no action reports (load balancers, clusters, deletions).
    `synthetic_droplets`: so many droplets that only the API knows, of the instance `instance`.
    """
    vendor = DigitalOcean(
        [module.routes for module in _MODULES],
        tokens,
        cloud,
        store=state_file(state),
        action_seconds=action_seconds,
        limits=limits or Limits(),
        public=ipaddress.IPv4Network(public),
        private=ipaddress.IPv4Network(private),
        watch_seconds=watch_seconds,
        retry_seconds=retry_seconds,
    )
    account.default_project(vendor)
    for resume in (droplets.resume, load_balancers.resume, networking.resume, databases.resume):
        vendor.on_start(resume)
    if synthetic_droplets:
        droplets.add_synthetic(vendor, synthetic_droplets, instance)
    return build(vendor, contract=Contract(vendor.document, contract), latency=latency)

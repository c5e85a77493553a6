"""An emulated Cloudflare API: zones, DNS records, zone settings, cache rules.

The lab's name server answers from the records (`/_lab/zone/NAME`, or the API itself).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.emulators.cloudflare import records, rulesets
from lab.emulators.cloudflare import zones as zone_routes
from lab.emulators.cloudflare.api import PREFIX, Cloudflare
from lab.emulators.common import Store, Tokens, build
from lab.emulators.contract import Contract, Mode

__all__ = ["CDN_ADDRESSES", "PREFIX", "Cloudflare", "create_app"]

_MODULES = (records, zone_routes, rulesets)

# Not Cloudflare's: documentation ranges, so that nginx in the lab trusts nobody who could be real.
CDN_ADDRESSES = {"ipv4": ["192.0.2.0/24"], "ipv6": ["2001:db8:cf::/48"]}


def create_app(
    *,
    tokens: Tokens,
    zones: Iterable[str] = (),
    state: Path | None = None,
    limit: int | None = None,
    contract: Mode = "log",
    latency: float = 0.0,
    cdn_addresses: Mapping[str, list[str]] | None = None,
) -> Starlette:
    """The ASGI application.

    `zones`: names of zones that shall exist. `state`: directory that keeps the account over a restart.
    `limit`: calls per token in five minutes (Cloudflare: 1200; default: none). `cdn_addresses`: what
    `/ips` answers, lists of CIDRs under `ipv4` and `ipv6`. Beside the common control paths there is
    `GET /_lab/zone/NAME`: the records of a zone without a token, as a list.
    """
    vendor = Cloudflare(
        [module.routes for module in _MODULES],
        tokens,
        store=Store(state / "cloudflare.json" if state else None),
        zones=zones,
        limit=limit,
        cdn_addresses=cdn_addresses or CDN_ADDRESSES,
    )

    async def zone_records(request: Request) -> Response:
        for zone in vendor.state.zones.values():
            if zone["name"] == request.path_params["name"].lower().rstrip("."):
                return JSONResponse(list(vendor.state.records[zone["id"]].values()))
        return JSONResponse({"error": f"no zone {request.path_params['name']}"}, 404)

    return build(
        vendor,
        contract=Contract(vendor.document, contract, server=vendor.server),
        latency=latency,
        control=[Route("/_lab/zone/{name}", zone_records)],
    )

"""What of the vendors' documents is emulated, and that nothing else is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from lab.emulators import cloudflare, digitalocean, sendgrid
from lab.emulators.common import Vendor, grant
from lab.emulators.memory_cloud import MemoryCloud

# Operations that the lab does without, by the start of their path.
LEFT_OUT = {
    "digitalocean": {
        "/v2/nfs": "the instance keeps media in Spaces",
        "/v2/reserved_ips": "the load balancer has the instance's address",
        "/v2/domains": "the instance's DNS is Cloudflare's",
        "/v2/volumes": "droplets have no data of their own",
        "/v2/monitoring": "minutes of lag: no gate leans on it, and telemetry is InfluxDB's",
        "/v2/snapshots/{}": "the lab has no snapshots, only their empty list",
        "/v2/images/{} DELETE": "the lab has no images of its own",
        "/v2/databases/{}/replicas": "the lab has no replicas, only their empty list",
    },
    "cloudflare": {
        "/zones/{}/dns_records/export": "nobody reads a zone file",
        "/zones/{}/settings PATCH": "the document and older clients disagree about the body",
        "/zones/{}/settings/ssl_automatic_mode": "the collection sets ssl itself",
        "/zones/{}/rulesets POST": "entry points are made by PUT",
        "/zones/{}/dnssec DELETE": "the registrar's half can not be emulated",
        "/zones/{}/dnssec PATCH": "the registrar's half can not be emulated",
    },
    "sendgrid": {
        "/v3/mail": "Mastodon sends by SMTP",
        "/v3/whitelabel/dns": "sends a mail to an admin",
    },
}


def vendors() -> list[Vendor]:
    apps = (
        digitalocean.create_app(MemoryCloud(), tokens=grant("t"), contract="off"),
        cloudflare.create_app(tokens=grant("t"), contract="off"),
        sendgrid.create_app(tokens=grant("t"), contract="off"),
    )
    return [app.state.vendor for app in apps]


def plain(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "{}", path)


def documented(vendor: Vendor, where: Path) -> set[tuple[str, str]]:
    document = json.loads((where / vendor.document).read_text())
    return {
        (verb.upper(), plain(path))
        for path, operations in document["paths"].items()
        for verb in operations
        if verb in ("get", "post", "put", "patch", "delete")
    }


def emulated(vendor: Vendor) -> set[tuple[str, str]]:
    return {(e.method, plain(e.path.removeprefix(vendor.server))) for e in vendor.endpoints}


@pytest.mark.parametrize("vendor", vendors(), ids=lambda vendor: vendor.name)
def test_nothing_is_invented(vendor: Vendor, vendor_documents: Path) -> None:
    assert emulated(vendor) - documented(vendor, vendor_documents) == set()


@pytest.mark.parametrize("vendor", vendors(), ids=lambda vendor: vendor.name)
def test_what_is_left_out_is_known(vendor: Vendor, vendor_documents: Path) -> None:
    missing = documented(vendor, vendor_documents) - emulated(vendor)
    reasons = LEFT_OUT[vendor.name]

    def excused(operation: tuple[str, str]) -> Iterable[str]:
        verb, path = operation
        return [
            start
            for start in reasons
            if (start == f"{path} {verb}") or (" " not in start and path.startswith(start))
        ]

    assert {operation for operation in missing if not excused(operation)} == set()
    used = {start for operation in missing for start in excused(operation)}
    assert used == set(reasons), "an excuse for what is not missing"


def test_scopes_are_those_of_the_document(vendor_documents: Path) -> None:
    vendor = vendors()[0]
    document = json.loads((vendor_documents / vendor.document).read_text())
    wanted = {
        (verb.upper(), plain(path)): [set(choice["bearer_auth"]) for choice in operation["security"]]
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
        if isinstance(operation, dict) and "security" in operation
    }
    # where the text asks for more than the security section says: tag:read to find droplets by tag
    more = {"tag:read"}
    for endpoint in vendor.endpoints:
        choices = wanted[(endpoint.method, plain(endpoint.path))]
        scopes = set(endpoint.scopes)
        assert any(choice in (scopes, scopes - more) for choice in choices), endpoint

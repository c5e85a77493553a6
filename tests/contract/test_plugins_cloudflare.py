"""The Cloudflare modules against the emulator; every exchange is held against the vendor's document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.emulators import cloudflare
from lab.emulators.common import grant
from lab.emulators.testing import running
from lab.pki import Authority, Certificate

from .conftest import Module, client_of
from .faults import FAULTS, JSON_API_ENDS, PATIENCE, RATE_LIMITS, REPEATED, UNCLEAR, Emulated

TOKENS = grant(
    "all-t0k3n",
    **{
        "blind-t0k3n": [],
        "reader-t0k3n": ["zone:read", "dns:read", "zone_settings:read"],
    },
)
RECORDS: list[dict[str, Any]] = [
    {"type": "A", "content": "203.0.113.10", "proxied": True},
    {"type": "AAAA", "content": "2001:DB8:0::10"},
    {"name": "files", "type": "CNAME", "content": "CDN.example.net."},
    {"type": "MX", "content": "mx.example.net", "priority": 10, "ttl": 300},
    {"type": "TXT", "content": "v=spf1 -all", "comment": "mail"},
    {"name": "long", "type": "TXT", "content": "x" * 400},
    {"type": "CAA", "content": "0 issue letsencrypt.org"},
    {"name": "_imaps._tcp", "type": "SRV", "content": "0 5 993 mx.example.net"},
]
READ, BATCH = "dns_records$", "dns_records/batch$"


class Flare(Emulated):
    """The emulator and a module that calls it."""

    def __init__(self, client: httpx.Client, url: str, module: Module) -> None:
        super().__init__(client)
        self.url, self.module = url + cloudflare.PREFIX, module

    def dns(self, records: Any = RECORDS, token: str = "all-t0k3n", **more: Any) -> dict[str, Any]:
        check = more.pop("check", False)
        arguments = {"zone": "social.test", "records": records, **more}
        return self.module("cloudflare_dns", self.url, token, arguments, check=check)

    def settings(self, token: str = "all-t0k3n", **more: Any) -> dict[str, Any]:
        check = more.pop("check", False)
        return self.module(
            "cloudflare_zone_settings", self.url, token, {"zone": "social.test", **more}, check=check
        )

    def ranges(self, path: Path, *, check: bool = False, **more: Any) -> dict[str, Any]:
        return self.module("cloudflare_ranges", self.url, None, {"path": str(path), **more}, check=check)

    def zone(self) -> list[tuple[str, str]]:
        return sorted((r["name"], r["type"]) for r in self.client.get("/_lab/zone/social.test").json())


@pytest.fixture
def flare_lab(
    certificate: Certificate, authority: Authority, vendor_documents: Path, module: Module
) -> Iterator[Flare]:
    app = cloudflare.create_app(tokens=TOKENS, zones=["social.test"], contract="raise")
    with running(app, certificate) as url, client_of(url, authority) as client:
        yield Flare(client, url, module)


def test_a_set_of_records(flare_lab: Flare) -> None:
    before = flare_lab.zone()
    assert flare_lab.dns(check=True)["changed"] is True
    assert flare_lab.last_parts() == ["GET zones", "GET dns_records"]
    assert flare_lab.zone() == before
    first = flare_lab.dns()
    assert first["changed"] is True, first
    assert flare_lab.last_parts() == ["GET zones", "GET dns_records", "POST batch"]
    assert len(flare_lab.zone()) == len(before) + len(RECORDS)
    assert flare_lab.dns(list(reversed(RECORDS)), exclusive=True)["changed"] is False
    assert flare_lab.last_parts() == ["GET zones", "GET dns_records"]


def test_update_and_delete(flare_lab: Flare) -> None:
    flare_lab.dns()
    records = [{**RECORDS[0], "content": "203.0.113.11"}, {"type": "TXT", "state": "absent"}]
    result = flare_lab.dns(records, exclusive=True)
    assert (len(result["updated"]), len(result["deleted"]), len(result["created"])) == (1, 1, 0), result
    assert flare_lab.dns(records, exclusive=True)["changed"] is False
    assert ("social.test", "TXT") not in flare_lab.zone()
    assert ("long.social.test", "TXT") in flare_lab.zone()


def test_zone_settings(flare_lab: Flare) -> None:
    assert flare_lab.settings(http3=True, check=True)["changed"] is True
    assert flare_lab.settings(http3=True)["changed"] is True
    flare_lab.last_parts()
    assert flare_lab.settings(http3=True)["changed"] is False
    assert flare_lab.last_parts() == ["GET zones", "GET settings"]


@pytest.mark.parametrize(
    ("token", "call", "permission"),
    [
        ("nobody-t0k3n", "GET https", "Zone Read"),
        ("blind-t0k3n", "GET https", "Zone Read"),
        ("reader-t0k3n", "POST https", "DNS Write"),
    ],
)
def test_wrong_tokens(flare_lab: Flare, token: str, call: str, permission: str) -> None:
    result = flare_lab.dns(token=token)
    assert result["msg"].startswith(call)
    assert result["msg"].endswith(
        "Set a valid token in api_token or CLOUDFLARE_API_TOKEN. "
        f"This call needs its permission {permission}."
    )


def test_settings_need_their_permission(flare_lab: Flare) -> None:
    assert "This call needs its permission Zone Settings Write." in flare_lab.settings("reader-t0k3n")["msg"]


@pytest.mark.parametrize("name", RATE_LIMITS)
@pytest.mark.parametrize("path", [READ, BATCH])
def test_rate_limit_is_waited_for(flare_lab: Flare, path: str, name: str) -> None:
    flare_lab.fault(path, times=2, **FAULTS[name])
    assert flare_lab.dns()["changed"] is True
    assert len(flare_lab.zone()) == len(RECORDS)


@pytest.mark.parametrize("name", REPEATED)
def test_a_read_is_repeated(flare_lab: Flare, name: str) -> None:
    flare_lab.fault(READ, times=2, **FAULTS[name])
    assert flare_lab.dns()["changed"] is True
    assert flare_lab.last_parts().count("POST batch") == 1


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", UNCLEAR)
def test_nothing_is_created_twice(flare_lab: Flare, name: str, after: bool) -> None:
    """The answer to the batch is lost, before it was carried out or after."""
    flare_lab.fault(BATCH, **FAULTS[name], after=after or name == "cut off")
    before = flare_lab.zone()
    result = flare_lab.dns()
    assert result["changed"] is True, result
    assert len(result["created"]) == len(RECORDS)
    assert len(flare_lab.zone()) == len(before) + len(RECORDS)
    assert len(set(flare_lab.zone())) == len(flare_lab.zone())


@pytest.mark.parametrize("after", [False, True])
def test_a_time_out_is_no_second_record(flare_lab: Flare, after: bool) -> None:
    lost: dict[str, Any] = {} if after else {"status": 500}
    flare_lab.fault(BATCH, delay=1.5, after=after, **lost)
    assert flare_lab.dns(timeout=0.5)["changed"] is True
    assert len(set(flare_lab.zone())) == len(flare_lab.zone()) == len(RECORDS)


@pytest.mark.parametrize(("name", "problem", "advice"), JSON_API_ENDS)
def test_what_does_not_end(flare_lab: Flare, name: str, problem: str, advice: str) -> None:
    flare_lab.fault(READ, times=None, **FAULTS[name])
    result = flare_lab.dns(timeout=PATIENCE[name])
    assert result["failed"] is True
    assert result["msg"].startswith(f"GET {flare_lab.url}/zones/")
    assert problem in result["msg"]
    assert result["msg"].endswith(advice)
    assert flare_lab.zone() == []


def test_an_untrusted_certificate_and_nobody_there(flare_lab: Flare, module: Module, tmp_path: Path) -> None:
    other = Authority.open(tmp_path, "other")
    result = flare_lab.dns(ca_file=str(other.file))
    assert "certificate is not trusted" in result["msg"]
    assert result["msg"].endswith("Set ca_file to the authority that signed it.")
    arguments = {"zone": "social.test", "records": RECORDS}
    nobody = module("cloudflare_dns", "https://127.0.0.1:1/client/v4", "all-t0k3n", arguments)
    assert "no answer" in nobody["msg"]
    assert nobody["msg"].endswith("Check the network, proxy and endpoint, then run again.")


# --- ranges

RANGES = [*cloudflare.CDN_ADDRESSES["ipv4"], *cloudflare.CDN_ADDRESSES["ipv6"]]


def test_ranges(flare_lab: Flare, tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    planned = flare_lab.ranges(path, check=True)
    assert (planned["changed"], planned["ranges"], planned["source"]) == (True, RANGES, "cloudflare")
    assert not path.exists()
    assert flare_lab.ranges(path)["changed"] is True
    again = flare_lab.ranges(path)
    assert (again["changed"], again["ranges"], again["source"]) == (False, RANGES, "cloudflare")
    assert flare_lab.last_parts() == ["GET ips"] * 3


@pytest.mark.parametrize("name", [*RATE_LIMITS, *REPEATED, "HTML error", "time-out"])
def test_ranges_are_asked_for_again(flare_lab: Flare, tmp_path: Path, name: str) -> None:
    flare_lab.fault("/ips$", times=2, **FAULTS[name])
    result = flare_lab.ranges(tmp_path / "ranges.json", timeout=PATIENCE[name])
    assert (result["changed"], result["source"]) == (True, "cloudflare")


@pytest.mark.parametrize(("name", "problem", "advice"), JSON_API_ENDS)
def test_ranges_are_kept(flare_lab: Flare, tmp_path: Path, name: str, problem: str, advice: str) -> None:
    path = tmp_path / "ranges.json"
    flare_lab.fault("/ips$", times=None, **FAULTS[name])
    first = flare_lab.ranges(path, timeout=PATIENCE[name])
    assert (first["changed"], first["source"], path.exists()) == (False, "published", False)
    flare_lab.client.delete("/_lab/faults")
    flare_lab.ranges(path)
    flare_lab.fault("/ips$", times=None, **FAULTS[name])
    second = flare_lab.ranges(path, timeout=PATIENCE[name])
    assert (second["changed"], second["source"], second["ranges"]) == (False, "kept", RANGES)
    for result in (first, second):
        (warning,) = result["warnings"]
        assert f"GET {flare_lab.url}/ips: " in warning
        assert problem in warning
        assert warning.endswith(advice)


def test_ranges_that_are_not_believed(flare_lab: Flare, tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    flare_lab.ranges(path)
    everybody = {"success": True, "result": {"ipv4_cidrs": ["64.0.0.0/2"], "ipv6_cidrs": ["2606:4700::/32"]}}
    flare_lab.fault("/ips$", status=200, body=everybody)
    result = flare_lab.ranges(path)
    assert (result["source"], result["ranges"]) == ("kept", RANGES)
    assert "the answer is not believed: 64.0.0.0/2 " in result["warnings"][0]

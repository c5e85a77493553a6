"""The SendGrid modules against the emulator; every exchange is held against the vendor's document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.emulators import sendgrid
from lab.emulators.common import grant
from lab.emulators.testing import running
from lab.pki import Authority, Certificate

from .conftest import Module, client_of
from .faults import FAULTS, JSON_API_ENDS, PATIENCE, RATE_LIMITS, REPEATED, UNCLEAR, Emulated

TOKENS = grant(
    "all-k3y",
    **{"blind-k3y": [], "reader-k3y": ["tracking_settings.read", "whitelabel.read"]},
)
LISTED = "^/v3/tracking_settings$"
DOMAINS = "^/v3/whitelabel/domains$"


class Grid(Emulated):
    """The emulator and the modules that call it."""

    def __init__(self, client: httpx.Client, url: str, module: Module) -> None:
        super().__init__(client)
        self.url, self.module = url, module

    def tracking(self, token: str = "all-k3y", *, check: bool = False, **options: Any) -> dict[str, Any]:
        return self.module("sendgrid_tracking", self.url, token, options, check=check)

    def domain(self, token: str = "all-k3y", *, check: bool = False, **options: Any) -> dict[str, Any]:
        options = {"domain": "social.test", **options}
        return self.module("sendgrid_domain", self.url, token, options, check=check)

    def domains(self) -> list[dict[str, Any]]:
        answer = self.client.get("/v3/whitelabel/domains", headers={"authorization": "Bearer all-k3y"})
        found: list[dict[str, Any]] = answer.json()
        return found


@pytest.fixture
def grid_lab(
    certificate: Certificate, authority: Authority, vendor_documents: Path, module: Module
) -> Iterator[Grid]:
    app = sendgrid.create_app(tokens=TOKENS, subusers=["social"], contract="raise")
    with running(app, certificate) as url, client_of(url, authority) as client:
        yield Grid(client, url, module)


def test_tracking_goes_off(grid_lab: Grid) -> None:
    assert grid_lab.tracking(check=True)["changed"] is True
    assert grid_lab.last_parts() == ["GET tracking_settings"]
    assert grid_lab.tracking()["changed"] is True
    assert grid_lab.last_parts() == ["GET tracking_settings", "PATCH click", "PATCH open"]
    assert grid_lab.tracking()["changed"] is False
    assert grid_lab.last_parts() == ["GET tracking_settings"]
    assert grid_lab.tracking(subuser="social")["changed"] is True, "a subuser has settings of its own"


def test_a_domain_is_authenticated(grid_lab: Grid) -> None:
    assert grid_lab.domain(check=True)["records"] == []
    assert grid_lab.domains() == []
    made = grid_lab.domain(default=True)
    assert made["changed"] is True
    assert [record["type"] for record in made["records"]] == ["CNAME"] * 3
    not_yet = grid_lab.domain(validate=True, wait_timeout=0)
    assert set(not_yet["reasons"]) == {"mail_cname", "dkim1", "dkim2"}
    records = {record["name"].rstrip("."): record["content"] for record in made["records"]}
    grid_lab.client.put("/_lab/dns", json=records).raise_for_status()
    seen = grid_lab.domain(validate=True)
    assert (seen["changed"], seen["valid"]) == (False, True)
    assert grid_lab.domain(default=False)["changed"] is True
    grid_lab.last_parts()
    assert grid_lab.domain(default=False, validate=True)["changed"] is False
    assert grid_lab.last_parts() == ["GET domains"]
    assert len(grid_lab.domains()) == 1


@pytest.mark.parametrize(
    ("token", "advice"),
    [
        ("nobody-k3y", "Set a valid token in api_key or SENDGRID_API_KEY."),
        ("blind-k3y", "The token lacks a permission: this call needs tracking_settings.read."),
        ("reader-k3y", "The token lacks a permission: this call needs tracking_settings.click.update."),
    ],
)
def test_wrong_keys(grid_lab: Grid, token: str, advice: str) -> None:
    message = grid_lab.tracking(token)["msg"]
    assert message.startswith(("GET https", "PATCH https"))
    assert message.endswith(advice)


@pytest.mark.parametrize(
    ("token", "scope"), [("blind-k3y", "whitelabel.read"), ("reader-k3y", "whitelabel.create")]
)
def test_a_domain_needs_its_scopes(grid_lab: Grid, token: str, scope: str) -> None:
    assert grid_lab.domain(token)["msg"].endswith(f"this call needs {scope}.")


@pytest.mark.parametrize("name", RATE_LIMITS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_rate_limit_is_waited_for(grid_lab: Grid, method: str, name: str) -> None:
    grid_lab.fault(DOMAINS, times=2, method=method, **FAULTS[name])
    assert grid_lab.domain()["changed"] is True
    assert len(grid_lab.domains()) == 1


@pytest.mark.parametrize("name", REPEATED)
@pytest.mark.parametrize("path", [LISTED, "/tracking_settings/click$"])
def test_what_can_be_repeated_is(grid_lab: Grid, path: str, name: str) -> None:
    grid_lab.fault(path, times=2, **FAULTS[name])
    assert grid_lab.tracking()["changed"] is True
    assert grid_lab.tracking()["changed"] is False


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", UNCLEAR)
def test_no_domain_is_created_twice(grid_lab: Grid, name: str, after: bool) -> None:
    grid_lab.fault(DOMAINS, method="POST", **FAULTS[name], after=after or name == "cut off")
    result = grid_lab.domain()
    assert result["changed"] is True, result
    assert len(grid_lab.domains()) == 1
    assert result["domain"]["id"] == grid_lab.domains()[0]["id"]


@pytest.mark.parametrize("after", [False, True])
def test_a_time_out_is_no_second_domain(grid_lab: Grid, after: bool) -> None:
    grid_lab.fault(DOMAINS, method="POST", delay=1.5, after=after, **({} if after else {"status": 500}))
    assert grid_lab.domain(timeout=0.5)["changed"] is True
    assert len(grid_lab.domains()) == 1


@pytest.mark.parametrize(("name", "problem", "advice"), JSON_API_ENDS)
def test_what_does_not_end(grid_lab: Grid, name: str, problem: str, advice: str) -> None:
    grid_lab.fault(LISTED, times=None, **FAULTS[name])
    result = grid_lab.tracking(timeout=PATIENCE[name])
    assert result["failed"] is True
    assert result["msg"].startswith(f"GET {grid_lab.url}/v3/tracking_settings: ")
    assert problem in result["msg"]
    assert result["msg"].endswith(advice)

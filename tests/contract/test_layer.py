"""The contract layer itself: it sees wrong answers too, and keeps a list where it may not stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.emulators import digitalocean
from lab.emulators.common import grant
from lab.emulators.contract import Contract, Mode
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import running


@pytest.fixture
def wrong() -> Iterator[Any]:
    """Serve an account in which a VPC has a URN that no answer may have."""
    with contextlib.ExitStack() as stack:

        def serve(mode: Mode) -> httpx.Client:
            app = digitalocean.create_app(MemoryCloud(), tokens=grant("all"), contract=mode)
            app.state.vendor.default_vpc("nyc3")["urn"] = "not a urn"
            url = stack.enter_context(running(app))
            headers = {"authorization": "Bearer all"}
            return stack.enter_context(httpx.Client(base_url=url, headers=headers))

        yield serve


def test_a_wrong_answer_is_caught(wrong: Any) -> None:
    answer = wrong("raise").get("/v2/vpcs")
    assert answer.status_code == 500
    assert "answer breaks digitalocean-fixed.json" in answer.json()["message"]
    assert "urn" in answer.json()["message"]


def test_or_listed(wrong: Any) -> None:
    client = wrong("log")
    assert client.get("/v2/vpcs").status_code == 200
    assert client.get("/v2/droplets?per_page=1000").status_code == 200
    listed = client.get("/_lab/violations").json()
    assert listed["contract"] == "log"
    assert [(v["path"], v["where"]) for v in listed["violations"]] == [
        ("/v2/vpcs", "answer"),
        ("/v2/droplets", "request"),
    ]
    assert client.delete("/_lab/violations").status_code == 204
    assert client.get("/_lab/violations").json()["violations"] == []


def test_or_not_looked_at(wrong: Any) -> None:
    client = wrong("off")
    assert client.get("/v2/vpcs").status_code == 200
    assert client.get("/_lab/violations").json() == {"violations": [], "contract": "off"}


def test_a_control_call_is_no_exchange(wrong: Any) -> None:
    assert wrong("raise").get("/_lab/requests").status_code == 200


def test_without_a_document_nothing_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VENDOR_OPENAPI", str(tmp_path))
    contract = Contract("digitalocean-fixed.json", "raise")
    assert not contract.active
    assert contract.state == "no document"

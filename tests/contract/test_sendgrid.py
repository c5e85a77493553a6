"""The SendGrid emulator, every exchange held against the vendor's document."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


def ok(answer: httpx.Response, status: int = 200) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def test_tracking_settings(grid: httpx.Client) -> None:
    names = [setting["name"] for setting in ok(grid.get("/v3/tracking_settings"))["result"]]
    assert sorted(names) == ["click", "google_analytics", "open", "subscription"]
    for headers in ({}, {"on-behalf-of": "social"}):
        for name in names:
            path = f"/v3/tracking_settings/{name}"
            before = ok(grid.get(path, headers=headers))
            after = ok(grid.patch(path, json={"enabled": not before["enabled"]}, headers=headers))
            assert after == {**before, "enabled": not before["enabled"]}


def test_domain_authentication(grid: httpx.Client) -> None:
    body = {"domain": "social.test", "subdomain": "em", "automatic_security": True, "default": True}
    domain = ok(grid.post("/v3/whitelabel/domains", json=body), 201)
    path = f"/v3/whitelabel/domains/{domain['id']}"
    assert ok(grid.post(f"{path}/validate"))["valid"] is False
    grid.put("/_lab/dns", json={record["host"]: record["data"] for record in domain["dns"].values()})
    assert ok(grid.post(f"{path}/validate"))["valid"] is True
    assert ok(grid.get(path))["valid"] is True
    listed = ok(grid.get("/v3/whitelabel/domains", params={"limit": 10, "domain": "social.test"}))
    assert [entry["id"] for entry in listed] == [domain["id"]]
    ok(grid.patch(path, json={"default": True}))
    ok(grid.get("/v3/whitelabel/domains/default"))
    assert grid.delete(path).status_code == 204
    assert grid.get(path).status_code == 404


def test_link_branding(grid: httpx.Client) -> None:
    link = ok(grid.post("/v3/whitelabel/links", json={"domain": "social.test", "default": True}), 201)
    path = f"/v3/whitelabel/links/{link['id']}"
    ok(grid.post(f"{path}/validate"))
    ok(grid.get(path))
    ok(grid.get("/v3/whitelabel/links"))
    ok(grid.get("/v3/whitelabel/links/default"))
    ok(grid.patch(path, json={"default": False}))
    assert grid.delete(path).status_code == 204


def test_scopes_and_refusals(grid: httpx.Client) -> None:
    assert "tracking_settings.click.update" in ok(grid.get("/v3/scopes"))["scopes"]
    for header in ("Bearer nope", ""):
        assert grid.get("/v3/scopes", headers={"authorization": header}).status_code == 401
    # the document does not see a misspelt key, the emulator does
    assert grid.patch("/v3/tracking_settings/click", json={"enable": False}).status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v3/tracking_settings/click", {"enabled": "no"}),
        ("PATCH", "/v3/tracking_settings/clicks", {"enabled": True}),
        ("PATCH", "/v3/tracking_settings/subscription", {"landing": 1}),
        ("POST", "/v3/whitelabel/domains", {"subdomain": "em"}),
        ("POST", "/v3/whitelabel/domains", {"domain": "social.test", "default": "yes"}),
        ("POST", "/v3/whitelabel/links", {"domain": "social.test", "region": "global"}),
        ("GET", "/v3/whitelabel/domains?limit=many", None),
    ],
)
def test_a_malformed_call_is_caught(closed_grid: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = closed_grid.request(method, path, json=body)
    assert answer.status_code == 500, answer.text
    assert "request breaks sendgrid.json" in answer.json()["message"]

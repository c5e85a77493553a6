"""The Cloudflare emulator, every exchange held against the vendor's document."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from lab.emulators.cloudflare.zones import READ_ONLY, SETTINGS


def zone(client: httpx.Client) -> str:
    answer = client.get("/zones", params={"name": "social.test"})
    assert answer.status_code == 200, answer.text
    return f"/zones/{answer.json()['result'][0]['id']}"


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    return answer.json()["result"]


RECORDS: list[dict[str, Any]] = [
    {"type": "A", "name": "social.test", "content": "198.51.100.4", "ttl": 1, "proxied": True},
    {"type": "AAAA", "name": "social.test", "content": "2001:db8::4", "ttl": 1, "proxied": True},
    {
        "type": "CNAME",
        "name": "em.social.test",
        "content": "u1.wl.sendgrid.net",
        "ttl": 3600,
        "comment": "mail",
    },
    {"type": "TXT", "name": "social.test", "content": '"v=spf1 -all"', "ttl": 3600},
    {"type": "MX", "name": "social.test", "content": "mx.social.test", "priority": 10, "ttl": 3600},
    {
        "type": "CAA",
        "name": "social.test",
        "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"},
        "ttl": 3600,
    },
    {
        "type": "SRV",
        "name": "_x._tcp.social.test",
        "data": {"priority": 1, "weight": 1, "port": 5, "target": "a.social.test"},
        "ttl": 3600,
    },
]


def test_records_of_every_kind(flare: httpx.Client) -> None:
    path = zone(flare)
    for record in RECORDS:
        made = ok(flare.post(f"{path}/dns_records", json=record))
        one = f"{path}/dns_records/{made['id']}"
        assert ok(flare.get(one)) == made
        ok(flare.put(one, json={**record, "ttl": 600 if not record.get("proxied") else 1}))
        ok(flare.patch(one, json={"comment": "ours"}))
    listed = ok(flare.get(f"{path}/dns_records", params={"per_page": 5000, "order": "name"}))
    assert len(listed) == len(RECORDS)
    assert all(record["comment"] == "ours" for record in listed)
    for record in listed:
        ok(flare.delete(f"{path}/dns_records/{record['id']}"))


def test_a_batch(flare: httpx.Client) -> None:
    path = zone(flare)
    posts = ok(flare.post(f"{path}/dns_records/batch", json={"posts": RECORDS[2:5]}))["posts"]
    body = {
        "deletes": [{"id": posts[2]["id"]}],
        "patches": [{"id": posts[0]["id"], "content": "u2.wl.sendgrid.net"}],
        "puts": [{"id": posts[1]["id"], **RECORDS[3], "content": '"v=spf1 ~all"'}],
    }
    result = ok(flare.post(f"{path}/dns_records/batch", json=body))
    assert {key: len(value) for key, value in result.items()} == {
        "deletes": 1,
        "patches": 1,
        "puts": 1,
        "posts": 0,
    }


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("dns_records", {"type": "A", "name": "em", "content": "192.0.2.1", "ttl": 1}, 81054),
        ("dns_records", {"type": "CNAME", "name": "em", "content": "u1.wl.sendgrid.net", "ttl": 1}, 81058),
        ("dns_records", {"type": "CNAME", "name": "em", "content": "other.test", "ttl": 1}, 81053),
        ("dns_records/batch", {"deletes": [{"id": "0" * 32}]}, 81044),
    ],
)
def test_refusals_are_in_the_document_too(
    flare: httpx.Client, name: str, body: dict[str, Any], code: int
) -> None:
    path = zone(flare)
    ok(flare.post(f"{path}/dns_records", json=RECORDS[2]))
    answer = flare.post(f"{path}/{name}", json=body)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["errors"][0]["code"] == code


def test_settings(flare: httpx.Client) -> None:
    path = zone(flare)
    listed = ok(flare.get(f"{path}/settings"))
    assert {setting["id"] for setting in listed} == {*SETTINGS, *READ_ONLY}
    for setting in listed:
        one = f"{path}/settings/{setting['id']}"
        if setting["editable"]:
            assert ok(flare.patch(one, json={"value": setting["value"]})) == setting
    assert ok(flare.get(f"{path}/settings/http2"))["editable"] is False
    assert ok(flare.patch(f"{path}/settings/ssl", json={"value": "strict"}))["value"] == "strict"
    assert flare.patch(f"{path}/settings/ssl", json={"value": "on"}).status_code == 400


def test_the_rest(flare: httpx.Client) -> None:
    path = zone(flare)
    ok(flare.get(path))
    ok(flare.get("/ips"))
    ok(flare.get("/user/tokens/verify"))
    ok(flare.get(f"{path}/dnssec"))
    ok(flare.post(f"{path}/purge_cache", json={"purge_everything": True}))
    wrong = flare.get("/zones", headers={"authorization": "Bearer nope"})
    assert wrong.status_code == 403
    assert flare.get(f"/zones/{'0' * 32}").status_code == 404


def test_cache_rules(flare: httpx.Client) -> None:
    path = zone(flare)
    entry = f"{path}/rulesets/phases/http_request_cache_settings/entrypoint"
    assert flare.get(entry).status_code == 404
    rule = {
        "action": "set_cache_settings",
        "expression": "true",
        "action_parameters": {"cache": True},
        "ref": "a",
    }
    made = ok(flare.put(entry, json={"rules": [rule]}))
    assert ok(flare.get(entry)) == made
    ruleset = f"{path}/rulesets/{made['id']}"
    added = ok(flare.post(f"{ruleset}/rules", json={**rule, "ref": "b"}))["rules"][1]
    ok(flare.patch(f"{ruleset}/rules/{added['id']}", json={**rule, "ref": "b", "expression": "false"}))
    ok(flare.delete(f"{ruleset}/rules/{added['id']}"))
    assert [listed["id"] for listed in ok(flare.get(f"{path}/rulesets"))] == [made["id"]]
    assert flare.delete(ruleset).status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/zones?per_page=100", None),
        ("GET", "/zoens", None),
        ("POST", "ZONE/dns_records", {"type": "A", "content": "192.0.2.1", "ttl": 1}),
        ("POST", "ZONE/dns_records", {"type": "A", "name": "a", "content": "not-an-ip", "ttl": 1}),
        ("POST", "ZONE/dns_records", {"type": "A", "name": "a", "content": "192.0.2.1", "ttl": 10}),
        ("POST", "ZONE/dns_records", {"type": "B", "name": "a", "content": "192.0.2.1", "ttl": 1}),
        ("POST", "ZONE/dns_records/batch", {"puts": [{"id": "1", "content": "192.0.2.1"}]}),
        ("POST", "ZONE/dns_records/batch", {"patches": [{"content": "192.0.2.1"}]}),
        ("PATCH", "ZONE/settings/ssl", {"value": "fulll"}),
        ("PATCH", "ZONE/settings/ssl", {"vlaue": "full"}),
        ("PATCH", "ZONE/settings/ssl", {}),
    ],
)
def test_a_malformed_call_is_caught(closed_flare: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = closed_flare.request(method, path.replace("ZONE", zone(closed_flare)), json=body)
    assert answer.status_code == 500, answer.text
    assert "request breaks cloudflare-fixed.json" in answer.json()["message"]

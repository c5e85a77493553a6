"""The emulated Cloudflare account: records, batches, settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.emulators.common import grant

Start = Callable[..., Any]


class Zone:
    """Calls on the records of social.test."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.id = client.get("/client/v4/zones?name=social.test").json()["result"][0]["id"]
        self.path = f"/client/v4/zones/{self.id}"

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return self.client.request(method, self.path + path, json=body)

    def add(self, kind: str, name: str, content: str, **more: Any) -> dict[str, Any]:
        body = {"type": kind, "name": name, "content": content, "ttl": 300, **more}
        answer = self.call("POST", "/dns_records", body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["result"])

    def records(self, query: str = "") -> list[dict[str, Any]]:
        return list(self.call("GET", f"/dns_records{query}").json()["result"])

    def refused(self, method: str, path: str, body: Any) -> int:
        """The code of a refusal; what it says is an envelope without a result."""
        answer = self.call(method, path, body)
        assert 400 <= answer.status_code < 500
        assert answer.json()["success"] is False
        assert answer.json()["result"] is None
        return int(answer.json()["errors"][0]["code"])


@pytest.fixture
def zone(flare: Start) -> Zone:
    return Zone(flare())


def test_a_zone_is_found_by_name(flare: Start) -> None:
    client = flare(zones=["social.test", "other.test"])
    answer = client.get("/client/v4/zones?name=social.test").json()
    assert [zone["name"] for zone in answer["result"]] == ["social.test"]
    assert answer["result"][0]["status"] == "active"
    assert answer["result_info"]["total_count"] == 1
    assert client.get("/client/v4/zones?name=no.test").json()["result"] == []
    assert client.get("/client/v4/zones?per_page=100").status_code == 400
    missing = client.get("/client/v4/zones/" + "0" * 32)
    assert missing.status_code == 404
    assert missing.json()["errors"][0]["code"] == 7003


def test_tokens(flare: Start) -> None:
    client = flare(tokens=grant(reader=["zone:read", "dns:read"]))
    assert client.get("/client/v4/user/tokens/verify").json()["result"]["status"] == "active"
    wrong = {"authorization": "Bearer nope"}
    assert client.get("/client/v4/user/tokens/verify", headers=wrong).status_code == 401
    assert client.get("/client/v4/zones", headers=wrong).json()["errors"][0]["code"] == 9109
    none = client.get("/client/v4/zones", headers={"authorization": ""})
    assert none.status_code == 400
    assert none.json()["errors"][0]["code"] == 6003
    reader = {"authorization": "Bearer reader"}
    zone = client.get("/client/v4/zones", headers=reader).json()["result"][0]["id"]
    body = {"type": "A", "name": "a", "content": "192.0.2.1", "ttl": 1}
    refused = client.post(f"/client/v4/zones/{zone}/dns_records", json=body, headers=reader)
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["code"] == 10000


def test_the_addresses_of_the_network_are_public(flare: Start) -> None:
    answer = flare().get("/client/v4/ips", headers={"authorization": ""})
    assert answer.status_code == 200
    assert answer.json()["result"]["ipv4_cidrs"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"type": "A", "name": "WWW.Social.Test", "content": "192.0.2.1"}, {"name": "www.social.test"}),
        ({"type": "A", "name": "www", "content": "192.0.2.1"}, {"name": "www.social.test"}),
        ({"type": "A", "name": "@", "content": "192.0.2.1"}, {"name": "social.test"}),
        ({"type": "A", "name": "a", "content": "192.0.2.1", "proxied": True, "ttl": 300}, {"ttl": 1}),
        ({"type": "AAAA", "name": "a", "content": "2001:DB8:0::1"}, {"content": "2001:db8::1"}),
        (
            {"type": "CNAME", "name": "em", "content": "u1.wl.sendgrid.net."},
            {"content": "u1.wl.sendgrid.net"},
        ),
        ({"type": "TXT", "name": "@", "content": "v=spf1 -all"}, {"content": '"v=spf1 -all"'}),
        ({"type": "TXT", "name": "@", "content": '"v=spf1 -all"'}, {"content": '"v=spf1 -all"'}),
        ({"type": "TXT", "name": "@", "content": "x" * 300}, {"content": f'"{"x" * 255}" "{"x" * 45}"'}),
        (
            {"type": "MX", "name": "@", "content": "mx.test", "priority": 5},
            {"priority": 5, "proxiable": False},
        ),
        (
            {"type": "CAA", "name": "@", "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"}},
            {"content": '0 issue "letsencrypt.org"'},
        ),
        (
            {
                "type": "SRV",
                "name": "_x._tcp",
                "data": {"priority": 1, "weight": 2, "port": 3, "target": "a.test"},
            },
            {"content": "2 3 a.test", "priority": 1},
        ),
    ],
)
def test_records_are_kept_as_cloudflare_writes_them(
    zone: Zone, sent: dict[str, Any], kept: dict[str, Any]
) -> None:
    answer = zone.call("POST", "/dns_records", {"ttl": 300, **sent})
    assert answer.status_code == 200, answer.text
    record = zone.records()[0]
    assert record == answer.json()["result"]
    assert {key: record[key] for key in kept} == kept


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"content": "192.0.2"}, 9005),
        ({"type": "AAAA"}, 9006),
        ({"type": "CNAME", "content": "a b"}, 9007),
        ({"type": "CNAME", "content": "www.social.test"}, 9039),
        ({"type": "TXT", "proxied": True}, 9004),
        ({"type": "MX"}, 9100),
        ({"type": "NAPTR"}, 9002),
        ({"type": "CAA", "data": {"flags": 0}}, 9101),
        ({"ttl": 10}, 9021),
        ({"ttl": "300"}, 9021),
        ({"name": ""}, 9000),
        ({"name": "a b"}, 9000),
    ],
)
def test_a_record_that_can_not_be(zone: Zone, change: dict[str, Any], code: int) -> None:
    body = {"type": "A", "name": "www", "content": "192.0.2.1", "ttl": 300, **change}
    assert zone.refused("POST", "/dns_records", body) == code
    assert zone.records() == []


def test_records_that_can_not_stand_beside_each_other(zone: Zone) -> None:
    zone.add("A", "a", "192.0.2.1")
    zone.add("A", "a", "192.0.2.2")
    zone.add("TXT", "a", "text")
    zone.add("CNAME", "c", "a.test")

    def add(kind: str, name: str, content: str) -> int:
        body = {"type": kind, "name": name, "content": content, "ttl": 300}
        return zone.refused("POST", "/dns_records", body)

    assert add("A", "a", "192.0.2.1") == 81058
    assert add("TXT", "a", '"text"') == 81058
    assert add("CNAME", "a", "b.test") == 81053
    assert add("CNAME", "c", "b.test") == 81053
    assert add("AAAA", "c", "2001:db8::1") == 81054
    assert len(zone.records()) == 4


def test_filters_and_paging(zone: Zone) -> None:
    for number in range(7):
        zone.add("A", f"n{number}", f"192.0.2.{number}")
    zone.add("TXT", "@", "hello", comment="ours")
    assert len(zone.records("?type=A")) == 7
    assert [r["name"] for r in zone.records("?name=N3.social.test")] == ["n3.social.test"]
    assert [r["name"] for r in zone.records("?content.contains=2.0.2.5")] == ["n5.social.test"]
    assert [r["type"] for r in zone.records("?comment.present=true")] == ["TXT"]
    assert len(zone.records("?type=TXT&name=n1.social.test&match=any")) == 2
    answer = zone.call("GET", "/dns_records?per_page=3&page=3").json()
    assert len(answer["result"]) == 2
    assert answer["result_info"] == {
        "page": 3,
        "per_page": 3,
        "count": 2,
        "total_count": 8,
        "total_pages": 3,
    }
    assert zone.call("GET", "/dns_records").json()["result_info"]["per_page"] == 100


def test_put_replaces_and_patch_changes(zone: Zone) -> None:
    record = zone.add("CNAME", "em", "a.test", comment="mail", proxied=True)
    path = f"/dns_records/{record['id']}"
    patched = zone.call("PATCH", path, {"content": "b.test"}).json()["result"]
    assert (patched["content"], patched["comment"], patched["proxied"]) == ("b.test", "mail", True)
    unproxied = zone.call("PATCH", path, {"proxied": False, "ttl": 120}).json()["result"]
    assert (unproxied["proxied"], unproxied["ttl"]) == (False, 120)
    body = {"type": "CNAME", "name": "em", "content": "c.test", "ttl": 300}
    put = zone.call("PUT", path, body).json()["result"]
    assert (put["content"], put["comment"], put["ttl"], put["id"]) == ("c.test", None, 300, record["id"])
    assert put["created_on"] == record["created_on"]
    assert zone.call("DELETE", path).json()["result"] == {"id": record["id"]}
    assert zone.call("GET", path).status_code == 404
    assert zone.refused("PATCH", path, {"content": "d.test"}) == 81044


def test_a_batch_deletes_patches_puts_and_posts_in_this_order(zone: Zone) -> None:
    old = zone.add("CNAME", "em", "old.test")
    moved = zone.add("A", "www", "192.0.2.1")
    kept = zone.add("TXT", "@", "old")
    body = {
        # each would be refused before the one that runs first
        "posts": [{"type": "A", "name": "www", "content": "192.0.2.1", "ttl": 300}],
        "puts": [{"id": kept["id"], "type": "A", "name": "em", "content": "192.0.2.9", "ttl": 300}],
        "patches": [{"id": moved["id"], "content": "192.0.2.2"}],
        "deletes": [{"id": old["id"]}],
    }
    answer = zone.call("POST", "/dns_records/batch", body)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert [record["id"] for record in result["deletes"]] == [old["id"]]
    assert {(r["name"], r["type"], r["content"]) for r in zone.records()} == {
        ("www.social.test", "A", "192.0.2.1"),
        ("www.social.test", "A", "192.0.2.2"),
        ("em.social.test", "A", "192.0.2.9"),
    }


def test_a_batch_happens_whole_or_not_at_all(zone: Zone) -> None:
    first, second = zone.add("A", "a", "192.0.2.1"), zone.add("A", "b", "192.0.2.1")
    before = zone.records()
    good = {"deletes": [{"id": first["id"]}], "patches": [{"id": second["id"], "content": "192.0.2.5"}]}
    for bad in (
        {"type": "CNAME", "name": "b", "content": "x.test", "ttl": 300},
        {"type": "A", "name": "c", "content": "nope", "ttl": 300},
    ):
        assert zone.call("POST", "/dns_records/batch", {**good, "posts": [bad]}).status_code == 400
        assert zone.records() == before
    assert zone.refused("POST", "/dns_records/batch", {"deletes": [{"id": "0" * 32}]}) == 81044
    assert zone.refused("POST", "/dns_records/batch", {"delets": []}) == 9207
    assert zone.call("POST", "/dns_records/batch", good).status_code == 200


def test_settings(zone: Zone) -> None:
    assert {s["id"] for s in zone.call("GET", "/settings").json()["result"]} >= {"ssl", "websockets", "http2"}
    fresh = zone.call("GET", "/settings/ssl").json()["result"]
    assert (fresh["value"], fresh["editable"], fresh["modified_on"]) == ("full", True, None)
    changed = zone.call("PATCH", "/settings/ssl", {"value": "strict"}).json()["result"]
    assert changed["value"] == "strict"
    assert changed["modified_on"]
    again = zone.call("PATCH", "/settings/ssl", {"value": "strict"}).json()["result"]
    assert again == changed


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        ("ssl", "fulll", 1007),
        # fits another setting: the document can not tell
        ("ssl", "on", 1007),
        ("min_tls_version", 1.2, 1007),
        ("websockets", True, 1007),
        ("browser_cache_ttl", -1, 1007),
        ("http2", "off", 1057),
        ("rocket_laoder", "off", 1006),
    ],
)
def test_a_setting_that_can_not_be(zone: Zone, setting: str, value: Any, code: int) -> None:
    before = zone.call("GET", "/settings").json()
    assert zone.refused("PATCH", f"/settings/{setting}", {"value": value}) == code
    assert zone.call("GET", "/settings").json() == before


def test_purging_takes_one_kind(zone: Zone) -> None:
    assert zone.call("POST", "/purge_cache", {"purge_everything": True}).status_code == 200
    assert zone.call("POST", "/purge_cache", {"files": ["https://social.test/a"]}).status_code == 200
    assert zone.refused("POST", "/purge_cache", {"files": ["a"], "hosts": ["b"]}) == 1012
    assert zone.refused("POST", "/purge_cache", {"files": [str(i) for i in range(31)]}) == 1094


def test_cache_rules(zone: Zone) -> None:
    path = "/rulesets/phases/http_request_cache_settings/entrypoint"
    assert zone.call("GET", path).status_code == 404
    rule = {
        "action": "set_cache_settings",
        "expression": '(starts_with(http.request.uri.path, "/system/"))',
        "action_parameters": {"cache": True},
        "description": "media",
        "ref": "media",
    }
    made = zone.call("PUT", path, {"rules": [rule]}).json()["result"]
    again = zone.call("PUT", path, {"rules": [rule, {**rule, "ref": "second"}]}).json()["result"]
    assert again["id"] == made["id"]
    assert again["rules"][0]["id"] == made["rules"][0]["id"]
    assert (made["version"], again["version"]) == ("1", "2")
    assert zone.call("GET", path).json()["result"] == again
    assert zone.call("PUT", path, {"rules": [{"action": "x"}]}).status_code == 400


def test_a_restart_keeps_zone_and_records(flare: Start, tmp_path: Path) -> None:
    first = Zone(flare(state=tmp_path))
    record = first.add("A", "www", "192.0.2.1")
    first.call("PATCH", "/settings/ssl", {"value": "strict"})
    again = Zone(flare(state=tmp_path))
    assert again.id == first.id
    assert again.records() == [record]
    assert again.call("GET", "/settings/ssl").json()["result"]["value"] == "strict"


def test_the_name_server_reads_without_a_token(flare: Start) -> None:
    client = flare()
    record = Zone(client).add("A", "www", "192.0.2.1")
    bare = {"authorization": ""}
    assert client.get("/_lab/zone/social.test", headers=bare).json() == [record]
    assert client.get("/_lab/zone/no.test", headers=bare).status_code == 404


def test_the_limit_says_when_to_come_back(flare: Start) -> None:
    client = flare(limit=1)
    assert client.get("/client/v4/ips").headers["ratelimit"].startswith('"default";r=0;t=')
    answer = client.get("/client/v4/ips")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 300

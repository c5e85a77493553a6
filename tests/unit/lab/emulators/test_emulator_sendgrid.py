"""The emulated SendGrid account: tracking settings, domains, subusers, scopes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dnslib import CNAME, QTYPE, RCODE, RR, DNSRecord

from lab.emulators.common import grant

Start = Callable[..., Any]


def test_tracking_is_on_until_it_is_switched_off(grid: Start) -> None:
    client = grid()

    def enabled() -> dict[str, bool]:
        result = client.get("/v3/tracking_settings").json()["result"]
        return {setting["name"]: setting["enabled"] for setting in result}

    assert enabled() == {"google_analytics": False, "open": True, "click": True, "subscription": False}
    answer = client.patch("/v3/tracking_settings/click", json={"enabled": False})
    assert answer.json() == {"enabled": False, "enable_text": True}
    client.patch("/v3/tracking_settings/open", json={"enabled": False})
    assert enabled() == {"google_analytics": False, "open": False, "click": False, "subscription": False}
    assert client.get("/v3/tracking_settings/open").json() == {"enabled": False}


@pytest.mark.parametrize(
    ("setting", "body", "named"),
    [
        ("click", {"enable": False}, "enable"),
        ("click", {"enabled": "no"}, "enabled"),
        ("click", {"enabled": True, "enable_text": False}, "enable_text"),
        ("google_analytics", {"utm_sauce": "x"}, "utm_sauce"),
        ("subscription", {"landing": 1}, "landing"),
    ],
)
def test_a_setting_that_can_not_be(grid: Start, setting: str, body: dict[str, Any], named: str) -> None:
    client = grid()
    path = f"/v3/tracking_settings/{setting}"
    before = client.get(path).json()
    answer = client.patch(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == named
    assert client.get(path).json() == before


def test_a_subuser_has_settings_of_its_own(grid: Start) -> None:
    client = grid()
    behalf = {"on-behalf-of": "social"}
    client.patch("/v3/tracking_settings/open", json={"enabled": False}, headers=behalf)
    assert client.get("/v3/tracking_settings/open", headers=behalf).json() == {"enabled": False}
    assert client.get("/v3/tracking_settings/open").json() == {"enabled": True}
    stranger = client.get("/v3/tracking_settings/open", headers={"on-behalf-of": "nobody"})
    assert stranger.status_code == 403


def test_both_hosts_are_the_same(grid: Start) -> None:
    answer = grid().get("https://api.eu.sendgrid.com/v3/tracking_settings/open")
    assert answer.json() == {"enabled": True}


def test_tokens_and_scopes(grid: Start) -> None:
    client = grid(tokens=grant(reader=["tracking_settings.read", "tracking_settings.open.read"]))
    assert "tracking_settings.click.update" in client.get("/v3/scopes").json()["scopes"]
    reader = {"authorization": "Bearer reader"}
    assert client.get("/v3/scopes", headers=reader).json() == {
        "scopes": ["tracking_settings.open.read", "tracking_settings.read"]
    }
    assert client.get("/v3/tracking_settings/open", headers=reader).status_code == 200
    refused = client.patch("/v3/tracking_settings/open", json={"enabled": False}, headers=reader)
    assert refused.status_code == 403
    assert refused.json() == {"errors": [{"field": None, "message": "access forbidden"}]}
    wrong = client.get("/v3/scopes", headers={"authorization": "Bearer nope"})
    assert wrong.status_code == 401
    assert "invalid" in wrong.json()["errors"][0]["message"]


def test_the_limit_is_per_endpoint(grid: Start) -> None:
    client = grid(limit=1)
    assert client.get("/v3/scopes").headers["x-ratelimit-remaining"] == "0"
    answer = client.get("/v3/scopes")
    assert answer.status_code == 429
    assert answer.json() == {"errors": [{"field": None, "message": "too many requests"}]}
    assert "retry-after" not in answer.headers
    assert client.get("/v3/tracking_settings").status_code == 200


def domain(client: Any, **more: Any) -> dict[str, Any]:
    answer = client.post("/v3/whitelabel/domains", json={"domain": "social.test", "subdomain": "em", **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_domain_is_valid_when_its_records_are_there(grid: Start) -> None:
    client = grid()
    made = domain(client)
    assert made["valid"] is False
    assert made["dns"]["mail_cname"]["host"] == "em.social.test"
    records = {record["host"]: record["data"] for record in made["dns"].values()}
    assert len(records) == 3
    path = f"/v3/whitelabel/domains/{made['id']}"
    client.put("/_lab/dns", json={**records, "s2._domainkey.social.test": "wrong.test"})
    answer = client.post(f"{path}/validate").json()
    assert answer["valid"] is False
    assert answer["validation_results"]["mail_cname"] == {"valid": True, "reason": None}
    assert "s2._domainkey.social.test" in answer["validation_results"]["dkim2"]["reason"]
    assert client.get(path).json()["valid"] is False
    client.put("/_lab/dns", json=records)
    assert client.post(f"{path}/validate").json()["valid"] is True
    found = client.get(path).json()
    assert found["valid"] is True
    assert all(record["valid"] for record in found["dns"].values())


def test_domains_are_listed_as_a_bare_array(grid: Start) -> None:
    client = grid()
    first = domain(client)
    domain(client, domain="other.test")
    assert [d["domain"] for d in client.get("/v3/whitelabel/domains").json()] == ["social.test", "other.test"]
    found = client.get("/v3/whitelabel/domains?domain=social.test&limit=5&offset=0").json()
    assert [d["id"] for d in found] == [first["id"]]
    assert client.get("/v3/whitelabel/domains?offset=1&limit=1").json()[0]["domain"] == "other.test"
    behalf = {"on-behalf-of": "social"}
    assert client.get("/v3/whitelabel/domains", headers=behalf).json() == []
    assert client.delete(f"/v3/whitelabel/domains/{first['id']}").status_code == 204
    assert client.get(f"/v3/whitelabel/domains/{first['id']}").status_code == 404


def test_one_default(grid: Start) -> None:
    client = grid()
    first = domain(client, default=True)
    second = domain(client, domain="other.test")
    client.patch(f"/v3/whitelabel/domains/{second['id']}", json={"default": True})
    assert client.get(f"/v3/whitelabel/domains/{first['id']}").json()["default"] is False
    default = client.get("/v3/whitelabel/domains/default").json()
    assert [d["id"] for d in default] == [second["id"]]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "domain"),
        ({"domain": "nodot"}, "domain"),
        ({"domain": "social.test", "subdomain": "em"}, "domain"),
        ({"domain": "b.test", "automatic_security": False}, "automatic_security"),
        ({"domain": "b.test", "region": "moon"}, "region"),
        ({"domain": "b.test", "sub_domain": "em"}, "sub_domain"),
    ],
)
def test_a_domain_that_can_not_be(grid: Start, body: dict[str, Any], named: str) -> None:
    client = grid()
    domain(client)
    answer = client.post("/v3/whitelabel/domains", json=body)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == named
    assert len(client.get("/v3/whitelabel/domains").json()) == 1


def test_link_branding(grid: Start) -> None:
    client = grid()
    body = {"domain": "social.test", "subdomain": "links", "default": True}
    link = client.post("/v3/whitelabel/links", json=body).json()
    assert link["dns"]["domain_cname"] == {
        "valid": False,
        "type": "cname",
        "host": "links.social.test",
        "data": "sendgrid.net",
    }
    client.put("/_lab/dns", json={r["host"]: r["data"] for r in link["dns"].values()})
    assert client.post(f"/v3/whitelabel/links/{link['id']}/validate").json()["valid"] is True
    assert client.get("/v3/whitelabel/links/default").json()["id"] == link["id"]


def test_a_restart_keeps_everything(grid: Start, tmp_path: Path) -> None:
    first = grid(state=tmp_path)
    made = domain(first)
    first.patch("/v3/tracking_settings/open", json={"enabled": False}, headers={"on-behalf-of": "social"})
    again = grid(state=tmp_path)
    assert again.get("/v3/whitelabel/domains").json() == [made]
    behalf = {"on-behalf-of": "social"}
    assert again.get("/v3/tracking_settings/open", headers=behalf).json() == {"enabled": False}
    assert domain(again, domain="other.test")["id"] == made["id"] + 1


class NameServer:
    """Answers CNAME questions from `records`, or SERVFAIL while `broken`."""

    def __init__(self) -> None:
        self.records: dict[str, str] = {}
        self.broken = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            question = DNSRecord.parse(data)
            answer = question.reply()
            name = str(question.q.qname).rstrip(".")
            if self.broken:
                answer.header.rcode = RCODE.SERVFAIL
            elif name in self.records:
                answer.add_answer(RR(name, QTYPE.CNAME, rdata=CNAME(self.records[name])))
            else:
                answer.header.rcode = RCODE.NXDOMAIN
            self.socket.sendto(answer.pack(), peer)


@pytest.fixture
def name_server() -> Iterator[NameServer]:
    server = NameServer()
    yield server
    server.socket.close()


def test_domains_are_proven_by_the_name_server(grid: Start, name_server: NameServer) -> None:
    client = grid(dns=name_server.address)
    made = domain(client)
    path = f"/v3/whitelabel/domains/{made['id']}/validate"
    assert client.post(path).json()["valid"] is False
    name_server.records = {record["host"]: record["data"] for record in made["dns"].values()}
    assert client.post(path).json()["valid"] is True


def test_a_name_server_that_can_not_tell_is_no_verdict(grid: Start, name_server: NameServer) -> None:
    client = grid(dns=name_server.address)
    made = domain(client)
    name_server.records = {record["host"]: record["data"] for record in made["dns"].values()}
    path = f"/v3/whitelabel/domains/{made['id']}"
    client.post(f"{path}/validate")
    name_server.broken = True
    answer = client.post(f"{path}/validate")
    assert answer.status_code == 500
    assert answer.json() == {"errors": [{"message": "internal error getting CNAME"}]}
    assert client.get(path).json()["valid"] is True

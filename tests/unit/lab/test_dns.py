from __future__ import annotations

from typing import Any

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from lab.dns import answer, txt_strings

RECORDS: list[dict[str, Any]] = [
    {"name": "social.test", "type": "A", "content": "198.51.100.200"},
    {"name": "social.test", "type": "MX", "content": "mx.sendgrid.net", "priority": 10},
    {"name": "social.test", "type": "TXT", "content": '"v=spf1 include:sendgrid.net ~all"'},
    {"name": "www.social.test", "type": "CNAME", "content": "social.test", "proxied": True},
    {"name": "em1.social.test", "type": "CNAME", "content": "u1.wl1.sendgrid.net"},
    {"name": "loop.social.test", "type": "CNAME", "content": "loop.social.test"},
    {"name": "*.wild.social.test", "type": "A", "content": "198.51.100.9"},
    {
        "name": "_x._tcp.social.test",
        "type": "SRV",
        "data": {"priority": 1, "weight": 2, "port": 443, "target": "social.test"},
    },
    {"name": "social.test", "type": "CAA", "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"}},
]


def zone(name: str) -> list[Any] | None:
    return RECORDS if name == "social.test" else None


def ask(name: str, kind: str = "A") -> DNSRecord:
    reply = answer(DNSRecord.question(name, kind), zone)
    assert reply is not None
    return DNSRecord.parse(reply.pack())


def answers(name: str, kind: str = "A") -> list[tuple[str, str]]:
    return [(QTYPE[rr.rtype], str(rr.rdata)) for rr in ask(name, kind).rr]


def test_records() -> None:
    assert answers("social.test") == [("A", "198.51.100.200")]
    assert answers("SOCIAL.test") == [("A", "198.51.100.200")]
    assert answers("social.test", "MX") == [("MX", "10 mx.sendgrid.net.")]
    assert answers("social.test", "TXT") == [("TXT", '"v=spf1 include:sendgrid.net ~all"')]
    assert answers("_x._tcp.social.test", "SRV") == [("SRV", "1 2 443 social.test.")]
    assert answers("social.test", "CAA") == [("CAA", '0 issue "letsencrypt.org"')]


def test_aliases_are_followed_inside_the_zone_only() -> None:
    assert answers("www.social.test") == [("CNAME", "social.test."), ("A", "198.51.100.200")]
    assert answers("em1.social.test") == [("CNAME", "u1.wl1.sendgrid.net.")]
    assert answers("loop.social.test") == [("CNAME", "loop.social.test.")]


def test_wildcards() -> None:
    assert answers("a.wild.social.test") == [("A", "198.51.100.9")]


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nothing.social.test", "A", RCODE.NXDOMAIN),
        ("social.test", "AAAA", RCODE.NOERROR),
        # nothing is there itself, but something is below it
        ("_tcp.social.test", "A", RCODE.NOERROR),
    ],
)
def test_no_answer(name: str, kind: str, code: int) -> None:
    reply = ask(name, kind)
    assert reply.header.rcode == code
    assert not reply.rr
    assert [QTYPE[rr.rtype] for rr in reply.auth] == ["SOA"]


@pytest.mark.parametrize("name", ["packages.example.org", "mirror.lab.internal", "notsocial.test", "test"])
def test_other_names_are_not_ours(name: str) -> None:
    assert answer(DNSRecord.question(name, "A"), zone) is None


def test_txt_strings() -> None:
    assert txt_strings('"abc"') == ["abc"]
    assert txt_strings("abc") == ["abc"]
    assert txt_strings('"abc" "def"') == ["abcdef"]
    assert [len(part) for part in txt_strings('"' + "x" * 600 + '"')] == [255, 255, 90]

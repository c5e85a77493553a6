"""Filter instance_records: what leads to an instance."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vmstio.mastodon.plugins.filter.instance_records import FilterModule, instance_records
from ansible_collections.vmstio.mastodon.plugins.module_utils._dns import wanted_record

NAMES = ["social.test", "www.social.test."]


def test_is_found_by_its_name() -> None:
    assert FilterModule().filters() == {"instance_records": instance_records}


def test_every_name_leads_to_both_addresses() -> None:
    records = instance_records(NAMES, "203.0.113.10", "2001:DB8::1", proxied=True)
    assert records == [
        {"name": f"{name}.", "type": kind, "content": content, "proxied": True}
        for name in ("social.test", "www.social.test")
        for kind, content in (("A", "203.0.113.10"), ("AAAA", "2001:db8::1"))
    ]


def test_without_ipv6_none_is_left_over() -> None:
    records = instance_records(["social.test"], "203.0.113.10")
    assert records[1:] == [{"name": "social.test.", "type": "AAAA", "state": "absent"}]


def test_authorities_and_aliases() -> None:
    records = instance_records(
        ["social.test"],
        "203.0.113.10",
        aliases={"files": "cdn.example.net"},
        authorities=["letsencrypt.org", "pki.goog"],
        proxied=True,
    )
    assert records[2:] == [
        {"name": "social.test.", "type": "CAA", "content": '0 issue "letsencrypt.org"'},
        {"name": "social.test.", "type": "CAA", "content": '0 issue "pki.goog"'},
        {"name": "files", "type": "CNAME", "content": "cdn.example.net", "proxied": False},
    ]


def test_the_module_takes_them() -> None:
    given = instance_records(NAMES, "203.0.113.10", "::1", {"files": "cdn.example.net"}, ["pki.goog"])
    assert len({wanted_record(record, "social.test") for record in given}) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("social.test", "203.0.113.10"), "the names must be a list, not str"),
        ((NAMES, ""), "'' is not an IP address"),
        ((NAMES, "::1"), "::1 is not an IPv4 address"),
        ((NAMES, "203.0.113.10", "203.0.113.10"), "203.0.113.10 is not an IPv6 address"),
        ((NAMES, "203.0.113.10", "", ["files"]), "aliases must be a mapping"),
        ((NAMES, "203.0.113.10", "", {}, "pki.goog"), "authorities must be a list, not str"),
    ],
)
def test_what_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        instance_records(*arguments)

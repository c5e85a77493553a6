"""DNS records in normal form, and the changes planned for a zone: properties of every set of records."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils import _dns as dns
from hypothesis import assume, given
from hypothesis import strategies as st

ZONE = "social.test"
NAMES = ("@", "www", "files", "*", "_dmarc", "a.b")


def caa(flags: int, tag: str, value: str) -> str:
    return f'{flags} {tag} "{value}"'


hosts = st.sampled_from(["a.test", "B.test.", "münchen.test", "xn--mnchen-3ya.test", "mx.example.net"])
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300)
values: dict[str, st.SearchStrategy[str]] = {
    "A": st.ip_addresses(v=4).map(str) | st.sampled_from(["203.0.113.1", "203.0.113.2"]),
    "AAAA": st.ip_addresses(v=6).map(lambda a: a.exploded) | st.sampled_from(["2001:DB8::1", "2001:db8::2"]),
    "CAA": st.builds(
        caa,
        st.sampled_from([0, 128]),
        st.sampled_from(["issue", "ISSUEWILD", "iodef"]),
        st.sampled_from(["letsencrypt.org", ";", "mailto:a@social.test"]),
    ),
    "CNAME": hosts,
    "MX": hosts,
    "NS": hosts,
    "SRV": st.builds("{} {}  {} {}".format, *[st.integers(0, 65535)] * 3, hosts | st.just(".")),
    "TXT": texts,
}


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """A record as the module's option `records` has it."""
    kind = draw(st.sampled_from(dns.TYPES))
    proxied = draw(st.sampled_from([None, False, True])) if kind in dns.PROXIABLE else None
    return {
        "name": draw(st.sampled_from(NAMES)),
        "type": kind,
        "content": draw(values[kind]),
        "ttl": draw(st.sampled_from([None, 1] if proxied else [None, 1, 60, 3600])),
        "proxied": proxied,
        "priority": draw(st.integers(0, 3)) if kind == "MX" else None,
        "comment": draw(st.sampled_from([None, "", "by hand"])),
    }


@st.composite
def answers(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A zone as the API answers it; types that this collection does not know are among them."""
    found = []
    for number, record in enumerate(draw(st.lists(options(), max_size=8))):
        body = dns.created(dns.wanted_record(record, ZONE)).body()
        found.append({"comment": None, "proxied": False, **body, "id": str(number)})
    for number in range(draw(st.integers(0, 2))):
        found.append({"id": f"x{number}", "name": ZONE, "type": "HTTPS", "content": f"{number} . alpn=h2"})
    return found


removals = st.builds(
    dns.Removal,
    st.sampled_from(NAMES).map(lambda name: dns.full_name(name, ZONE)),
    st.sampled_from(dns.TYPES),
    st.none(),
)


class Wish:
    """Wanted records, removals and a zone that go together: others are refused, which is tested apart."""

    def __init__(self, data: st.DataObject) -> None:
        self.given = data.draw(st.lists(options(), max_size=6))
        self.wanted = [dns.wanted_record(record, ZONE) for record in self.given]
        self.removals = data.draw(st.lists(removals, max_size=2))
        self.zone = data.draw(answers())
        self.exclusive = data.draw(st.booleans())

    def plan(self, zone: list[dict[str, Any]] | None = None) -> dns.Plan:
        stored = [dns.stored_record(record) for record in (self.zone if zone is None else zone)]
        return dns.plan(self.wanted, self.removals, stored, zone=ZONE, exclusive=self.exclusive)

    def possible(self) -> dns.Plan:
        try:
            return self.plan()
        except dns.DnsError:
            assume(False)
            raise

    def touchable(self, record: dns.Record) -> bool:
        named = {(wanted.name, wanted.type) for wanted in self.wanted}
        named |= {(removal.name, removal.type) for removal in self.removals}
        return (record.name, record.type) in named


def carried_out(zone: list[dict[str, Any]], changes: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The zone after a batch, as the API documents it: deletions, patches, creations."""
    kept = {record["id"]: record for record in zone}
    for change in changes["deletes"]:
        del kept[change["id"]]
    for change in changes["patches"]:
        kept[change["id"]] = {**kept[change["id"]], **change}
    for number, change in enumerate(changes["posts"]):
        kept[f"new{number}"] = {**change, "id": f"new{number}"}
    return list(kept.values())


@given(options())
def test_normalising_twice_is_normalising_once(given_options: dict[str, Any]) -> None:
    once = dns.wanted_record(given_options, ZONE)
    again = dns.wanted_record({**given_options, "name": f"{once.name}.", "content": once.value}, ZONE)
    if once.type == "TXT":  # the bare text of a TXT may itself look quoted, so only its quoted form is stable
        again = dns.wanted_record({**given_options, "content": dns.quoted(once.value)}, ZONE)
    assert again == once


@given(options())
def test_what_was_written_reads_as_what_was_wanted(given_options: dict[str, Any]) -> None:
    record = dns.created(dns.wanted_record(given_options, ZONE))
    assert dns.stored_record({"id": "1", "comment": None, **record.body()}).record == record


@given(texts)
def test_quotes_of_a_txt(text: str) -> None:
    assert dns.unquoted(dns.quoted(text)) == text
    assert all(len(part.encode()) <= 255 for part in dns._QUOTED.findall(dns.quoted(text).replace("\\", "")))


@given(st.data())
def test_applied_twice_is_applied_once(data: st.DataObject) -> None:
    wish = Wish(data)
    after = carried_out(wish.zone, wish.possible().changes())
    assert not wish.plan(after)


@given(st.data())
def test_order_makes_no_difference(data: st.DataObject) -> None:
    wish = Wish(data)
    plan = wish.possible()
    wish.wanted = data.draw(st.permutations(wish.wanted))
    wish.removals = data.draw(st.permutations(wish.removals))
    assert wish.plan(data.draw(st.permutations(wish.zone))) == plan


@given(st.data())
def test_nothing_else_is_touched(data: st.DataObject) -> None:
    wish = Wish(data)
    plan = wish.possible()
    touched = [item.record for item in plan.delete] + [item.record for item, _record in plan.update]
    assert all(wish.touchable(record) for record in touched)
    before = [record for record in wish.zone if not wish.touchable(dns.stored_record(record).record)]
    after = carried_out(wish.zone, plan.changes())
    assert [record for record in after if not wish.touchable(dns.stored_record(record).record)] == before


@given(st.data())
def test_what_is_wanted_is_there_and_what_is_not_is_gone(data: st.DataObject) -> None:
    wish = Wish(data)
    after = [dns.stored_record(record).record for record in carried_out(wish.zone, wish.possible().changes())]
    there = [record.identity for record in after]
    wanted = {record.identity for record in wish.wanted}
    assert wanted <= set(there)
    assert not any(removal.matches(record) for removal in wish.removals for record in after)
    if wish.exclusive:
        named = {identity[:2] for identity in wanted}
        assert sorted(identity for identity in there if identity[:2] in named) == sorted(wanted)


@given(st.data())
def test_no_cname_beside_an_address(data: st.DataObject) -> None:
    wish = Wish(data)
    wish.zone = []
    after = [dns.stored_record(r).record for r in carried_out([], wish.possible().changes())]
    for one in after:
        for other in after:
            assert one is other or not dns.clash(one, other, ZONE)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("@", "social.test"),
        ("", "social.test"),
        ("WWW", "www.social.test"),
        ("social.test", "social.test"),
        ("www.Social.Test.", "www.social.test"),
        ("mail.other.test", "mail.other.test.social.test"),
        ("straße", "xn--strae-oqa.social.test"),
        ("_dmarc", "_dmarc.social.test"),
    ],
)
def test_names(name: str, full: str) -> None:
    assert dns.full_name(name, ZONE) == full


@pytest.mark.parametrize("bad", ["a b", "-a", "a-", "a" * 64, ".".join(["a" * 60] * 5), "ä" * 64, "a/b"])
def test_what_is_no_name(bad: str) -> None:
    with pytest.raises(dns.DnsError, match="is not a valid"):
        dns.full_name(bad, ZONE)


def test_letters_need_the_package_idna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "idna", None)
    with pytest.raises(dns.DnsError, match="needs the Python package idna; install it, or write"):
        dns.ascii_name("münchen.test")


def test_escapes_of_a_txt() -> None:
    assert dns.unquoted(r'"a\"b\\c\065"') == r'a"b\cA'
    assert dns.unquoted(r'"\200"') == r"\200", "an octet that is no ASCII: left as it was written"


def test_a_stored_record_that_cannot_be_read_is_kept_as_it_is() -> None:
    api = {"id": "1", "name": "bad..name", "type": "A", "content": "nonsense"}
    assert dns.stored_record(api).record.identity == ("bad..name", "A", "nonsense")


def test_a_long_txt_is_split_between_characters() -> None:
    assert dns.quoted("a" * 254 + "é" + "b") == f'"{"a" * 254}" "éb"'

"""The instance is found by the record that was written; mail arrives with the links that Mastodon wrote."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import Iterator

import httpx
import pytest
from dnslib import DNSRecord

from .conftest import DOMAIN, TestLab, load_balancer_address, until

NOWHERE = "https://192.0.2.1"
REWRITTEN = "https://u1.ct.sendgrid.net/"
"""Where links lead while click tracking is on."""


def ask(lab: TestLab, name: str, kind: str) -> list[str]:
    """What the lab's name server answers."""
    question = DNSRecord.question(name, kind)
    answer = DNSRecord.parse(question.send(lab.settings.address("dns"), 53, timeout=5))
    return sorted(str(record.rdata) for record in answer.rr)


@pytest.fixture(scope="module")
def mailbox(converged: TestLab) -> Iterator[httpx.Client]:
    tls = ssl.create_default_context(cafile=str(converged.settings.ca))
    with httpx.Client(base_url=f"https://{converged.settings.address('mail')}", verify=tls) as client:
        yield client


def mail_of_a_newcomer(lab: TestLab, mailbox: httpx.Client) -> str:
    """The mail that asks a new account to confirm its address, as it was delivered."""
    name = f"new_{secrets.token_hex(4)}"
    lab.ssh("vmst-exec", f"tootctl accounts create {name} --email {name}@{DOMAIN}").must_succeed()
    until(lambda: bool(mailbox.get("/mails", params={"to": f"{name}@{DOMAIN}"}).json()), 60)
    found = mailbox.get("/mails", params={"to": f"{name}@{DOMAIN}"}).json()[0]
    return json.dumps(mailbox.get(f"/mails/{found['id']}").raise_for_status().json()["links"])


def test_the_domain_leads_to_the_load_balancer(converged: TestLab) -> None:
    assert ask(converged, DOMAIN, "A") == [load_balancer_address(converged)]
    assert ask(converged, DOMAIN, "AAAA") == []
    assert ask(converged, DOMAIN, "CAA") == ['0 issue "letsencrypt.org"']
    assert ask(converged, f"files.{DOMAIN}", "CNAME") == [f"{converged.settings.host('spaces')}."]


def test_a_moved_record_is_put_back(converged: TestLab) -> None:
    moved = converged.playbook("dns", "-e", "dns_load_balancer_address=192.0.2.1").must_succeed()
    assert moved.recap["localhost"].changed == 1
    until(lambda: ask(converged, DOMAIN, "A") == ["192.0.2.1"], 30)
    back = converged.playbook("dns").must_succeed()
    assert back.recap["localhost"].changed == 1
    until(lambda: ask(converged, DOMAIN, "A") == [load_balancer_address(converged)], 30)


def test_links_are_rewritten_until_tracking_is_off(converged: TestLab, mailbox: httpx.Client) -> None:
    # A new SendGrid account has tracking on; on a converged instance it has to be switched on for this.
    on = converged.playbook("mail", "-e", '{"mail_tracking": {"click": true, "open": true}}').must_succeed()
    assert on.recap["localhost"].changed == 1
    assert REWRITTEN in mail_of_a_newcomer(converged, mailbox)
    off = converged.playbook("mail").must_succeed()
    assert off.recap["localhost"].changed == 1
    links = mail_of_a_newcomer(converged, mailbox)
    assert f"https://{DOMAIN}/" in links
    assert REWRITTEN not in links


def test_sendgrid_has_seen_the_records(converged: TestLab) -> None:
    again = converged.playbook("mail").must_succeed()
    assert again.recap["localhost"].changed == 0
    assert ask(converged, f"_dmarc.{DOMAIN}", "TXT") == ['"v=DMARC1; p=quarantine"']


def test_not_configured_is_not_called(converged: TestLab) -> None:
    """The endpoints lead nowhere: a call would fail."""
    nowhere = json.dumps(
        {"dns_zone": "", "mail_domain": "", "dns_endpoint": NOWHERE, "mail_endpoint": NOWHERE}
    )
    for name in ("dns", "mail"):
        idle = converged.playbook(name, "-e", nowhere).must_succeed()
        assert (idle.recap["localhost"].ok, idle.recap["localhost"].changed) == (0, 0)

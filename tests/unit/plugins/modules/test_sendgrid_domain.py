"""Module sendgrid_domain, call by call."""

from __future__ import annotations

from typing import Any

DOMAINS = "/v3/whitelabel/domains"
QUERY = {"domain": "social.test", "limit": "50", "offset": "0"}
DNS = {
    "mail_cname": {"valid": False, "type": "cname", "host": "em1.social.test", "data": "u1.wl.sendgrid.net"},
    "dkim1": {
        "valid": False,
        "type": "cname",
        "host": "s1._domainkey.social.test",
        "data": "s1.domainkey.u1.wl.sendgrid.net",
    },
}
RECORDS = [
    {"name": "em1.social.test.", "type": "CNAME", "content": "u1.wl.sendgrid.net", "proxied": False},
    {
        "name": "s1._domainkey.social.test.",
        "type": "CNAME",
        "content": "s1.domainkey.u1.wl.sendgrid.net",
        "proxied": False,
    },
]


def domain(identifier: int = 7, **more: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "user_id": 1,
        "domain": "social.test",
        "subdomain": "em1",
        "default": False,
        "custom_spf": False,
        "automatic_security": True,
        "valid": False,
        "dns": DNS,
        **more,
    }


def listed(script: Any, *domains: dict[str, Any]) -> None:
    script.expect("GET", DOMAINS, query=QUERY, answer=list(domains))


def test_creates(script: Any, run: Any) -> None:
    listed(script, domain(1, domain="other.social.test"))
    script.expect(
        "POST",
        DOMAINS,
        body={"domain": "social.test", "automatic_security": True, "default": True},
        status=201,
        answer=domain(default=True),
    )
    result = run("sendgrid_domain", {"domain": "Social.Test.", "default": True})
    assert result["changed"] is True
    assert result["records"] == RECORDS
    assert result["valid"] is False
    assert result["domain"]["id"] == 7
    assert result["diff"]["before"] == {}


def test_changes_nothing_twice(script: Any, run: Any) -> None:
    listed(script, domain(9), domain(7, valid=True))
    result = run("sendgrid_domain", {"domain": "social.test", "default": False, "validate": True})
    assert result["changed"] is False
    assert result["domain"]["id"] == 7
    assert result["valid"] is True


def test_finds_by_subdomain(script: Any, run: Any) -> None:
    listed(script, domain(7), domain(9, subdomain="mail"))
    result = run("sendgrid_domain", {"domain": "social.test", "subdomain": "mail"})
    assert (result["changed"], result["domain"]["id"]) == (False, 9)


def test_another_subdomain_is_another_domain(script: Any, run: Any) -> None:
    listed(script, domain(7))
    body = {"domain": "social.test", "subdomain": "mail", "automatic_security": True}
    script.expect("POST", DOMAINS, body=body, status=201, answer=domain(9, subdomain="mail"))
    assert run("sendgrid_domain", {"domain": "social.test", "subdomain": "mail"})["changed"] is True


def test_updates(script: Any, run: Any) -> None:
    listed(script, domain())
    script.expect("PATCH", f"{DOMAINS}/7", body={"default": True}, answer=[domain(default=True)])
    result = run("sendgrid_domain", {"domain": "social.test", "default": True})
    assert result["changed"] is True
    assert result["diff"]["before"]["default"] is False
    assert result["diff"]["after"]["default"] is True


def test_an_update_may_answer_the_domain_itself(script: Any, run: Any) -> None:
    listed(script, domain())
    script.expect("PATCH", f"{DOMAINS}/7", body={"default": True}, answer=domain(default=True))
    assert run("sendgrid_domain", {"domain": "social.test", "default": True})["domain"]["default"] is True
    listed(script, domain())
    script.expect("PATCH", f"{DOMAINS}/7", body={"default": True}, answer=[])
    message = run("sendgrid_domain", {"domain": "social.test", "default": True})["msg"]
    assert "the answer does not tell of domain 7" in message


def test_check_mode_only_reads(script: Any, run: Any) -> None:
    listed(script)
    result = run("sendgrid_domain", {"domain": "social.test", "validate": True, "default": True}, check=True)
    assert result["changed"] is True
    assert (result["domain"], result["records"], result["valid"]) == ({}, [], False)
    assert result["diff"]["after"] == {"domain": "social.test", "default": True}

    listed(script, domain())
    result = run("sendgrid_domain", {"domain": "social.test", "custom_spf": True}, check=True)
    assert result["changed"] is True
    assert result["domain"]["custom_spf"] is True

    listed(script, domain())
    assert run("sendgrid_domain", {"domain": "social.test"}, check=True)["changed"] is False


def test_waits_for_the_dns(script: Any, run: Any) -> None:
    bad = {"mail_cname": {"valid": False, "reason": "not found"}, "dkim1": {"valid": True, "reason": None}}
    listed(script, domain())
    validate = f"{DOMAINS}/7/validate"
    script.expect("POST", validate, status=500, answer={"errors": [{"message": "cannot look"}]})
    script.expect("POST", validate, answer={"id": 7, "valid": False, "validation_results": bad})
    script.expect("POST", validate, answer={"id": 7, "valid": True, "validation_results": {}})
    result = run("sendgrid_domain", {"domain": "social.test", "validate": True})
    assert (result["changed"], result["valid"]) == (False, True)
    assert script.sleeps == [10, 10]


def test_says_why_it_is_not_valid(script: Any, run: Any) -> None:
    bad = {"mail_cname": {"valid": False, "reason": "not found"}, "dkim1": {"valid": True, "reason": None}}
    listed(script, domain())
    script.expect(
        "POST", f"{DOMAINS}/7/validate", answer={"id": 7, "valid": False, "validation_results": bad}
    )
    result = run("sendgrid_domain", {"domain": "social.test", "validate": True, "wait_timeout": 0})
    assert result["msg"] == (
        "SendGrid does not see the records of social.test after 0 s (mail_cname: not found). Have the "
        "returned records in the domain's DNS, then run again; DNS may need time."
    )
    assert result["reasons"] == {"mail_cname": "not found"}
    assert result["records"] == RECORDS

    listed(script, domain())
    script.expect("POST", f"{DOMAINS}/7/validate", status=500, answer={})
    result = run("sendgrid_domain", {"domain": "social.test", "validate": True, "wait_timeout": 0})
    assert result["reasons"] == {"dns": "SendGrid could not look the records up"}


def test_never_creates_twice(script: Any, run: Any) -> None:
    body = {"domain": "social.test", "automatic_security": True}
    listed(script)
    script.expect("POST", DOMAINS, body=body, status=500, answer={"errors": [{"message": "oops"}]})
    listed(script, domain())
    assert run("sendgrid_domain", {"domain": "social.test"})["domain"]["id"] == 7

    listed(script)
    script.expect("POST", DOMAINS, body=body, status=500, answer={"errors": [{"message": "oops"}]})
    listed(script)
    script.expect("POST", DOMAINS, body=body, status=201, answer=domain(8))
    assert run("sendgrid_domain", {"domain": "social.test"})["domain"]["id"] == 8


def test_manual_security_has_other_records(script: Any, run: Any) -> None:
    dns = {
        "mail_server": {"valid": False, "type": "mx", "host": "em1.social.test", "data": "mx.sendgrid.net"},
        "subdomain_spf": {
            "valid": False,
            "type": "txt",
            "host": "em1.social.test",
            "data": "v=spf1 include:sendgrid.net ~all",
        },
    }
    listed(script, domain(dns=dns))
    records = run("sendgrid_domain", {"domain": "social.test"})["records"]
    assert records == [
        {"name": "em1.social.test.", "type": "MX", "content": "mx.sendgrid.net", "priority": 10},
        {"name": "em1.social.test.", "type": "TXT", "content": "v=spf1 include:sendgrid.net ~all"},
    ]


def test_reads_every_page(script: Any, run: Any) -> None:
    others = [domain(100 + n, domain=f"a{n}.social.test") for n in range(50)]
    script.expect("GET", DOMAINS, query=QUERY, answer=others)
    script.expect("GET", DOMAINS, query={**QUERY, "offset": "50"}, answer=[domain()])
    assert run("sendgrid_domain", {"domain": "social.test"})["domain"]["id"] == 7


def test_refusals(script: Any, run: Any) -> None:
    listed(script)
    script.expect(
        "POST",
        DOMAINS,
        body={"domain": "social.test", "automatic_security": True},
        status=400,
        answer={"errors": [{"field": "domain", "message": "is taken"}]},
    )
    assert run("sendgrid_domain", {"domain": "social.test"})["msg"] == (
        "POST https://api.sendgrid.com/v3/whitelabel/domains: 400 is taken (field domain). "
        "Change what was asked for, then run again."
    )
    script.expect("GET", DOMAINS, query=QUERY, answer={"errors": []})
    assert "the answer is no list" in run("sendgrid_domain", {"domain": "social.test"})["msg"]


def test_rate_limit_without_retry_after(script: Any, run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("time.time", lambda: 5_000.0)
    limit = {"errors": [{"field": None, "message": "too many requests"}]}
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "5012"}
    script.expect("GET", DOMAINS, query=QUERY, status=429, answer=limit, answer_headers=headers)
    script.expect(
        "GET", DOMAINS, query=QUERY, status=429, answer=limit, answer_headers={"x-ratelimit-remaining": "0"}
    )
    listed(script, domain())
    assert run("sendgrid_domain", {"domain": "social.test"})["changed"] is False
    assert script.sleeps == [12, 1]

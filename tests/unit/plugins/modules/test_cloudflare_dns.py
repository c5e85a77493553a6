"""Module cloudflare_dns, call by call."""

from __future__ import annotations

from typing import Any

import pytest

API = "/client/v4"
ZONE = "023e105f4ecef8ad9ca31a8372d0c353"
RECORDS = f"{API}/zones/{ZONE}/dns_records"
BATCH = f"{RECORDS}/batch"
PAGE = {"per_page": "5000", "page": "1"}


def answer(result: Any, pages: int = 1) -> dict[str, Any]:
    return {
        "success": True,
        "errors": [],
        "messages": [],
        "result": result,
        "result_info": {"total_pages": pages},
    }


def refusal(code: int, message: str) -> dict[str, Any]:
    return {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None}


def stored(
    identifier: str, kind: str, content: str, name: str = "social.test", **more: Any
) -> dict[str, Any]:
    return {
        "id": identifier,
        "name": name,
        "type": kind,
        "content": content,
        "ttl": 1,
        "proxied": False,
        "comment": None,
        **more,
    }


def zone(script: Any, *records: dict[str, Any]) -> None:
    script.expect("GET", RECORDS, query=PAGE, answer=answer(list(records)))


def arguments(*records: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"zone": "social.test", "zone_id": ZONE, "records": list(records), **more}


A = {"type": "A", "content": "203.0.113.10"}
TOKEN_ADVICE = "Set a valid token in api_token or CLOUDFLARE_API_TOKEN."


def test_finds_the_zone_and_creates(script: Any, run: Any) -> None:
    script.expect(
        "GET",
        f"{API}/zones",
        query={"name": "social.test", "per_page": "5"},
        answer=answer([{"id": ZONE, "name": "social.test"}]),
    )
    zone(script)
    posts = [
        {"name": "social.test", "type": "A", "content": "203.0.113.10", "ttl": 1, "proxied": True},
        {
            "name": "social.test",
            "type": "CAA",
            "data": {"flags": 0, "tag": "issue", "value": "letsencrypt.org"},
            "ttl": 1,
        },
        {"name": "social.test", "type": "MX", "content": "mx.example.net", "ttl": 300, "priority": 10},
        {
            "name": "social.test",
            "type": "TXT",
            "content": '"v=spf1 include:\\"x\\" -all"',
            "ttl": 1,
            "comment": "mail",
        },
        {
            "name": "_x._tcp.social.test",
            "type": "SRV",
            "data": {"priority": 0, "weight": 5, "port": 443, "target": "a.social.test"},
            "ttl": 1,
        },
        {
            "name": "files.social.test",
            "type": "CNAME",
            "content": "cdn.example.net",
            "ttl": 1,
            "proxied": False,
        },
    ]
    posts.sort(key=lambda record: str(record["name"]))
    script.expect("POST", BATCH, body={"posts": posts}, answer=answer({"posts": posts}))
    result = run(
        "cloudflare_dns",
        {
            "zone": "Social.Test.",
            "records": [
                {"name": "files", "type": "CNAME", "content": "CDN.example.net."},
                {"type": "TXT", "content": 'v=spf1 include:"x" -all', "comment": "mail"},
                {"name": "@", "proxied": True, **A},
                {
                    "name": "social.test.",
                    "type": "MX",
                    "value": "mx.example.net.",
                    "priority": 10,
                    "ttl": 300,
                },
                {"type": "CAA", "content": '0 issue "letsencrypt.org"'},
                {"name": "_x._tcp", "type": "SRV", "content": "0 5 443 A.social.test."},
            ],
        },
    )
    assert result["changed"] is True
    assert result["zone_id"] == ZONE
    assert len(result["created"]) == len(result["records"]) == 6
    assert (result["updated"], result["deleted"]) == ([], [])
    assert result["diff"]["before"] == ""
    assert "social.test auto A 203.0.113.10 ; proxied\n" in result["diff"]["after"]
    assert "social.test 300 MX 10 mx.example.net\n" in result["diff"]["after"]


def test_changes_nothing_twice(script: Any, run: Any) -> None:
    zone(
        script,
        stored("1", "A", "203.0.113.10", proxied=True),
        stored("2", "TXT", '"v=spf1 " "-all"'),
        stored("3", "CAA", "", data={"flags": 0, "tag": "issue", "value": "letsencrypt.org"}),
        stored("4", "SRV", "x", name="_x._tcp.social.test", data={"port": 443, "target": "a.social.test"}),
        stored("5", "AAAA", "2001:db8::1"),
        stored("6", "HTTPS", "1 . alpn=h2"),
    )
    result = run(
        "cloudflare_dns",
        arguments(
            {**A, "proxied": True},
            {"type": "TXT", "content": "v=spf1 -all"},
            {"type": "CAA", "content": "0 ISSUE letsencrypt.org"},
            {"name": "_x._tcp", "type": "SRV", "content": "0 0 443 a.social.test"},
            {"type": "AAAA", "content": "2001:0db8:0::1"},
            exclusive=True,
        ),
    )
    assert result["changed"] is False
    assert result["diff"] == {"before": "", "after": ""}
    assert len(result["records"]) == 5


def test_only_given_attributes_are_compared(script: Any, run: Any) -> None:
    zone(script, stored("1", "A", "203.0.113.10", ttl=300, comment="by hand"))
    assert run("cloudflare_dns", arguments(A))["changed"] is False


def test_changes_attributes(script: Any, run: Any) -> None:
    zone(script, stored("1", "A", "203.0.113.10", ttl=300, comment="by hand"))
    patch = {
        "id": "1",
        "name": "social.test",
        "type": "A",
        "content": "203.0.113.10",
        "ttl": 1,
        "proxied": True,
        "comment": "by hand",
    }
    script.expect("POST", BATCH, body={"patches": [patch]}, answer=answer({}))
    result = run("cloudflare_dns", arguments({**A, "proxied": True}))
    assert result["changed"] is True
    assert result["updated"][0]["ttl"] == 1
    assert result["diff"] == {
        "before": "social.test 300 A 203.0.113.10 ; by hand\n",
        "after": "social.test auto A 203.0.113.10 ; proxied ; by hand\n",
    }


def test_removes_a_comment(script: Any, run: Any) -> None:
    zone(script, stored("1", "TXT", '"a"', comment="old"))
    patch = {"id": "1", "name": "social.test", "type": "TXT", "content": '"a"', "ttl": 1, "comment": ""}
    script.expect("POST", BATCH, body={"patches": [patch]}, answer=answer({}))
    assert run("cloudflare_dns", arguments({"type": "TXT", "content": "a", "comment": ""}))["changed"] is True


def test_without_exclusive_others_stay(script: Any, run: Any) -> None:
    zone(script, stored("1", "A", "203.0.113.99"))
    post = {"name": "social.test", "type": "A", "content": "203.0.113.10", "ttl": 1, "proxied": False}
    script.expect("POST", BATCH, body={"posts": [post]}, answer=answer({}))
    result = run("cloudflare_dns", arguments(A))
    assert [record["content"] for record in result["created"]] == ["203.0.113.10"]


def test_exclusive_replaces_in_place_and_removes_the_rest(script: Any, run: Any) -> None:
    zone(
        script,
        stored("1", "A", "203.0.113.98"),
        stored("2", "A", "203.0.113.99"),
        stored("3", "TXT", '"stays"'),
        stored("4", "A", "203.0.113.99", name="other.social.test"),
    )
    patch = {
        "id": "1",
        "name": "social.test",
        "type": "A",
        "content": "203.0.113.10",
        "ttl": 1,
        "proxied": False,
        "comment": "",
    }
    script.expect("POST", BATCH, body={"deletes": [{"id": "2"}], "patches": [patch]}, answer=answer({}))
    result = run("cloudflare_dns", arguments(A, exclusive=True))
    assert [record["content"] for record in result["deleted"]] == ["203.0.113.99"]
    assert result["diff"]["before"] == "social.test auto A 203.0.113.98\nsocial.test auto A 203.0.113.99\n"


def test_a_name_has_one_cname(script: Any, run: Any) -> None:
    zone(script, stored("1", "CNAME", "old.example.net", name="files.social.test", proxied=True))
    patch = {
        "id": "1",
        "name": "files.social.test",
        "type": "CNAME",
        "content": "new.example.net",
        "ttl": 1,
        "proxied": True,
        "comment": "",
    }
    script.expect("POST", BATCH, body={"patches": [patch]}, answer=answer({}))
    wanted = {"name": "files", "type": "CNAME", "content": "new.example.net"}
    assert run("cloudflare_dns", arguments(wanted))["changed"] is True


def test_absent(script: Any, run: Any) -> None:
    zone(
        script,
        stored("1", "A", "203.0.113.10", name="old.social.test"),
        stored("2", "A", "203.0.113.11", name="old.social.test"),
        stored("3", "TXT", '"one"'),
        stored("4", "TXT", '"two"'),
    )
    script.expect("POST", BATCH, body={"deletes": [{"id": "1"}, {"id": "2"}, {"id": "3"}]}, answer=answer({}))
    result = run(
        "cloudflare_dns",
        arguments(
            {"name": "old", "type": "A", "state": "absent"},
            {"type": "TXT", "content": "one", "state": "absent"},
            {"name": "never", "type": "A", "state": "absent"},
        ),
    )
    assert len(result["deleted"]) == 3
    assert result["records"] == []


def test_an_address_gives_way_to_a_cname(script: Any, run: Any) -> None:
    zone(script, stored("1", "A", "203.0.113.10", name="files.social.test"))
    post = {
        "name": "files.social.test",
        "type": "CNAME",
        "content": "cdn.example.net",
        "ttl": 1,
        "proxied": False,
    }
    script.expect("POST", BATCH, body={"deletes": [{"id": "1"}], "posts": [post]}, answer=answer({}))
    result = run(
        "cloudflare_dns",
        arguments(
            {"name": "files", "type": "A", "state": "absent"},
            {"name": "files", "type": "CNAME", "content": "cdn.example.net"},
        ),
    )
    assert result["changed"] is True


def test_check_mode_only_reads(script: Any, run: Any) -> None:
    zone(script, stored("1", "A", "203.0.113.99"))
    result = run("cloudflare_dns", arguments(A, exclusive=True), check=True)
    assert result["changed"] is True
    assert result["records"][0]["content"] == "203.0.113.10"


def test_a_cname_at_the_apex_may_stand_beside_mail(script: Any, run: Any) -> None:
    zone(script, stored("1", "MX", "mx.example.net", priority=10))
    post = {
        "name": "social.test",
        "type": "CNAME",
        "content": "lb.example.net",
        "ttl": 1,
        "proxied": False,
    }
    script.expect("POST", BATCH, body={"posts": [post]}, answer=answer({}))
    assert run("cloudflare_dns", arguments({"type": "CNAME", "content": "lb.example.net"}))["changed"] is True


def test_reads_every_page(script: Any, run: Any) -> None:
    script.expect("GET", RECORDS, query=PAGE, answer=answer([stored("1", "A", "203.0.113.1")], pages=2))
    script.expect(
        "GET",
        RECORDS,
        query={**PAGE, "page": "2"},
        answer=answer([stored("2", "A", "203.0.113.10")], pages=2),
    )
    assert run("cloudflare_dns", arguments(A))["changed"] is False


def test_many_changes_are_several_batches(script: Any, run: Any) -> None:
    zone(script, *(stored(f"{n:03}", "A", f"203.0.113.{n}") for n in range(1, 251)))
    ids = [f"{n:03}" for n in range(1, 251)]
    ids.sort(key=lambda identifier: f"social.test auto A 203.0.113.{int(identifier)}")
    script.expect("POST", BATCH, body={"deletes": [{"id": i} for i in ids[:200]]}, answer=answer({}))
    script.expect("POST", BATCH, body={"deletes": [{"id": i} for i in ids[200:]]}, answer=answer({}))
    result = run("cloudflare_dns", arguments({"type": "A", "state": "absent"}))
    assert len(result["deleted"]) == 250


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [A, {"type": "CNAME", "content": "b.test"}],
            "social.test: CNAME b.test cannot stand beside A 203.0.113.10; keep one of them.",
        ),
        (
            [{"name": "x", "type": "CNAME", "content": c} for c in ("a.test", "b.test")],
            "x.social.test: CNAME b.test cannot stand beside CNAME a.test; keep one of them.",
        ),
        (
            [
                {"name": "x", "type": "TXT", "content": "t"},
                {"name": "x", "type": "CNAME", "content": "b.test"},
            ],
            "x.social.test: TXT t cannot stand beside CNAME b.test; keep one of them.",
        ),
        ([{**A, "ttl": 60}, {**A, "ttl": 90}], "social.test A: is listed twice with different attributes."),
        ([A, {**A, "state": "absent"}], "social.test A: is both wanted and to be absent."),
        ([{"type": "A", "content": "::1"}], "social.test: A '::1': is not an IPv4 address."),
        ([{"type": "AAAA", "content": "nonsense"}], "social.test: AAAA 'nonsense': is not an IP address."),
        ([{**A, "ttl": 5}], "social.test A: ttl 5 is neither 1 (automatic) nor 30 to 86400 seconds."),
        (
            [{**A, "ttl": 60, "proxied": True}],
            "social.test A: a proxied record has the ttl 1 (automatic); remove `ttl`.",
        ),
        (
            [{"type": "TXT", "content": "x", "proxied": True}],
            "social.test TXT: only A, AAAA, CNAME can be proxied; remove `proxied`.",
        ),
        (
            [{"type": "MX", "content": "mx.test"}],
            "social.test MX: needs a `priority` from 0 to 65535.",
        ),
        (
            [{**A, "priority": 1}],
            "social.test A: only MX takes `priority` (SRV has it in its content).",
        ),
        ([{**A, "name": "other.test."}], "other.test.: is not in the zone social.test."),
        ([{**A, "name": "bad..name"}], "'bad..name': is not a valid name."),
        ([{**A, "name": "\u2764" * 64}], "is not a valid part of a name"),
        (
            [{"type": "CAA", "content": "issue x"}],
            'social.test: CAA \'issue x\': must be FLAGS TAG "VALUE", for example 0 issue "letsencrypt.org".',
        ),
        (
            [{"type": "CAA", "content": "256 issue x"}],
            "social.test: CAA '256 issue x': flags are 0 to 255.",
        ),
        (
            [{"type": "SRV", "content": "0 0 70000 a.test"}],
            "social.test: SRV '0 0 70000 a.test': must be PRIORITY WEIGHT PORT TARGET, "
            "for example 0 5 443 a.example.",
        ),
    ],
)
def test_refuses_before_any_call(script: Any, run: Any, records: Any, message: str) -> None:
    result = run("cloudflare_dns", arguments(*records))
    assert result["failed"] is True
    assert result["msg"].startswith("Nothing was changed. ")
    assert message in result["msg"]


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (("A", "203.0.113.10"), {"type": "CNAME", "content": "b.test"}),
        (("CNAME", "b.test"), {"type": "A", "content": "203.0.113.10"}),
        (("HTTPS", "1 . alpn=h2"), {"type": "CNAME", "content": "b.test"}),
    ],
)
def test_refuses_what_the_zone_forbids(script: Any, run: Any, there: Any, wanted: Any) -> None:
    zone(script, stored("1", there[0], there[1], name="x.social.test"))
    message = run("cloudflare_dns", arguments({"name": "x", **wanted}, exclusive=True))["msg"]
    assert message == (
        f"Nothing was changed. x.social.test: {wanted['type']} {wanted['content']} cannot stand beside the "
        f"{there[0]} {there[1]} that the zone has; list that with `state: absent`, or take another name."
    )


def test_unknown_zone(script: Any, run: Any) -> None:
    script.expect("GET", f"{API}/zones", query={"name": "social.test", "per_page": "5"}, answer=answer([]))
    result = run("cloudflare_dns", {"zone": "social.test", "records": [A]})
    assert result["msg"] == (
        "GET https://api.cloudflare.com/client/v4/zones: there is no zone social.test that the token may see."
        " Check the name, and that the token has the permission Zone Read for this zone."
    )


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, 10000, f"{TOKEN_ADVICE} This call needs its permission DNS Read."),
        (403, 9109, f"{TOKEN_ADVICE} This call needs its permission DNS Read."),
        (403, 1, "The token lacks a permission: this call needs DNS Read."),
        (404, 7003, "Check the zone id and that the endpoint ends in /client/v4."),
        (400, 1, "Change what was asked for, then run again."),
    ],
)
def test_refusals_say_what_to_do(script: Any, run: Any, status: int, code: int, advice: str) -> None:
    script.expect("GET", RECORDS, query=PAGE, status=status, answer=refusal(code, "no"))
    result = run("cloudflare_dns", arguments(A))
    assert result["msg"] == (f"GET https://api.cloudflare.com{RECORDS}: {status} no (code {code}). {advice}")
    assert result["failure"]["code"] == code


def test_waits_for_the_rate_limit(script: Any, run: Any) -> None:
    limit = refusal(10429, "slow down")
    script.expect("GET", RECORDS, query=PAGE, status=429, answer=limit, answer_headers={"retry-after": "7"})
    script.expect("GET", RECORDS, query=PAGE, status=429, answer=limit)
    zone(script)
    post = {"name": "social.test", "type": "A", "content": "203.0.113.10", "ttl": 1, "proxied": False}
    script.expect("POST", BATCH, body={"posts": [post]}, status=429, answer=limit)
    script.expect("POST", BATCH, body={"posts": [post]}, answer=answer({}))
    assert run("cloudflare_dns", arguments(A))["changed"] is True
    assert script.sleeps == [7, 1, 0.5]


def test_does_not_wait_five_minutes(script: Any, run: Any) -> None:
    script.expect(
        "GET",
        RECORDS,
        query=PAGE,
        status=429,
        answer=refusal(10429, "blocked"),
        answer_headers={"retry-after": "300"},
    )
    message = run("cloudflare_dns", arguments(A))["msg"]
    assert message.endswith("The rate limit is used up: run again in 300 s.")
    assert script.sleeps == []


@pytest.mark.parametrize(
    "lost",
    [
        {"status": 500, "answer": refusal(1, "internal")},
        {"status": 502, "answer": b"<html>Bad gateway</html>"},
        {"answer": b'{"success": true, "resu'},
    ],
)
def test_reads_again_after_a_batch_of_unclear_outcome(script: Any, run: Any, lost: Any) -> None:
    post = {"name": "social.test", "type": "A", "content": "203.0.113.10", "ttl": 1, "proxied": False}
    zone(script)
    script.expect("POST", BATCH, body={"posts": [post]}, **lost)
    zone(script, stored("1", "A", "203.0.113.10"))
    result = run("cloudflare_dns", arguments(A))
    assert result["changed"] is True
    assert len(result["created"]) == 1
    assert script.sleeps == [0.5]


def test_writes_again_what_was_not_carried_out_and_gives_up_in_the_end(script: Any, run: Any) -> None:
    post = {"name": "social.test", "type": "A", "content": "203.0.113.10", "ttl": 1, "proxied": False}
    for _unused in range(3):
        zone(script)
        script.expect("POST", BATCH, body={"posts": [post]}, status=503, answer=refusal(1, "down"))
    message = run("cloudflare_dns", arguments(A))["msg"]
    assert message == (
        f"POST https://api.cloudflare.com{BATCH}: 503 down (code 1). The API has a problem: run again later."
    )


def test_an_answer_that_is_no_list(script: Any, run: Any) -> None:
    script.expect("GET", RECORDS, query=PAGE, answer={"result": {}})
    message = run("cloudflare_dns", arguments(A))["msg"]
    assert message.endswith(
        "the answer has no list `result`. "
        "Check that the endpoint is Cloudflare's API (it ends in /client/v4)."
    )


def test_content_is_needed(script: Any, run: Any) -> None:
    assert "content" in run("cloudflare_dns", arguments({"type": "A"}))["msg"]


def test_a_refusal_without_a_reason(script: Any, run: Any) -> None:
    script.expect("GET", RECORDS, query=PAGE, status=418, answer={"teapot": True})
    message = run("cloudflare_dns", arguments(A))["msg"]
    assert message.endswith(
        '418 an answer that is JSON without a reason ({"teapot": true}). Change what was asked '
        "for, then run again."
    )

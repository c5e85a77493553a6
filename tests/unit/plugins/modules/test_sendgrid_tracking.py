"""Module sendgrid_tracking, call by call."""

from __future__ import annotations

from typing import Any

import pytest

OFF = {"click": False, "open": False, "subscription": False, "google_analytics": False}


def listed(**on: bool) -> dict[str, Any]:
    return {"result": [{"name": name, "enabled": on.get(name, False)} for name in OFF]}


def test_writes_only_what_differs(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer=listed(click=True, open=True))
    script.expect("PATCH", "/v3/tracking_settings/click", body={"enabled": False}, answer={"enabled": False})
    script.expect("PATCH", "/v3/tracking_settings/open", body={"enabled": False}, answer={"enabled": False})
    result = run("sendgrid_tracking", {})
    assert result["changed"] is True
    assert result["tracking"] == OFF
    assert result["diff"] == {"before": {**OFF, "click": True, "open": True}, "after": OFF}
    assert script.sleeps == []


def test_changes_nothing_twice(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer=listed())
    result = run("sendgrid_tracking", {})
    assert result["changed"] is False
    assert result["diff"] == {"before": OFF, "after": OFF}


def test_check_mode_only_reads(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer=listed(google_analytics=True))
    result = run("sendgrid_tracking", {}, check=True)
    assert result["changed"] is True
    assert result["tracking"] == OFF


def test_can_switch_on(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer=listed())
    script.expect(
        "PATCH", "/v3/tracking_settings/subscription", body={"enabled": True}, answer={"enabled": True}
    )
    assert run("sendgrid_tracking", {"subscription": True})["changed"] is True


@pytest.mark.parametrize(
    ("arguments", "headers"),
    [({}, {"on-behalf-of": None}), ({"subuser": "social"}, {"on-behalf-of": "social"})],
)
def test_acts_for_the_subuser(script: Any, run: Any, arguments: Any, headers: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer=listed(), headers=headers)
    run("sendgrid_tracking", arguments)


def test_wrong_key(script: Any, run: Any) -> None:
    body = {"errors": [{"field": None, "message": "The provided authorization grant is invalid"}]}
    script.expect("GET", "/v3/tracking_settings", status=401, answer=body)
    result = run("sendgrid_tracking", {"region": "eu"})
    assert result["msg"] == (
        "GET https://api.eu.sendgrid.com/v3/tracking_settings: 401 The provided authorization grant is "
        "invalid. Set a valid token in api_key or SENDGRID_API_KEY."
    )
    assert result["failure"] == {
        "call": "GET https://api.eu.sendgrid.com/v3/tracking_settings",
        "problem": "401 The provided authorization grant is invalid",
        "status": 401,
        "code": None,
    }


def test_key_without_the_scope(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer=listed(open=True))
    script.expect(
        "PATCH",
        "/v3/tracking_settings/open",
        body={"enabled": False},
        status=403,
        answer={"errors": [{"field": None, "message": "access forbidden"}]},
    )
    message = run("sendgrid_tracking", {})["msg"]
    assert message.endswith(
        "403 access forbidden. The token lacks a permission: this call needs tracking_settings.open.update."
    )


def test_an_answer_that_tells_nothing(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", answer={"result": [{"name": "click", "enabled": True}]})
    message = run("sendgrid_tracking", {})["msg"]
    assert "the answer does not tell of open, subscription, google_analytics" in message


def test_a_refusal_without_a_reason(script: Any, run: Any) -> None:
    script.expect("GET", "/v3/tracking_settings", status=404, answer={})
    message = run("sendgrid_tracking", {})["msg"]
    assert message.endswith(
        "404 an answer that is JSON without a reason ({}). Change what was asked for, then run again."
    )

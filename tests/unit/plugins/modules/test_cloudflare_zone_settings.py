"""Module cloudflare_zone_settings, call by call."""

from __future__ import annotations

from typing import Any

import pytest

ZONE = "023e105f4ecef8ad9ca31a8372d0c353"
SETTINGS = f"/client/v4/zones/{ZONE}/settings"
WANTED = {
    "ssl": "strict",
    "always_use_https": "on",
    "min_tls_version": "1.2",
    "websockets": "on",
    "rocket_loader": "off",
    "email_obfuscation": "off",
}


def listed(**different: str) -> dict[str, Any]:
    settings = {**WANTED, "http3": "off", "brotli": "on", **different}
    return {"success": True, "errors": [], "result": [{"id": k, "value": v} for k, v in settings.items()]}


def arguments(**more: Any) -> dict[str, Any]:
    return {"zone": "social.test", "zone_id": ZONE, **more}


def test_writes_only_what_differs(script: Any, run: Any) -> None:
    script.expect("GET", SETTINGS, answer=listed(ssl="flexible", always_use_https="off"))
    for name, value in (("ssl", "strict"), ("always_use_https", "on"), ("http3", "on")):
        script.expect("PATCH", f"{SETTINGS}/{name}", body={"value": value}, answer={"success": True})
    result = run("cloudflare_zone_settings", arguments(http3=True))
    assert result["changed"] is True
    assert result["settings"] == {**WANTED, "http3": "on"}
    assert result["diff"]["before"] == {
        **WANTED,
        "ssl": "flexible",
        "always_use_https": "off",
        "http3": "off",
    }


def test_finds_the_zone_and_changes_nothing_twice(script: Any, run: Any) -> None:
    script.expect(
        "GET",
        "/client/v4/zones",
        query={"name": "social.test", "per_page": "5"},
        answer={
            "result": [{"id": "other", "name": "social.test.example"}, {"id": ZONE, "name": "social.test"}]
        },
    )
    script.expect("GET", SETTINGS, answer=listed())
    result = run("cloudflare_zone_settings", {"zone": "social.test"})
    assert result["changed"] is False
    assert result["zone_id"] == ZONE


def test_check_mode_only_reads(script: Any, run: Any) -> None:
    script.expect("GET", SETTINGS, answer=listed(websockets="off"))
    result = run("cloudflare_zone_settings", arguments(), check=True)
    assert result["changed"] is True


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"ssl": "off"}, "ssl=off: Mastodon redirects"),
        ({"ssl": "flexible"}, "ssl=flexible: Mastodon redirects"),
        ({"websockets": False}, "websockets=False: Mastodon's streaming needs"),
        ({"rocket_loader": True}, "rocket_loader=True: Mastodon's content security policy"),
        ({"email_obfuscation": True}, "email_obfuscation=True: it changes posts"),
    ],
)
def test_refuses_what_breaks_mastodon(script: Any, run: Any, bad: Any, message: str) -> None:
    assert run("cloudflare_zone_settings", arguments(**bad))["msg"].startswith(
        f"Nothing was changed. {message}"
    )


def test_token_without_the_permission(script: Any, run: Any) -> None:
    script.expect("GET", SETTINGS, answer=listed(ssl="full"))
    script.expect(
        "PATCH",
        f"{SETTINGS}/ssl",
        body={"value": "strict"},
        status=403,
        answer={"success": False, "errors": [{"code": 1, "message": "Forbidden"}]},
    )
    assert run("cloudflare_zone_settings", arguments())["msg"].endswith(
        "403 Forbidden (code 1). The token lacks a permission: this call needs Zone Settings Write."
    )


def test_a_name_that_is_none(script: Any, run: Any) -> None:
    assert run("cloudflare_zone_settings", {"zone": "a..b"})["msg"] == (
        "Nothing was changed. 'a..b': is not a valid name."
    )

"""What nginx adds to, and hides from, whatever the application says: as in Mastodon's own sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.application import application, heard, told
from tests.visitor import Answer, Visitor, health, lies

HSTS = "max-age=63072000; includeSubDomains"
SHORT = "public, max-age=604800, must-revalidate"
LONG = "public, max-age=2419200, must-revalidate"
FOR_EVER = "public, max-age=2419200, immutable"


@pytest.fixture(name="unit", scope="module", autouse=True)
def _unit(host: Any) -> Iterator[str]:
    """An application in web's place, another in streaming's; the name of web's systemd unit."""
    assert host.run("systemctl stop mastodon-web mastodon-streaming").rc == 0
    with application(host, 3000) as unit, application(host, 4000):
        yield unit
    assert host.run("systemctl start mastodon-web mastodon-streaming").rc == 0


@pytest.fixture(name="get")
def _get(visitor: Visitor) -> Callable[..., Answer]:
    """Asks for a path that nobody asked for before, so that no cache answers."""
    return lambda path, **headers: visitor.get(
        f"{path}{'&' if '?' in path else '?'}{time.time_ns()}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


STATIC = {
    "/sw.js": SHORT,
    "/assets/a.css": LONG,
    "/avatars/original/a.png": LONG,
    "/emoji/1f600.svg": LONG,
    "/headers/original/a.png": LONG,
    "/ocr/lang-data/a": LONG,
    "/packs/a.js": LONG,
    "/sounds/boop.mp3": LONG,
    "/system/a.png": FOR_EVER,
}


@pytest.mark.parametrize(("path", "lifetime"), [("/", "public, max-age=5"), *STATIC.items()])
def test_lifetimes(get: Callable[..., Answer], path: str, lifetime: str) -> None:
    answer = get(path)
    assert answer.status == 200
    assert answer.header("Strict-Transport-Security") == HSTS
    assert answer.header("X-Cached") == "MISS"
    assert answer.header("Cache-Control") == lifetime


@pytest.mark.parametrize("path", STATIC)
@pytest.mark.parametrize(
    "said",
    [
        {"Status": "404", "Cache-Control": "private, no-store"},
        {"Status": "404", "Cache-Control": "public, max-age=3"},
        {"Status": "403", "Cache-Control": "no-cache"},
        {"Status": "500", "Cache-Control": "no-cache"},
        {"Status": "302", "Cache-Control": "public, max-age=3"},
        # A page, whatever way led to this path.
        {"Cache-Control": "private, no-store"},
        {"Cache-Control": "max-age=0, private, must-revalidate"},
        {"Cache-Control": "max-age=3"},
        {"Cache-Control": "public, private"},
    ],
    ids=lambda said: " ".join(said.values()),
)
def test_what_is_no_static_file_keeps_its_lifetime(
    get: Callable[..., Answer], path: str, said: dict[str, str]
) -> None:
    answer = get(path, **{f"X_Answer_{name}": value for name, value in said.items()})
    assert answer.status == int(said.get("Status", "200"))
    assert answer.header("Cache-Control") == said["Cache-Control"]
    assert answer.header("Strict-Transport-Security") == HSTS


@pytest.mark.parametrize("personal", [{"X_Answer_Cookie": "a=b"}, {"Authorization": "Bearer x"}])
def test_what_is_somebodys_own_keeps_its_lifetime(
    get: Callable[..., Answer], personal: dict[str, str]
) -> None:
    assert get("/packs/a.js", **personal).header("Cache-Control") == "public, max-age=5"


def test_a_404_is_not_kept(visitor: Visitor) -> None:
    """Neither by nginx: a file that the next release brings is there at once."""
    path = f"/packs/new.js?{time.time_ns()}"
    missing = {"X-Answer-Status": "404", "X-Answer-Cache-Control": "private, no-store"}
    assert visitor.get(path, headers=missing).status == 404
    assert visitor.get(path).status == 200


def test_lifetimes_of_parts_and_of_what_a_cache_has(visitor: Visitor) -> None:
    path = f"/packs/part.js?{time.time_ns()}"
    assert visitor.get(path).header("Cache-Control") == LONG
    kept = visitor.get(path)
    assert (kept.header("X-Cached"), kept.header("Cache-Control")) == ("HIT", LONG)
    part = visitor.get(path, headers={"Range": "bytes=0-4"})
    assert (part.status, part.header("Cache-Control")) == (206, LONG)
    same = visitor.get(path, headers={"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"})
    assert (same.status, same.header("Cache-Control")) == (304, LONG)


@pytest.mark.parametrize(
    ("path", "question"),
    [
        # A session's page, and one that Mastodon says nothing of; with a token, whatever Mastodon says.
        ("/about", {"Cookie": "_session_id=x"}),
        ("/about", {"X-Answer-Cache-Control": ""}),
        ("/packs/a.js", {"X-Answer-Cache-Control": ""}),
        ("/system/a.png", {"X-Answer-Cache-Control": "max-age=3"}),
        ("/packs/a.js", {"X-Answer-Cookie": "a=b"}),
        ("/packs/a.js", {"X-Answer-Cache-Control": "public, private"}),
        *((path, {"Authorization": "Bearer x"}) for path in ("/about", *STATIC)),
    ],
    ids=str,
)
def test_the_next_visitor_does_not_get(visitor: Visitor, path: str, question: dict[str, str]) -> None:
    path = f"{path}?{time.time_ns()}"
    assert visitor.get(path, headers=question).header("X-Cached") == "MISS"
    assert visitor.get(path).header("X-Cached") == "MISS"


def test_a_file_is_kept_whoever_asked_first(visitor: Visitor) -> None:
    """Browsers send their session's cookie with every question."""
    path = f"/packs/first.js?{time.time_ns()}"
    assert visitor.get(path, headers={"Cookie": "_session_id=x"}).header("Cache-Control") == LONG
    assert visitor.get(path).header("X-Cached") == "HIT"


@pytest.mark.parametrize(
    "path",
    [
        # A page by Mastodon's routes, a file by nginx's locations.
        "/@admin/2%2f%2e%2e%2f%2e%2e%2fpacks%2fx",
        "/@admin/2%2F..%2F..%2Fsystem%2Fx",
        "/@admin/2/../../packs/x",
        "/@admin/2/%2e%2e/.%2E/system/x",
        "/@admin/./../sw.js",
        "/links/x/../../packs/x",
        "/links/x%2f..%2f..%2fpacks/x",
        "/links/%2e%2e/packs/x",
        # And the other way round.
        "/packs/..",
        "/packs/../@admin",
        "/packs%2fx",
        "/system/..#x",
        "/api/v1/streaming/../../packs/x",
        "/api/v1/streaming/%2e%2e/x",
    ],
)
def test_paths_that_nginx_and_mastodon_read_differently(get: Callable[..., Answer], path: str) -> None:
    """An answer to them would be a page with the lifetime of a file."""
    answer = get(path, X_Answer_Cache_Control="private, no-store")
    assert (answer.status, answer.header("X-Asked"), answer.header("Cache-Control")) == (400, None, None)


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/webfinger?resource=acct%3Auser%40example.com",
        "/.well-known/webfinger?resource=https%3A%2F%2Fexample.com%2F%40user",
        "/authorize_interaction?uri=https%3A%2F%2Fexample.com%2F%2e%2e%2F../%40user%2F1",
        "/search?q=../%252F%2F",
        "/@user@example.com",
        "/@user%40example.com/1",
        "/%40user%40example.com",
        "/users/user/statuses/1/replies?only_other_accounts=true&page=true",
        "/tags/caf%C3%A9",
        "/tags/%E3%83%86%E3%82%B9%E3%83%88.rss",
        "/api/v1/announcements/1/reactions/%F0%9F%98%80",
        # The posts with a link: the one path of Mastodon's that holds a whole address.
        "/links/https%3A%2F%2Fexample.com%2Fa..b%2F.c%3Fd%3D%2520%252F",
        "/system/media_attachments/files/000/original/a%20b%2Bc+d%25.e..png",
        "/system/cache/custom_emojis/images/1/original/%E2%9C%93.png",
        "/media_proxy/1/original/a%20b.jpg",
        "/tags/a%252fb%252e%252e",
        "/users//user",
    ],
)
def test_paths_that_reach_mastodon_as_they_are(get: Callable[..., Answer], path: str) -> None:
    answer = get(path)
    assert answer.status == 200
    assert (answer.header("X-Asked") or "")[: len(path)] == path


@pytest.mark.parametrize("status", ["200", "404"])
def test_uploads_cannot_run_as_pages(get: Callable[..., Answer], status: str) -> None:
    answer = get("/system/a.html", X_Answer_Status=status)
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Content-Security-Policy") == "default-src 'none'; form-action 'none'"


@pytest.mark.parametrize(
    ("kind", "compressed"),
    [
        ("application/rss+xml", True),
        ("application/json", True),
        ("text/javascript", True),
        ("image/svg+xml", True),
        ("image/png", False),
    ],
)
def test_what_is_compressed(get: Callable[..., Answer], kind: str, compressed: bool) -> None:
    answer = get("/feed", X_Answer_Type=kind, Accept_Encoding="gzip")
    assert (answer.header("Content-Encoding") == "gzip") is compressed


def test_what_the_application_is_told(get: Callable[..., Answer], visitor: Visitor) -> None:
    told_of = told(get("/").body)
    assert told_of["Host"] == visitor.host
    assert told_of["X-Forwarded-For"] == told_of["X-Real-IP"] == visitor.client
    assert told_of["X-Forwarded-Proto"] == "https"


def spelt_otherwise(claimed: dict[str, str]) -> dict[str, str]:
    """Rack knows no difference between `-` and `_`."""
    return {name.replace("-", mark): value for name, value in claimed.items() for mark in "_." if "-" in name}


@pytest.mark.parametrize("path", ["/", "/health", *STATIC, "/api/v1/streaming/public"])
def test_what_visitors_claim_is_not_told(host: Any, visitor: Visitor, path: str) -> None:
    """Not a header more, and none with another value, than without any lie."""
    port = 4000 if path.startswith("/api/v1/streaming") else 3000
    claimed = lies(visitor.host)
    found = []
    for headers in ({}, claimed | spelt_otherwise(claimed)):
        mark = str(time.time_ns())
        assert visitor.get(f"{path}?{mark}", headers=headers | {"X-Mark": mark}).status == 200
        found.append(heard(host, port, path, mark))
    assert found[0] == found[1]


@pytest.mark.parametrize("server", ["443", "do_private_ipv4", "127.0.0.1"])
def test_what_is_claimed_with_a_probe_is_not_told(
    host: Any, visitor: Visitor, variables: dict[str, Any], server: str
) -> None:
    """Neither to web nor to streaming, on either health listener or as a page."""
    found = []
    for lie in ({}, lies(visitor.host)):
        mark = str(time.time_ns())
        headers = lie | {"X-Mark": mark}
        if server == "443":
            assert visitor.get("/health", headers=headers).status == 200
        else:
            claims = " ".join(f"--header '{name}: {value}'" for name, value in headers.items())
            asked = host.run(
                f"curl --silent --fail {claims} http://{variables.get(server, server)}:8080/health"
            )
            assert asked.rc == 0, asked.stderr
        found.append(
            [
                heard(host, port, path, mark)
                for port, path in ((3000, "/health"), (4000, "/api/v1/streaming/health"))
            ]
        )
    assert found[0] == found[1]
    assert {told_of["Host"] for told_of in found[0]} == {visitor.host}


def test_pages_are_cached(visitor: Visitor) -> None:
    path = f"/packs/kept.js?{time.time_ns()}"
    assert visitor.get(path).header("X-Cached") == "MISS"
    assert visitor.get(path).header("X-Cached") == "HIT"


def test_health_is_never_cached(variables: dict[str, Any], host: Any, unit: str) -> None:
    """What is in web's place counts as web: when it answers no more, health fails at once."""
    assert health(variables["do_private_ipv4"])[0] == 200
    host.run("systemctl kill --signal=STOP %s", unit)
    try:
        assert health(variables["do_private_ipv4"])[0] == 503
    finally:
        host.run("systemctl kill --signal=CONT %s", unit)

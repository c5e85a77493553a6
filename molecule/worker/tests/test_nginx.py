"""What nginx adds to, and hides from, whatever the application says: as in Mastodon's own sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.application import application, told
from tests.visitor import Answer, Visitor, health

HSTS = "max-age=63072000; includeSubDomains"
SHORT = "public, max-age=604800, must-revalidate"
LONG = "public, max-age=2419200, must-revalidate"
FOR_EVER = "public, max-age=2419200, immutable"


@pytest.fixture(name="unit", scope="module", autouse=True)
def _unit(host: Any) -> Iterator[str]:
    """An application in web's place; the name of its systemd unit."""
    assert host.run("systemctl stop mastodon-web").rc == 0
    with application(host, 3000) as unit:
        yield unit
    assert host.run("systemctl start mastodon-web").rc == 0


@pytest.fixture(name="get")
def _get(visitor: Visitor) -> Callable[..., Answer]:
    """Asks for a path that nobody asked for before, so that no cache answers."""
    return lambda path, **headers: visitor.get(
        f"{path}?{time.time_ns()}", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


@pytest.mark.parametrize(
    ("path", "lifetime"),
    [
        ("/", "max-age=5"),
        ("/sw.js", SHORT),
        ("/assets/a.css", LONG),
        ("/avatars/original/missing.png.gif", "max-age=5"),
        ("/avatars/original/a.png", LONG),
        ("/emoji/1f600.svg", LONG),
        ("/headers/original/a.png", LONG),
        ("/ocr/lang-data/a", LONG),
        ("/packs/a.js", LONG),
        ("/sounds/boop.mp3", LONG),
        ("/system/a.png", FOR_EVER),
    ],
)
def test_lifetimes(get: Callable[..., Answer], path: str, lifetime: str) -> None:
    answer = get(path)
    assert answer.header("Strict-Transport-Security") == HSTS
    if answer.status == 200:
        assert answer.header("X-Cached") == "MISS"
        assert answer.header("Cache-Control") == lifetime
    else:
        assert "2419200" not in (answer.header("Cache-Control") or "")


def test_uploads_cannot_run_as_pages(get: Callable[..., Answer]) -> None:
    answer = get("/system/a.html")
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Content-Security-Policy") == "default-src 'none'; form-action 'none'"


def test_what_the_application_is_told(get: Callable[..., Answer], visitor: Visitor) -> None:
    forged = {"X_Forwarded_For": "192.0.2.1", "X_Forwarded_Proto": "http", "X_Real_IP": "192.0.2.2"}
    heard = told(get("/", **forged, Proxy="evil").body)
    assert heard["Host"] == visitor.host
    assert heard["X-Forwarded-For"] == heard["X-Real-IP"] == visitor.client
    assert heard["X-Forwarded-Proto"] == "https"
    assert "Proxy" not in heard


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

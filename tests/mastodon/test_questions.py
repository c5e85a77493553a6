"""Every question of questions.txt has the same answer from the stand-in and from Mastodon.

With MASTODON_RECORD=1 the answers are written down first: with Mastodon's own images, for a new release.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from . import questions
from .client import Browser, post, register, token
from .conftest import OLD, REAL, VERSIONS, World, until
from .questions import Audience, Known

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
RECORD = bool(os.environ.get("MASTODON_RECORD"))

Answers = Mapping[str, Known]


def ask_all(audience: Audience) -> Answers:
    every = [question for group in questions.read() for question in group.questions]
    return {str(question): question.ask(audience, number) for number, question in enumerate(every)}


def signed_in(web: httpx.Client, name: str, password: str) -> Browser:
    browser = Browser(web)
    assert browser.sign_in(f"{name}@database", password).status_code == 302
    return browser


def cookies(browser: Browser) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}


def bearer(word: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {word}"}


def listening(streaming: Any) -> None:
    until(lambda: b"now listening" in streaming.logs(), lambda: streaming.logs().decode())


@pytest.fixture(scope="module")
def asked(world: World) -> Mapping[str, Answers]:
    """Each version's answers: one instance, upgraded from each version to the next."""
    found: dict[str, Answers] = {}
    for tag in VERSIONS:
        if tag == OLD:
            world.reset()
            world.setup(tag)
            passwords = {name: world.account(tag, name) for name in ("owner", "alice")}
        else:
            world.database.exec_run(["valkey-cli", "flushall"])
            assert (step := world.migrate(tag)).code == 0, step.output
        web = world.web(tag)
        streaming = world.start(tag, None, "mastodon-streaming")
        listening(streaming)
        alice = signed_in(web, "alice", passwords["alice"])
        page = cookies(alice)
        user = alice.authorize()
        application = {**register(web), "grant_type": "client_credentials", "scope": "read write"}
        people = {
            "nobody": {},
            "wrong": bearer("wrong"),
            "user": bearer(user),
            "app": bearer(token(web, application, {})),
            "page": page,
            "owner": cookies(signed_in(web, "owner", passwords["owner"])),
        }
        media = web.post(
            "/api/v2/media", headers=bearer(user), files={"file": ("a.png", PICTURE, "image/png")}
        )
        things = {
            "status": post(web, user, "hello #lab").json()["id"],
            "private": post(web, user, "hello", visibility="private").json()["id"],
            "media": media.json()["id"],
            "account": web.get("/api/v1/accounts/verify_credentials", headers=bearer(user)).json()["id"],
        }
        found[tag] = ask_all(
            Audience(web.base_url.netloc.decode(), f"{world.address(streaming)}:4000", people, things)
        )
        world.stop()
    if RECORD:
        questions.write_down({name: [found[tag][name] for tag in VERSIONS] for name in found[OLD]})
    return found


@pytest.mark.parametrize("group", questions.read(), ids=lambda group: group.title)
@pytest.mark.parametrize("tag", VERSIONS)
def test_answers_are_mastodons(asked: Mapping[str, Answers], tag: str, group: questions.Group) -> None:
    series = VERSIONS.index(tag)
    wrong = {
        str(question): (asked[tag][str(question)], question.known[series])
        for question in group.questions
        if asked[tag][str(question)] != question.known[series]
        and (REAL or str(question) not in questions.DIFFERENT)
    }
    assert not wrong, "\n".join(f"{name}: {is_} instead of {known}" for name, (is_, known) in wrong.items())


@pytest.mark.skipif(REAL, reason="the table says where the stand-in differs, and this is the real one")
def test_few_answers_differ(asked: Mapping[str, Answers]) -> None:
    every = {str(question): question for group in questions.read() for question in group.questions}
    assert len(every) >= 260
    assert len(questions.DIFFERENT) <= len(every) / 20
    for name in questions.DIFFERENT:
        found = [asked[tag][name] for tag in VERSIONS]
        assert found != list(every[name].known), f"{name} is answered as by Mastodon"

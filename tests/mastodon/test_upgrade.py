"""What the order of an upgrade relies on: expand, walk, contract."""

from __future__ import annotations

import re

import httpx

from .client import log_in, post
from .conftest import DIRECT, MIDDLE, NEW, OLD, VERSIONS, World

STATUS = "bundle exec rails db:migrate:status"


def down(world: World, tag: str) -> int:
    """How many of a version's migrations have not run."""
    return world.run(tag, STATUS, environment=DIRECT).stdout.count(" down ")


def scripts(web: httpx.Client) -> set[str]:
    return set(re.findall(r'"(/packs/[^"]+\.js)"', web.get("/").text))


def test_expand_walk_contract(empty: World) -> None:
    """Old and new serve side by side between the two steps; after the last one the newest does."""
    world = empty
    world.setup(OLD)
    password = world.account(OLD)
    old = world.web(OLD)
    token = log_in(old, password)
    first = post(old, token, f"from {OLD}").raise_for_status().json()

    for before, after in ((OLD, MIDDLE), (MIDDLE, NEW)):
        assert down(world, after) > 0
        assert (step := world.migrate(after, skip_post=True)).code == 0, step.output
        new = world.web(after)
        for web, name in ((old, before), (new, after)):
            assert post(web, token, f"from {name}, expanded").status_code == 200
            # The answer of one is kept for three minutes, and given by the other, too.
            world.database.exec_run(["valkey-cli", "flushall"])
            assert web.get("/api/v2/instance").json()["version"].startswith(name.removeprefix("v"))

        # A page of the one asks for files that the other has not.
        only_old, only_new = scripts(old) - scripts(new), scripts(new) - scripts(old)
        assert only_old
        assert only_new
        assert {new.get(path).status_code for path in only_old} == {404}
        assert {old.get(path).status_code for path in only_new} == {404}

        assert (step := world.migrate(after)).code == 0, step.output
        assert down(world, after) == 0
        assert post(new, token, f"from {after}, contracted").status_code == 200
        world.started.pop(0).remove(force=True, v=True)
        old = new

    timeline = old.get("/api/v1/timelines/public", headers={"Authorization": f"Bearer {token}"}).json()
    assert first["id"] in [status["id"] for status in timeline]
    assert {status["language"] for status in timeline} == {"en"}
    # A key of an account that was written before is still good, and encrypted with the instance's keys.
    assert "PRIVATE KEY" not in world.sql("SELECT coalesce(private_key, '') FROM keypairs")


def test_last_step_merges_accounts_of_one_address(empty: World) -> None:
    world = empty
    world.setup(MIDDLE)
    for name in ("a", "b"):
        world.sql(
            "INSERT INTO accounts (username, domain, uri, created_at, updated_at)"
            f" VALUES ('{name}', 'x.test', 'https://x.test/a', now(), now())"
        )
    count = "SELECT count(*) FROM accounts WHERE uri = 'https://x.test/a'"
    assert world.migrate(NEW, skip_post=True).code == 0
    assert world.sql(count) == "2"
    assert (step := world.migrate(NEW)).code == 0, step.output
    assert world.sql(count) == "1"
    assert down(world, NEW) == 0


def test_a_minor_can_be_skipped_without_downtime(empty: World) -> None:
    """Mastodon lets one: that roles do not is their own rule."""
    empty.setup(OLD)
    assert empty.migrate(NEW, skip_post=True).code == 0
    assert VERSIONS.index(NEW) - VERSIONS.index(OLD) == 2

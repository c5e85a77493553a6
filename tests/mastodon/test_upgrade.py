"""From version to version: what fails when the order of an upgrade is not kept, and that it works else."""

from __future__ import annotations

import pytest

from .conftest import DIRECT, World, log_in, post


def test_expand_roll_contract(empty: World) -> None:
    """Old and new serve side by side between the two steps; after the second the old one cannot."""
    world = empty
    world.setup("v4.5.0")
    password = world.account("v4.5.0")
    old = world.web("v4.5.0")
    token = log_in(old, password)
    first = post(old, token, "from 4.5").raise_for_status().json()

    for before, after in (("v4.5.0", "v4.6.0"), ("v4.6.0", "v4.7.0")):
        assert (
            world.run(after, "bundle exec rails db:migrate:status", environment=DIRECT).output.count(
                "  down  "
            )
            >= 2
        )
        # New code on the old schema.
        new = world.web(after)
        assert post(new, token).status_code == 500

        assert (step := world.migrate(after, skip_post=True)).code == 0, step.output
        new = world.web(after)
        assert post(old, token, f"from {before}, expanded").status_code == 200
        assert post(new, token, f"from {after}, expanded").status_code == 200
        assert (
            world.run(after, "bundle exec rails db:migrate:status", environment=DIRECT).output.count(
                "  down  "
            )
            >= 1
        )

        assert (step := world.migrate(after)).code == 0, step.output
        assert (
            world.run(after, "bundle exec rails db:migrate:status", environment=DIRECT).output.count(
                "  down  "
            )
            == 0
        )
        # Old code on the contracted schema, also when it starts anew.
        assert post(old, token).status_code == 500
        assert post(world.web(before), token).status_code == 500
        assert post(new, token, f"from {after}, contracted").status_code == 200
        assert new.get("/api/v2/instance").json()["version"] == after.removeprefix("v")
        old = new

    timeline = old.get("/api/v1/timelines/public").json()
    assert first["id"] in [status["id"] for status in timeline]
    assert {status["language"] for status in timeline} == {"en"}
    other_key = world.web("v4.7.0", environment={"ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY": "another" * 5})
    # The key that 4.5 wrote in the clear is encrypted now, and still signs.
    assert "PRIVATE KEY" not in world.sql("SELECT private_key FROM keypairs")
    assert post(other_key, token).status_code == 500


def test_duplicate_uris_stop_the_last_step(empty: World) -> None:
    world = empty
    world.setup("v4.6.0")
    row = "INSERT INTO accounts (username, domain, uri, created_at, updated_at) VALUES"
    for name in ("a", "b"):
        world.sql(f"{row} ('{name}', 'x.test', 'https://x.test/a', now(), now())")
    assert world.migrate("v4.7.0", skip_post=True).code == 0

    stopped = world.migrate("v4.7.0")
    assert stopped.code != 0
    assert "tootctl maintenance fix-duplicates" in stopped.output

    assert (
        "kept a@x.test, removed b@x.test" in world.run("v4.7.0", "tootctl maintenance fix-duplicates").output
    )
    again = world.migrate("v4.7.0")
    assert again.code == 0, again.output


def test_skipping_a_minor_is_refused(empty: World) -> None:
    empty.setup("v4.5.0")
    refused = empty.migrate("v4.7.0", skip_post=True)
    assert refused.code != 0
    assert "one by one" in refused.output


@pytest.mark.parametrize("tag", ["v4.5.0", "v4.6.0", "v4.7.0"])
def test_schema_file_is_what_the_migrations_make(empty: World, tag: str) -> None:
    """`db:setup` loads the one, `db:migrate` runs the other."""
    columns = """
        SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY 1, 2
    """
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    loaded = empty.run(tag, "bundle exec rails db:schema:load db:seed", environment=DIRECT)
    assert loaded.code == 0, loaded.output
    assert "  down  " not in empty.run(tag, "bundle exec rails db:migrate:status", environment=DIRECT).output
    by_file = empty.sql(columns), empty.sql(indexes)

    empty.reset()
    assert empty.migrate(tag).code == 0
    assert (empty.sql(columns), empty.sql(indexes)) == by_file

"""What a fresh, a half-made, an older and a newer schema take, and how the steps end."""

from __future__ import annotations

import re

from .conftest import DIRECT, KEYS, MIDDLE, NEW, OLD, World

SETUP = "bundle exec rails db:migrate:setup"
STATUS = "bundle exec rails db:migrate:status"


def test_first_setup_does_not_go_without_downtime(empty: World) -> None:
    """Whether the variable is there counts, not what it says."""
    for value in ("false", ""):
        result = empty.run(NEW, SETUP, environment={**DIRECT, "SKIP_POST_DEPLOYMENT_MIGRATIONS": value})
        assert result.code == 1
        refusal = r"Zero-downtime migrations from Mastodon versions earlier than 4\.\d\.0 are not supported"
        assert re.search(refusal, result.output)
    # What these left behind is no hindrance.
    empty.setup(NEW)
    seeded(empty)


def seeded(world: World) -> None:
    """The roles that an account can have."""
    assert {"Owner", "Admin", "Moderator"} <= set(world.sql("SELECT name FROM user_roles").splitlines())


def test_setup_again_changes_nothing(empty: World) -> None:
    empty.setup(NEW)
    before = empty.sql("SELECT count(*) FROM schema_migrations")
    again = empty.run(NEW, SETUP, environment=DIRECT)
    assert (again.code, empty.sql("SELECT count(*) FROM schema_migrations")) == (0, before)
    seeded(empty)


def test_setup_that_was_cut_off_is_continued(empty: World) -> None:
    """Tables are there, seeds are not."""
    assert empty.run(NEW, "bundle exec rails db:schema:load", environment=DIRECT).code == 0
    assert empty.sql("SELECT count(*) FROM user_roles") == "0"
    assert empty.run(NEW, SETUP, environment=DIRECT).code == 0
    assert empty.run(NEW, "bundle exec rails db:seed", environment=DIRECT).code == 0
    seeded(empty)


def test_status_lists_what_is_pending(empty: World) -> None:
    empty.setup(OLD)
    pending = "bundle exec rails db:abort_if_pending_migrations"
    result = empty.run(NEW, pending, environment=DIRECT)
    assert result.code == 1
    listed = empty.run(NEW, STATUS, environment=DIRECT)
    assert listed.code == 0
    down = re.findall(r"^ +down +(\d{14}) ", listed.stdout, re.M)
    assert down
    # Step by step, and the post-deployment ones last.
    for value in ("", "false"):
        skipped = empty.migrate(NEW, environment={"SKIP_POST_DEPLOYMENT_MIGRATIONS": value})
        assert skipped.code == 0, skipped.output
    post = list(re.findall(r"^ +down +(\d{14}) ", empty.run(NEW, STATUS, environment=DIRECT).stdout, re.M))
    assert 0 < len(post) < len(down)
    assert empty.migrate(NEW).code == 0
    assert " down " not in empty.run(NEW, STATUS, environment=DIRECT).stdout
    assert empty.run(NEW, pending, environment=DIRECT).code == 0


def test_no_database_no_migration(world: World) -> None:
    result = world.migrate(NEW, environment={"DB_PORT": "1"})
    assert result.code == 1
    assert re.search("ConnectionNotEstablished|DatabaseConnectionError|Connection refused", result.output)


def test_tasks_that_make_keys(world: World) -> None:
    unset = {f"ACTIVE_RECORD_ENCRYPTION_{name}": None for name in KEYS}
    # Rails is not loaded for it, so that it needs none of them.
    made = world.run(
        MIDDLE,
        "bundle exec rails db:encryption:init",
        environment={**unset, "SECRET_KEY_BASE": None, "LOCAL_DOMAIN": None},
    )
    assert made.code == 0, made.output
    assert re.findall(r"^(ACTIVE_RECORD_ENCRYPTION_\w+)=\w{32}$", made.stdout, re.M) == [
        "ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY",
        "ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT",
        "ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY",
    ]
    # Keys that are there are not made again.
    again = world.run(MIDDLE, "bundle exec rails db:encryption:init")
    assert (again.code, "ENCRYPTION_PRIMARY_KEY=" in again.stdout) == (0, False)

    vapid = world.run(
        MIDDLE,
        "bundle exec rails mastodon:webpush:generate_vapid_key",
        environment={**unset, "SECRET_KEY_BASE": None, "SECRET_KEY_BASE_DUMMY": "1", "LOCAL_DOMAIN": None},
    )
    assert re.findall(r"^(VAPID_\w+)=[\w-]{43,87}=$", vapid.stdout, re.M) == [
        "VAPID_PRIVATE_KEY",
        "VAPID_PUBLIC_KEY",
    ]

"""What the stand-in adds for the lab's tests, and where it is stricter than Mastodon on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .client import log_in, post
from .conftest import DIRECT, MIDDLE, NEW, OLD, REAL, VERSIONS, World, until

pytestmark = pytest.mark.skipif(REAL, reason="of the stand-in alone")


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[World]:
    world.reset()
    world.setup(NEW)
    yield world
    world.stop()


def test_schedulers_show(ready: World) -> None:
    """A second one would schedule everything twice; who schedules, and where, is to be seen."""
    web = ready.web(NEW)
    for _ in range(2):
        ready.sidekiq(NEW, "scheduler", environment={"STANDIN_HEARTBEAT_SECONDS": "1"})
    until(lambda: len(web.get("/api/v1/standin/schedulers").json()) == 2)
    runs = web.get("/api/v1/standin/job_runs", params={"queue": "scheduler"}).json()
    assert {run["job"] for run in runs} == {"Scheduler::HeartbeatScheduler"}
    ready.stop()


def test_session_shows_what_proxies_passed_on(ready: World) -> None:
    web = ready.web(NEW)
    key = log_in(web, ready.account(NEW, "proxied"), "proxied")
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "203.0.113.9, 10.1.2.3"}
    seen = web.get("/api/v1/standin/session", headers=headers).json()
    assert (seen["remote_ip"], seen["protocol"], seen["host"]) == ("203.0.113.9", "https", "social.test")
    assert len(seen["sign_ins"]) == 1
    ready.stop()


def test_migrations_always_fail_through_the_pool(empty: World) -> None:
    """Mastodon's do on a busy day: the pool does not keep the session that the advisory lock belongs to."""
    result = empty.run(NEW, "bundle exec rails db:migrate")
    assert result.code != 0
    assert "ConcurrentMigrationError" in result.output


def test_wrong_order_shows(empty: World) -> None:
    """New code on an old schema, and old code on a contracted one."""
    empty.setup(OLD)
    password = empty.account(OLD)
    old = empty.web(OLD)
    key = log_in(old, password)
    assert post(empty.web(MIDDLE), key).status_code == 500
    assert empty.migrate(MIDDLE).code == 0
    assert post(old, key).status_code == 500
    empty.stop()


@pytest.mark.parametrize("tag", VERSIONS)
def test_schema_file_is_what_the_migrations_make(empty: World, tag: str) -> None:
    """`db:setup` loads the one, `db:migrate` runs the other."""
    columns = """
        SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
        WHERE table_schema = 'public' ORDER BY 1, 2
    """
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    loaded = empty.run(tag, "bundle exec rails db:schema:load db:seed", environment=DIRECT)
    assert loaded.code == 0, loaded.output
    assert " down " not in empty.run(tag, "bundle exec rails db:migrate:status", environment=DIRECT).output
    by_file = empty.sql(columns), empty.sql(indexes)

    empty.reset()
    assert empty.migrate(tag).code == 0
    assert (empty.sql(columns), empty.sql(indexes)) == by_file

"""An upgrade that is killed on the way, and what is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

Shell = Callable[..., str]
UNIT = "mastodon-sidekiq@scheduler.service"


def until(ready: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


def old_release_serves(host: Any) -> bool:
    return bool(
        host.file("/opt/mastodon/current").linked_to == "/opt/mastodon/releases/v4.6.0"
        and host.service(UNIT).is_running
    )


def start_and_kill(host: Any, shell: Shell, command: str, ready: Callable[[], bool]) -> None:
    """Start `command` and kill it, and all that it started, as soon as `ready`."""
    shell("systemd-run", "--unit=doomed", "--service-type=exec", *command.split())
    until(ready)
    shell("systemctl", "kill", "--signal=KILL", "doomed.service")
    until(lambda: not host.service("doomed").is_running)
    host.run("systemctl reset-failed doomed.service")


def test_a_step_back_is_refused(shell: Shell) -> None:
    said = shell("mastodon-release", "build", "v4.5.0", fails=True)
    assert "v4.6.0 is deployed and v4.5.0 is older" in said
    assert "The deployed release is untouched" in said


def test_a_skipped_minor_version_is_refused(shell: Shell) -> None:
    assert "skips a minor version" in shell("mastodon-release", "build", "v4.8.0", fails=True)


def test_an_unknown_tag_is_refused(shell: Shell) -> None:
    assert "has no tag v4.6.99" in shell("mastodon-release", "build", "v4.6.99", fails=True)


def test_a_killed_build_leaves_the_running_release(host: Any, shell: Shell) -> None:
    start_and_kill(
        host,
        shell,
        "/usr/local/sbin/mastodon-release build v4.7.0",
        lambda: host.file("/var/lib/mastodon-build/release/vendor/bundle").exists,
    )
    assert not host.file("/opt/mastodon/releases/v4.7.0").exists
    assert old_release_serves(host)


def test_the_next_run_finishes_the_build(host: Any, shell: Shell) -> None:
    assert json.loads(shell("mastodon-release", "build", "v4.7.0"))["changed"] is True
    assert json.loads(shell("mastodon-release", "build", "v4.7.0"))["changed"] is False
    assert host.run("ls -A /opt/mastodon/releases").stdout.split() == ["v4.6.0", "v4.7.0"]
    assert old_release_serves(host)


@pytest.fixture(name="duplicates")
def _duplicates(psql: Shell) -> Any:
    psql(
        "insert into accounts (username, domain, uri, created_at, updated_at) "
        "select 'twin' || n, 'far.test', 'https://far.test/twin', now(), now() from generate_series(1, 2) n"
    )
    yield
    psql("delete from accounts where uri = 'https://far.test/twin'")


@pytest.mark.usefixtures("duplicates")
def test_duplicate_uris_are_refused_before_4_7(shell: Shell, psql: Shell) -> None:
    before = psql("select count(*) from schema_migrations")
    said = shell("mastodon-migrate", "pre", "v4.7.0", fails=True)
    assert "https://far.test/twin|2" in said
    assert "fix-duplicates" in said
    assert psql("select count(*) from schema_migrations") == before


def test_a_killed_migration_is_finished_by_the_next_run(host: Any, shell: Shell) -> None:
    start_and_kill(
        host,
        shell,
        "/usr/local/sbin/mastodon-migrate pre v4.7.0",
        lambda: host.run("pgrep -f 'rails db:migrate'").rc == 0,
    )
    assert old_release_serves(host)
    shell("mastodon-migrate", "pre", "v4.7.0")
    answer = json.loads(shell("mastodon-migrate", "status", "v4.7.0"))
    assert answer["pre"] == []
    assert answer["post"] != []
    assert json.loads(shell("mastodon-migrate", "pre", "v4.7.0"))["changed"] is False
    assert old_release_serves(host)


def test_post_deployment_migrations_come_last(shell: Shell) -> None:
    shell("mastodon-release", "activate", "v4.7.0")
    shell("systemctl", "restart", UNIT)
    assert json.loads(shell("mastodon-migrate", "post", "v4.7.0"))["changed"] is True
    assert json.loads(shell("mastodon-migrate", "post", "v4.7.0"))["changed"] is False


def test_a_database_newer_than_the_release_is_refused(shell: Shell) -> None:
    said = shell("mastodon-migrate", "pre", "v4.6.0", fails=True)
    assert "newer than v4.6.0" in said
    assert "deploy the newer release" in said


def test_the_release_before_stays_for_a_look(host: Any, shell: Shell) -> None:
    assert json.loads(shell("mastodon-release", "prune"))["removed"] == []
    assert host.file("/opt/mastodon/releases/v4.6.0").exists

"""tootctl and Bundler: what they say, where, and how they end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import NEW, World


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[World]:
    world.reset()
    world.setup(NEW)
    yield world
    world.stop()


def test_bundler_finds_everything_and_no_home(ready: World) -> None:
    """About a read-only home it complains, some versions on standard output, before what a command says."""
    result = ready.run(NEW, "tootctl --version")
    assert (result.code, result.stdout.splitlines()[-1]) == (0, NEW.removeprefix("v"))
    assert "`/opt/mastodon` is not writable." in result.output
    quiet = ready.run(NEW, "bundle check", environment={"BUNDLE_USER_HOME": "/tmp/bundle"})
    assert (quiet.code, quiet.output) == (0, "The Gemfile's dependencies are satisfied\n")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("nothing", 'Could not find command "nothing"'),
        ("accounts create nobody", "No value provided for required options '--email'"),
        ("accounts create nobody --email nobody@nowhere.invalid --confirmed", "Failure/Error: email"),
        (
            "accounts create nobody --email nobody@database --role Nothing",
            "Cannot find user role with that name",
        ),
    ],
)
def test_what_cannot_be_done_ends_with_1(ready: World, command: str, says: str) -> None:
    result = ready.run(NEW, f"tootctl {command}")
    assert result.code == 1
    assert says in result.output


def test_accounts(ready: World) -> None:
    """Nobody may register here: an account that is not approved has to wait."""
    made = ready.run(NEW, "tootctl accounts create alice --email alice@database --confirmed --role Owner")
    assert made.code == 0
    assert made.stdout.splitlines()[-2] == "OK"
    assert made.stdout.splitlines()[-1].startswith("New password: ")
    state = "SELECT approved, confirmed_at IS NOT NULL FROM users"
    assert ready.sql(state) == "f|t"
    assert ready.run(NEW, "tootctl accounts modify alice --approve").code == 0
    assert ready.sql(state) == "t|t"

    taken = ready.run(NEW, "tootctl accounts create alice --email other@database --confirmed")
    assert taken.code == 1
    assert "Failure/Error: account.username" in taken.output or "taken" in taken.output

    reset = ready.run(NEW, "tootctl accounts modify alice --reset-password")
    assert reset.stdout.splitlines()[-1].startswith("New password: ")
    gone = ready.run(NEW, "tootctl accounts delete alice")
    assert (gone.code, ready.sql("SELECT count(*) FROM users")) == (0, "0")


@pytest.mark.parametrize("command", ["media remove", "preview_cards remove", "statuses remove"])
def test_chores_end_with_0(ready: World, command: str) -> None:
    result = ready.run(NEW, f"tootctl {command}")
    assert result.code == 0, result.output


def test_open_registrations_approve_by_themselves(ready: World) -> None:
    assert ready.run(NEW, "tootctl settings registrations open").code == 0
    assert ready.run(NEW, "tootctl accounts create bob --email bob@database").code == 0
    assert ready.sql("SELECT approved FROM users") == "t"

"""From fresh droplets to a converged instance, and again: what `make lab` and site.yml promise."""

from __future__ import annotations

from .conftest import HOSTS, TestLab, status


def test_check_mode_on_fresh_droplets(fresh_droplets: TestLab) -> None:
    done = fresh_droplets.playbook("site", "--check", "--diff").must_succeed()
    assert set(HOSTS) <= set(done.recap)
    assert not fresh_droplets.ssh("vmst-exec", "ls /opt/mastodon /etc/mastodon").output.count("current")


def test_second_run_changes_nothing(converged: TestLab) -> None:
    recap = converged.playbook("site").must_succeed().recap
    assert set(HOSTS) <= set(recap)
    assert {host: line.changed for host, line in recap.items()} == dict.fromkeys(recap, 0)


def test_check_mode_on_a_converged_instance(converged: TestLab) -> None:
    recap = converged.playbook("site", "--check", "--diff").must_succeed().recap
    assert {host: line.changed for host, line in recap.items()} == dict.fromkeys(recap, 0)


def test_second_lab_up_changes_nothing(converged: TestLab) -> None:
    before = {row["name"]: row["since"] for row in status(converged)}
    done = converged("up").must_succeed()
    assert "nothing changed" in done.output
    assert {row["name"]: row["since"] for row in status(converged)} == before

"""Whoever is mastodon, or the user that builds, makes root touch nothing with links, and reads no secret."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Shell = Callable[..., str]

BAIT = "/root/bait"
BUILD = "/var/lib/mastodon-build"
RELEASE = "/opt/mastodon/releases/v4.7.0"
MINE = "/opt/mastodon/current"

PLANT = f"""
for name in .lock .first-setup .complete.json .current.new current repository.git release source.tar bin \
  corepack.new corepack-0.34.0 .cache .new-v4.7.0 cache pids bundler; do
  rm -rf "$1/$name" && ln -sn {BAIT} "$1/$name"
  ln -snf {BAIT}/file "$1/$name.file"
done
"""


def as_user(user: str, script: str, *arguments: str) -> str:
    """A shell command that runs a script as somebody else."""
    return f"runuser -u {user} -- sh -c {shlex.quote(script)} sh {shlex.join(arguments)}"


@pytest.fixture(name="bait", scope="module")
def _bait(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A directory and a file that only root may see; calling it says what they are like."""
    host: Any = request.getfixturevalue("host")
    host.run_expect(
        [0], f"install -d -m 0700 {BAIT} && echo precious > {BAIT}/file && chmod 0600 {BAIT}/file"
    )
    yield lambda: str(host.check_output(f"stat -c '%n %u:%g %a %s %Y %Z' {BAIT} {BAIT}/*; cat {BAIT}/*"))
    host.run_expect([0], f"rm -r {BAIT}")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/mastodon/release.json",
        "/etc/mastodon/secrets.json",
        "/etc/mastodon/share/current/common.env",
        "/etc/mastodon/share/current/tls/privkey.pem",
        "/etc/postgresql-common/pg_service.conf",
    ],
)
def test_who_builds_sees_no_secret(host: Any, path: str) -> None:
    assert host.file(path).exists
    assert host.run(f"runuser -u mastodon-build -- cat {path}").rc != 0
    assert host.run(f"runuser -u mastodon -- ls -A {BUILD}").rc != 0


@pytest.mark.parametrize(
    "path",
    [
        "/etc/mastodon/release.json",
        "/etc/mastodon/secrets.json",
        "/etc/mastodon/share-client-key",
        "/etc/mastodon/share/current/common.env",
        "/etc/mastodon/share/current/sidekiq.env",
        "/etc/mastodon/share/current/streaming.env",
        "/etc/mastodon/share/current/web.env",
        "/etc/mastodon/share/current/tls/privkey.pem",
        "/etc/postgresql-common/pg_service.conf",
    ],
)
def test_mastodon_reads_no_secret_on_the_disk(host: Any, shell: Shell, path: str) -> None:
    """Each of its processes is handed its own; of the share it reads what is public."""
    shell("mastodon-share-access", "127.0.0.1")  # makes the key
    assert host.file(path).exists
    assert host.run(f"runuser -u mastodon -- cat {path}").rc != 0
    assert host.run("runuser -u mastodon -- cat /etc/mastodon/share/current/db-ca.pem").rc == 0
    assert host.run("runuser -u mastodon -- ls /etc/mastodon/share/current").rc != 0


def test_who_reads_the_share_is_nobody_else(host: Any) -> None:
    assert host.user("mastodon-share").groups == ["mastodon-share"]
    assert host.run("runuser -u mastodon-share -- cat /etc/mastodon/share/current/tls/privkey.pem").rc == 0
    assert host.run("runuser -u mastodon-share -- cat /etc/postgresql-common/pg_service.conf").rc != 0


def test_a_job_of_tootctl_is_handed_its_settings(shell: Shell) -> None:
    shell("systemctl", "start", "mastodon-media-remove.service")


def test_mastodon_writes_into_tmp_and_log_alone(host: Any) -> None:
    elsewhere = "-not -type l -not -path '*/tmp/*' -not -path '*/log/*'"
    said = host.check_output(f"cd / && runuser -u mastodon -- find /opt/mastodon -writable {elsewhere}")
    assert set(said.split()) == {f"{path}/{name}" for path in releases(host) for name in ("tmp", "log")}
    for path in (*releases(host), "/opt/mastodon", "/opt/mastodon/releases", "/etc/mastodon", "/run"):
        assert host.run(f"runuser -u mastodon -- ln -s {BAIT} {path}/planted").rc != 0


def releases(host: Any) -> list[str]:
    return list(host.check_output("ls -d /opt/mastodon/releases/v*").split())


def test_planted_links_lead_root_nowhere(host: Any, shell: Shell, bait: Callable[[], str]) -> None:
    """While both users replace what they can by links all the time, root builds, activates and prunes."""
    before = bait()
    shell("rm", "-f", f"{RELEASE}/.complete.json")
    for user, places in {"mastodon": [f"{MINE}/tmp", f"{MINE}/log"], "mastodon-build": [BUILD]}.items():
        loops = "\n".join(f"set -- {place}; {PLANT}" for place in places)
        host.check_output(
            # A build ends what runs as its user.
            f"systemd-run --unit=race-{user} --uid={user} -p Restart=always -p RestartSec=100ms"
            " -p StartLimitIntervalSec=0 sh -c %s",
            f"while :; do {loops}\ndone 2>&1",
        )
    for _ in range(3):
        # It may fail, since somebody takes its files away.
        host.run("mastodon-release build v4.7.0")
        host.run("mastodon-release prune")
    shell("systemctl", "stop", "race-mastodon", "race-mastodon-build")
    assert bait() == before
    assert "precious" not in host.check_output("grep -rl precious /opt/mastodon /srv/mastodon || true")


def test_the_next_build_is_whole(host: Any, shell: Shell, bait: Callable[[], str]) -> None:
    """It takes planted links away before it begins."""
    before = bait()
    shell("systemctl", "restart", "mastodon-sidekiq@scheduler")
    shell("mastodon-release", "prune")  # of what it ran until now
    host.check_output(as_user("mastodon-build", PLANT, BUILD))
    host.check_output(as_user("mastodon", PLANT, f"{MINE}/tmp"))
    shell("rm", "-f", f"{RELEASE}/.complete.json")
    shell("mastodon-release", "build", "v4.7.0")
    assert bait() == before
    assert host.file(f"{RELEASE}/.complete.json").user == "root"
    assert host.run(f"find {RELEASE} -not -user root -not -path '*/tmp*' -not -path '*/log*'").stdout == ""
    shell("systemctl", "restart", "mastodon-sidekiq@scheduler")
    assert host.service("mastodon-sidekiq@scheduler").is_running

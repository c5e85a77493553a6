"""exec is away, or what it offers is damaged: the workers serve from their copies and take what comes next.

What only a kernel shows (NFS that hangs, a mount at boot) is in molecule/share, between virtual machines.
"""

from __future__ import annotations

import json
import secrets
import shlex
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from pathlib import Path

import pytest

from lab.accounts import log_in
from lab.instance import Instance, streamed
from lab.pki import Authority
from tests.visitor import Visitor, health

from .conftest import BIN, DOMAIN, HOSTS, WORKERS, TestLab, members_up, run, served_by, status, until

LIMIT = 240
"""Seconds to wait for what the workers do every minute."""
SHARE = "/srv/mastodon/share"
COPY = "/etc/mastodon/share/current"
GONE = "exec does not answer; serving from the local copy"
BACK = "exec answers again"
LOOKED = "Finished mastodon-share-sync.service"
"""systemd's own line at the end of a look that did not fail."""
READ = f"""
import json, pathlib
share = pathlib.Path('{SHARE}/current')
manifest = json.loads((share / 'manifest.json').read_text())
print(json.dumps({{name: (share / name).read_text() for name in manifest['files']}}))
"""
PUBLISH_DAMAGED = f"""
set -e
cp --archive {SHARE} {SHARE}.aside
mastodon-share-publish --root {SHARE}.aside
cd "$(readlink --canonicalize {SHARE}.aside/current)"
{{damage}}
mv "$PWD" {SHARE}/generations/
mv --no-target-directory {SHARE}.aside/current {SHARE}/current
rm --recursive {SHARE}.aside
"""
"""Damaged before any worker can see it, so that none takes the generation while it is still whole."""


@dataclass(frozen=True)
class Published:
    """What converge published: number of the generation, and its files. `since`: when the tests began."""

    number: int
    files: dict[str, str]
    since: float


def on_exec(lab: TestLab, command: str, stdin: str = "") -> str:
    ssh = (BIN / "lab", "--name", lab.settings.name, "ssh", "vmst-exec", "--", command)
    return run(*ssh, stdin=stdin).must_succeed().output


def publish(lab: TestLab, files: dict[str, str], command: str = "mastodon-share-publish") -> int:
    """Publish exactly these files, as the playbook does; returns the number of the generation."""
    entries = {
        name: {"content": content, "public": not name.endswith((".env", "privkey.pem"))}
        for name, content in files.items()
    }
    request = json.dumps({"files": entries})
    return int(json.loads(on_exec(lab, command, request))["generation"])


def copy_of(lab: TestLab, worker: str) -> int:
    """Number of the generation that the worker's services read."""
    link = lab.ssh(worker, f"readlink {COPY}").must_succeed().output.strip()
    return int(Path(link).name)


def copied(lab: TestLab, worker: str, name: str) -> str:
    """A file of that generation."""
    return lab.ssh(worker, f"cat {COPY}/{name}").must_succeed().output


def copies(lab: TestLab) -> set[int]:
    return {copy_of(lab, worker) for worker in WORKERS}


def look(lab: TestLab) -> None:
    """Every worker looks at what exec offers, without waiting for its minute."""
    for worker in WORKERS:
        lab.ssh(worker, "systemctl start mastodon-share-sync.service")


def said(lab: TestLab, worker: str, text: str, since: float) -> int:
    """How often the journal of the worker's copy has `text`."""
    journal = f"journalctl --unit mastodon-share-sync --output cat --since @{since:.6f}"
    return lab.ssh(worker, journal).must_succeed().output.count(text)


def containers(lab: TestLab, worker: str) -> set[str]:
    """Ids of the worker's containers that do their work."""
    healthy = "docker ps --quiet --no-trunc --filter health=healthy"
    return set(lab.ssh(worker, healthy).must_succeed().output.split())


def outdated(lab: TestLab, worker: str) -> list[str]:
    """Units of the worker that wait for a restart."""
    state = json.loads(lab.ssh(worker, "mastodon-worker state").must_succeed().output)
    found: list[str] = state["outdated"]
    return found


@cache
def private_address(lab: TestLab, droplet: str) -> str:
    return next(row["private"] for row in status(lab) if (row["kind"], row["name"]) == ("droplet", droplet))


def visitor(lab: TestLab, worker: str) -> Visitor:
    """Comes to the worker's own nginx, as the load balancer would hand them on."""
    return Visitor(private_address(lab, worker), DOMAIN, str(lab.settings.ca))


def serves(lab: TestLab, worker: str) -> bool:
    """Whether a worker answers the load balancer and a visitor."""
    try:
        well = health(private_address(lab, worker))[0] == 200
        return well and visitor(lab, worker).get("/auth/sign_in").status == 200
    except (OSError, HTTPException):
        return False


def served(lab: TestLab, worker: str) -> str:
    """The certificate that the worker's nginx shows."""
    with visitor(lab, worker).open() as connection:
        assert isinstance(connection, ssl.SSLSocket)
        shown = connection.getpeercert(binary_form=True)
    assert shown
    return ssl.DER_cert_to_PEM_cert(shown)


def first_of(chain: str) -> str:
    """The first certificate of a chain, in the form of `served`."""
    end = "-----END CERTIFICATE-----"
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(chain[: chain.index(end) + len(end)]))


def assert_all_serve(lab: TestLab, instance: Instance) -> None:
    assert members_up(lab) == set(WORKERS)
    assert {worker for worker in WORKERS if serves(lab, worker)} == set(WORKERS)
    instance.version()


@pytest.fixture(scope="module")
def token(converged: TestLab, instance: Instance) -> str:
    return log_in(converged.settings, instance)


@pytest.fixture(scope="module")
def published(converged: TestLab) -> Iterator[Published]:
    """Published again at the end, whatever a test left."""
    since = time.time()
    files = json.loads(on_exec(converged, f"python3 -c {shlex.quote(READ)}"))
    yield Published(publish(converged, files), files, since)
    publish(converged, files)


@pytest.fixture(scope="class")
def off_since(converged: TestLab, published: Published, token: str) -> Iterator[float]:
    """exec is off; the time since when."""
    until(lambda: copies(converged) == {published.number}, LIMIT)
    since = time.time()
    converged("droplet", "stop", "vmst-exec").must_succeed()
    yield since
    converged("droplet", "start", "vmst-exec").must_succeed()


class TestExecIsOff:
    def test_every_worker_serves_and_says_from_what(
        self, converged: TestLab, instance: Instance, published: Published, token: str, off_since: float
    ) -> None:
        def all_said_it() -> bool:
            assert_all_serve(converged, instance)
            text = f"{GONE}, generation {published.number}:"
            return all(said(converged, worker, text, off_since) for worker in WORKERS)

        until(all_said_it, LIMIT)
        assert copies(converged) == {published.number}
        assert served_by(converged, instance.address) == set(WORKERS)
        # A post comes back through the stream: sidekiq and streaming do their work as well.
        with instance.stream(token) as stream:
            post = instance.post(token, f"exec is off {secrets.token_hex(4)}")
            streamed(stream, post["id"])

    def test_one_reboots_meanwhile_and_none_says_it_twice(
        self, converged: TestLab, instance: Instance, published: Published, off_since: float
    ) -> None:
        worker = WORKERS[-1]
        since = dict.fromkeys(WORKERS, off_since) | {worker: time.time()}
        converged("droplet", "reboot", worker).must_succeed()
        until(lambda: serves(converged, worker) and worker in members_up(converged), LIMIT)
        until(lambda: served_by(converged, instance.address) == set(WORKERS), LIMIT)
        assert copy_of(converged, worker) == published.number

        def all_looked_again() -> bool:
            assert_all_serve(converged, instance)
            return all(said(converged, name, LOOKED, since[name]) >= 3 for name in WORKERS)

        until(all_looked_again, 2 * LIMIT)
        times = {name: said(converged, name, GONE, since[name]) for name in WORKERS}
        assert times == dict.fromkeys(WORKERS, 1)


def test_exec_is_back_and_the_next_generation_comes_without_help(
    converged: TestLab, published: Published
) -> None:
    number = publish(converged, {**published.files, "test.env": "AFTER_EXEC_WAS_OFF=1\n"})
    until(lambda: copies(converged) == {number}, LIMIT)
    for worker in WORKERS:
        assert copied(converged, worker, "test.env") == "AFTER_EXEC_WAS_OFF=1\n"
        assert said(converged, worker, BACK, published.since) == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("printf X | dd of=test.env bs=1 conv=notrunc status=none", id="a byte of a file"),
        pytest.param("truncate --size=-1 test.env", id="a file that ends too early"),
        pytest.param(
            r"""sed --in-place 's/\("test.env": "\)./\1X/' manifest.json""", id="a byte of the manifest"
        ),
    ],
)
def test_a_damaged_generation_is_refused(
    converged: TestLab, instance: Instance, published: Published, damage: str
) -> None:
    since = time.time()
    copies_before = copies(converged)
    containers_before = {worker: containers(converged, worker) for worker in WORKERS}
    number = publish(
        converged,
        {**published.files, "test.env": f"{secrets.token_hex(4)}\n"},
        PUBLISH_DAMAGED.format(damage=damage),
    )
    why = f"refused, the local copy stays as it was: generation {number}: test.env has not the checksum"

    def all_refused_it() -> bool:
        look(converged)
        return all(said(converged, worker, why, since) for worker in WORKERS)

    until(all_refused_it, LIMIT)
    assert copies(converged) == copies_before
    assert {worker: containers(converged, worker) for worker in WORKERS} == containers_before
    assert_all_serve(converged, instance)


def test_a_mended_generation_is_taken(converged: TestLab, published: Published) -> None:
    number = publish(converged, {**published.files, "test.env": "MENDED=1\n"})
    look(converged)
    until(lambda: copies(converged) == {number}, LIMIT)
    assert {copied(converged, worker, "test.env") for worker in WORKERS} == {"MENDED=1\n"}


def test_a_certificate_is_served_at_once_and_settings_wait(
    converged: TestLab, instance: Instance, published: Published, tmp_path: Path
) -> None:
    authority = Authority.open(converged.settings.ca.parent, "lab")
    renewed = authority.issue("renewed", [DOMAIN], directory=tmp_path)
    chain = renewed.certificate.read_text() + authority.pem
    before = {worker: containers(converged, worker) for worker in WORKERS}
    number = publish(
        converged,
        {
            **published.files,
            "tls/fullchain.pem": chain,
            "tls/privkey.pem": renewed.key.read_text(),
            "web.env": published.files["web.env"] + "WAITS_FOR_A_PLAYBOOK=1\n",
        },
    )
    look(converged)
    until(lambda: {served(converged, worker) for worker in WORKERS} == {first_of(chain)}, LIMIT)
    assert copies(converged) == {number}
    assert {worker: containers(converged, worker) for worker in WORKERS} == before
    assert [outdated(converged, worker) for worker in WORKERS] == [["mastodon-web"]] * len(WORKERS)
    assert_all_serve(converged, instance)


def test_nothing_is_left_to_do(converged: TestLab, instance: Instance, published: Published) -> None:
    """With what converge published: exec and a worker that were off are as site.yml wants them."""
    number = publish(converged, published.files)
    look(converged)
    until(lambda: copies(converged) == {number}, LIMIT)
    chain = published.files["tls/fullchain.pem"]
    until(lambda: {served(converged, worker) for worker in WORKERS} == {first_of(chain)}, LIMIT)
    done = converged.playbook("site").must_succeed()
    assert set(HOSTS) <= set(done.recap)
    changed = {host: line.changed for host, line in done.recap.items()}
    assert changed == dict.fromkeys(changed, 0), done.output
    assert_all_serve(converged, instance)

"""A worker runs images that exec made, as a fork's must, and has the variables that the admin added."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import EXISTING, Run, TestLab, members_up, until

WORKER = "vmst-worker-3"
NAMES = {"mastodon-web": "mastodon", "mastodon-streaming": "mastodon-streaming"}


EXTRA = {
    "LDAP_HOST": "ldap.example.org",
    "MASTODON_PROMETHEUS_EXPORTER_ENABLED": "true",
    "OIDC_DISPLAY_NAME": "Our account",
    "PROMETHEUS_EXPORTER_PORT": "9395",
    "TRUSTED_PROXY_IP": "127.0.0.0/8",
}
"""Variables of Mastodon that no setting of the roles has."""


def converge(lab: TestLab) -> Run:
    """One worker, to save time; the others keep what they have."""
    settings = {"mastodon_image_source": "exec", "mastodon_extra_environment": EXTRA}
    limit = f"localhost,vmst-exec,{WORKER}"
    return lab.playbook("site", "-e", json.dumps(settings), "--limit", limit).must_succeed()


@pytest.fixture(scope="module")
def site(converged: TestLab) -> Iterator[Run]:
    yield converge(converged)
    if EXISTING:
        converged.playbook("site").must_succeed()


def container(lab: TestLab, host: str, name: str) -> dict[str, Any]:
    """`docker inspect` of a container there, and of its image (`image`)."""
    found: dict[str, Any] = json.loads(lab.ssh(host, f"docker inspect {name}").must_succeed().output)[0]
    image = lab.ssh(host, f"docker image inspect {found['Image']}").must_succeed().output
    return {**found, "image": json.loads(image)[0]}


@pytest.mark.parametrize("unit", NAMES)
def test_it_runs_what_exec_recorded(converged: TestLab, site: Run, unit: str) -> None:
    record = json.loads(converged.ssh("vmst-exec", "cat /etc/mastodon/images.json").must_succeed().output)
    name = f"exec.internal/{NAMES[unit]}"
    digest = next(value for key, value in record.items() if key.startswith(f"{name}:"))
    assert container(converged, WORKER, unit)["Config"]["Image"] == f"{name}:{digest.replace(':', '-')}"
    own = json.loads(converged.ssh(WORKER, "cat /etc/mastodon/images.json").must_succeed().output)
    assert digest in own.values()


@pytest.mark.parametrize("unit", NAMES)
def test_the_image_is_as_a_registrys(converged: TestLab, site: Run, unit: str) -> None:
    """docs/forks.md compares them: where both are there, they agree."""
    made = container(converged, WORKER, unit)["image"]["Config"]
    assert made["WorkingDir"] == "/opt/mastodon"
    shell = f"docker exec {unit} sh -c"
    assert converged.ssh(WORKER, f"{shell} 'id -u; id -g; readlink /mastodon'").output.split() == [
        "991",
        "991",
        "/opt/mastodon",
    ]
    if unit == "mastodon-web":
        assert (made["Entrypoint"], made["Cmd"]) == (["/usr/bin/tini", "--"], None)
        assert list(made["ExposedPorts"]) == ["3000/tcp"]
        maps = converged.ssh(WORKER, f"{shell} 'cat /proc/[0-9]*/maps'").output
        assert "libjemalloc.so.2" in maps
    else:
        assert (made["Entrypoint"], made["Cmd"]) == (None, ["node", "./streaming/index.js"])
        assert list(made["ExposedPorts"]) == ["4000/tcp"]


@pytest.mark.parametrize("unit", [*NAMES, "mastodon-sidekiq"])
def test_additional_variables_arrive_where_they_are_read(converged: TestLab, site: Run, unit: str) -> None:
    found = container(converged, WORKER, unit)["Config"]["Env"]
    read = {"TRUSTED_PROXY_IP"} if unit == "mastodon-streaming" else set(EXTRA)
    assert {f"{name}={EXTRA[name]}" for name in read} == {
        pair for pair in found if pair.partition("=")[0] in EXTRA
    }


def test_nothing_of_exec_is_in_it(converged: TestLab, site: Run) -> None:
    found = converged.ssh(
        WORKER,
        "docker exec mastodon-web sh -c 'ls -d /etc/apt /opt/mastodon/.env* /opt/mastodon/node_modules;"
        " cat /opt/mastodon/.bundle/config'",
    ).output
    assert "mirror" not in found
    assert found.count("No such file or directory") == 3


def test_it_serves(converged: TestLab, site: Run) -> None:
    converged.ssh(WORKER, "mastodon-worker healthy").must_succeed()
    until(lambda: WORKER in members_up(converged), 60)


def test_again_it_changes_nothing(converged: TestLab, site: Run) -> None:
    again = converge(converged)
    assert {host: recap.changed for host, recap in again.recap.items()} == dict.fromkeys(again.recap, 0)

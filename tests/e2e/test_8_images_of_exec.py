"""A worker runs images that exec made from its release, as a fork's must."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Run, TestLab, members_up, until

WORKER = "vmst-worker-3"
NAMES = {"mastodon-web": "mastodon", "mastodon-streaming": "mastodon-streaming"}


@pytest.fixture(scope="module")
def site(converged: TestLab) -> Run:
    """One worker, to save time; the others keep what they have."""
    return converged.playbook(
        "site", "-e", "mastodon_image_source=exec", "--limit", f"localhost,vmst-exec,{WORKER}"
    ).must_succeed()


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
    again = converged.playbook(
        "site", "-e", "mastodon_image_source=exec", "--limit", f"localhost,vmst-exec,{WORKER}"
    ).must_succeed()
    assert {host: recap.changed for host, recap in again.recap.items()} == dict.fromkeys(again.recap, 0)

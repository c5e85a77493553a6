from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.config import Lab

Shell = Callable[..., str]


@pytest.fixture(name="variables")
def _variables(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


@pytest.fixture(name="shell")
def _shell(host: Any) -> Shell:
    """Runs a command as root, returns what it prints; where it fails, says so with the end of the journal."""

    def run(*argv: str, fails: bool = False) -> str:
        result = host.run(shlex.join(argv))
        if bool(result.rc) != fails:
            journal = host.run("journalctl --no-pager --lines=60 --output=short").stdout
            pytest.fail(
                f"{shlex.join(argv)}: exit code {result.rc}\n{result.stderr}{result.stdout}\n{journal}"
            )
        return str(result.stderr if fails else result.stdout).strip()

    return run


@pytest.fixture(name="lab_play")
def _lab_play() -> Callable[[], str]:
    """Runs the entry point `restart` of the role, which has to fail; returns what it prints."""
    lab = Lab.load(os.environ.get("LAB_NAME") or "test")

    def play() -> str:
        done = subprocess.run(
            ["ansible-playbook", "-i", lab.state / "inventory", Path(__file__).parents[1] / "restart.yml"],
            env={**os.environ, "NO_COLOR": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stdout.replace("\\n", "\n")

    return play


@pytest.fixture(name="psql")
def _psql(shell: Shell) -> Shell:
    """Rows of a query, through the service that the role sets up."""
    return lambda query: shell("psql", "service=mastodon", "-XAtc", query)


@pytest.fixture(name="secrets")
def _secrets(host: Any, variables: dict[str, Any]) -> dict[str, str]:
    """Every secret value of the instance, by where it comes from."""
    found = dict(json.loads(host.file("/etc/mastodon/secrets.json").content_string))
    del found["vapid_public_key"]
    for name in (
        "mastodon_db_password",
        "mastodon_redis_password",
        "mastodon_s3_secret_access_key",
        "mastodon_smtp_password",
    ):
        found[name] = str(variables[name])
    key = variables["mastodon_tls_private_key"].split("\n")
    found["mastodon_tls_private_key"] = key[1]
    assert all(len(value) >= 12 for value in found.values())
    return found

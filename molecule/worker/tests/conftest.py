from __future__ import annotations

import os
import shlex
from typing import Any

import pytest

from lab.config import Lab
from tests.visitor import Visitor

LAB = Lab.load(os.environ.get("LAB_NAME") or "test")

MIGRATE = """
set -eu
cd /etc/mastodon/share/current
image=$(docker inspect --format '{{.Config.Image}}' mastodon-web)
docker run --rm --network host --env-file common.env --env-file web.env \\
  --env DB_PORT=25060 --env DB_NAME=mastodon \\
  --volume /etc/mastodon/share/current/db-ca.pem:/etc/mastodon/share/current/db-ca.pem:ro \\
  --volume /etc/mastodon/share/current/ca-bundle.pem:/etc/mastodon/share/current/ca-bundle.pem:ro \\
  "$image" bundle exec rails db:migrate
"""


@pytest.fixture(name="lab", scope="session")
def _lab() -> Lab:
    return LAB


@pytest.fixture(name="schema", scope="module", autouse=True)
def _schema(host: Any) -> None:
    """What exec does before the workers: the database's schema, through the direct port."""
    result = host.run(MIGRATE)
    assert result.rc == 0, result.stderr + result.stdout


@pytest.fixture(name="variables")
def _variables(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


@pytest.fixture(name="visitor")
def _visitor(variables: dict[str, Any]) -> Visitor:
    """Comes from the private network, as the load balancer does."""
    return Visitor(variables["do_private_ipv4"], variables["mastodon_local_domain"], str(LAB.ca))


@pytest.fixture(name="shell")
def _shell(host: Any) -> Any:
    """Runs a command, returns what it prints; where it fails, says so with the end of the journal."""

    def run(*argv: str) -> str:
        result = host.run(shlex.join(argv))
        if result.rc:
            journal = host.run("journalctl --no-pager --lines=60 --output=short").stdout
            pytest.fail(
                f"{shlex.join(argv)}: exit code {result.rc}\n{result.stderr}{result.stdout}\n{journal}"
            )
        return str(result.stdout).strip()

    return run

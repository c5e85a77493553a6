"""Who gets which of Mastodon's environment variables: the share's files, rendered as exec renders them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[3] / "roles"
POOL = {"DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASS", "DB_SSLMODE"}
TUNNEL = {"REDIS_HOST", "REDIS_PORT", "REDIS_USER", "REDIS_PASSWORD"}
STREAMING = {"NODE_ENV", "LOG_LEVEL", "BIND", "PORT", "DB_POOL", "NODE_EXTRA_CA_CERTS"}


def render(**settings: Any) -> dict[str, dict[str, str]]:
    """The variables of each file of the share."""
    loader = DataLoader()
    defaults, values = (
        loader.load_from_file(str(ROLES / f"instance/{part}/main.yml"), trusted_as_template=True)
        for part in ("defaults", "vars")
    )
    required = [
        "local_domain",
        "db_host",
        "db_password",
        "db_ca",
        "redis_host",
        "redis_password",
        "s3_bucket",
        "s3_region",
        "s3_access_key_id",
        "s3_secret_access_key",
        "tls_certificate",
        "tls_private_key",
    ]
    secrets = {name: f"secret-{name}" for name in values["__instance_secret_names"]}
    variables = (
        {f"mastodon_{name}": f"the-{name}" for name in required}
        | defaults
        | values
        | {"__exec_secrets": {"stdout": json.dumps({"secrets": secrets})}}
        | settings
    )
    template = trust_as_template((ROLES / "exec/templates/share.json.j2").read_text())
    found = Templar(loader=loader, variables=variables).template(template)
    files = (json.loads(found) if isinstance(found, str) else found)["files"]
    return {
        name.removesuffix(".env"): dict(line.split("=", 1) for line in file["content"].splitlines())
        for name, file in files.items()
        if name.endswith(".env")
    }


def test_streaming_gets_what_it_reads_and_nothing_else() -> None:
    files = render(mastodon_extra_environment={"OIDC_CLIENT_SECRET": "x"})
    assert set(files["common"]) | set(files["streaming"]) == POOL | TUNNEL | STREAMING


def test_streaming_gets_the_url_of_redis_without_the_driver_of_ruby() -> None:
    files = render(mastodon_redis_transport="native")
    assert set(files["common"]) | set(files["streaming"]) == POOL | {"REDIS_URL"} | STREAMING
    assert files["web"]["REDIS_DRIVER"] == files["sidekiq"]["REDIS_DRIVER"] == "ruby"


@pytest.mark.parametrize("kind", ["web", "sidekiq"])
def test_what_loads_rails_gets_the_secrets_and_all_additions(kind: str) -> None:
    files = render(mastodon_extra_environment={"OIDC_CLIENT_SECRET": "x", "TRUSTED_PROXY_IP": "192.0.2.1"})
    assert files[kind]["SECRET_KEY_BASE"] == "secret-secret_key_base"
    assert files[kind]["RAILS_ENV"] == "production"
    assert files[kind]["AWS_SECRET_ACCESS_KEY"] == "the-s3_secret_access_key"
    assert files[kind]["OIDC_CLIENT_SECRET"] == "x"
    assert files[kind]["TRUSTED_PROXY_IP"] == "192.0.2.1"
    assert "NODE_ENV" not in files[kind]


def test_logs_are_quiet_unless_the_admin_says_otherwise() -> None:
    quiet, loud = (
        render(),
        render(mastodon_extra_environment={"RAILS_LOG_LEVEL": "info", "LOG_LEVEL": "debug"}),
    )
    assert (quiet["web"]["RAILS_LOG_LEVEL"], quiet["streaming"]["LOG_LEVEL"]) == ("warn", "warn")
    assert "RAILS_LOG_LEVEL" not in quiet["sidekiq"]  # each job's line
    assert (loud["web"]["RAILS_LOG_LEVEL"], loud["streaming"]["LOG_LEVEL"]) == ("info", "debug")
    assert loud["sidekiq"]["RAILS_LOG_LEVEL"] == "info"


def test_streaming_gets_the_additions_that_it_reads_also_empty_ones() -> None:
    given = {"TRUSTED_PROXY_IP": "", "REDIS_DB": "1", "TZ": None, "RAILS_LOG_LEVEL": "warn"}
    found = render(mastodon_extra_environment=given)["streaming"]
    assert set(found) == STREAMING | {"TRUSTED_PROXY_IP", "REDIS_DB"}
    assert found["TRUSTED_PROXY_IP"] == ""

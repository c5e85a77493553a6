"""What environment variables do: set, absent, empty, and with odd values."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from .client import Browser
from .conftest import DIRECT, DOMAIN, KEYS, NEW, World, until

PUMA = "bundle exec puma -C config/puma.rb"
COUNT = ["bin/rails", "runner", "puts Setting.count.class"]


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[World]:
    world.reset()
    world.setup(NEW)
    yield world
    world.stop()


# -- without which nothing starts -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), zip(KEYS, (None, "", None), strict=True))
def test_encryption_keys_are_a_must(world: World, name: str, value: str | None) -> None:
    result = world.run(NEW, "tootctl version", environment={f"ACTIVE_RECORD_ENCRYPTION_{name}": value})
    assert result.code == 1
    assert "bin/rails db:encryption:init" in result.output


@pytest.mark.parametrize("value", [None, ""])
def test_secret_is_a_must(world: World, value: str | None) -> None:
    result = world.run(NEW, "tootctl version", environment={"SECRET_KEY_BASE": value})
    assert result.code != 0
    assert "secret_key_base" in result.output


def test_dummy_secret_does_for_compiling(world: World) -> None:
    without = {"SECRET_KEY_BASE": None, **{f"ACTIVE_RECORD_ENCRYPTION_{name}": None for name in KEYS}}
    result = world.run(NEW, "tootctl version", environment={**without, "SECRET_KEY_BASE_DUMMY": "1"})
    assert result.code == 0, result.output


def test_ready_file_is_a_name_without_a_folder(world: World) -> None:
    result = world.run(NEW, "bundle exec sidekiq", environment={"MASTODON_SIDEKIQ_READY_FILENAME": "a/b"})
    assert result.code != 0
    assert "MASTODON_SIDEKIQ_READY_FILENAME is not a valid filename" in result.output


# -- the database ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "works"),
    [
        ({"DB_SSLMODE": "require"}, True),
        # The server takes nothing but TLS, which libpq prefers.
        ({"DB_SSLMODE": None}, True),
        ({"DB_SSLMODE": "disable"}, False),
        # libpq does not know what Node's driver does.
        ({"DB_SSLMODE": "no-verify"}, False),
        ({"DB_SSLMODE": "nonsense"}, False),
    ],
)
def test_rails_reads_db_sslmode(ready: World, settings: dict[str, str | None], works: bool) -> None:
    assert (ready.run(NEW, COUNT, environment={**DIRECT, **settings}).code == 0) is works


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({"DB_SSLMODE": "require"}, True),
        ({"DB_SSLMODE": "require", "NODE_EXTRA_CA_CERTS": None}, False),
        ({"DB_SSLMODE": "no-verify", "NODE_EXTRA_CA_CERTS": None}, True),
        ({"DB_SSLMODE": None}, False),
        ({"DB_SSLMODE": "disable"}, False),
        ({"DB_SSLMODE": "prefer", "NODE_EXTRA_CA_CERTS": None}, False),
    ],
)
def test_streaming_reads_db_sslmode_in_its_own_way(
    ready: World, settings: dict[str, str | None], starts: bool
) -> None:
    """It listens in any case: whether it reaches the database shows with the first token."""
    container = ready.start(NEW, None, "mastodon-streaming", environment=settings)
    until(lambda: b"now listening" in container.logs(), lambda: container.logs().decode())
    address = f"http://{ready.address(container)}:4000/api/v1/streaming/user"
    status = httpx.get(address, headers={"Authorization": "Bearer wrong"}).status_code
    assert status == (401 if starts else 500)
    container.remove(force=True, v=True)
    ready.started.remove(container)


def test_prepared_statements_fail_through_a_transaction_pool(ready: World) -> None:
    command = ["bin/rails", "runner", "3.times { Setting.find_by(var: 'x') }; puts :fine"]
    assert "fine" in ready.run(NEW, command, environment={"PREPARED_STATEMENTS": "false"}).stdout
    # Another client of the pool has left its statements on the one connection.
    failed = [ready.run(NEW, command, environment={"PREPARED_STATEMENTS": "true"}) for _ in range(2)]
    assert any("prepared statement" in result.output and result.code != 0 for result in failed)


# -- names and addresses --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(ready: World) -> httpx.Client:
    return ready.web(
        NEW,
        environment={
            "WEB_DOMAIN": "web.social.test",
            "ALTERNATE_DOMAINS": "other.test , third.test",
            "RAILS_SERVE_STATIC_FILES": "false",
            "CDN_HOST": "https://files.test",
            "S3_ENABLED": "true",
            "S3_BUCKET": "bucket",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "S3_ENDPOINT": "https://spaces.test",
            "S3_ALIAS_HOST": "media.test",
        },
    )


@pytest.mark.parametrize("host", [DOMAIN, "web.social.test", "other.test", "third.test"])
def test_known_hosts_are_served(web: httpx.Client, host: str) -> None:
    assert web.get("/", headers={"Host": host}).status_code == 200


def test_unknown_host_is_refused(web: httpx.Client) -> None:
    assert web.get("/", headers={"Host": "evil.test"}).status_code == 403


@pytest.mark.parametrize("path", ["/robots.txt", "/sw.js", "/packs/.vite/manifest.json", "/500.html"])
def test_files_are_served_only_when_told_to(web: httpx.Client, path: str) -> None:
    assert web.get(path).status_code == 404


def test_pages_name_the_hosts_of_files_and_media(web: httpx.Client) -> None:
    page = web.get("/")
    assert '="https://files.test/packs/' in page.text
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert "https://files.test" in policy["script-src"].split()
    assert {"https://files.test", "https://media.test"} <= set(policy["img-src"].split())
    assert "wss://web.social.test" in policy["connect-src"].split()


def test_webfinger_gives_accounts_the_local_domain(ready: World, web: httpx.Client) -> None:
    ready.account(NEW, "alice")
    for domain in (DOMAIN, "web.social.test"):
        found = web.get(f"/.well-known/webfinger?resource=acct:alice@{domain}").json()
        assert found["subject"] == f"acct:alice@{DOMAIN}"
        assert "https://web.social.test/@alice" in found["aliases"]


def test_trusted_proxies_decide_the_address(ready: World) -> None:
    password = ready.account(NEW, "proxied")
    for trusted, passed in (
        (None, {"203.0.113.9, 10.1.2.3": "203.0.113.9", "203.0.113.9, 192.0.2.5": "192.0.2.5"}),
        # Setting it replaces the private ranges.
        (
            f"{ready.subnet()} 192.0.2.0/24",
            {"203.0.113.9, 192.0.2.5": "203.0.113.9", "203.0.113.9, 10.1.2.3": "10.1.2.3"},
        ),
    ):
        client = ready.web(NEW, environment={"TRUSTED_PROXY_IP": trusted})
        for chain, seen in passed.items():
            client.headers["X-Forwarded-For"] = chain
            assert Browser(client).sign_in("proxied@database", password).status_code == 302
            assert ready.sql("SELECT ip FROM login_activities ORDER BY id DESC LIMIT 1") == seen


def test_who_is_no_trusted_proxy_may_not_pass_addresses_on(ready: World) -> None:
    client = ready.web(NEW, environment={"TRUSTED_PROXY_IP": "192.0.2.0/24"})
    for path in ("/about", "/api/v2/instance", "/health"):
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 500


# -- exporters ------------------------------------------------------------------------------------------


def test_exporter_answers_where_it_is_told_to(ready: World) -> None:
    settings = {
        "MASTODON_PROMETHEUS_EXPORTER_ENABLED": "true",
        "MASTODON_PROMETHEUS_EXPORTER_LOCAL": "true",
        "MASTODON_PROMETHEUS_EXPORTER_HOST": "0.0.0.0",
        "MASTODON_PROMETHEUS_EXPORTER_PORT": "9400",
    }
    container = ready.sidekiq(NEW, "pull", environment=settings)
    answer = httpx.get(f"http://{ready.address(container)}:9400/metrics", timeout=20)
    assert answer.status_code == 200
    assert "collector_working 1" in answer.text
    # The web process has one only when it forks.
    ready.web(NEW, environment=settings)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{ready.address(ready.started[-1])}:9400/metrics")

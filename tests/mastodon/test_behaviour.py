"""The stand-in does, and refuses, what Mastodon does where roles, nginx or tests touch it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from .conftest import DIRECT, DOMAIN, World, log_in, post, until

TAG = "v4.7.0"


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[World]:
    """A world with the newest schema, without accounts."""
    world.reset()
    world.setup(TAG)
    yield world
    world.stop()


# -- settings without which it does not start -----------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("ACTIVE_RECORD_ENCRYPTION_PRIMARY_KEY", "bin/rails db:encryption:init"),
        ("ACTIVE_RECORD_ENCRYPTION_DETERMINISTIC_KEY", "bin/rails db:encryption:init"),
        ("ACTIVE_RECORD_ENCRYPTION_KEY_DERIVATION_SALT", "bin/rails db:encryption:init"),
        ("LOCAL_DOMAIN", "LOCAL_DOMAIN"),
        ("SECRET_KEY_BASE", "secret_key_base"),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_setting_stops_it(world: World, missing: str, says: str, value: str | None) -> None:
    result = world.run(TAG, "bundle exec puma -C config/puma.rb", environment={missing: value})
    assert result.code != 0
    assert says in result.output


def test_tls_to_redis_needs_the_ruby_driver(world: World) -> None:
    tls = {"REDIS_URL": "rediss://database:6379"}
    refused = world.run(TAG, "tootctl version", environment=tls)
    assert refused.code != 0
    assert "REDIS_DRIVER" in refused.output
    assert world.run(TAG, "tootctl version", environment={**tls, "REDIS_DRIVER": "ruby"}).code == 0


# -- the database ---------------------------------------------------------------------------------------


def test_migrations_fail_through_the_pool(empty: World) -> None:
    """The advisory lock belongs to a session, which a transaction pool does not keep."""
    result = empty.run(TAG, "bundle exec rails db:migrate")
    assert result.code != 0
    assert "ConcurrentMigrationError" in result.output
    assert empty.migrate(TAG).code == 0


def test_prepared_statements_fail_through_the_pool(ready: World) -> None:
    script = "3.times { Setting.find_by(var: 'x') }; puts :fine"
    command = ["bin/rails", "runner", script]
    assert "fine" in ready.run(TAG, command, environment={"PREPARED_STATEMENTS": "false"}).output
    # Another client of the pool has left its statements on the one connection.
    failed = [ready.run(TAG, command, environment={"PREPARED_STATEMENTS": "true"}) for _ in range(2)]
    assert any("prepared statement" in result.output and result.code != 0 for result in failed)


def test_plaintext_to_the_database_is_refused(ready: World) -> None:
    result = ready.run(
        TAG, ["bin/rails", "runner", "Setting.count"], environment={**DIRECT, "DB_SSLMODE": "disable"}
    )
    assert result.code != 0


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
    container = ready.start(TAG, None, "mastodon-streaming", environment=settings)
    until(lambda: any(word in container.logs() for word in (b"now listening", b"Cannot reach PostgreSQL")))
    assert (b"now listening" in container.logs()) is starts


def test_rails_does_not_know_no_verify(ready: World) -> None:
    result = ready.run(TAG, ["bin/rails", "runner", "Setting.count"], environment={"DB_SSLMODE": "no-verify"})
    assert result.code != 0
    assert "no-verify" in result.output


# -- what nginx and the load balancer see ---------------------------------------------------------------


@pytest.fixture(scope="module")
def web(ready: World) -> httpx.Client:
    return ready.web(
        TAG, environment={"WEB_DOMAIN": "web.social.test", "ALTERNATE_DOMAINS": "other.test, third.test"}
    )


def bare(web: httpx.Client, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{web.base_url}{path}", headers=headers)


def test_health_answers_anyone(web: httpx.Client) -> None:
    answer = bare(web, "/health", Host="10.0.0.1")
    assert (answer.status_code, answer.text) == (200, "OK")


def test_plain_http_is_redirected(web: httpx.Client) -> None:
    answer = bare(web, "/about?x=1", Host=DOMAIN)
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{DOMAIN}/about?x=1")


@pytest.mark.parametrize("host", [DOMAIN, "web.social.test", "other.test", "third.test"])
def test_known_hosts_are_served(web: httpx.Client, host: str) -> None:
    assert web.get("/", headers={"Host": host}).status_code == 200


def test_unknown_host_is_refused(web: httpx.Client) -> None:
    assert web.get("/", headers={"Host": "evil.test"}).status_code == 403


def test_home_page_names_digested_files_that_are_served(web: httpx.Client) -> None:
    page = web.get("/")
    assert "set-cookie" not in page.headers
    assert page.headers["strict-transport-security"].startswith("max-age=63072000")
    paths = [part.split('"')[0] for part in page.text.split('="')[1:] if part.startswith("/packs/")]
    assert len(paths) == 2
    for path in paths:
        file = web.get(path)
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=2419200, must-revalidate"


def test_error_page_is_a_file(web: httpx.Client) -> None:
    assert "something went wrong" in web.get("/500.html").text


def test_trusted_proxies_decide_the_address(ready: World) -> None:
    password = ready.account(TAG, "proxied")
    for trusted, passed in (
        (None, {"203.0.113.9, 10.1.2.3": "203.0.113.9", "203.0.113.9, 192.0.2.5": "192.0.2.5"}),
        # Setting it replaces the private ranges.
        ("192.0.2.0/24", {"203.0.113.9, 192.0.2.5": "203.0.113.9", "203.0.113.9, 10.1.2.3": "10.1.2.3"}),
    ):
        client = ready.web(TAG, environment={"TRUSTED_PROXY_IP": trusted})
        client.headers["Authorization"] = f"Bearer {log_in(client, password, 'proxied')}"
        for chain, seen in passed.items():
            answer = client.get("/api/v1/standin/session", headers={"X-Forwarded-For": chain})
            assert answer.json()["remote_ip"] == seen
    ready.stop()


# -- posts, jobs, mail ----------------------------------------------------------------------------------


def test_post_reaches_a_websocket_through_a_worker(ready: World) -> None:
    password = ready.account(TAG, "poster")
    web = ready.web(TAG)
    token = log_in(web, password, "poster")
    sidekiq = ready.sidekiq(TAG, "default", "push", "ingress", "mailers", "pull", "fasp")
    streaming = ready.start(TAG, None, "mastodon-streaming")
    base = f"{ready.address(streaming)}:4000"
    until(lambda: b"now listening" in streaming.logs(), lambda: streaming.logs().decode())
    assert httpx.get(f"http://{base}/api/v1/streaming/health").text == "OK"

    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://{base}/api/v1/streaming?stream=public&access_token=wrong", proxy=None)
    assert refused.value.response.status_code == 401

    with connect(f"ws://{base}/api/v1/streaming?stream=public&access_token={token}", proxy=None) as socket:
        assert 'connected_clients{type="websocket"} 1' in httpx.get(f"http://{base}/metrics").text
        status = post(web, token, "to all").raise_for_status().json()
        message = json.loads(socket.recv(timeout=20))
    assert (message["stream"], message["event"]) == (["public"], "update")
    assert json.loads(message["payload"])["id"] == status["id"]

    def runs() -> dict[str, str]:
        found = web.get("/api/v1/standin/job_runs", params={"status_id": status["id"]}).json()
        return {run["job"]: run["hostname"] for run in found}

    until(lambda: len(runs()) == 2)
    sidekiq.reload()
    assert set(runs().values()) == {sidekiq.attrs["Config"]["Hostname"]}
    # That process does not listen to `scheduler`, so it has scheduled nothing.
    assert web.get("/api/v1/standin/schedulers").json() == []

    sidekiq.kill("TERM")
    sidekiq.wait(timeout=40)
    ready.stop()


def test_second_scheduler_shows(ready: World) -> None:
    web = ready.web(TAG)
    for _ in range(2):
        ready.sidekiq(TAG, "scheduler", environment={"STANDIN_HEARTBEAT_SECONDS": "1"})
    until(lambda: len(web.get("/api/v1/standin/schedulers").json()) == 2)
    runs = web.get("/api/v1/standin/job_runs", params={"queue": "scheduler"}).json()
    assert {run["job"] for run in runs} == {"Scheduler::HeartbeatScheduler"}
    ready.stop()


def test_confirmation_mail_comes_through_the_queue(ready: World) -> None:
    created = ready.run(TAG, "tootctl accounts create fresh --email fresh@database")
    assert created.output.splitlines()[0] == "OK"
    assert ready.database.exec_run(["valkey-cli", "llen", "queue:mailers"])[1].strip() in (
        b"1",
        b"(integer) 1",
    )
    ready.sidekiq(TAG, "mailers")

    def mail() -> bytes:
        return bytes(
            ready.database.exec_run(["sh", "-c", "cat /var/lib/postgresql/mail/new/* 2>/dev/null"])[1]
        )

    until(lambda: b"confirmation_token=" in mail())
    ready.stop()


def test_mail_domain_must_exist(ready: World) -> None:
    result = ready.run(TAG, "tootctl accounts create nobody --email nobody@nowhere.invalid --confirmed")
    assert result.code != 0
    assert "Failure/Error: email" in result.output


def test_tasks_that_need_no_settings(world: World) -> None:
    keys = world.run(
        TAG,
        "bundle exec rails db:encryption:init",
        environment={"LOCAL_DOMAIN": None, "SECRET_KEY_BASE": None},
    )
    assert keys.output.count("ACTIVE_RECORD_ENCRYPTION_") == 3
    vapid = world.run(
        TAG,
        "bundle exec rails mastodon:webpush:generate_vapid_key",
        environment={"SECRET_KEY_BASE_DUMMY": "1", "LOCAL_DOMAIN": None},
    )
    assert [line.split("=")[0] for line in vapid.output.splitlines()] == [
        "VAPID_PRIVATE_KEY",
        "VAPID_PUBLIC_KEY",
    ]
    assert world.run(TAG, "tootctl --version").output.strip() == TAG.removeprefix("v")

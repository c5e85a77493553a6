"""Web, streaming and Sidekiq at work: what nginx, systemd, the load balancer and clients meet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from .client import IN_BROWSER, Browser, log_in, post, register, token
from .conftest import DOMAIN, NEW, World, until

QUEUES = ["default", "push", "ingress", "mailers", "pull", "scheduler", "fasp"]


@pytest.fixture(scope="module")
def ready(world: World) -> Iterator[World]:
    world.reset()
    world.setup(NEW)
    yield world
    world.stop()


@pytest.fixture(scope="module")
def web(ready: World) -> httpx.Client:
    return ready.web(NEW)


@pytest.fixture(scope="module")
def password(ready: World) -> str:
    return ready.account(NEW)


@pytest.fixture(scope="module")
def key(web: httpx.Client, password: str) -> str:
    return log_in(web, password)


def bare(web: httpx.Client, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{web.base_url}{path}", headers=headers)


def processes(world: World) -> list[dict[str, Any]]:
    """What the Sidekiq processes say of themselves."""
    ask = ["sh", "-c", "for id in $(valkey-cli smembers processes); do valkey-cli hget $id info; done"]
    return [json.loads(line) for line in world.database.exec_run(ask)[1].decode().splitlines() if line]


def title(container: Any, word: str) -> str:
    lines = container.exec_run("ps -eo args")[1].decode().splitlines()
    return next((line for line in lines if line.startswith(word)), "")


# -- web ------------------------------------------------------------------------------------------------


def test_health_answers_anyone(web: httpx.Client) -> None:
    answer = bare(web, "/health", Host="10.0.0.1")
    assert (answer.status_code, answer.text) == (200, "OK")


def test_plain_http_is_redirected(web: httpx.Client) -> None:
    answer = bare(web, "/about?x=1", Host=DOMAIN)
    assert (answer.status_code, answer.headers["location"]) == (301, f"https://{DOMAIN}/about?x=1")


def test_pages_carry_what_nginx_passes_on(web: httpx.Client) -> None:
    page = web.get("/")
    assert "set-cookie" not in page.headers
    assert page.headers["server"] == "Mastodon"
    assert page.headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "same-origin"
    assert re.fullmatch(r"[0-9a-f-]{36}", page.headers["x-request-id"])
    assert {"Accept", "Cookie"} <= set(re.split(r", *", page.headers["vary"]))


def test_pages_name_digested_files_that_are_served(web: httpx.Client) -> None:
    paths = re.findall(r'(?:src|href)="(/packs/[^"]+)"', web.get("/").text)
    assert {path.rpartition(".")[2] for path in paths} >= {"js", "css"}
    for path in paths:
        assert re.fullmatch(r"/packs/(assets/)?([\w.-]+/)*[\w.-]+-[\w-]{8}\.\w+", path), path
        file = web.get(path)
        assert file.status_code == 200
        assert file.headers["cache-control"] == "public, max-age=2419200, must-revalidate"
        assert file.headers["last-modified"]
        assert "set-cookie" not in file.headers
    # Vite's list of what it made, where a way back looks for what a release needs.
    manifest = web.get("/packs/.vite/manifest.json").json()
    names = {entry["file"] for entry in manifest.values()}
    assert {path for path in paths if path.endswith(".js")} & {f"/packs/{name}" for name in names}


def test_error_page_is_a_file_without_a_script(web: httpx.Client) -> None:
    page = web.get("/500.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "something went wrong" in page.text


def test_web_process_has_a_name_and_ends(ready: World) -> None:
    ready.web(NEW)
    container = ready.started.pop()
    assert re.fullmatch(r"puma [\d.]+ \(tcp://0\.0\.0\.0:3000\) \[mastodon\]", title(container, "puma"))
    container.kill("TERM")
    # Puma ends by the signal itself, which tini passes on as 128 + 15.
    assert container.wait(timeout=60)["StatusCode"] in {0, 143}
    container.remove(force=True, v=True)


# -- signing in -----------------------------------------------------------------------------------------


def test_form_wants_its_token_and_sets_cookies(web: httpx.Client, password: str) -> None:
    forged = Browser(web).ask(
        "POST", "/auth/sign_in", {"user[email]": "owner@database", "user[password]": password}
    )
    assert forged.status_code == 422
    wrong = Browser(web).sign_in("owner@database", "wrong")
    assert (wrong.status_code, "Invalid e-mail address or password" in wrong.text) == (200, True)

    browser = Browser(web)
    answer = browser.sign_in("owner@database", password)
    assert (answer.status_code, answer.headers["location"]) == (302, f"https://{DOMAIN}/")
    assert set(browser.cookies) == {"_mastodon_session", "_session_id"}
    for cookie in answer.headers.get_list("set-cookie"):
        words = {word.strip().lower() for word in cookie.split(";")}
        assert {"path=/", "secure", "httponly", "samesite=lax"} <= words
    assert browser.ask("GET", "/settings/profile").status_code == 200


def test_application_gets_a_token_by_a_code(web: httpx.Client, password: str) -> None:
    application = register(web)
    browser = Browser(web)
    # Who has not signed in is sent to, and comes back.
    request = f"client_id={application['client_id']}&redirect_uri={IN_BROWSER}&response_type=code&scope=read"
    asked = browser.ask("GET", f"/oauth/authorize?{request}")
    assert asked.status_code == 302, asked.text
    assert asked.headers["location"] == f"https://{DOMAIN}/auth/sign_in"
    signed = browser.sign_in("owner@database", password)
    assert signed.headers["location"] == f"https://{DOMAIN}/oauth/authorize?{request}"
    form = browser.ask("GET", f"/oauth/authorize?{request}")
    fields = dict(part.split("=") for part in request.split("&"))
    agreed = browser.send("/oauth/authorize", form, fields)
    place, _, code = agreed.headers["location"].partition("?code=")
    assert (agreed.status_code, place) == (302, f"https://{DOMAIN}/oauth/authorize/native")
    assert code in browser.ask("GET", f"/oauth/authorize/native?code={code}").text

    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": IN_BROWSER}
    answer = web.post("/oauth/token", json={**application, **grant})
    assert answer.status_code == 200
    assert (answer.json()["token_type"], answer.json()["scope"]) == ("Bearer", "read")
    # A code is good once.
    again = web.post("/oauth/token", json={**application, **grant})
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    wrong = web.post("/oauth/token", json={**application, **grant, "client_secret": "wrong"})
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")

    header = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert web.get("/api/v1/accounts/verify_credentials", headers=header).json()["username"] == "owner"
    revoked = web.post("/oauth/revoke", json={**application, "token": answer.json()["access_token"]})
    assert revoked.status_code == 200
    assert web.get("/api/v1/accounts/verify_credentials", headers=header).status_code == 401


def test_password_is_no_grant(web: httpx.Client, password: str) -> None:
    grant = {"grant_type": "password", "username": "owner@database", "password": password}
    answer = web.post("/oauth/token", json={**register(web), **grant})
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def test_application_alone_has_no_account(web: httpx.Client) -> None:
    alone = token(web, register(web), {"grant_type": "client_credentials"})
    answer = web.get("/api/v1/accounts/verify_credentials", headers={"Authorization": f"Bearer {alone}"})
    assert answer.status_code in {403, 422}


def test_limits_are_told_and_kept(web: httpx.Client, key: str) -> None:
    """Per token, and without one per address."""
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-Forwarded-For": "203.0.113.7"}):
        left = [
            int(web.get("/api/v2/instance", headers=headers).headers["x-ratelimit-remaining"])
            for _ in range(2)
        ]
        assert left[0] - left[1] == 1
    answer = web.get("/api/v2/instance", headers={"X-Forwarded-For": "203.0.113.8"})
    assert answer.headers["x-ratelimit-limit"] == "300"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", answer.headers["x-ratelimit-reset"])

    last = [
        web.post("/api/v1/apps", json={}, headers={"X-Forwarded-For": "203.0.113.9"}).status_code
        for _ in range(6)
    ]
    assert last == [422] * 5 + [429]


# -- Sidekiq --------------------------------------------------------------------------------------------


def test_sidekiq_says_what_it_does_and_ends_in_two_steps(ready: World) -> None:
    ready.database.exec_run(["valkey-cli", "del", "processes"])
    container = ready.start(NEW, "bundle exec sidekiq -c 3")

    def log() -> str:
        return str(container.logs().decode())

    ready_file = "test -e tmp/sidekiq_process_has_started_and_will_begin_processing_jobs"
    until(lambda: container.exec_run(ready_file)[0] == 0, log)
    until(lambda: len(processes(ready)) == 1, log)
    (process,) = processes(ready)
    # Without -q those of config/sidekiq.yml, of which one starts the scheduled jobs.
    assert sorted(set(process["queues"])) == sorted(QUEUES)
    assert process["tag"] == "mastodon"
    assert re.fullmatch(r"sidekiq [\d.]+ mastodon \[0 of 3 busy\]", title(container, "sidekiq"))
    until(lambda: "Schedules Loaded" in log(), log)

    # TSTP: it takes nothing new, and stays.
    container.exec_run(["sh", "-c", "kill -TSTP $(pgrep --oldest --full '^sidekiq ')"])
    until(lambda: title(container, "sidekiq").endswith("stopping"), lambda: title(container, "sidekiq"))
    container.kill("TERM")
    assert container.wait(timeout=60)["StatusCode"] == 0
    assert processes(ready) == []


def test_only_who_listens_to_scheduler_schedules(ready: World) -> None:
    container = ready.sidekiq(NEW, "default", "push", "ingress", "mailers", "pull", "fasp")
    assert "Scheduling" not in container.logs().decode()
    until(lambda: len(processes(ready)) == 1)
    assert sorted(processes(ready)[0]["queues"]) == sorted(set(QUEUES) - {"scheduler"})
    ready.started.remove(container)
    container.remove(force=True, v=True)
    ready.database.exec_run(["valkey-cli", "del", "processes"])


def test_mail_waits_in_its_queue(ready: World) -> None:
    created = ready.run(NEW, "tootctl accounts create fresh --email fresh@database --approve")
    assert created.code == 0, created.output
    assert "OK" in created.stdout.splitlines()
    length = ready.database.exec_run(["valkey-cli", "llen", "queue:mailers"])[1]
    assert int(length.split()[-1]) >= 1
    ready.sidekiq(NEW, "mailers")

    def mail() -> bytes:
        read = ["sh", "-c", "cat /var/lib/postgresql/mail/new/* 2>/dev/null"]
        return bytes(ready.database.exec_run(read)[1])

    until(lambda: b"confirmation_token=" in mail())
    link = re.search(rb"https://social\.test(/auth/confirmation\?confirmation_token=[\w-]+)", mail())
    assert link
    ready.started.pop().remove(force=True, v=True)


# -- streaming ------------------------------------------------------------------------------------------


def test_post_reaches_listeners_through_a_worker(ready: World, web: httpx.Client, key: str) -> None:
    ready.sidekiq(NEW, "default", "push", "ingress", "mailers", "pull", "fasp")
    streaming = ready.start(NEW, None, "mastodon-streaming")
    base = f"{ready.address(streaming)}:4000"
    until(lambda: b"now listening" in streaming.logs(), lambda: streaming.logs().decode())
    assert httpx.get(f"http://{base}/api/v1/streaming/health").text == "OK"
    url = f"ws://{base}/api/v1/streaming"

    with pytest.raises(InvalidStatus) as refused:
        connect(f"{url}?stream=public&access_token=wrong", proxy=None)
    assert refused.value.response.status_code == 401

    events = httpx.stream(
        "GET",
        f"http://{base}/api/v1/streaming/public",
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )
    with connect(f"{url}?stream=public", subprotocols=[key], proxy=None) as socket, events as stream:  # type: ignore[list-item]
        assert socket.subprotocol == key
        socket.send(json.dumps({"type": "subscribe", "stream": "nothing"}))
        assert json.loads(socket.recv(timeout=20)) == {"error": "Unknown stream type", "status": 400}
        socket.send(json.dumps({"type": "subscribe", "stream": "hashtag", "tag": "Lab"}))
        metrics = httpx.get(f"http://{base}/metrics").text
        assert 'connected_clients{type="websocket"} 1' in metrics
        assert 'connected_clients{type="eventsource"} 1' in metrics
        for name in ("redis_subscriptions", "redis_messages_received_total", "process_resident_memory_bytes"):
            assert re.search(rf"^{name} \d", metrics, re.M)

        status = post(web, key, "to all #lab").raise_for_status().json()
        streams: set[tuple[str, ...]] = set()
        while len(streams) < 2:
            message = json.loads(socket.recv(timeout=60))
            if message["event"] == "update":
                assert json.loads(message["payload"])["id"] == status["id"]
                streams.add(tuple(message["stream"]))
        assert streams == {("public",), ("hashtag", "Lab")}

        lines = (line for line in stream.iter_lines() if line and not line.startswith(":"))
        assert next(lines) == "event: update"
        assert json.loads(next(lines).removeprefix("data: "))["id"] == status["id"]

    streaming.kill("TERM")
    streaming.wait(timeout=20)

"""People and programs use the instance, through the load balancer, with TLS verified."""

from __future__ import annotations

import json
import re
import secrets
import socket
import ssl
import time
from dataclasses import dataclass

import httpx
import pytest

from lab.instance import Instance, streamed
from tests.media import picture, size, stored

from .conftest import DOMAIN, HOSTS, WORKERS, TestLab, jobs, served_by, until


@dataclass(frozen=True)
class Account:
    name: str
    email: str
    password: str
    token: str


@pytest.fixture(scope="module")
def account(converged: TestLab, instance: Instance) -> Account:
    name = f"reader_{secrets.token_hex(4)}"
    email = f"{name}@{DOMAIN}"
    created = converged.ssh(
        "vmst-exec", f"tootctl accounts create {name} --email {email} --confirmed --approve"
    ).must_succeed()
    password = re.search(r"New password: (\S+)", created.output)
    assert password, created.output
    return Account(name, email, password[1], instance.log_in(email, password[1]))


def test_certificate_is_the_instances(instance: Instance, converged: TestLab) -> None:
    context = ssl.create_default_context(cafile=str(converged.settings.ca))
    with (
        socket.create_connection((instance.address, 443), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=DOMAIN) as tls,
    ):
        assert tls.version() in {"TLSv1.2", "TLSv1.3"}


def test_http_is_redirected_to_https(instance: Instance) -> None:
    answer = httpx.get(f"http://{instance.address}/about", headers={"Host": DOMAIN}, follow_redirects=False)
    assert answer.status_code in {301, 308}
    assert answer.headers["location"] == f"https://{DOMAIN}/about"


def test_reports_the_version_of_the_settings(instance: Instance, converged: TestLab) -> None:
    shown = converged.ssh("vmst-exec", "tootctl version").must_succeed().output.strip()
    assert instance.version() == shown.splitlines()[-1]


def test_tootctl_from_the_controller(instance: Instance, converged: TestLab) -> None:
    shown = converged.playbook("tootctl", "-e", "command=version").must_succeed()
    assert instance.version() in shown.output
    refused = converged.playbook("tootctl", "-e", 'command="accounts modify nobody_at_all --approve"')
    assert refused.code != 0
    assert "No user with such username" in refused.output


def test_post_with_a_picture(instance: Instance, account: Account, converged: TestLab) -> None:
    width, height = 20 + secrets.randbelow(80), 20 + secrets.randbelow(80)
    content, since = picture(width, height), time.time()
    with instance.stream(account.token) as stream:
        media = instance.upload(account.token, "pixel.png", content)
        text = f"hello {secrets.token_hex(8)}"
        status = instance.post(account.token, text, [media["id"]])
        assert text in streamed(stream, status["id"])["content"]

    assert status["id"] in [entry["id"] for entry in instance.public_timeline(account.token)]
    assert size(stored(converged.settings, media["url"])) == (width, height)

    # Its background job ran on a worker.
    def ran_on() -> set[str]:
        return {host for host in HOSTS if "DistributionWorker" in jobs(converged, host, since)}

    until(lambda: bool(ran_on()), 30)
    assert ran_on() <= set(WORKERS)


def test_only_exec_schedules(converged: TestLab) -> None:
    def schedulers() -> list[str]:
        """The host of each Sidekiq that takes jobs of the queue `scheduler`."""
        names = converged.valkey("SMEMBERS", "processes")
        found = [converged.valkey("HGET", name, "info") for name in names]
        processes = [json.loads(info[0]) for info in found if info and info[0]]
        return [process["hostname"] for process in processes if "scheduler" in process["queues"]]

    # One that ended without a word is in the list for a minute more.
    until(lambda: schedulers() == ["vmst-exec"], 90)

    def scheduled(host: str) -> set[str]:
        return {job for job in jobs(converged, host) if job.startswith("Scheduler::")}

    # Mastodon's own schedule has one every minute, and several every five.
    until(lambda: bool(scheduled("vmst-exec")), 330, pause=5)
    assert [worker for worker in WORKERS if scheduled(worker)] == []


def test_confirmation_mail_arrives(converged: TestLab) -> None:
    name = f"new_{secrets.token_hex(4)}"
    converged.ssh("vmst-exec", f"tootctl accounts create {name} --email {name}@{DOMAIN}").must_succeed()
    tls = ssl.create_default_context(cafile=str(converged.settings.ca))
    with httpx.Client(base_url=f"https://{converged.settings.address('mail')}", verify=tls) as mailbox:
        until(lambda: bool(mailbox.get("/mails", params={"to": f"{name}@{DOMAIN}"}).json()), 60)
        mail = mailbox.get("/mails", params={"to": f"{name}@{DOMAIN}"}).json()[0]
    assert "confirm" in json.dumps(mail).lower()


def test_client_address_is_the_clients(instance: Instance, account: Account, converged: TestLab) -> None:
    """Not the load balancer's and not nginx's: rate limits and bans need it."""
    logins = converged.sql(
        "select distinct host(ip) from login_activities"
        f" where user_id = (select id from users where email = '{account.email}')"
    )
    assert logins == [str(next(converged.settings.public.hosts()))]  # this machine, on that network


def test_protocol_is_the_clients(instance: Instance) -> None:
    """Who has to log in first is sent to an address with https."""
    answer = instance.request("GET", "/oauth/authorize")
    assert answer.is_redirect
    assert answer.headers["location"] == f"https://{DOMAIN}/auth/sign_in"


def test_every_worker_serves(converged: TestLab, instance: Instance) -> None:
    until(lambda: served_by(converged, instance.address) == set(WORKERS), 60)


def test_nothing_fails_under_load(converged: TestLab) -> None:
    done = converged("load", "--seconds", "5", "--users", "1", "--streams", "2").must_succeed()
    report = json.loads(done.output[done.output.index("{") :])
    assert report["assets"]["asked"] > report["pages"]["asked"] >= 5
    assert report["streams"]["brought"] == 2 * report["statuses"]["asked"] == 2

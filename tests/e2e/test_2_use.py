"""People and programs use the instance, through the load balancer, with TLS verified."""

from __future__ import annotations

import json
import re
import secrets
import socket
import ssl
from dataclasses import dataclass

import httpx
import pytest

from lab.instance import Instance, next_event
from tests.media import picture, stored

from .conftest import DOMAIN, WORKERS, TestLab, until


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
    content = picture()
    with instance.stream(account.token) as websocket:
        media = instance.upload(account.token, "pixel.png", content)
        text = f"hello {secrets.token_hex(8)}"
        status = instance.post(account.token, text, [media["id"]])
        streamed = next_event(websocket, "update")

    assert streamed["id"] == status["id"]
    assert text in streamed["content"]
    assert status["id"] in [entry["id"] for entry in instance.public_timeline()]
    assert stored(converged.settings, media["url"]) == content

    # Its background jobs ran on a worker.
    def runs() -> list[dict[str, str]]:
        path = f"/api/v1/standin/job_runs?status_id={status['id']}"
        found: list[dict[str, str]] = instance.request("GET", path).raise_for_status().json()
        return found

    until(lambda: {run["job"] for run in runs()} >= {"DistributionWorker", "DeliveryWorker"}, 30)
    assert {run["hostname"] for run in runs()} <= set(WORKERS)


def test_only_exec_schedules(instance: Instance) -> None:
    schedulers = instance.request("GET", "/api/v1/standin/schedulers").raise_for_status().json()
    assert {scheduler["origin"].split(":")[0] for scheduler in schedulers} == {"vmst-exec"}
    runs = instance.request("GET", "/api/v1/standin/job_runs?queue=scheduler").raise_for_status().json()
    assert {run["hostname"] for run in runs} == {"vmst-exec"}


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
    seen = instance.request("GET", "/api/v1/standin/session", token=account.token).raise_for_status().json()
    assert seen["remote_ip"] == str(next(converged.settings.public.hosts()))  # this machine, on that network
    assert seen["protocol"] == "https"


def test_every_worker_serves(converged: TestLab, instance: Instance, account: Account) -> None:
    def host() -> str:
        # A connection of its own: the load balancer chooses by connection.
        with Instance(DOMAIN, instance.address, converged.settings.ca) as visitor:
            answer = visitor.request("GET", "/api/v1/standin/session", token=account.token)
        return str(answer.raise_for_status().json()["process"].split(":")[0])

    until(lambda: {host() for _ in range(12)} == set(WORKERS), 60)

"""The plugins, as processes, through Prism to the emulators. `scripts/prism-check` sees to what this needs.

plugin --https--> a small TLS front --> Prism, which refuses what breaks the document --> emulator

Usage: prism_check.py DOCUMENTS PRISM
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from lab.emulators import cloudflare, digitalocean, sendgrid
from lab.emulators.common import grant
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import eventually, running
from lab.pki import Authority, Certificate

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "prism-check"  # noqa: S105  (of emulators that live as long as this program)
START_SECONDS = 60


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def prism(program: Path, document: Path, upstream: str, log: Path) -> Iterator[int]:
    """Prism as a proxy before `upstream`; gives its port. Every call and answer is checked."""
    port = free_port()
    command = [str(program), "proxy", "--errors", "--validate-request", "--host", "127.0.0.1"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), str(document), upstream], stdout=output, stderr=subprocess.STDOUT
        )
    try:

        def listens() -> bool:
            if process.poll() is not None:
                raise SystemExit(f"Prism did not start on {document.name}:\n{log.read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            return False

        eventually(listens, START_SECONDS)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextlib.contextmanager
def tls_front(port: int, certificate: Certificate) -> Iterator[str]:
    """https before `port`: the plugins send no token in clear, and Prism speaks no TLS. Gives the URL."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.certificate, certificate.key)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, back_writer), copy(back_reader, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)


def ansible(*command: str | Path) -> str:
    """The output of an Ansible program. Ends this one with that output if it fails."""
    environment = {**os.environ, "NO_COLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false"}
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}\nPrism or a plugin refused something (above).")
    return done.stdout


WRONG = {
    "digitalocean": ("GET", "/v2/droplets?per_page=500", None),
    "cloudflare": ("POST", "/zones/0/dns_records", {"type": "A", "name": "a.test", "content": "b", "ttl": 1}),
    "sendgrid": ("PATCH", "/v3/tracking_settings/click", {"enabled": "no"}),
}
"""A call to each API that its document forbids."""


def refuses(urls: dict[str, str], ca: Path) -> None:
    """Prism stands in between, and does refuse."""
    trust = ssl.create_default_context(cafile=str(ca))
    for vendor, (method, path, body) in WRONG.items():
        headers = {"authorization": f"Bearer {TOKEN}"}
        answer = httpx.request(method, urls[vendor] + path, json=body, headers=headers, verify=trust)
        assert answer.status_code == 422, (vendor, answer.status_code, answer.text)
    print("what a document forbids is refused: ok")


def check(urls: dict[str, str], emulators: dict[str, str], ca: Path, folder: Path) -> None:
    """The inventory, every module that calls an API; the playbooks dns and mail, then again, when idle."""
    ocean = httpx.Client(
        base_url=emulators["digitalocean"], headers={"authorization": f"Bearer {TOKEN}"}, timeout=60
    )
    rule = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
    balancer = {"name": "vmst-lb", "region": "nyc3", "tag": "vmst-lb", "forwarding_rules": [rule]}
    droplet = {
        "name": "vmst-worker-1",
        "region": "nyc3",
        "size": "s-1vcpu-1gb",
        "image": "debian-13-x64",
        "tags": ["vmst-worker", "vmst-lb"],
    }
    ocean.post("/v2/tags", json={"name": "vmst-lb"}).raise_for_status()
    ocean.post("/v2/load_balancers", json=balancer).raise_for_status()
    made: dict[str, Any] = ocean.post("/v2/droplets", json=droplet).raise_for_status().json()["droplet"]
    eventually(
        lambda: ocean.get(f"/v2/droplets/{made['id']}").json()["droplet"]["status"] == "active", START_SECONDS
    )
    eventually(lambda: ocean.get("/v2/load_balancers").json()["load_balancers"][0]["ip"], START_SECONDS)

    inventory = folder / "digitalocean.yml"
    source = {
        "plugin": "vmstio.mastodon.droplets",
        "instance": "vmst",
        "api_token": TOKEN,
        "endpoint": urls["digitalocean"],
        "ca_file": str(ca),
    }
    inventory.write_text(json.dumps(source))
    listed = json.loads(ansible("ansible-inventory", "-i", inventory, "--list"))
    assert listed["worker"]["hosts"] == ["vmst-worker-1"], listed
    print("inventory: ok")

    variables = folder / "variables.json"
    settings: dict[str, Any] = {
        "mastodon_instance": "vmst",
        "mastodon_local_domain": "social.test",
        "dns_zone": "social.test",
        "dns_aliases": {"files": "cdn.example.net"},
        "dns_caa": ["letsencrypt.org"],
        "dns_records": [
            {"type": "MX", "content": "mx.example.net", "priority": 10},
            {"type": "TXT", "content": "v=spf1 -all", "comment": "mail"},
            {"name": "_imaps._tcp", "type": "SRV", "content": "0 5 993 mx.example.net"},
        ],
        "dns_proxied": True,
        "mail_domain": "social.test",
        "mail_dmarc": "v=DMARC1; p=quarantine",
    }
    for prefix, token, vendor in (
        ("dns", "api_token", "cloudflare"),
        ("dns_digitalocean", "token", "digitalocean"),
        ("mail", "api_key", "sendgrid"),
    ):
        settings |= {
            f"{prefix}_{token}": TOKEN,
            f"{prefix}_endpoint": urls[vendor],
            f"{prefix}_ca_file": str(ca),
        }
    variables.write_text(json.dumps(settings))
    droplets = folder / "droplets.yml"
    client = {"api_token": TOKEN, "endpoint": urls["digitalocean"], "ca_file": str(ca)}
    member = {"load_balancer": "vmst-lb", "droplet_id": made["id"], "wait_interval": 0.1, **client}
    rebuild = {"id": made["id"], "image": "debian-13-x64", "wait_interval": 0.2, **client}
    tasks = [
        {"vmstio.mastodon.load_balancer_members": {**member, "state": "absent", "keep": 0}},
        {"vmstio.mastodon.droplet_rebuild": rebuild},
        {"vmstio.mastodon.load_balancer_members": member},
    ]
    droplets.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    ansible("ansible-playbook", "-i", inventory, droplets)
    print("load_balancer_members, droplet_rebuild: ok")

    command = ("ansible-playbook", "-i", inventory, "-e", f"@{variables}")
    # First without a zone: the domain is made, and its records are known before anybody looks for them.
    ansible(*command, "-e", "dns_zone=", "playbooks/mail.yml")
    answer = httpx.get(
        f"{emulators['sendgrid']}/v3/whitelabel/domains", headers={"authorization": f"Bearer {TOKEN}"}
    )
    records = {record["host"]: record["data"] for record in answer.json()[0]["dns"].values()}
    httpx.put(f"{emulators['sendgrid']}/_lab/dns", json=records).raise_for_status()
    ansible(*command, "playbooks/dns.yml", "playbooks/mail.yml")
    zone = httpx.get(f"{emulators['cloudflare']}/_lab/zone/social.test").json()
    assert {"A", "CNAME", "CAA", "MX", "TXT", "SRV"} <= {record["type"] for record in zone}, zone
    print("cloudflare_dns, cloudflare_zone_settings, sendgrid_tracking, sendgrid_domain: ok")
    again = ansible(*command, "playbooks/dns.yml", "playbooks/mail.yml")
    assert re.search(r"^localhost .* changed=0 ", again, re.MULTILINE), again
    print("a second run changes nothing: ok")


def main() -> None:
    documents, program = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    started = time.monotonic()
    tokens = grant(TOKEN)
    apps: dict[str, tuple[Starlette, str, str]] = {
        "digitalocean": (
            digitalocean.create_app(MemoryCloud(), tokens=tokens, contract="off"),
            "digitalocean-fixed.json",
            "",
        ),
        "cloudflare": (
            cloudflare.create_app(tokens=tokens, zones=["social.test"], contract="off"),
            "cloudflare-fixed.json",
            cloudflare.PREFIX,
        ),
        "sendgrid": (sendgrid.create_app(tokens=tokens, contract="off"), "sendgrid.json", ""),
    }
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        authority = Authority.open(folder / "pki", "prism-check")
        certificate = authority.issue("api", ["localhost"], ["127.0.0.1"])
        emulators, urls = {}, {}
        for vendor, (app, document, prefix) in apps.items():
            emulators[vendor] = stack.enter_context(running(app))
            port = stack.enter_context(
                prism(program, documents / document, emulators[vendor] + prefix, folder / f"{vendor}.log")
            )
            urls[vendor] = stack.enter_context(tls_front(port, certificate))
        refuses(urls, authority.file)
        check(urls, emulators, authority.file, folder)
    print(f"Prism found nothing wrong ({time.monotonic() - started:.0f} s).")


if __name__ == "__main__":
    main()

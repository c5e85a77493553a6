"""The emulators as programs, as the lab runs them: TLS, token file, signals, a kill and a restart."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lab.config import REPOSITORY
from lab.emulators.testing import eventually
from lab.pki import Authority

NAMES = ("digitalocean", "cloudflare", "sendgrid")
START_SECONDS = 60
"""Long for a busy machine; it takes about one."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run an emulator that is expected to end by itself."""
    return subprocess.run(
        command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=START_SECONDS
    )


@contextlib.contextmanager
def program(
    name: str, directory: Path, *more: str, stop: signal.Signals = signal.SIGTERM
) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A client of an emulator that runs as a process of its own."""
    authority = Authority.open(directory / "pki", "test")
    pair = authority.issue("api", ["localhost"], ["127.0.0.1"])
    (directory / "tokens").write_text("full\n")
    port = free_port()
    command = [sys.executable, "-m", f"lab.emulators.{name}", "--listen", f"127.0.0.1:{port}"]
    command += ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), "--contract", "off"]
    command += ["--token-file", str(directory / "tokens"), "--state", str(directory / "state"), *more]
    if name == "digitalocean":
        command += ["--cloud", "memory"]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    trust = ssl.create_default_context(cafile=str(authority.file))
    headers = {"authorization": "Bearer full"}
    base = f"https://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, verify=trust, headers=headers, trust_env=False) as client:

            def healthy() -> bool:
                assert process.poll() is None, "the emulator ended"
                try:
                    return client.get("/_lab/health").status_code == 200
                except httpx.TransportError:
                    return False

            eventually(healthy, START_SECONDS)
            yield client, process
    finally:
        process.send_signal(stop)
        process.wait(timeout=START_SECONDS)


@pytest.mark.parametrize("name", NAMES)
def test_it_serves_tls_and_ends_on_a_signal(name: str, tmp_path: Path) -> None:
    path = {"digitalocean": "/v2/account", "cloudflare": "/client/v4/zones", "sendgrid": "/v3/scopes"}[name]
    with program(name, tmp_path) as (client, process):
        assert client.get(path).status_code == 200
        assert client.get(path, headers={"authorization": "Bearer nope"}).status_code in (401, 403)
    assert process.returncode in (0, -signal.SIGTERM)


def test_an_action_survives_a_kill(tmp_path: Path) -> None:
    body = {"name": "w1", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-13-x64"}
    hour = ("--action-seconds", "3600")
    with program("digitalocean", tmp_path, *hour, stop=signal.SIGKILL) as (client, _process):
        made = client.post("/v2/droplets", json=body).json()
    action = f"/v2/actions/{made['links']['actions'][0]['id']}"
    with program("digitalocean", tmp_path, "--action-seconds", "0") as (client, _process):
        eventually(lambda: client.get(action).json()["action"]["status"] == "completed")
        droplet = client.get(f"/v2/droplets/{made['droplet']['id']}").json()["droplet"]
        assert droplet["status"] == "active"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tokens", "says"), [(None, "No such file"), ("# none\n", "no token")])
def test_it_does_not_start_without_a_token(name: str, tokens: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    if tokens is not None:
        path.write_text(tokens)
    command = [sys.executable, "-m", f"lab.emulators.{name}", "--token-file", str(path)]
    if name == "digitalocean":
        command += ["--cloud", "memory"]
    ended = run(command)
    assert ended.returncode != 0
    assert says in ended.stderr
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", [("--rate-limit", "lots"), ("--contract", "maybe"), ("--cloud", "aws")])
def test_a_wrong_option_is_named(option: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("full\n")
    command = [sys.executable, "-m", "lab.emulators.digitalocean", "--cloud", "memory"]
    command += ["--token-file", str(tmp_path / "tokens"), *option]
    ended = run(command)
    assert ended.returncode == 2
    assert option[0] in ended.stderr

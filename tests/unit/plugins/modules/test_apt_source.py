"""Module apt_source: the key is the one that is wanted, or nothing is written."""

from __future__ import annotations

import base64
import importlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins.tasks import PACKAGE

ROOT = Path(__file__).resolve().parents[4]
THREE = (ROOT / "lab" / "services" / "debian-trixie.gpg").read_bytes()
"""Keys of Debian 13's archive."""
PRINTS = [
    "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
    "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
    "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
]
"""As `gpg --show-keys` has them."""

openpgp = importlib.import_module(f"{PACKAGE}.module_utils._openpgp")


def first_key() -> bytes:
    """The first of the keys, with its user, subkeys and signatures."""
    at = 0
    while True:
        _, _, at = openpgp._packet(THREE, at)
        if openpgp._packet(THREE, at)[0] == openpgp.PUBLIC_KEY:
            return THREE[:at]


ONE = first_key()
WANTED = " ".join(PRINTS[0][i : i + 4] for i in range(0, 40, 4)).lower()


def armored(content: bytes, header: str = "Comment: x\n", ending: str = "\n") -> bytes:
    body = base64.encodebytes(content).decode()
    text = (
        f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{header}\n{body}=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"
    )
    return text.replace("\n", ending).encode()


class Vendor(ThreadingHTTPServer):
    content: bytes | None = ONE
    asked = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Vendor)
        server.asked += 1
        self.send_response(200 if server.content is not None else 404)
        self.end_headers()
        self.wfile.write(server.content or b"")

    def log_message(self, *arguments: Any) -> None:
        pass


class Host:
    """A host's /etc/apt, a vendor's server, and the module between them."""

    def __init__(self, apt: Path, vendor: Vendor, run: Any) -> None:
        self.apt, self.vendor, self._run = apt, vendor, run

    def run(self, *, check: bool = False, **more: Any) -> dict[str, Any]:
        arguments = {
            "name": "vendor",
            "uri": "https://packages.example.org/debian",
            "suite": "trixie",
            "component": "stable",
            "key_url": f"http://127.0.0.1:{self.vendor.server_port}/key",
            "fingerprint": WANTED,
        }
        result: dict[str, Any] = self._run("apt_source", {**arguments, **more}, check=check, token=None)
        return result

    @property
    def files(self) -> set[str]:
        return {str(path.relative_to(self.apt)) for path in self.apt.rglob("*") if path.is_file()}


ALL = {"keyrings/vendor.gpg", "sources.list.d/vendor.sources", "apt.conf.d/60vmstio-vendor"}


@pytest.fixture
def host(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    module = importlib.import_module(f"{PACKAGE}.modules.apt_source")
    monkeypatch.setattr(module, "APT", tmp_path)
    monkeypatch.setattr(module, "OWNER", (os.getuid(), os.getgid()))
    for name in ("sources.list.d", "apt.conf.d"):
        (tmp_path / name).mkdir()
    with Vendor(("127.0.0.1", 0), Handler) as vendor:
        threading.Thread(target=vendor.serve_forever, daemon=True).start()
        yield Host(tmp_path, vendor, run)
        vendor.shutdown()


def test_adds_the_source_once(host: Host) -> None:
    planned = host.run(check=True)
    assert planned["changed"]
    assert not host.files
    assert not host.vendor.asked
    done = host.run()
    assert done == planned
    assert host.files == ALL
    key = host.apt / "keyrings" / "vendor.gpg"
    assert key.read_bytes() == ONE
    assert key.stat().st_mode & 0o777 == 0o644
    assert f"Signed-By: {key}" in (host.apt / "sources.list.d" / "vendor.sources").read_text().splitlines()
    upgrades = (host.apt / "apt.conf.d" / "60vmstio-vendor").read_text()
    assert upgrades == 'Unattended-Upgrade::Origins-Pattern:: "site=packages.example.org";\n'
    asked = host.vendor.asked
    host.vendor.content = None
    again = host.run()
    assert not again["changed"]
    assert host.vendor.asked == asked


@pytest.mark.parametrize(
    "content",
    [armored(ONE), armored(ONE, header=""), armored(ONE, ending="\r\n")],
    ids=["armored", "without a header", "other line ends"],
)
def test_armor_is_taken_off(host: Host, content: bytes) -> None:
    host.vendor.content = content
    host.run()
    assert (host.apt / "keyrings" / "vendor.gpg").read_bytes() == ONE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (THREE, f"{PRINTS[0]} and {PRINTS[1]} and {PRINTS[2]}, and {PRINTS[0]} is wanted"),
        (THREE[len(ONE) :], f"the key there is {PRINTS[1]} and"),
        (armored(ONE) + armored(THREE[len(ONE) :]), f"{PRINTS[0]} and {PRINTS[1]}"),
        (ONE[:-10], "it is cut off"),
        (ONE[:1], "it is cut off"),
        (b"<html>", "it is no OpenPGP file"),
        (b"", "it holds no public key"),
        (armored(ONE).replace(b"\n=", b"\xff\n="), "its armor is damaged"),
        (None, "the key cannot be fetched: HTTP Error 404"),
    ],
    ids=["more keys", "another", "two armors", "cut", "cut early", "a page", "empty", "damaged", "no answer"],
)
def test_another_key_is_refused(host: Host, content: bytes | None, said: str) -> None:
    host.vendor.content = content
    result = host.run()
    assert result["failed"]
    assert said in result["msg"]
    assert not host.files


def test_a_key_that_was_changed_is_replaced(host: Host) -> None:
    host.run()
    key = host.apt / "keyrings" / "vendor.gpg"
    key.write_bytes(THREE)
    assert host.run()["changed_paths"] == [str(key)]
    assert key.read_bytes() == ONE


def test_is_removed(host: Host) -> None:
    host.run()
    assert host.run(state="absent", check=True)["changed"]
    assert host.files == ALL
    assert len(host.run(state="absent")["changed_paths"]) == len(ALL)
    assert not host.files
    assert not host.run(state="absent")["changed"]


def test_fingerprints_are_those_of_gpg() -> None:
    assert openpgp.fingerprints(THREE) == PRINTS
    assert openpgp.fingerprints(armored(THREE)) == PRINTS

"""The lab's passwords, tokens and keys: made once, kept below `.lab/NAME` for their owner's eyes only."""

from __future__ import annotations

import json
import os
import secrets
import string
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

_LETTERS = string.ascii_letters + string.digits


def _text(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


_MAKERS = {
    # in the vendors' shapes
    "digitalocean_token": lambda: f"dop_v1_{secrets.token_hex(32)}",
    "cloudflare_token": lambda: _text(40),
    "sendgrid_token": lambda: f"SG.{_text(22)}.{_text(43)}",
    "spaces_access_key": lambda: f"DO{secrets.token_hex(9).upper()}",
    "spaces_secret_key": lambda: _text(43),
    "influxdb_admin_password": lambda: _text(24),
    "influxdb_telegraf_password": lambda: _text(24),
}


def load(state: Path) -> dict[str, str]:
    """The lab's secrets by name; those that are missing are made. The file is `secrets.json`, 0600.

    Raises ValueError for a file that is no JSON object.
    """
    path = state / "secrets.json"
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: remove it, and run `lab down` before `lab up`")
    missing = [name for name in _MAKERS if name not in found]
    if missing:
        found |= {name: _MAKERS[name]() for name in missing}
        write(path, json.dumps(found, indent=2) + "\n")
    return found


def keep(state: Path, name: str, value: str) -> None:
    """Keep a secret that somebody else made."""
    write(state / "secrets.json", json.dumps(load(state) | {name: value}, indent=2) + "\n")


def ssh_key(state: Path) -> tuple[Path, str]:
    """The admin's SSH key: the private key's file and the public key's line."""
    path = state / "ssh" / "id_ed25519"
    if not path.exists():
        made = ed25519.Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        write(path, pem.decode())
    key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = f"{line.decode()} lab\n"
    write(path.with_name("id_ed25519.pub"), public)
    return path, public.strip()


def write(path: Path, text: str, mode: int = 0o600) -> bool:
    """Write a file whole and, before anything is in it, with `mode`. False when it held this already."""
    if path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    beside.chmod(mode)
    beside.replace(path)
    return True

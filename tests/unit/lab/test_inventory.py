from __future__ import annotations

import ipaddress
import stat
from pathlib import Path

import pytest
import yaml

from lab import inventory, secret
from lab.config import Lab
from lab.pki import Authority
from lab.provision import Database, Provisioned


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(
        "x", ipaddress.IPv4Network("198.51.100.0/24"), ipaddress.IPv4Network("10.118.0.0/20"), tmp_path / "x"
    )


@pytest.fixture
def written(lab: Lab) -> Path:
    authority = Authority.open(lab.state / "pki", "Test CA")
    secrets = secret.load(lab.state)
    key, _ = secret.ssh_key(lab.state)
    made = Provisioned(
        Database("private-vmst-pg.db.lab.internal", 25060, "mastodon", "pg: 'pw'", "PG\nCA\n"),
        Database("private-vmst-valkey.db.lab.internal", 25061, "default", "vk", authority.pem),
        "198.51.100.200",
        {},
    )
    certificate = authority.issue("instance", ["social.test"])
    settings = inventory.variables(lab, secrets, made, certificate, key)
    return inventory.write_inventory(lab, settings, inventory.source(lab, secrets["digitalocean_token"]))


def test_values_survive_yaml(written: Path, lab: Lab) -> None:
    variables = yaml.safe_load((written / "group_vars" / "all" / "lab.yml").read_text())
    assert variables["mastodon_db_password"] == "pg: 'pw'"
    assert variables["mastodon_db_ca"] == "PG\nCA\n"
    assert variables["base_ca_certificates"] == [lab.ca.read_text()]
    assert variables["mastodon_tls_private_key"].startswith("-----BEGIN PRIVATE KEY-----\n")
    source = yaml.safe_load((written / "digitalocean.yml").read_text())
    assert source["endpoint"] == "https://198.51.100.2"
    assert source["plugin"] == "vmstio.mastodon.droplets"


def test_only_the_owner_reads_it(written: Path) -> None:
    for path in written.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_host_keys_are_listed_under_both_addresses() -> None:
    text = inventory.known_hosts(
        {"198.51.100.20,10.118.0.20": ["ssh-rsa BBBB root@x\n", "ssh-ed25519 AAAA root@x\n"]}
    )
    assert text == "198.51.100.20,10.118.0.20 ssh-ed25519 AAAA\n198.51.100.20,10.118.0.20 ssh-rsa BBBB\n"


def test_secrets_are_made_once_and_completed(tmp_path: Path) -> None:
    first = secret.load(tmp_path)
    assert secret.load(tmp_path) == first
    path = tmp_path / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text('{"sendgrid_token": "mine"}')
    again = secret.load(tmp_path)
    assert again["sendgrid_token"] == "mine"
    assert again.keys() == first.keys()
    path.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        secret.load(tmp_path)


def test_the_ssh_key_is_made_once(tmp_path: Path) -> None:
    path, public = secret.ssh_key(tmp_path)
    assert public.startswith("ssh-ed25519 ")
    assert secret.ssh_key(tmp_path) == (path, public)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_write_says_whether_it_changed_something(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert secret.write(path, "x")
    assert not secret.write(path, "x")
    path.chmod(0o644)
    assert secret.write(path, "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

"""What exec does with every setting turned the other way."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.config import Lab
from lab.emulators.cloudflare import CDN_ADDRESSES
from tests.exposure import exposure

LAB = Lab.load(os.environ.get("LAB_NAME", "test"))
Shell = Callable[..., str]
CURRENT = "/etc/mastodon/share/current"
UNITS = ("mastodon-sidekiq@scheduler.service", "mastodon-sidekiq@general.service")


@pytest.fixture(name="shell")
def _shell(host: Any) -> Shell:
    """Runs a command as root, returns what it prints; where it fails, says so with the end of the journal."""

    def run(command: str, *arguments: str) -> str:
        result = host.run(command, *arguments)
        if result.rc:
            journal = host.run("journalctl --no-pager --lines=60 --output=short").stdout
            pytest.fail(f"{command}: exit code {result.rc}\n{result.stderr}{result.stdout}\n{journal}")
        return str(result.stdout).strip()

    return run


def environment(shell: Shell, unit: str) -> dict[str, str]:
    pid = shell("systemctl show --value --property=MainPID %s", unit)
    return dict(pair.split("=", 1) for pair in shell(f"cat /proc/{pid}/environ").split("\0") if pair)


def test_sidekiq_speaks_tls_to_redis_by_itself(host: Any, shell: Shell) -> None:
    for unit in UNITS:
        assert host.service(unit).is_running
        found = environment(shell, unit)
        assert found["REDIS_URL"].startswith("rediss://")
        assert found["REDIS_DRIVER"] == "ruby"
        assert "REDIS_HOST" not in found
    assert not host.service("mastodon-redis-tunnel").is_running
    assert "tcp://127.0.0.1:6379" not in host.socket.get_listening_sockets()


def test_the_authority_of_redis_is_in_the_bundle(host: Any, variables_of: dict[str, Any]) -> None:
    bundle = host.file(f"{CURRENT}/ca-bundle.pem").content_string
    assert variables_of["mastodon_redis_ca"].strip() in bundle
    assert bundle.count("BEGIN CERTIFICATE") > 100


@pytest.fixture(name="variables_of")
def _variables_of(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


def test_each_process_has_its_queues_and_its_pool(shell: Shell) -> None:
    each = "[process['concurrency'], process['queues']]"
    code = f"require 'sidekiq/api'; puts Sidekiq::ProcessSet.new.map {{ |process| {each} }}.to_json"
    found = json.loads(shell("mastodon-run bin/rails runner %s", code).splitlines()[-1])
    assert {concurrency: sorted(set(queues)) for concurrency, queues in found} == {
        2: ["scheduler"],
        8: ["default", "fasp", "ingress", "mailers", "pull", "push"],
    }
    assert environment(shell, UNITS[1])["DB_POOL"] == "8"


def test_memory_is_limited(shell: Shell) -> None:
    assert shell("systemctl show --value --property=MemoryMax %s", UNITS[0]) == str(700 * 1024 * 1024)


def test_given_secrets_are_used_and_the_others_made(host: Any) -> None:
    kept = json.loads(host.file("/etc/mastodon/secrets.json").content_string)
    folder = LAB.state / "flipped"
    assert kept["secret_key_base"] == (folder / "secret_key_base").read_text().strip()
    assert kept["active_record_encryption_primary_key"] == (folder / "primary").read_text().strip()
    assert re.fullmatch(r"[A-Za-z0-9_-]{87}=", kept["vapid_public_key"])
    for kind in ("web", "sidekiq"):
        text = host.file(f"{CURRENT}/{kind}.env").content_string
        assert f"SECRET_KEY_BASE={kept['secret_key_base']}\n" in text
    for kind in ("common", "streaming"):
        assert "SECRET_KEY_BASE" not in host.file(f"{CURRENT}/{kind}.env").content_string


def test_the_environment_follows_the_settings(shell: Shell) -> None:
    found = environment(shell, UNITS[0])
    assert found["WEB_DOMAIN"] == "www.social.test"
    assert found["ALTERNATE_DOMAINS"] == "alt.social.test"
    assert found["RAILS_LOG_LEVEL"] == "warn"
    assert found["DB_SSLMODE"] == "verify-ca"
    assert found["ES_PREFIX"] == "", "an empty value that the admin gives is meant"


def test_what_is_not_installed_is_not_preloaded(shell: Shell) -> None:
    assert "LD_PRELOAD" not in environment(shell, UNITS[0])


def test_timers(host: Any) -> None:
    assert host.service("mastodon-statuses-remove.timer").is_running
    assert not host.service("mastodon-media-remove.timer").is_enabled
    assert not host.file("/etc/systemd/system/mastodon-release-check.timer").exists
    assert host.service("mastodon-secrets-copy.timer").is_enabled


def test_only_the_admins_key_opens_the_copy_of_the_secrets(host: Any, shell: Shell) -> None:
    shell("systemctl start mastodon-secrets-copy.service")
    copies = shell("ls /var/backups/secrets").split()
    assert len(copies) == 1
    copy = f"/var/backups/secrets/{copies[0]}"
    assert host.file(copy).mode == 0o600
    assert "BEGIN" not in host.file(copy).content[:20].decode(errors="replace")
    assert exposure(host, "mastodon-secrets-copy.service") <= 3.0
    key = LAB.state / "ssh" / "id_ed25519"
    host.run("install -m 0600 /dev/null /root/key && printf '%%s' %s > /root/key", key.read_text())
    opened = shell("age --decrypt --identity /root/key %s", copy)
    host.run("rm /root/key")
    assert json.loads(opened) == json.loads(host.file("/etc/mastodon/secrets.json").content_string)


def test_the_owners_account_was_made_once(shell: Shell) -> None:
    query = "select count(*) from accounts where username = 'captain' and domain is null"
    assert shell("psql service=mastodon -XAtc %s", query) == "1"
    role = (
        "select r.name from users u join user_roles r on r.id = u.role_id "
        "where u.email = 'captain@mail.lab.internal'"
    )
    assert shell("psql service=mastodon -XAtc %s", role) == "Owner"
    assert json.loads(shell("mastodon-owner captain captain@mail.lab.internal")) == {"changed": False}


def test_firewall(shell: Shell, variables_of: dict[str, Any]) -> None:
    rules = shell("nft list table inet vmstio_base")
    public = ".".join(variables_of["ansible_host"].split(".")[:3]) + ".0/24"
    assert f"ip saddr {public} tcp dport 22 accept" in rules
    assert "ip6 saddr 2001:db8::/32 tcp dport 22 accept" in rules
    visitors = {"ip": [*CDN_ADDRESSES["ipv4"], "203.0.113.16/28"], "ip6": CDN_ADDRESSES["ipv6"]}
    for family, ranges in visitors.items():
        found = re.search(rf"^\s*{family} saddr (.*) tcp dport 8443 accept$", rules, re.MULTILINE)
        assert found, rules
        assert set(re.findall(r"[0-9a-f.:]+/\d+", found[1])) == set(ranges)
    assert "2049" not in rules


def test_base(host: Any, shell: Shell) -> None:
    assert host.package("tree").is_installed
    assert shell("sysctl -n net.core.somaxconn") == "2048"
    settings = shell("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "0";' in settings
    assert r'Unattended-Upgrade::Package-Blacklist:: "docker\.io$";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot-Time "04:30";' in settings
    assert "SystemMaxUse=100M" in shell("systemd-analyze cat-config systemd/journald.conf")


def test_the_share_is_for_the_listed_clients(host: Any, shell: Shell) -> None:
    shell("mastodon-share-access 10.0.0.9")
    assert 'from="10.0.0.9"' in host.file("/var/lib/mastodon-share/.ssh/authorized_keys").content_string
    refused = host.run(
        "! ssh -i /etc/mastodon/share-client-key -o StrictHostKeyChecking=no -o BatchMode=yes"
        " mastodon-share@127.0.0.1"
    )
    assert refused.rc == 0
    assert "Permission denied" in refused.stderr


def test_nothing_secret_stays_in_the_repository() -> None:
    """The values that this scenario makes lie beside the lab's own, which git ignores."""
    root = Path(__file__).resolve().parents[3]
    listed = subprocess.run(
        ["git", "-C", str(root), "status", "--porcelain", "--", ".lab"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.stdout == ""

"""Secrets stay where they belong, and are never made anew over data."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Shell = Callable[..., str]
REPOSITORY = Path(__file__).resolve().parents[3]
EXTRA = {"mastodon_version": "v4.6.0", "mastodon_extra_environment": {"RAILS_LOG_LEVEL": "warn"}}
FILE = "/etc/mastodon/secrets.json"


def leaked(text: str, secrets: dict[str, str]) -> list[str]:
    return [name for name, value in secrets.items() if value in text]


@pytest.fixture(name="lost")
def _lost(shell: Shell) -> Any:
    """The file of the secrets is gone; it comes back."""
    shell("mv", FILE, "/root/secrets.json")
    yield
    shell("mv", "/root/secrets.json", FILE)


@pytest.mark.parametrize("name", [FILE, "/etc/mastodon/release.json"])
def test_only_root_reads_the_file(host: Any, name: str) -> None:
    file = host.file(name)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o600)


def test_nothing_that_others_can_read_holds_a_secret(host: Any, secrets: dict[str, str]) -> None:
    # Patterns on standard input would be cut by testinfra: a file of root's own, which is then excluded.
    patterns = "\n".join(secrets.values())
    host.run("install -m 0600 /dev/null /root/patterns && printf '%%s\\n' %s > /root/patterns", patterns)
    found = host.run(
        "find /etc /opt /srv /var /run /tmp /usr/local -xdev -type f -perm -o=r -size -4M -print0"
        " | xargs -0 grep -lFf /root/patterns"
    )
    host.run("rm /root/patterns")
    readable = []
    for path in found.stdout.split():
        # A file counts only where its directories let others in.
        if host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups cat %s", path).rc == 0:
            readable.append(path)
    assert readable == []


def test_neither_journal_nor_process_list_hold_a_secret(host: Any, secrets: dict[str, str]) -> None:
    assert leaked(host.run("journalctl --no-pager --output=cat").stdout, secrets) == []
    assert leaked(host.run("ps -eo args").stdout, secrets) == []


def test_the_output_of_a_run_holds_no_secret(request: pytest.FixtureRequest, secrets: dict[str, str]) -> None:
    inventory = request.config.getoption("--ansible-inventory")
    result = subprocess.run(
        [
            *("ansible-playbook", "--inventory", inventory, "-vvv", "--diff"),
            *("--extra-vars", json.dumps(EXTRA)),
            str(REPOSITORY / "molecule/exec/converge.yml"),
        ],
        cwd=REPOSITORY,
        env=os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    assert "Publish the share" in result.stdout
    assert leaked(result.stdout + result.stderr, secrets) == []


def test_new_settings_reached_sidekiq(shell: Shell) -> None:
    """The run before published a variable: the process that had started without it was restarted."""
    pid = shell("systemctl", "show", "--value", "--property=MainPID", "mastodon-sidekiq@scheduler.service")
    assert "RAILS_LOG_LEVEL=warn" in shell("cat", f"/proc/{pid}/environ").split("\0")


@pytest.mark.usefixtures("lost")
def test_lost_secrets_are_not_made_anew(host: Any) -> None:
    result = host.run("echo '{}' | mastodon-secrets")
    assert result.rc == 1
    assert "is neither in mastodon_secrets nor in /etc/mastodon/secrets.json" in result.stderr
    assert "Restore the file from the nightly copy" in result.stderr
    assert not host.file(FILE).exists


def test_another_encryption_key_is_refused(host: Any) -> None:
    given = '{"active_record_encryption_primary_key": "' + "x" * 32 + '"}'
    result = host.run("echo %s | mastodon-secrets", given)
    assert result.rc == 1
    assert "is not the key that /etc/mastodon/secrets.json holds" in result.stderr
    assert "x" * 32 not in result.stderr

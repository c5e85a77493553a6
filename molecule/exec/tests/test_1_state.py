"""The effective state of exec after a converge: what systemd, PostgreSQL, sidekiq and the kernel say."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.exposure import exposure

Shell = Callable[..., str]
UNIT = "mastodon-sidekiq@scheduler.service"
CURRENT = "/etc/mastodon/share/current"


def properties(shell: Shell, unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in shell("systemctl", "show", unit).splitlines())


def environment(shell: Shell, unit: str) -> dict[str, str]:
    """What the main process of a unit was started with."""
    pid = properties(shell, unit)["MainPID"]
    pairs = shell("cat", f"/proc/{pid}/environ").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if pair)


def test_the_release_is_complete_and_current(host: Any) -> None:
    link = host.file("/opt/mastodon/current")
    assert link.linked_to == "/opt/mastodon/releases/v4.6.0"
    assert host.file("/opt/mastodon/current/public/assets/.manifest.json").exists
    assert host.file("/opt/mastodon/current/Gemfile").user == "root"
    assert not host.file("/opt/mastodon/current/node_modules").exists


def test_the_user_has_the_numbers_of_the_images(host: Any) -> None:
    user = host.user("mastodon")
    assert (user.uid, user.gid, user.shell) == (991, 991, "/usr/sbin/nologin")


def test_sidekiq_runs_confined(host: Any, shell: Shell) -> None:
    assert host.service(UNIT).is_running
    assert host.service(UNIT).is_enabled
    found = properties(shell, UNIT)
    assert found["User"] == "mastodon"
    assert found["NoNewPrivileges"] == "yes"
    assert found["ProtectSystem"] == "strict"
    assert found.get("CapabilityBoundingSet", "") == ""
    status = shell("cat", f"/proc/{found['MainPID']}/status")
    assert re.search(r"^Uid:\t991\t991\t991\t991$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert exposure(host, UNIT) <= 1.5
    # As in Mastodon's own unit: no signals to others' processes by a namespace of users, calls by groups.
    assert found["PrivateUsers"] == "yes"
    calls = set(found["SystemCallFilter"].split())
    assert {"chown", "fchownat", "pipe", "pipe2"} <= calls
    assert not {"setuid", "memfd_create", "shmget", "add_key", "mount", "ptrace"} & calls


def test_sidekiq_allocates_with_jemalloc(shell: Shell) -> None:
    pid = properties(shell, UNIT)["MainPID"]
    assert "/libjemalloc.so.2" in shell("cat", f"/proc/{pid}/maps")
    assert environment(shell, UNIT)["MALLOC_CONF"].startswith("narenas:2,")


def test_sidekiq_gets_time_for_its_jobs(shell: Shell) -> None:
    found = properties(shell, UNIT)
    assert "TSTP" in found["ExecStop"]
    assert "--timeout 60" in found["ExecStart"]
    assert found["TimeoutStopUSec"] == "1min 10s"


def test_traffic_goes_through_the_pool(shell: Shell, variables: dict[str, Any]) -> None:
    found = environment(shell, UNIT)
    assert found["DB_PORT"] == str(variables["mastodon_db_pool_port"])
    assert found["DB_NAME"] == variables["mastodon_db_pool_name"]
    assert found["PREPARED_STATEMENTS"] == "false"
    assert found["DB_SSLMODE"] == "verify-full"
    assert found["REDIS_HOST"] == "127.0.0.1"
    assert found["DB_POOL"] == "5"


def test_a_command_runs_with_what_sidekiq_reads(shell: Shell) -> None:
    lines = shell("mastodon-run", "env").splitlines()
    found = dict(line.split("=", 1) for line in lines)
    files = shell("cat", f"{CURRENT}/common.env", f"{CURRENT}/sidekiq.env").splitlines()
    assert dict(line.split("=", 1) for line in files).items() <= found.items()
    assert {"SECRET_KEY_BASE", "S3_BUCKET", "LOCAL_DOMAIN"} <= set(found)
    assert not {"PORT", "WEB_CONCURRENCY", "NODE_ENV", "NODE_EXTRA_CA_CERTS"} & set(found)


def test_what_sidekiq_says_of_itself(shell: Shell) -> None:
    each = "[process['concurrency'], process['queues']]"
    code = f"require 'sidekiq/api'; puts Sidekiq::ProcessSet.new.map {{ |process| {each} }}.to_json"
    processes = json.loads(shell("mastodon-run", "bin/rails", "runner", code).splitlines()[-1])
    assert [concurrency for concurrency, _ in processes] == [5]
    assert {queue for _, queues in processes for queue in queues} == {"scheduler", "mailers", "pull", "fasp"}


def test_psql_reaches_the_direct_port_over_tls(psql: Shell) -> None:
    assert psql("select ssl, version from pg_stat_ssl where pid = pg_backend_pid()") == "t|TLSv1.3"
    assert psql("select current_setting('port')") == "25060"
    assert psql("select count(*) from user_roles") != "0"


def test_psql_refuses_a_server_of_another_authority(host: Any) -> None:
    result = host.run("psql 'service=mastodon sslrootcert=/etc/ssl/certs/ca-certificates.crt' -c 'select 1'")
    assert result.rc != 0
    assert "certificate verify failed" in result.stderr


def test_no_migration_is_pending(shell: Shell) -> None:
    answer = json.loads(shell("mastodon-migrate", "status", "v4.6.0"))
    assert answer == {"fresh": False, "pre": [], "post": []}
    assert shell("mastodon-migrate", "check") == "No migration is pending."


def test_rails_agrees(shell: Shell) -> None:
    lines = shell("mastodon-run", "--direct", "bundle", "exec", "rails", "db:migrate:status")
    assert re.search(r"^\s*up\s", lines, re.MULTILINE)
    assert not re.search(r"^\s*down\s", lines, re.MULTILINE)


def test_tootctl_runs_as_mastodon_and_for_root_only(host: Any, shell: Shell) -> None:
    assert "accounts" in shell("tootctl", "help")
    assert shell("mastodon-run", "id", "-u") == "991"
    refused = host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups tootctl help")
    assert refused.rc == 1
    assert "Run it as root" in refused.stderr


def test_tootctl_passes_on_its_exit_code(host: Any) -> None:
    assert host.run("tootctl accounts modify nobody-of-that-name").rc != 0


@pytest.mark.parametrize(
    ("name", "enabled"),
    [
        ("media-remove", True),
        ("preview-cards-remove", True),
        ("statuses-remove", False),
        ("migration-check", True),
        ("release-check", True),
    ],
)
def test_timers(host: Any, name: str, enabled: bool) -> None:
    timer = host.service(f"mastodon-{name}.timer")
    assert timer.is_enabled is enabled
    assert timer.is_running is enabled


def test_the_jobs_of_the_timers_work(host: Any, shell: Shell) -> None:
    for name in ("media-remove", "preview-cards-remove", "migration-check", "release-check"):
        shell("systemctl", "start", f"mastodon-{name}.service")
    said = host.run("journalctl --no-pager --output=cat --identifier=mastodon-release-check").stdout
    assert "v4.6.0 is deployed and v4.7.0 is the newest release" in said


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("media-remove", "mastodon"),
        ("preview-cards-remove", "mastodon"),
        ("migration-check", "mastodon-migration-check"),
        ("release-check", "mastodon-build"),
    ],
)
def test_the_jobs_of_the_timers_are_confined(host: Any, shell: Shell, name: str, user: str) -> None:
    found = properties(shell, f"mastodon-{name}.service")
    assert found["DynamicUser"] == ("yes" if user == "mastodon-migration-check" else "no")
    assert found["User"] == user
    assert exposure(host, f"mastodon-{name}.service") <= 2.0


def test_the_share_is_whole(host: Any) -> None:
    manifest = json.loads(host.file(f"{CURRENT}/manifest.json").content_string)
    assert host.file(CURRENT).linked_to == f"/srv/mastodon/share/generations/{manifest['generation']}"
    assert {"common.env", "web.env", "streaming.env", "sidekiq.env", "db-ca.pem", "tls/privkey.pem"} <= set(
        manifest["files"]
    )
    for name, sha in manifest["files"].items():
        file = host.file(f"{CURRENT}/{name}")
        assert hashlib.sha256(file.content).hexdigest() == sha
        mode = 0o644 if name in manifest["public"] else 0o640
        assert (file.user, file.group, file.mode) == ("root", "mastodon-share", mode)
    assert "tls/privkey.pem" not in manifest["public"]
    assert not [name for name in manifest["public"] if name.endswith(".env")]


def test_the_key_to_the_share_opens_nothing_else(host: Any, shell: Shell) -> None:
    shell("mastodon-share-access", "127.0.0.1")
    ssh = "ssh -i /etc/mastodon/share-client-key -o StrictHostKeyChecking=no -o BatchMode=yes"
    # ssh's own failures have exit code 255, which testinfra takes for its own connection: hence the `!`.
    assert host.run(f"! {ssh} mastodon-share@127.0.0.1 id").rc == 0
    assert host.run(f"! {ssh} -W 127.0.0.1:22 mastodon-share@127.0.0.1 </dev/null").rc == 0
    rsync = f"rsync -e '{ssh}'"
    assert host.run(f"{rsync} mastodon-share@127.0.0.1:current/manifest.json /tmp/manifest.json").rc == 0
    assert host.run(f"{rsync} /etc/hostname mastodon-share@127.0.0.1:current/evil").rc != 0
    assert host.run(f"{rsync} mastodon-share@127.0.0.1:../../../etc/passwd /tmp/evil").rc != 0


def test_listening_sockets(host: Any) -> None:
    listening = {address for address in host.socket.get_listening_sockets() if address.startswith("tcp")}
    public = {address for address in listening if "127.0.0.1" not in address and "::1" not in address}
    assert {address.rsplit(":", 1)[1] for address in public} == {"22"}
    assert "tcp://127.0.0.1:6379" in listening


def test_firewall_drops_by_default(host: Any, variables: dict[str, Any]) -> None:
    rules = host.run("nft list table inet vmstio_base").stdout
    assert "hook input priority filter; policy drop;" in rules
    private = variables["do_private_ipv4"]
    peers = f"ip daddr {private} ip saddr {variables['mastodon_private_network']} tcp dport "
    (ports,) = (line.split("dport ")[1] for line in rules.splitlines() if peers in line)
    # The share's NFS is not there with its other transport, and neither is its port.
    assert set(re.findall(r"\d+", ports)) == {"22"}
    assert host.service("nftables").is_enabled


def test_stopping_the_firewall_leaves_the_rules_of_others(host: Any, shell: Shell) -> None:
    shell("nft", "add table inet of_docker")
    shell("systemctl", "stop", "nftables")
    assert "of_docker" in host.run("nft list tables").stdout
    assert "vmstio_base" not in host.run("nft list tables").stdout
    shell("systemctl", "start", "nftables")
    shell("systemctl", "reload", "nftables")
    assert "of_docker" in host.run("nft list tables").stdout
    assert "vmstio_base" in host.run("nft list tables").stdout
    shell("nft", "delete table inet of_docker")


def test_ssh_takes_keys_only(shell: Shell) -> None:
    effective = shell("sshd", "-T")
    assert "passwordauthentication no" in effective
    assert "kbdinteractiveauthentication no" in effective
    assert "permitrootlogin without-password" in effective


def test_the_hosts_trusts_the_private_authority(shell: Shell) -> None:
    assert shell("curl", "-fsS", "https://mirror.lab.internal/_lab/health") == "ok"


def test_sidekiq_stops_and_starts_cleanly(shell: Shell) -> None:
    shell("systemctl", "restart", UNIT)
    found = properties(shell, UNIT)
    shell("journalctl", "--sync")
    journal = shell("journalctl", "--no-pager", "--output=cat", "--unit", UNIT)
    assert "Received TSTP" in journal
    assert "Failed with result" not in journal
    assert found["NRestarts"] == "0"


def test_sidekiq_that_ends_at_once_does_not_run(shell: Shell, lab_play: Callable[[], str]) -> None:
    """Whatever its unit does at the moment of the look."""
    directory = f"/etc/systemd/system/{UNIT}.d"
    broken = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo is broken; exit 1'\nRestartSec=1\n"
    shell("mkdir", directory)
    shell("sh", "-c", f"printf '%s' \"$0\" > {directory}/test.conf && systemctl daemon-reload", broken)
    try:
        shell("systemctl", "restart", UNIT, fails=True)
        said = lab_play()
        assert f"The journal of {UNIT} ends with:" in said
        assert "is broken" in said
    finally:
        shell("sh", "-c", f"rm -r {directory} && systemctl daemon-reload && systemctl restart {UNIT}")

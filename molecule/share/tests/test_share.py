"""The share between real kernels. In order: later tests take power away and count on what is there before."""

from __future__ import annotations

import json
import re
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import COPY, INSTANCE, MOUNT, copy_of, publish, until

from lab.vm import Machine

INTERVAL = 300
"""Seconds to wait for what comes every minute: emulated machines are slow, and the host may be busy."""
STRANGER = "10.120.0.99"
SERVED = """
import socket, ssl
plain = socket.create_connection(('{address}', 443), timeout=20)
plain.sendall(b'PROXY TCP4 198.51.100.9 {address} 40000 443\\r\\n')
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with context.wrap_socket(plain, server_hostname='social.test') as tls:
    print(ssl.DER_cert_to_PEM_cert(tls.getpeercert(True)))
"""
WHOLE = f"""
import hashlib, json, pathlib
copy = pathlib.Path('{COPY}')
for name, sha in json.loads((copy / 'manifest.json').read_text())['files'].items():
    assert hashlib.sha256((copy / name).read_bytes()).hexdigest() == sha, name
"""


def certificate(name: str) -> str:
    """Of the instance, as PEM in one form."""
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert((INSTANCE / f"{name}.crt").read_text()))


def served(worker: Machine) -> str:
    """The certificate that the worker's nginx shows, as a load balancer with PROXY protocol sees it."""
    return (
        worker.run("python3", "-", stdin=SERVED.format(address=worker.private_address)).stdout.strip() + "\n"
    )


def blocked(worker: Machine) -> set[str]:
    """Ids of the worker's processes that wait in the kernel and cannot be ended by a signal ("D").

    Without the kernel's own threads: NFS's waits for exec, as long as that takes, and holds nobody up.
    """
    found = (line.split() for line in worker.run("ps", "-eo", "stat=,pid=,ppid=").stdout.splitlines())
    return {pid for state, pid, parent in found if state.startswith("D") and parent != "2"}


def assert_nothing_stays_blocked(worker: Machine) -> None:
    """What waits for exec now gives up, by the mount's time-out. What hangs would wait for ever."""
    waiting = blocked(worker)
    until(lambda: not waiting & blocked(worker), 120, f"processes {waiting} are no longer blocked")


def journal(worker: Machine, text: str) -> int:
    """How often the copy's program said `text` since this boot."""
    return worker.run("journalctl", "-b", "-u", "mastodon-share-sync", "-o", "cat").stdout.count(text)


def rules(machine: Machine) -> str:
    return machine.run("nft", "--stateless", "list", "table", "inet", "vmstio_base").stdout


def connects(source: Machine, target: str, port: int, *before: str) -> bool:
    """Whether a TCP connection from `source` to there is taken; `before` is put before the command."""
    probe = f"import socket; socket.create_connection(('{target}', {port}), timeout=5)"
    return source.run(*before, "python3", "-c", f'"{probe}"', check=False).returncode == 0


def mount_options(worker: Machine) -> set[str]:
    worker.run("ls", f"{MOUNT}/current/")  # looking at it mounts it
    found = json.loads(worker.run("findmnt", "--json", "--types", "nfs4", "--target", MOUNT).stdout)
    (entry,) = found["filesystems"]
    assert entry["target"] == MOUNT
    return set(entry["options"].split(","))


def assert_serves(worker: Machine) -> None:
    """nginx runs and shows a certificate of the local copy; the copy is whole."""
    assert served(worker) in {certificate("first"), certificate("renewed")}
    worker.run("python3", "-", stdin=WHOLE)


@pytest.fixture
def stranger(worker: Machine):
    """A host of the private network that is not in the list: its own address, its own network stack, on the
    worker's wire. Returns what to put before a command that it runs."""
    setup = f"""
        ip netns add stranger
        ip link add stranger0 link eth1 netns stranger type macvlan mode bridge
        ip -n stranger address add {STRANGER}/20 dev stranger0
        ip -n stranger link set stranger0 up
        ip -n stranger link set lo up
        mkdir -p /run/stranger
    """
    worker.run("set -e;", "; ".join(line.strip() for line in setup.strip().splitlines()))
    yield ("ip", "netns", "exec", "stranger")
    worker.run(
        "umount --force --lazy /run/stranger 2>/dev/null; ip netns delete stranger; rmdir /run/stranger"
    )


# -- export and mount -----------------------------------------------------------------------------------


def test_export_is_as_documented(exec_host: Machine, worker: Machine):
    (line,) = exec_host.run("cat", "/var/lib/nfs/etab").stdout.splitlines()
    path, client, options = re.fullmatch(r"(\S+)\s+(\S+)\((\S+)\)", line).groups()
    assert (path, client) == ("/srv/mastodon/share", worker.private_address)
    user, group = (exec_host.run("id", one, "mastodon-share").stdout.strip() for one in ("-u", "-g"))
    assert "991" not in {user, group}
    reader = {f"anonuid={user}", f"anongid={group}"}
    wanted = {"ro", "sync", "root_squash", "no_subtree_check", "sec=sys"} | reader
    assert wanted <= set(options.split(","))


def test_only_nfs_4_2_is_spoken_and_nothing_else_listens(exec_host: Machine):
    versions = exec_host.run("cat", "/proc/fs/nfsd/versions").stdout.split()
    assert {one for one in versions if one.startswith("+")} == {"+4", "+4.2"}
    listening = exec_host.run("ss", "-H", "-tuln").stdout.splitlines()
    outside = {line.split()[4] for line in listening if not line.split()[4].startswith(("127.", "[::1]"))}
    ports = {address.rpartition(":")[2] for address in outside}
    assert ports <= {"22", "2049"}
    assert f"{exec_host.private_address}:2049" in outside


def test_mount_has_the_documented_options(worker: Machine):
    wanted = {"ro", "vers=4.2", "proto=tcp", "soft", "timeo=50", "retrans=2", "nosuid", "nodev", "noexec"}
    assert wanted <= mount_options(worker)


def test_other_users_of_the_worker_cannot_read_it(worker: Machine):
    assert worker.run("test", "-s", f"{MOUNT}/current/common.env", check=False).returncode == 0
    for path in (f"{MOUNT}/current/common.env", f"{COPY}/common.env"):
        refused = worker.run("runuser", "-u", "www-data", "--", "cat", path, check=False)
        assert refused.returncode != 0
        assert "Permission denied" in refused.stderr


def test_writing_is_refused(worker: Machine):
    refused = worker.run("touch", f"{MOUNT}/written", check=False)
    assert "Read-only file system" in refused.stderr
    # Not by the worker's own mount option only: exec refuses one that was mounted to write as well.
    again = "mkdir -p /run/again && mount -t nfs4 -o rw,vers=4.2,soft"
    source = worker.run("findmnt", "-n", "-o", "SOURCE", "--types", "nfs4", "--target", MOUNT).stdout.strip()
    try:
        worker.run(f"{again} {source} /run/again")
        assert "Read-only file system" in worker.run("touch", "/run/again/written", check=False).stderr
    finally:
        worker.run("umount /run/again; rmdir /run/again", check=False)


def test_a_host_outside_the_list_gets_nothing(exec_host: Machine, worker: Machine, stranger: tuple[str, ...]):
    assert connects(worker, exec_host.private_address, 2049, *stranger), "exec is not reached at all"
    for path in ("/srv/mastodon/share", "/"):
        mount = f"mount -t nfs4 -o ro,vers=4.2,soft {exec_host.private_address}:{path} /run/stranger"
        worker.run(*stranger, mount, check=False)
        seen = worker.run(*stranger, "ls", "-A", "/run/stranger/current", check=False)
        assert seen.returncode != 0
        assert not seen.stdout
        worker.run("umount", "/run/stranger", check=False)


# -- generations ----------------------------------------------------------------------------------------


def test_a_new_certificate_arrives_and_nginx_takes_it(exec_host: Machine, worker: Machine):
    assert served(worker) == certificate("first")
    files = {
        "tls/fullchain.pem": (INSTANCE / "renewed.crt").read_text(),
        "tls/privkey.pem": (INSTANCE / "renewed.key").read_text(),
    }
    number = publish(exec_host, files)
    until(lambda: copy_of(worker) == number, INTERVAL, f"the copy is generation {number}")
    until(lambda: served(worker) == certificate("renewed"), 60, "nginx shows the new certificate")


# -- power ----------------------------------------------------------------------------------------------


def test_exec_without_power_hangs_nothing(exec_host: Machine, worker: Machine):
    mount_options(worker)  # it is mounted when the power goes
    before, said = copy_of(worker), journal(worker, "exec does not answer")
    exec_host.power_off()
    # Else what the kernel remembers may answer. It forgets at once: no delegation waits for exec.
    worker.run("echo 3 > /proc/sys/vm/drop_caches")
    listed = worker.run("ls", f"{MOUNT}/current/", check=False, timeout=180)
    worker.run("df", check=False, timeout=180)
    assert listed.returncode != 0, "the share answers, though exec is off"
    assert_nothing_stays_blocked(worker)
    worker.run("systemctl", "start", "mastodon-share-sync.service", timeout=240)
    worker.run("systemctl", "start", "mastodon-share-sync.service", timeout=240)
    assert journal(worker, "exec does not answer") == said + 1
    assert copy_of(worker) == before
    assert worker.run("systemctl", "is-active", "mastodon-share-sync.timer").stdout.strip() == "active"
    assert_serves(worker)


def test_exec_is_back_and_the_next_generation_comes_without_help(exec_host: Machine, worker: Machine):
    said = journal(worker, "exec answers again")
    exec_host.power_on()
    number = publish(exec_host, {"test.env": "AFTER_POWER=1\n"})
    until(lambda: copy_of(worker) == number, INTERVAL, f"the copy is generation {number}")
    assert journal(worker, "exec answers again") == said + 1
    assert worker.run("cat", f"{MOUNT}/current/test.env").stdout == "AFTER_POWER=1\n"


def test_worker_boots_while_exec_is_off(exec_host: Machine, worker: Machine):
    before = copy_of(worker)
    exec_host.power_off()
    worker.reboot()
    for unit in ("multi-user.target", "nginx.service", "docker.service", "nftables.service",
                 "mastodon-redis-tunnel.service", "mastodon-share-sync.timer"):  # fmt: skip
        until(
            lambda unit=unit: (
                worker.run("systemctl", "is-active", unit, check=False).stdout.strip() == "active"
            ),
            INTERVAL,
            f"{unit} is active",
        )
    until(lambda: journal(worker, "exec does not answer") == 1, INTERVAL, "the copy says what it serves from")
    assert copy_of(worker) == before
    failed = worker.run("systemctl", "--failed", "--plain", "--no-legend").stdout.splitlines()
    assert {line.split()[0] for line in failed} <= {"mnt-mastodon.mount"}  # it cannot be there
    assert_nothing_stays_blocked(worker)
    assert_serves(worker)

    exec_host.power_on()
    number = publish(exec_host, {"test.env": "AFTER_BOOT=1\n"})
    until(lambda: copy_of(worker) == number, INTERVAL, f"the copy is generation {number}")


def test_firewall_and_mounts_are_the_same_after_reboots(exec_host: Machine, worker: Machine):
    hosts = (exec_host, worker)
    before = [rules(host) for host in hosts]
    options = mount_options(worker)
    with ThreadPoolExecutor() as pool:
        list(pool.map(Machine.reboot, hosts))
    assert [rules(host) for host in hosts] == before
    assert mount_options(worker) == options
    for host in hosts:
        until(
            lambda host=host: (
                host.run("systemctl", "is-system-running", check=False).stdout.strip() == "running"
            ),
            INTERVAL,
            f"{host.name} is up, with nothing failed",
        )
        assert "/swapfile" in host.run("cat", "/proc/swaps").stdout
    assert_serves(worker)


def test_the_firewall_opens_what_is_documented_and_nothing_else(exec_host: Machine, worker: Machine):
    expected = {
        (worker, exec_host): {22: True, 2049: True, 9999: False},
        (exec_host, worker): {22: True, 80: True, 443: True, 8080: True, 9999: False},
    }
    for (source, target), ports in expected.items():
        listen = f"python3 -m http.server 9999 --directory /var/empty --bind {target.private_address}"
        target.run("mkdir", "-p", "/var/empty")
        target.run("systemd-run", "--quiet", "--unit=probe", listen)
        try:
            until(
                lambda target=target: connects(target, target.private_address, 9999), 60, "the probe listens"
            )
            found = {port: connects(source, target.private_address, port) for port in ports}
        finally:
            target.run("systemctl", "stop", "probe.service", check=False)
        assert found == ports, f"{source.name} -> {target.name}"


def test_the_tunnel_listens_on_loopback_only(exec_host: Machine, worker: Machine):
    for host in (exec_host, worker):
        listening = host.run("ss", "-H", "-tln", "sport", "=", ":6379").stdout.splitlines()
        assert {line.split()[3] for line in listening} == {"127.0.0.1:6379"}

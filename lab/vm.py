"""Virtual machines of the lab: droplets with a kernel of their own, and power that can go away.

Each machine is one QEMU process. KVM runs it where the processor offers that, TCG (emulation) elsewhere.
eth0 is QEMU's user network: the way out, and the only way in, by SSH through a port of 127.0.0.1. eth1 is
the private network, which all machines of a lab share: multicast on the loopback interface. So nothing needs
root, a bridge, or a rule of the host's firewall.

Everything is below `.lab/<lab>/machines`. Nothing remembers process ids: a machine's process is found by
its disk, so a lab whose `lab` was killed is found, stopped and removed like any other.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from functools import cache
from pathlib import Path

from lab.config import Lab
from lab.engine import LabError
from lab.vm_image import MachineImage, machine_image

MACHINES = {"vm-exec": 20, "vm-worker": 21}
"""The machines of `lab vm up`, and their host number in both networks."""
MEMORY_MIB = 768
PROCESSORS = 2
BOOT_SECONDS = 300
"""How long a boot may take before it counts as failed; an emulated machine on a busy host needs 20 to 60."""
STOP_SECONDS = 180

_QEMU = "qemu-system-x86_64"
_RESOLVER, _GATEWAY = 3, 2
"""Host numbers, in the public network, of what QEMU itself answers for."""


@cache
def accelerator() -> str:
    """QEMU's `-accel`. /dev/kvm alone says little: inside some sandboxes it is there and guests hang."""
    flags = Path("/proc/cpuinfo").read_text().split()
    if ("vmx" in flags or "svm" in flags) and os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "kvm"
    return "tcg,thread=multi,tb-size=256"


@dataclass(frozen=True)
class Machine:
    """One virtual machine. `ssh_port` is a port of 127.0.0.1."""

    lab: Lab
    name: str
    host: int
    ssh_port: int
    network_port: int

    @property
    def path(self) -> Path:
        return self.lab.state / "machines" / self.name

    @property
    def disk(self) -> Path:
        return self.path / "disk.qcow2"

    @property
    def console(self) -> Path:
        """What the machine wrote to its serial console since it was made."""
        return self.path / "console.log"

    @property
    def public_address(self) -> str:
        return str(self.lab.public[self.host])

    @property
    def private_address(self) -> str:
        return str(self.lab.private[self.host])

    # -- power ------------------------------------------------------------------------------------------

    def process(self) -> int | None:
        """Process id of the running machine, None while it is off."""
        marker = self._drive().encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                    if marker in arguments and arguments[0].endswith(_QEMU.encode()):
                        return int(entry.name)
        return None

    def power_on(self, wait: bool = True) -> None:
        """Start it, unless it runs; with `wait`, return when SSH answers. Raises LabError."""
        if self.process() is None:
            run = subprocess.run(
                self._command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            if run.returncode:
                raise LabError(f"{self.name}: QEMU did not start: {run.stderr.strip()[-400:]}")
        if wait:
            self.wait()

    def power_off(self) -> None:
        """Take the power away: what the machine has not written is lost. Returns when it is off."""
        pid = self.process()
        if pid is None:
            return
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self.process() == pid:  # the handle is this process's, not a later one's of the same number
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                if not select.select([handle], [], [], 30)[0]:
                    raise LabError(f"{self.name}: its process {pid} does not end")
        finally:
            os.close(handle)

    def shut_down(self) -> None:
        """Ask it to stop, and wait until it has."""
        if self.process() is not None:
            self.run("systemctl", "poweroff", "--no-block", check=False)
            _until(lambda: self.process() is None, STOP_SECONDS, f"{self.name} does not shut down")

    def reboot(self) -> None:
        """Restart it from inside; returns when SSH answers after the boot."""
        before = self.boot_id()
        self.run("systemctl", "reboot", "--no-block", check=False)
        _until(
            lambda: self._answers() and self.boot_id(check=False) not in {"", before},
            STOP_SECONDS + BOOT_SECONDS,
            f"{self.name} does not come back; the end of its console:\n{self._console_tail()}",
        )

    def wait(self) -> None:
        """Return when SSH answers. Raises LabError when the process ends or the boot takes too long."""

        def there() -> bool:
            if self.process() is None:
                raise LabError(f"{self.name} went off while it started:\n{self._console_tail()}")
            return self._answers()

        _until(there, BOOT_SECONDS, f"{self.name} does not answer by SSH; its console is in {self.console}")

    def destroy(self) -> None:
        self.power_off()
        shutil.rmtree(self.path, ignore_errors=True)

    # -- inside -----------------------------------------------------------------------------------------

    def ssh_command(self, *command: str) -> list[str]:
        """What runs `command` (joined and given to the machine's shell) as root in it."""
        return ["ssh", "-F", str(ssh_config(self.lab)), self.name, *command]

    def run(
        self, *command: str, check: bool = True, timeout: float = 120, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line there, as root. Raises LabError where it fails and `check` is set, or where
        it does not end in `timeout` seconds."""
        try:
            run = subprocess.run(
                self.ssh_command(*command),
                input=stdin or "",
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {' '.join(command)}: no answer in {timeout:.0f} s") from error
        if check and run.returncode:
            raise LabError(
                f"{self.name}: {' '.join(command)}: exit code {run.returncode}: "
                f"{(run.stderr or run.stdout).strip()[-600:]}"
            )
        return run

    def boot_id(self, check: bool = True) -> str:
        return self.run("cat", "/proc/sys/kernel/random/boot_id", check=check).stdout.strip()

    def _answers(self) -> bool:
        return self.run("-o", "ConnectTimeout=5", "true", check=False).returncode == 0

    # -- how it is made ---------------------------------------------------------------------------------

    def _drive(self) -> str:
        return f"file={self.disk},if=none,id=disk,format=qcow2,discard=unmap"

    def _command(self) -> list[str]:
        image = MachineImage(Path(json.loads((self.path / "machine.json").read_text())["image"]))
        public = (
            f"user,id=public,ipv6=off,net={self.lab.public},host={self.lab.public[_GATEWAY]},"
            f"dns={self.lab.public[_RESOLVER]},hostfwd=tcp:127.0.0.1:{self.ssh_port}-{self.public_address}:22"
        )
        private = f"socket,id=private,mcast=239.255.77.77:{self.network_port},localaddr=127.0.0.1"
        return [
            *(_QEMU, "-name", f"vmstio-{self.lab.name}-{self.name}", "-daemonize", "-display", "none"),
            *("-machine", "q35", "-accel", accelerator(), "-cpu", "max", "-smp", str(PROCESSORS)),
            *("-m", str(MEMORY_MIB), "-rtc", "base=utc", "-nodefaults", "-monitor", "none"),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet"),
            *("-drive", self._drive(), "-device", "virtio-blk-pci,drive=disk,serial=disk"),
            *("-drive", f"file={self.path / 'seed.tar'},if=none,id=seed,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=seed,serial=seed", "-device", "virtio-rng-pci"),
            *("-netdev", public, "-device", f"virtio-net-pci,netdev=public,mac={self._mac(0)}"),
            *("-netdev", private, "-device", f"virtio-net-pci,netdev=private,mac={self._mac(1)}"),
        ]

    def _mac(self, interface: int) -> str:
        return f"52:54:00:76:{interface:02x}:{self.host:02x}"

    def _console_tail(self) -> str:
        if not self.console.exists():
            return "(nothing)"
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-15:])

    def make(self, image: MachineImage) -> None:
        """Write its disk (over the image: only what it changes), its keys and its seed."""
        self.path.mkdir(parents=True)
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.path / "host_key")])
        (self.path / "seed.tar").write_bytes(self._seed())
        _run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk), str(self.disk)],
        )
        settings = {"image": str(image.path), "ssh_port": self.ssh_port, "network_port": self.network_port}
        new = self.path / "machine.json.new"
        new.write_text(json.dumps(settings))
        new.rename(self.path / "machine.json")

    def _seed(self) -> bytes:
        """Files that make the image this machine; a tar, which its first boot unpacks."""
        resolver = self.lab.public[_RESOLVER]
        networks = {
            "eth0": f"Address={self.public_address}/{self.lab.public.prefixlen}\n"
            f"Gateway={self.lab.public[_GATEWAY]}\n",
            "eth1": f"Address={self.private_address}/{self.lab.private.prefixlen}\n",
        }
        key = self.path / "host_key"
        files: dict[str, tuple[str, int]] = {
            "etc/hostname": (f"{self.name}\n", 0o644),
            "etc/hosts": (f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n", 0o644),
            "etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "etc/resolv.conf": (f"nameserver {resolver}\n", 0o644),
            "etc/ssh/ssh_host_ed25519_key": (key.read_text(), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (key.with_suffix(".pub").read_text(), 0o644),
            "root/.ssh/authorized_keys": (client_key(self.lab).with_suffix(".pub").read_text(), 0o600),
        }
        for interface, settings in networks.items():
            text = f"[Match]\nName={interface}\n\n[Network]\nLinkLocalAddressing=no\n{settings}"
            files[f"etc/systemd/network/{interface}.network"] = (text, 0o644)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            directory = tarfile.TarInfo("root/.ssh")
            directory.type, directory.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(directory)
            for name, (text, mode) in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(text.encode()), mode, int(time.time())
                archive.addfile(info, io.BytesIO(text.encode()))
        return buffer.getvalue()


# -- all machines of a lab ------------------------------------------------------------------------------


def load(lab: Lab) -> list[Machine]:
    """The machines that were made, in the order of MACHINES; one whose making was cut off is not there."""
    found = []
    for name, host in MACHINES.items():
        with contextlib.suppress(FileNotFoundError):
            made = json.loads((lab.state / "machines" / name / "machine.json").read_text())
            found.append(Machine(lab, name, host, made["ssh_port"], made["network_port"]))
    return found


def get(lab: Lab, name: str) -> Machine:
    for machine in load(lab):
        if machine.name == name:
            return machine
    known = "" if name in MACHINES else f"; there are: {', '.join(MACHINES)}"
    raise LabError(f"lab {lab.name} has no machine {name}: `lab vm up` makes it{known}")


def up(lab: Lab, report: Callable[[str], None]) -> list[Machine]:
    """Make what is not there, start what is off, wait for all. Run again, it goes on where it was cut off."""
    if not shutil.which(_QEMU) or not shutil.which("qemu-img"):
        raise LabError(f"{_QEMU} or qemu-img is not installed: scripts/bootstrap installs them")
    image = machine_image(lab.cache, report)
    (lab.state / "machines").mkdir(parents=True, exist_ok=True)
    with (lab.state / "machines.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        made = {machine.name: machine for machine in load(lab)}
        network_port = next((one.network_port for one in made.values()), 0) or _free_port(socket.SOCK_DGRAM)
        client_key(lab)
        for name, host in MACHINES.items():
            if name not in made:
                shutil.rmtree(lab.state / "machines" / name, ignore_errors=True)
                machine = Machine(lab, name, host, _free_port(socket.SOCK_STREAM), network_port)
                machine.make(image)
                report(f"{name}: made")
        machines = load(lab)
        _write_ssh_files(lab, machines)
        for machine in machines:
            machine.power_on(wait=False)
        for machine in machines:
            report(f"{machine.name}: starting ({accelerator().partition(',')[0]})")
            machine.wait()
            report(f"{machine.name}: answers at {machine.private_address}")
    return machines


def down(lab: Lab) -> int:
    """Take every machine away, whatever state it is in; returns how many there were. The image stays."""
    directory = lab.state / "machines"
    names = [name for name in MACHINES if (directory / name).is_dir()]
    for name in names:
        Machine(lab, name, 0, 0, 0).destroy()
    shutil.rmtree(directory, ignore_errors=True)
    (lab.state / "machines.lock").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: other things of that lab are there
        lab.state.rmdir()
    return len(names)


def ssh_config(lab: Lab) -> Path:
    """Settings for `ssh -F`: the machines by name, their keys known from when they were made."""
    return lab.state / "machines" / "ssh" / "config"


def client_key(lab: Lab) -> Path:
    """The private key that root of every machine accepts; made when it is not there."""
    key = ssh_config(lab).with_name("id_ed25519")
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True)
        new = key.with_name("id_ed25519.new")
        new.unlink(missing_ok=True)
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{lab.name}", "-f", str(new)])
        new.with_suffix(".new.pub").rename(key.with_suffix(".pub"))
        new.rename(key)
    return key


def _write_ssh_files(lab: Lab, machines: list[Machine]) -> None:
    known_hosts = ssh_config(lab).with_name("known_hosts")
    keys = {one.name: (one.path / "host_key.pub").read_text().strip() for one in machines}
    known_hosts.write_text("".join(f"{name} {key}\n" for name, key in keys.items()))
    blocks = [
        f"Host {one.name}\n  HostName 127.0.0.1\n  Port {one.ssh_port}\n  HostKeyAlias {one.name}\n"
        for one in machines
    ]
    common = (
        f'Host *\n  User root\n  IdentityFile "{client_key(lab)}"\n  IdentitiesOnly yes\n  BatchMode yes\n'
        f'  UserKnownHostsFile "{known_hosts}"\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n'
        "  LogLevel ERROR\n  ServerAliveInterval 15\n  ServerAliveCountMax 4\n"
        # A login costs an emulated machine seconds. Without power, its connections end with its process.
        f'  ControlMaster auto\n  ControlPersist 60\n  ControlPath "{ssh_config(lab).with_name("%n")}"\n'
    )
    ssh_config(lab).write_text("".join(blocks) + common)


def _free_port(kind: int) -> int:
    """A port that nothing uses. Above the range that the kernel hands out: it stays free while a machine
    is off."""
    for port in random.sample(range(61000, 65500), 200):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LabError("no free port on 127.0.0.1 between 61000 and 65500")


def _run(command: list[str]) -> None:
    run = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if run.returncode:
        raise LabError(f"{command[0]} failed: {run.stderr.strip()[-400:]}")


def _until(done: Callable[[], bool], seconds: float, problem: str) -> None:
    """Returns when `done()`; LabError(problem) after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise LabError(problem)
        time.sleep(0.5)

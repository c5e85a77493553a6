"""The image of the lab's virtual machines: Debian with its own kernel, made once from Debian's packages.

A container shares its host's kernel; what needs a kernel of its own (NFS, mounts, power that goes away) is
shown on machines made from this image. It holds what DigitalOcean's Debian image has, and packages that the
roles install, for emulated machines are slow at that: those for which the moment of installing matters lie in
apt's cache, the others are there with their services disabled. Nothing is mounted to make it.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from lab.engine import LabError
from lab.images import debian_keys

SUITE = "trixie"
DISK_GIB = 6
"""Size of a machine's disk as it sees it; the file takes what is written."""
INSTALLED = [
    "bash-completion", "ca-certificates", "cron", "dbus", "e2fsprogs", "iproute2", "iputils-ping",
    "kmod", "libpam-systemd", "logrotate", "lsb-release", "nftables", "openssh-server", "openssl", "procps",
    "python3", "python3-apt", "rsync", "sudo", "systemd", "systemd-sysv", "systemd-timesyncd",
    "tzdata", "udev", "vim-tiny", "wget",
]  # fmt: skip
DISABLED = ["docker.io", "docker-cli", "nginx", "python3-debian", "stunnel4", "unattended-upgrades"]
"""Installed, too; what they start is disabled, so that the roles start it."""
DOWNLOADED = ["nfs-common", "nfs-kernel-server"]
BOOT_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "ext4")
"""What must be there before the root file system; each with what it depends on, unless it is built in."""

_SOURCES = Path(__file__).parent / "services" / "vm"
_HOST_CAS = Path("/usr/local/share/ca-certificates")
_FORMAT = "1"
"""Raise when this file makes something else of the same inputs."""


@dataclass(frozen=True)
class MachineImage:
    """A built image: `disk` (raw ext4, never written to again), `kernel` and `initrd` to start it with."""

    path: Path

    @property
    def disk(self) -> Path:
        return self.path / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.path / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.path / "initrd"


def machine_image(cache: Path, report: Callable[[str], None] = lambda _: None) -> MachineImage:
    """The image below `cache`, built if it is not there (about a minute); `report` gets lines of progress.

    Its directory carries a hash of what goes in. A build that is cut off leaves only a directory that the
    next one removes. Raises LabError.
    """
    if platform.machine() != "x86_64":
        raise LabError(f"machine image: made for x86_64 only, and this machine is {platform.machine()}")
    inputs = hashlib.sha256(
        "\0".join([_FORMAT, SUITE, *INSTALLED, *DISABLED, "", *DOWNLOADED, *BOOT_MODULES]).encode()
    )
    for source in [*sorted(_SOURCES.iterdir()), *sorted(_HOST_CAS.glob("*.crt"))]:
        inputs.update(source.read_bytes())
    target = cache / f"vm-{inputs.hexdigest()[:12]}"
    with _once(cache):
        if not target.is_dir():
            work = cache / "tmp" / "vm-new"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            _build(work, report)
            work.rename(target)
            _prune(cache, target)
    return MachineImage(target)


def _prune(cache: Path, kept: Path) -> None:
    """Remove the images that no machine of any lab stands on."""
    used = {kept}
    for machine in cache.parent.glob("*/machines/*/machine.json"):
        used.add(Path(json.loads(machine.read_text())["image"]))
    for image in set(cache.glob("vm-*")) - used:
        shutil.rmtree(image, ignore_errors=True)


@contextmanager
def _once(cache: Path) -> Iterator[None]:
    (cache / "tmp").mkdir(parents=True, exist_ok=True)
    with (cache / "tmp" / "vm.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _build(work: Path, report: Callable[[str], None]) -> None:
    archive = work / "root.tar"
    report(f"machine image: Debian {SUITE} from its packages")
    with debian_keys() as keys:
        _run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase", f"--keyring={keys}"),
                f"--include={','.join(INSTALLED + DISABLED)}",
                "--skip=cleanup/apt/lists,cleanup/apt/cache",
                *(f"--customize-hook={_SOURCES / 'customize'}", SUITE, str(archive)),
            ],
            "is Debian's mirror reachable?",
            {"DOWNLOADED": " ".join(DOWNLOADED)},
        )
    report("machine image: kernel and initial ram disk")
    with tarfile.open(archive) as root:
        _extract(root, "./boot/vmlinuz", work / "vmlinuz")
        (work / "initrd").write_bytes(_initrd(root))
    report("machine image: file system")
    with tempfile.TemporaryDirectory(dir=work) as tree:
        script = (
            'tar -x -f "$1" -C "$2" --exclude=./dev/* && '
            'mke2fs -q -t ext4 -L root -E root_owner=0:0 -d "$2" "$3" "$4"'
        )
        arguments = [str(archive), tree, str(work / "disk.img"), f"{DISK_GIB}G"]
        _run(["sh", "-c", script, "sh", *arguments], "is there room on the disk?")
    archive.unlink()


def _run(command: list[str], question: str, environment: dict[str, str] | None = None) -> None:
    try:
        run = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"machine image: {command[0]} is not installed: run scripts/bootstrap") from error
    if run.returncode:
        raise LabError(
            f"machine image: {command[0]} failed ({question}): "
            f"{' / '.join(run.stderr.strip().splitlines()[-5:])}"
        )


def _extract(root: tarfile.TarFile, name: str, target: Path) -> None:
    target.write_bytes(_content(root, name))


def _content(root: tarfile.TarFile, name: str) -> bytes:
    file = root.extractfile(name)
    if file is None:
        raise LabError(f"machine image: {name} is not a file")
    return file.read()


def boot_order(wanted: tuple[str, ...], dependencies: str, builtin: str) -> list[str]:
    """Paths of the modules to load, each after what it needs.

    `dependencies` and `builtin` are the kernel's modules.dep and modules.builtin. A module in neither is a
    LabError.
    """
    needs: dict[str, list[str]] = {}
    paths = {}
    for line in dependencies.splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
        paths[_module_name(path)] = path
    built_in = {_module_name(path) for path in builtin.splitlines()}
    order: list[str] = []

    def visit(path: str) -> None:
        for other in reversed(needs[path]):
            visit(other)
        if path not in order:
            order.append(path)

    for name in wanted:
        if name in paths:
            visit(paths[name])
        elif name not in built_in:
            raise LabError(f"machine image: this kernel has no module {name}")
    return order


def _module_name(path: str) -> str:
    return Path(path).name.partition(".")[0].replace("-", "_")


def _initrd(root: tarfile.TarFile) -> bytes:
    """A static busybox, the modules of the disk and `init`: Debian's own would take longer than the rest of
    the boot on an emulated processor."""
    lists = [name for name in root.getnames() if name.endswith("/modules.dep")]
    if len(lists) != 1:
        raise LabError(f"machine image: expected one kernel, found {len(lists)}")
    modules = lists[0].removesuffix("/modules.dep")
    text = {name: _content(root, f"{modules}/modules.{name}").decode() for name in ("dep", "builtin")}
    order = boot_order(BOOT_MODULES, text["dep"], text["builtin"])
    entries: list[tuple[str, int, bytes]] = [
        (name, 0o040755, b"") for name in ("bin", "dev", "proc", "root", "sys", "modules")
    ]
    entries.append(("bin/busybox", 0o100755, _content(root, "./boot/busybox")))
    entries.append(("init", 0o100755, (_SOURCES / "init").read_bytes()))
    loaded = []
    for path in order:
        content = _content(root, f"{modules}/{path}")
        if path.endswith(".xz"):
            content = lzma.decompress(content)
        loaded.append(f"{_module_name(path)}.ko")
        entries.append((f"modules/{loaded[-1]}", 0o100644, content))
    entries.append(("modules/order", 0o100644, "".join(f"{name}\n" for name in loaded).encode()))
    return cpio(entries)


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An archive as the kernel unpacks it ("newc"), of (path, mode, content); everything is root's."""
    out = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        out += b"\0" * (-len(out) % 4)
        out += content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)

"""What the machine image is made of: order of modules, the initial ram disk's archive."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab.engine import LabError
from lab.vm_image import boot_order, cpio

DEPENDENCIES = """\
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
"""
BUILT_IN = "kernel/fs/ext4/ext4.ko\nkernel/drivers/virtio/virtio_pci.ko\n"


def test_modules_come_after_what_they_need() -> None:
    order = boot_order(("virtio_pci", "virtio_net", "virtio_blk", "ext4"), DEPENDENCIES, BUILT_IN)
    assert [Path(path).name for path in order] == [
        "failover.ko.xz",
        "net_failover.ko.xz",
        "virtio_net.ko.xz",
        "virtio_blk.ko.xz",
    ]


def test_a_module_that_the_kernel_lacks_is_named() -> None:
    with pytest.raises(LabError, match="no module nfsd"):
        boot_order(("nfsd",), DEPENDENCIES, BUILT_IN)


def test_the_archive_is_what_cpio_reads(tmp_path: Path) -> None:
    content = b"odd length."
    archive = cpio([("bin", 0o040755, b""), ("bin/tool", 0o100755, content), ("empty", 0o100600, b"")])
    # Debian's dpkg brings no cpio; bsdtar and busybox are not everywhere either: read it by its definition.
    found = {}
    offset = 0
    while True:
        assert archive[offset : offset + 6] == b"070701"
        fields = [int(archive[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[offset + 110 : offset + 110 + name_size - 1].decode()
        start = (offset + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        found[name] = (fields[1], archive[start : start + size])
        offset = (start + size + 3) // 4 * 4
    assert found == {"bin": (0o040755, b""), "bin/tool": (0o100755, content), "empty": (0o100600, b"")}


@pytest.mark.parametrize("script", ["init", "customize"])
def test_the_scripts_are_shell(script: str) -> None:
    path = Path(__file__).parents[3] / "lab" / "services" / "vm" / script
    subprocess.run(["sh", "-n", str(path)], check=True)

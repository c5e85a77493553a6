"""Where unfinished work lies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.images import scratch


def test_unfinished_work_of_the_living_stays_and_that_of_the_dead_goes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        theirs = tmp_path / "tmp" / str(other.pid)
        theirs.mkdir(parents=True)
        (theirs / "images.tar").write_bytes(b"half")
        lock = tmp_path / "tmp" / "rootfs.lock"
        lock.touch()

        own = scratch(tmp_path)
        assert own == tmp_path / "tmp" / str(os.getpid())
        assert theirs.is_dir()

        other.kill()
        other.wait()
        (own / "kept").touch()
        assert scratch(tmp_path) == own
        assert not theirs.exists()
        assert (own / "kept").exists()
        assert lock.exists()

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from lab import caller


def test_a_user_goes_on_with_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execvp", lambda _, command: started.append(command))
    monkeypatch.setattr(sys, "argv", [".venv/bin/lab", "up", "--droplets", "exec, worker"])
    monkeypatch.setenv("PATH", "/here/.venv/bin:/bin")
    caller.as_root()
    [command] = started
    assert command[0] == "sudo"
    assert "PATH=/here/.venv/bin:/bin:/usr/sbin:/sbin" in command
    assert command[-5:] == [sys.executable, ".venv/bin/lab", "up", "--droplets", "exec, worker"]


def test_without_sudo_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="needs root, or sudo"):
        caller.as_root()


def owners(monkeypatch: pytest.MonkeyPatch, tree: Path, *, uid: int) -> dict[str, int]:
    """Whom `hand_over` gives what, for the user `uid`, where all below the tree is root's."""
    given: dict[str, int] = {}

    def chown(path: str, uid: int, gid: int, *, follow_symlinks: bool) -> None:
        assert gid == 1001
        assert not follow_symlinks
        given[str(Path(path).relative_to(tree))] = uid

    def lstat(path: Any) -> os.stat_result:
        return os.stat_result([0] * 10)

    monkeypatch.setattr(os, "chown", chown)
    monkeypatch.setattr(os, "lstat", lstat)
    caller.hand_over(tree, uid, 1001)
    return given


def test_what_root_leaves_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        ".lab/lab/pki/ca.key",
        "tests/output/unit.log",
        ".venv/bin/python",
        ".lab/cache/vm/tree/etc",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / ".lab" / "link").symlink_to("/etc/shadow")
    me = tmp_path.stat().st_uid
    given = owners(monkeypatch, tmp_path, uid=me)
    assert {".lab", ".lab/lab/pki/ca.key", ".lab/link", "tests/output/unit.log"} <= set(given)
    assert set(given.values()) == {me}
    assert ".lab/cache" in given
    assert not any(name.startswith((".venv/", ".lab/cache/")) for name in given)


def test_roots_own_checkout_stays_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert owners(monkeypatch, tmp_path, uid=tmp_path.stat().st_uid + 1) == {}


def test_a_process_that_leaves_its_threads_hands_over_first(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1001")
    monkeypatch.setattr(caller, "hand_over", lambda *found: done.append(found))
    monkeypatch.setattr(os, "_exit", done.append)
    caller.leave(130)
    assert done == [(caller.REPOSITORY, 1000, 1001), 130]

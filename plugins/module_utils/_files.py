# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Bring a set of files, directories and links into their wanted state."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class FilesError(Exception):
    """A file could not be brought into its wanted state; the text says which and why."""


@dataclass
class Outcome:
    changed_paths: list[str] = field(default_factory=list)
    diffs: list[dict[str, str]] = field(default_factory=list)


def _identifier(name: str, lookup: Any, kind: str, path: Path, *, check: bool) -> int:
    """The number of a user or group; -1 for one that only a real run would have made before."""
    if name.isdecimal():
        return int(name)
    try:
        return int(lookup(name)[2])
    except KeyError:
        if check:
            return -1
        raise FilesError(f"{path}: there is no {kind} {name!r} on this host; create it first") from None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _validate(command: str, candidate: Path, path: Path) -> None:
    argv = [str(candidate) if word == "%s" else word for word in command.split()]
    try:
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError as error:
        raise FilesError(f"{path}: cannot run its check {command!r}: {error}") from error
    if result.returncode:
        said = (result.stderr or result.stdout).strip()
        raise FilesError(f"{path}: refused by {command!r}, nothing written: {said}")


def replace(path: Path, content: bytes, mode: int, owner: tuple[int, int], validate: str | None) -> None:
    """Write beside the target and rename: a reader, or a crash, sees the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=".new-", suffix=path.suffix, dir=path.parent)
    candidate = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if validate:
            _validate(validate, candidate, path)
        candidate.replace(path)
    except BaseException:
        candidate.unlink()
        raise


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _absent(path: Path, *, check: bool) -> bool:
    status = _status(path)
    if status is None:
        return False
    if not check:
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    return True


def _link(path: Path, target: str, *, check: bool) -> bool:
    status = _status(path)
    if status is not None and stat.S_ISLNK(status.st_mode) and str(path.readlink()) == target:
        return False
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise FilesError(f"{path}: is a directory, will not be replaced by a link to {target}")
    if not check:
        candidate = path.with_name(f".new-{os.getpid()}-{path.name}")
        candidate.symlink_to(target)
        candidate.replace(path)
    return True


def _attributes(path: Path, mode: int, owner: tuple[int, int], *, check: bool) -> bool:
    status = path.stat()
    changed = False
    if (status.st_uid, status.st_gid) != owner:
        changed = True
        if not check:
            os.chown(path, *owner)
    if stat.S_IMODE(status.st_mode) != mode:
        changed = True
        if not check:
            path.chmod(mode)
    return changed


def apply_entry(entry: Mapping[str, Any], outcome: Outcome, *, check: bool) -> None:
    """Apply one entry (`path`, `state`, and what the state wants) and note what changed in `outcome`.

    Raises FilesError; OSError for what the file system refuses.
    """
    path, state = Path(entry["path"]), entry["state"]
    if state == "absent":
        changed = _absent(path, check=check)
    elif state == "link":
        changed = _link(path, entry["target"], check=check)
    else:
        mode = int(entry["mode"] or ("0755" if state == "directory" else "0644"), 8)
        owner = (
            _identifier(entry["owner"], pwd.getpwnam, "user", path, check=check),
            _identifier(entry["group"], grp.getgrnam, "group", path, check=check),
        )
        status = _status(path)
        if state == "directory":
            if status is not None and not stat.S_ISDIR(status.st_mode):
                raise FilesError(f"{path}: is not a directory")
            changed = status is None
            if changed and not check:
                path.mkdir(mode=mode, parents=True)
        else:
            if status is not None and stat.S_ISDIR(status.st_mode):
                raise FilesError(f"{path}: is a directory, not a file")
            wanted = entry["content"].encode()
            before = _read(path)
            changed = before != wanted
            if changed:
                outcome.diffs.append(
                    {
                        "before_header": str(path),
                        "after_header": str(path),
                        "before": (before or b"").decode(errors="replace"),
                        "after": entry["content"],
                    }
                )
                if not check:
                    replace(path, wanted, mode, owner, entry["validate"])
        if _status(path) is not None:
            changed = _attributes(path, mode, owner, check=check) or changed
    if changed:
        outcome.changed_paths.append(str(path))


def purge(patterns: Sequence[str], kept: Sequence[str], outcome: Outcome, *, check: bool) -> None:
    """Remove files that match one of `patterns` (absolute) and are not `kept`; directories stay."""
    for pattern in patterns:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            if str(path) in kept or (path.is_dir() and not path.is_symlink()):
                continue
            _absent(path, check=check)
            outcome.changed_paths.append(str(path))

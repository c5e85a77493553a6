#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Publish a new generation of the share, whole or not at all.

Reads from standard input what the share shall hold, as JSON:

    {"files": {"common.env": {"content": "..."}, "ca.pem": {"source": "/etc/ca.pem", "content": "..."}}}

`content` is text; with `source`, the text of that file stands before it. With `--keep`, files that are
not named stay as they are (that is how one certificate is renewed); otherwise the share holds exactly
what is named.

The share's directory holds `generations/N/` (files and `manifest.json`) and the link `current`. A new
generation is written aside, then renamed, then the link is replaced: a reader, or a crash, sees the old
generation or the new one. Unchanged files keep their time of change. The same content makes no new
generation. Answers with JSON on standard output: changed, generation, files (names that differ).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

KEPT = 3
"""Generations that stay: a client may still be reading the one before."""

MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class ShareError(Exception):
    """What was asked for cannot be published; nothing was changed."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wanted_files(request: Any) -> dict[str, bytes]:
    """Name and content of every file that `request` (see above) names."""
    try:
        files = request["files"].items()
    except (TypeError, KeyError, AttributeError):
        raise ShareError('the request is not of the form {"files": {NAME: {"content": TEXT}}}') from None
    wanted = {}
    for name, entry in files:
        if not NAME.fullmatch(name) or name == MANIFEST:
            raise ShareError(f"{name!r} cannot be the name of a file in the share")
        source = Path(entry["source"]).read_bytes() if "source" in entry else b""
        wanted[name] = source + entry.get("content", "").encode()
    if not wanted:
        raise ShareError("the request names no file")
    return wanted


def read_generation(path: Path) -> tuple[dict[str, bytes], bool]:
    """Files of a generation that are as its manifest says, and whether it is whole."""
    try:
        sums = dict(json.loads((path / MANIFEST).read_text())["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}, False
    files = {}
    for name, sha in sums.items():
        with contextlib.suppress(OSError):
            content = (path / name).read_bytes()
            if digest(content) == sha:
                files[name] = content
    return files, files.keys() == sums.keys()


def numbers(generations: Path) -> list[int]:
    return sorted(int(entry.name) for entry in generations.iterdir() if entry.name.isdecimal())


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: bytes, group: int) -> None:
    for parent in reversed(path.relative_to(path.anchor).parents):
        directory = path.anchor / parent
        if not directory.exists():
            directory.mkdir(mode=0o750)
            os.chown(directory, -1, group)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchown(file.fileno(), -1, group)
        os.fchmod(file.fileno(), 0o640)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def publish(root: Path, wanted: dict[str, bytes], *, keep: bool, group: int, dry_run: bool) -> dict[str, Any]:
    """Make `wanted` the current generation below `root`; returns the answer described above."""
    generations, current = root / "generations", root / "current"
    before, whole = read_generation(current)
    if keep:
        if not whole:
            raise ShareError("there is no whole generation to keep files of; publish all files first")
        wanted = {**before, **wanted}
    names = sorted(name for name in before.keys() | wanted.keys() if before.get(name) != wanted.get(name))
    if not names and whole:
        return {"changed": False, "generation": int(current.readlink().name), "files": []}
    number = (numbers(generations) or [0])[-1] + 1 if generations.is_dir() else 1
    answer = {"changed": True, "generation": number, "files": names}
    if dry_run:
        return answer

    generations.mkdir(mode=0o750, exist_ok=True)
    os.chown(generations, -1, group)
    for left_over in generations.glob(".new-*"):
        shutil.rmtree(left_over)
    staging = generations / f".new-{number}"
    staging.mkdir(mode=0o750)
    os.chown(staging, -1, group)
    for name, content in sorted(wanted.items()):
        if before.get(name) == content:
            (staging / name).parent.mkdir(mode=0o750, exist_ok=True, parents=True)
            os.chown((staging / name).parent, -1, group)
            (staging / name).hardlink_to(current / name)
        else:
            write(staging / name, content, group)
    manifest = {
        "generation": number,
        "files": {name: digest(content) for name, content in sorted(wanted.items())},
    }
    write(staging / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode(), group)
    sync_directory(staging)
    staging.rename(generations / str(number))
    sync_directory(generations)
    link = root / ".current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(f"generations/{number}")
    link.replace(current)
    sync_directory(root)
    for old in numbers(generations)[:-KEPT]:
        shutil.rmtree(generations / str(old))
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/srv/mastodon/share"))
    parser.add_argument("--group", type=int, default=991, help="number of the group that may read the share")
    parser.add_argument("--keep", action="store_true", help="leave files that are not named as they are")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    arguments = parser.parse_args()
    os.umask(0o027)
    try:
        wanted = wanted_files(json.load(sys.stdin))
        if arguments.dry_run:
            answer = publish(arguments.root, wanted, keep=arguments.keep, group=arguments.group, dry_run=True)
        else:
            arguments.root.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.chown(arguments.root, -1, arguments.group)
            with (arguments.root / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                answer = publish(
                    arguments.root, wanted, keep=arguments.keep, group=arguments.group, dry_run=False
                )
    except (ShareError, OSError, ValueError) as error:
        print(f"mastodon-share-publish: {error}. The published generation is unchanged.", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

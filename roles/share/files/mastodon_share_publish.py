#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Publish a new generation of the share, whole or not at all.

Reads from standard input what the share shall hold, as JSON:

    {"files": {"common.env": {"content": "..."},
               "ca.pem": {"source": "/etc/ca.pem", "content": "...", "public": true}}}

`content` is text; with `source`, the text of that file stands before it. What is `public` may be read by
everybody on a host, all else by root and the share's own user. With `--keep`, files that are not named
stay as they are (that is how one certificate is renewed); otherwise the share holds exactly what is named.

The share's directory holds `generations/N/` (files and `manifest.json`) and the link `current`. A new
generation is written aside, then renamed, then the link is replaced: a reader, or a crash, sees the old
generation or the new one. Unchanged files keep their time of change. The same content makes no new
generation. Answers with JSON on standard output: changed, generation, files (names that differ).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import grp
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

KEPT = 3
"""Generations that stay: a client may still be reading the one before."""

MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
GROUP = "mastodon-share"
DIRECTORY = 0o751
"""Whoever may read a public file has to get to it, and need not see what else is there."""


class File(NamedTuple):
    """A file of the share."""

    content: bytes
    public: bool = False

    @property
    def mode(self) -> int:
        return 0o644 if self.public else 0o640


class ShareError(Exception):
    """What was asked for cannot be published; nothing was changed."""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wanted_files(request: Any) -> dict[str, File]:
    """Every file that `request` (see above) names."""
    try:
        files = request["files"].items()
    except (TypeError, KeyError, AttributeError):
        raise ShareError('the request is not of the form {"files": {NAME: {"content": TEXT}}}') from None
    wanted = {}
    for name, entry in files:
        if not NAME.fullmatch(name) or name == MANIFEST:
            raise ShareError(f"{name!r} cannot be the name of a file in the share")
        source = Path(entry["source"]).read_bytes() if "source" in entry else b""
        wanted[name] = File(source + entry.get("content", "").encode(), bool(entry.get("public", False)))
    if not wanted:
        raise ShareError("the request names no file")
    return wanted


def read_generation(path: Path) -> tuple[dict[str, File], bool]:
    """Files of a generation that are as its manifest says, and whether it is whole."""
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        sums, public = dict(manifest["files"]), set(manifest.get("public", []))
    except (OSError, ValueError, KeyError, TypeError):
        return {}, False
    files = {}
    for name, sha in sums.items():
        with contextlib.suppress(OSError):
            content = (path / name).read_bytes()
            if digest(content) == sha:
                files[name] = File(content, name in public)
    return files, files.keys() == sums.keys()


def numbers(generations: Path) -> list[int]:
    return sorted(int(entry.name) for entry in generations.iterdir() if entry.name.isdecimal())


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_directory(path: Path, group: int) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(path, -1, group)
    path.chmod(DIRECTORY)


def write(path: Path, file: File, group: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as target:
        os.fchown(target.fileno(), -1, group)
        os.fchmod(target.fileno(), file.mode)
        target.write(file.content)
        target.flush()
        os.fsync(target.fileno())


def of_another_group(root: Path, group: int) -> list[Path]:
    """What an older release of this program published for another reader, in the share's folders."""
    found = [path for folder in root.glob("[!.]*") for path in (folder, *folder.rglob("*"))]
    return [path for path in found if not path.is_symlink() and path.stat().st_gid != group]


def adopt(paths: list[Path], group: int) -> None:
    for path in paths:
        os.chown(path, -1, group)


def publish(root: Path, wanted: dict[str, File], *, keep: bool, group: int, dry_run: bool) -> dict[str, Any]:
    """Make `wanted` the current generation below `root`; returns the answer described above."""
    generations, current = root / "generations", root / "current"
    before, whole = read_generation(current)
    if keep:
        if not whole:
            raise ShareError("there is no whole generation to keep files of; publish all files first")
        was_public = {name for name, file in before.items() if file.public}
        wanted = before | {
            name: File(file.content, file.public or name in was_public) for name, file in wanted.items()
        }
    names = sorted(name for name in before.keys() | wanted.keys() if before.get(name) != wanted.get(name))
    foreign = of_another_group(root, group)
    if not names and whole:
        if not dry_run:
            adopt(foreign, group)
        return {"changed": bool(foreign), "generation": int(current.readlink().name), "files": []}
    number = (numbers(generations) or [0])[-1] + 1 if generations.is_dir() else 1
    answer = {"changed": True, "generation": number, "files": names}
    if dry_run:
        return answer

    make_directory(generations, group)
    for left_over in generations.glob(".new-*"):
        shutil.rmtree(left_over)
    staging = generations / f".new-{number}"
    make_directory(staging, group)
    for name, file in sorted(wanted.items()):
        for parent in reversed(Path(name).parents[:-1]):
            make_directory(staging / parent, group)
        if name in before and before[name].content == file.content:
            (staging / name).hardlink_to(current / name)
            (staging / name).chmod(file.mode)
        else:
            write(staging / name, file, group)
    manifest = {
        "generation": number,
        "files": {name: digest(file.content) for name, file in sorted(wanted.items())},
        "public": sorted(name for name, file in wanted.items() if file.public),
    }
    write(staging / MANIFEST, File((json.dumps(manifest, indent=2) + "\n").encode()), group)
    sync_directory(staging)
    staging.rename(generations / str(number))
    sync_directory(generations)
    link = root / ".current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(f"generations/{number}")
    link.replace(current)
    sync_directory(root)
    # Not before: what runs may be reading the generation before.
    adopt(foreign, group)
    for old in numbers(generations)[:-KEPT]:
        shutil.rmtree(generations / str(old))
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("/srv/mastodon/share"))
    parser.add_argument("--group", default=GROUP, help="the group that may read the share")
    parser.add_argument("--keep", action="store_true", help="leave files that are not named as they are")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    arguments = parser.parse_args()
    os.umask(0o027)  # who may read the lock could also hold it
    try:
        wanted = wanted_files(json.load(sys.stdin))
        group = grp.getgrnam(arguments.group).gr_gid
        if arguments.dry_run:
            answer = publish(arguments.root, wanted, keep=arguments.keep, group=group, dry_run=True)
        else:
            arguments.root.parent.mkdir(parents=True, exist_ok=True)
            make_directory(arguments.root, group)
            with (arguments.root / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                answer = publish(arguments.root, wanted, keep=arguments.keep, group=group, dry_run=False)
    except (ShareError, OSError, ValueError, KeyError) as error:
        print(f"mastodon-share-publish: {error}. The published generation is unchanged.", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

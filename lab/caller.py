"""Root, which the engine and the making of file systems want, on behalf of a user who has sudo."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from pathlib import Path
from typing import NoReturn

from lab.config import REPOSITORY


def as_root() -> None:
    """Go on as root: where this is a user's process, start the same command with sudo instead.

    What root leaves in the repository belongs to the user when the process ends, so that inventory, keys and
    logs can be used, and removed, without sudo. HOME is root's own: nothing of root's lands in the user's.
    """
    if os.geteuid() != 0:
        # the directories that Debian leaves out for users
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        settings = [f"PATH={path}", "PYTHONDONTWRITEBYTECODE=1"]
        command = ["sudo", "--preserve-env", "--set-home", "env", *settings, sys.executable, *sys.argv]
        try:
            os.execvp(command[0], command)  # noqa: S606  - no shell is meant
        except FileNotFoundError:
            sys.exit("lab: needs root, or sudo, to use the Docker engine; there is no sudo here")
    else:
        atexit.register(_hand_over)


def leave(code: int) -> NoReturn:
    """End the process at once, whatever its threads are at: the next command does that again."""
    _hand_over()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _hand_over() -> None:
    if "SUDO_UID" in os.environ:
        hand_over(REPOSITORY, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def hand_over(tree: Path, uid: int, gid: int) -> None:
    """Give what root owns below `tree` to the user whose the tree itself is.

    Not in .venv, which is the user's; and not in .lab/cache, where another process may be making an image: of
    that, the owners of the files are a part.
    """
    if tree.stat().st_uid != uid:
        return
    others = {f"{tree}/.venv", f"{tree}/.lab/cache"}
    for folder, folders, files in os.walk(tree):
        names = [*folders, *files]
        folders[:] = [name for name in folders if f"{folder}/{name}" not in others]
        for name in names:
            path = os.path.join(folder, name)  # noqa: PTH118  - as many as ten thousand
            with contextlib.suppress(FileNotFoundError):  # servers write here, too
                if os.lstat(path).st_uid == 0:
                    os.chown(path, uid, gid, follow_symlinks=False)

#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a command of Mastodon as its user, in its release, with its environment.

    mastodon-run [--direct] [--release DIR] [--set NAME=VALUE]... COMMAND [ARGUMENT]...

With `--direct` the database is reached on its direct port, as migrations and tootctl need it; without,
through PgBouncer. Only root can read the environment; a unit that runs as mastodon is handed the files
(MASTODON_RUN_SETTINGS names their directory). The command replaces this program.
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from pathlib import Path

SETTINGS = Path(os.environ.get("MASTODON_RUN_SETTINGS", "/etc/mastodon/share/current"))
DIRECT = Path("/etc/mastodon/direct.env")
USER = "mastodon"


def read(path: Path) -> dict[str, str]:
    """Variables of an environment file: `NAME=value` lines, taken as they are."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment(release: Path, *, direct: bool) -> dict[str, str]:
    home = pwd.getpwnam(USER).pw_dir
    found = {
        "HOME": home,
        # The home is not mastodon's to write; Bundler would complain, and make one somewhere.
        "BUNDLE_USER_HOME": str(release / "tmp" / "bundler"),
        "USER": USER,
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    found |= {name: os.environ[name] for name in ("TERM", "TZ") if name in os.environ}
    # A command loads the same Rails as sidekiq does, and has nothing of its own.
    found |= read(SETTINGS / "common.env") | read(SETTINGS / "sidekiq.env")
    if direct:
        found |= read(DIRECT)
    return found


def become() -> None:
    """Drop root's rights for good; a no-op for mastodon itself."""
    user = pwd.getpwnam(USER)
    if os.getuid() == user.pw_uid:
        return
    os.initgroups(USER, user.pw_gid)
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)


def main() -> int:  # noqa: RET503  - where all goes well, it does not return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--direct", action="store_true", help="use the direct port of the database")
    parser.add_argument("--release", type=Path, default=Path("/opt/mastodon/current"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.command:
        parser.error("which command?")
    try:
        variables = environment(arguments.release, direct=arguments.direct)
        variables |= dict(pair.split("=", 1) for pair in arguments.set)
        become()
        os.chdir(arguments.release)
    except PermissionError as error:
        print(f"mastodon-run: {error}. Run it as root (sudo).", file=sys.stderr)
        return 1
    except (OSError, KeyError) as error:
        print(f"mastodon-run: {error}. Is this the converged exec of an instance?", file=sys.stderr)
        return 1
    os.umask(0o027)
    os.execvpe(arguments.command[0], arguments.command, variables)  # noqa: S606


if __name__ == "__main__":
    sys.exit(main())

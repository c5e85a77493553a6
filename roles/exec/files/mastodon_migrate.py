#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Look at and run the database migrations of a release, on the direct port.

    mastodon-migrate status VERSION   what is pending; exit code 0 also where something is
    mastodon-migrate check            for a timer: exit code 1 where `current` has pending migrations
    mastodon-migrate pre VERSION      first setup, or what must run before the new code does
    mastodon-migrate post VERSION     the rest, when no old process is left

`status` compares the table schema_migrations with the files of the release, as `rails db:migrate:status`
does, without starting Rails. It refuses a schema that is newer than the release, and before 4.7 (whose
migration makes account URIs unique) accounts that share one. Answers with JSON on standard output.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/opt/mastodon")
LOCK = Path("/run/mastodon-migrate.lock")
FIRST_SETUP = Path("/etc/mastodon/.first-setup")
"""There while the first setup is not complete: an interrupted one has tables and lacks its seeds."""
UNIQUE_URIS = re.compile(r"\d{14}_\w*unique\w*_accounts_uri\.rb")
"""The migration after which no two accounts may share a URI (Mastodon 4.7 brings it)."""


class MigrateError(Exception):
    """The database may not, or could not, be migrated; the text says what to do."""


def psql(query: str) -> list[str]:
    """Rows of a query as text. `service=mastodon` is the direct port with TLS verified."""
    result = subprocess.run(
        ["psql", "service=mastodon", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise MigrateError(f"the database does not answer on its direct port: {result.stderr.strip()}")
    return [line for line in result.stdout.splitlines() if line]


def versions(directory: Path) -> set[str]:
    return {match[1] for path in directory.glob("*.rb") if (match := re.match(r"(\d{14})_", path.name))}


@dataclass(frozen=True)
class Status:
    fresh: bool
    """No migration ever ran."""
    pre: tuple[str, ...]
    """Pending versions of db/migrate."""
    post: tuple[str, ...]
    """Pending versions of db/post_migrate."""

    def answer(self) -> dict[str, Any]:
        return {"fresh": self.fresh, "pre": list(self.pre), "post": list(self.post)}


def status(release: Path) -> Status:
    pre, post = versions(release / "db/migrate"), versions(release / "db/post_migrate")
    if not pre:
        raise MigrateError(f"{release} has no migrations: the release is not complete, build it first")
    if psql("select to_regclass('public.schema_migrations') is not null") != ["t"]:
        return Status(fresh=True, pre=tuple(sorted(pre)), post=tuple(sorted(post)))
    done = set(psql("select version from schema_migrations"))
    if done and max(done) > max(pre | post):
        raise MigrateError(
            f"the database has migration {max(done)}, which is newer than {release.name} (its last is "
            f"{max(pre | post)}): going back is not possible, deploy the newer release"
        )
    return Status(fresh=not done, pre=tuple(sorted(pre - done)), post=tuple(sorted(post - done)))


def check_duplicates(release: Path, found: Status) -> None:
    """Before the migration that makes account URIs unique, which the release's own files have or not."""
    if found.fresh:
        return
    files = [path.name for path in release.glob("db/*migrate/*.rb") if UNIQUE_URIS.fullmatch(path.name)]
    if not {name[:14] for name in files} & {*found.pre, *found.post}:
        return
    column = "select 1 from information_schema.columns where table_name = 'accounts' and column_name = 'uri'"
    if not psql(column):
        return
    pairs = psql(
        "select uri, count(*) from accounts where uri is not null and uri <> '' "
        "group by uri having count(*) > 1 order by 2 desc limit 5"
    )
    if pairs:
        raise MigrateError(
            f"{release.name} makes account URIs unique, and these belong to several accounts: "
            f"{'; '.join(pairs)}. Merge them first (tootctl maintenance fix-duplicates, with everything "
            "stopped)"
        )


def rails(release: Path, *task: str, skip_post: bool) -> None:
    argv = ["/usr/local/bin/mastodon-run", "--direct", "--release", str(release)]
    if skip_post:
        # Mastodon asks only whether it is there: `false`, and even an empty value, skip as well.
        argv += ["--set", "SKIP_POST_DEPLOYMENT_MIGRATIONS=true"]
    argv += ["bundle", "exec", "rails", *task]
    print(f"+ rails {' '.join(task)}", file=sys.stderr, flush=True)
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if result.returncode:
        raise MigrateError(
            f"rails {' '.join(task)} ended with exit code {result.returncode}; see its output above. "
            "Each migration "
            "is one transaction: run the playbook again when the cause is removed"
        )


def pre(version: str, *, dry_run: bool) -> dict[str, Any]:
    release = ROOT / "releases" / version
    found = status(release)
    check_duplicates(release, found)
    setup = found.fresh or FIRST_SETUP.exists()
    if not dry_run:
        if setup:
            FIRST_SETUP.touch()
            rails(release, "db:migrate", skip_post=False)
            rails(release, "db:seed", skip_post=False)
            FIRST_SETUP.unlink()
        elif found.pre:
            rails(release, "db:migrate", skip_post=True)
        if status(release).pre:
            raise MigrateError(
                f"migrations of {version} are still pending after db:migrate; see its output above"
            )
    return {"changed": setup or bool(found.pre), **found.answer()}


def post(version: str, *, dry_run: bool) -> dict[str, Any]:
    release = ROOT / "releases" / version
    found = status(release)
    pending = [*found.pre, *found.post]
    if pending and not dry_run:
        rails(release, "db:migrate", skip_post=False)
        left = status(release)
        if left.pre or left.post:
            raise MigrateError(
                f"migrations of {version} are still pending after db:migrate; see its output above"
            )
    return {"changed": bool(pending), **found.answer()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("status", "pre", "post"):
        command = verbs.add_parser(verb)
        command.add_argument("version")
        command.add_argument("--dry-run", action="store_true")
    verbs.add_parser("check")
    arguments = parser.parse_args()
    try:
        if arguments.verb == "check":
            found = status(ROOT / "current")
            if pending := [*found.pre, *found.post]:
                raise MigrateError(
                    f"{len(pending)} migrations of the deployed release are pending: {pending[0]} ..."
                )
            print("No migration is pending.")
            return 0
        if arguments.verb == "status":
            answer = status(ROOT / "releases" / arguments.version).answer()
        else:
            with open(LOCK, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                phase = pre if arguments.verb == "pre" else post
                answer = phase(arguments.version, dry_run=arguments.dry_run)
    except MigrateError as error:
        print(f"mastodon-migrate: {error}.", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the account of the instance's owner, where no account has that name.

    mastodon-owner USERNAME EMAIL [--dry-run]

Answers with JSON on standard output: changed, and the password where it was made, which is kept nowhere.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys


def fail(text: str) -> int:
    print(f"mastodon-owner: {text}", file=sys.stderr)
    return 1


def main() -> int:
    username, email = sys.argv[1:3]
    if not re.fullmatch(r"[A-Za-z0-9_]+", username):
        return fail(f"{username!r} cannot be a user name: letters, digits and underscores only")
    query = f"select 1 from accounts where lower(username) = lower('{username}') and domain is null"  # noqa: S608
    found = subprocess.run(
        ["psql", "service=mastodon", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode:
        return fail(f"the database does not answer on its direct port: {found.stderr.strip()}")
    if found.stdout.strip():
        print(json.dumps({"changed": False}))
        return 0
    if "--dry-run" in sys.argv[3:]:
        print(json.dumps({"changed": True}))
        return 0
    made = subprocess.run(
        ["/usr/local/bin/tootctl", "accounts", "create", username, "--email", email,
         "--confirmed", "--approve", "--role", "Owner"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    password = re.search(r"password: (\S+)", made.stdout)
    if made.returncode or not password:
        return fail(f"tootctl accounts create failed: {made.stderr.strip() or made.stdout.strip()}")
    print(json.dumps({"changed": True, "password": password[1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

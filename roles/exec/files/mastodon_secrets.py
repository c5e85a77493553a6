#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the secrets that Mastodon must never lose, in /etc/mastodon/secrets.json (root, 0600).

Reads from standard input what the admin's settings hold, as JSON ({} for nothing), and prints all secrets as
JSON. What neither settings nor file have is generated once (with `--dry-run` it is not kept). Refuses to
generate, or to replace, a key that the data in the database was written with.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import string
import subprocess
import sys
from pathlib import Path

FILE = Path("/etc/mastodon/secrets.json")
ENCRYPTION = (
    "active_record_encryption_primary_key",
    "active_record_encryption_deterministic_key",
    "active_record_encryption_key_derivation_salt",
)
VAPID = ("vapid_private_key", "vapid_public_key")
NAMES = ("secret_key_base", *ENCRYPTION, *VAPID)


class SecretsError(Exception):
    """A secret is missing or differs and must not be made up; the text says what to do."""


def database_has_data() -> bool:
    """Whether Mastodon has been set up. Raises SecretsError where the database does not answer."""
    query = "select to_regclass('public.accounts') is not null"
    result = subprocess.run(
        ["psql", "service=mastodon", "--no-psqlrc", "--tuples-only", "--no-align", "--command", query],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode:
        raise SecretsError(f"the database does not answer on its direct port: {result.stderr.strip()}")
    return result.stdout.strip() == "t"


def vapid_pair() -> dict[str, str]:
    """A P-256 key pair as web push wants it: the 32 and the 65 bytes in URL-safe base64."""
    key = subprocess.run(
        ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-outform", "DER"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    # RFC 5915: SEQUENCE, version, OCTET STRING of 32 bytes, the curve, and at the end the uncompressed point.
    private, public = key[7:39], key[-65:]
    if key[5:7] != b"\x04\x20" or public[0] != 4:
        raise SecretsError("openssl made a key in an unknown form")
    return dict(
        zip(VAPID, (base64.urlsafe_b64encode(part).decode() for part in (private, public)), strict=True)
    )


def generate(names: set[str]) -> dict[str, str]:
    made = {}
    if "secret_key_base" in names:
        made["secret_key_base"] = secrets.token_hex(64)
    alphabet = string.ascii_letters + string.digits
    for name in ENCRYPTION:
        if name in names:
            made[name] = "".join(secrets.choice(alphabet) for _ in range(32))
    if names.intersection(VAPID):
        made |= vapid_pair()
    return made


def ensure(given: dict[str, str], kept: dict[str, str]) -> dict[str, str]:
    """All secrets: given ones first, then kept ones, then new ones where that harms nothing."""
    changed = sorted(
        name for name in ENCRYPTION if name in given and name in kept and given[name] != kept[name]
    )
    if changed and database_has_data():
        raise SecretsError(
            f"mastodon_secrets.{changed[0]} is not the key that {FILE} holds, and the database holds "
            "data that was "
            "encrypted with that one. Remove it from the settings, or set it to the value in that file"
        )
    known = kept | given
    missing = {name for name in NAMES if not known.get(name)}
    if missing and database_has_data():
        raise SecretsError(
            f"{', '.join(sorted(missing))} is neither in mastodon_secrets nor in {FILE}, and the "
            "database holds data "
            "that was written with it. It is not made anew: that data would be lost. Restore the "
            "file from the "
            "nightly copy, or set the value in mastodon_secrets"
        )
    return known | generate(missing)


def main() -> int:
    try:
        given = {name: value for name, value in json.load(sys.stdin).items() if value}
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        wanted = ensure(given, kept)
        if wanted != kept and "--dry-run" not in sys.argv[1:]:
            candidate = FILE.with_name(f".{FILE.name}.new")
            candidate.unlink(missing_ok=True)
            with os.fdopen(os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(wanted, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            candidate.replace(FILE)
    except (SecretsError, OSError, ValueError) as error:
        print(f"mastodon-secrets: {error}.", file=sys.stderr)
        return 1
    print(json.dumps({"changed": wanted != kept, "secrets": wanted}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

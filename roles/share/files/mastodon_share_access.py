#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Print, as JSON, what a client needs to fetch the share over SSH: private_key, host_key.

The key is made at the first call. It opens a read-only view of the share and nothing else, and only to
the addresses in the first argument (comma-separated, as in authorized_keys' `from=`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

KEY = Path("/etc/mastodon/share-client-key")
AUTHORIZED = Path("/var/lib/mastodon-share/.ssh/authorized_keys")
HOST_KEY = Path("/etc/ssh/ssh_host_ed25519_key.pub")
SHARE = "/srv/mastodon/share"


def main() -> int:
    addresses = sys.argv[1]
    if not KEY.exists():
        new = KEY.with_name(f".{KEY.name}.new")
        new.unlink(missing_ok=True)
        new.with_name(f"{new.name}.pub").unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mastodon-share", "-f", str(new)],
            check=True,
        )
        new.with_name(f"{new.name}.pub").unlink()
        new.replace(KEY)
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(KEY)], check=True, capture_output=True, text=True
    ).stdout
    line = f'restrict,from="{addresses}",command="/usr/bin/rrsync -ro {SHARE}" {public.strip()}\n'
    if not AUTHORIZED.exists() or AUTHORIZED.read_text() != line:
        AUTHORIZED.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        candidate = AUTHORIZED.with_name(".authorized_keys.new")
        candidate.write_text(line)
        candidate.chmod(0o644)
        candidate.replace(AUTHORIZED)
    kind, data = HOST_KEY.read_text().split()[:2]
    print(json.dumps({"private_key": KEY.read_text(), "host_key": f"{kind} {data}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

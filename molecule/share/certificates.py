"""Writes an authority and two certificates of the instance into a directory: the first, and its renewal."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.pki import Authority

if __name__ == "__main__":
    authority = Authority.open(Path(sys.argv[1]), "instance")
    for name in ("first", "renewed"):
        authority.issue(name, ["social.test"])

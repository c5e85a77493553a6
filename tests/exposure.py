"""How far systemd confines a unit."""

from __future__ import annotations

import re
from typing import Any


def exposure(host: Any, unit: str) -> float:
    """The level that `systemd-analyze security` gives a unit of a testinfra host: 0 (confined) to 10."""
    said = host.check_output("systemd-analyze security %s", unit)
    level = re.search(r"exposure level for .*: ([0-9.]+)", said)
    assert level, said
    return float(level[1])

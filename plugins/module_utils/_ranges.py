# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: Cloudflare's address ranges: what is believed, and the file that keeps them.

Who is in such a range is believed about the address of a visitor. So an answer is checked before it is used.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ._files import replace

PUBLISHED_ON = "2026-10-05"
PUBLISHED = (
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "108.162.192.0/18",
    "131.0.72.0/22",
    "141.101.64.0/18",
    "162.158.0.0/15",
    "172.64.0.0/13",
    "173.245.48.0/20",
    "188.114.96.0/20",
    "190.93.240.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "2400:cb00::/32",
    "2405:8100::/32",
    "2405:b500::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
)
"""The list of https://www.cloudflare.com/ips/ on PUBLISHED_ON, in the order of `believed`. It last changed on
2021-04-08."""

WIDEST = {4: 10, 6: 24}
"""Shortest prefix that is believed, by IP version. Cloudflare's widest ranges are a /13 and a /29: there is
room to grow, but a /0, or half of the addresses in two entries, is a mistake or an attack."""

NOT_CLOUDFLARE = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
        *("::/8", "fc00::/7", "fe80::/10", "ff00::/8"),
    )
)
"""Addresses of the host itself, of private networks and of no host. Not `is_private`, which also counts the
ranges for documentation: nobody has those, and tests need addresses that nobody has."""


class RangesError(Exception):
    """This is no list of Cloudflare's ranges; `str()` says why."""


class Kept(NamedTuple):
    """What the file keeps: the ranges, and when they were written (as in 2026-10-05T12:00:00Z)."""

    ranges: list[str]
    since: str


def answered(answer: Any) -> list[str]:
    """The ranges in an answer of GET /ips, as `believed` gives them. Raises RangesError."""
    if not isinstance(answer, dict) or answer.get("success") is not True:
        raise RangesError("it does not say `success: true`")
    result = answer.get("result")
    lists = [result.get(key) if isinstance(result, dict) else None for key in ("ipv4_cidrs", "ipv6_cidrs")]
    if not all(isinstance(found, list) and found for found in lists):
        raise RangesError("it lacks ranges in `result.ipv4_cidrs` or `result.ipv6_cidrs`")
    return believed(text for found in lists for text in found or ())


def believed(texts: Iterable[Any]) -> list[str]:
    """The ranges in their usual form, IPv4 first, in the order of addresses, each once.

    Raises RangesError for what is no network, not Cloudflare's, or too wide to be.
    """
    networks = {_network(text) for text in texts}
    return [str(network) for network in sorted(networks, key=_order)]


def _order(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _network(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        # Only text with a length: ip_network takes numbers too, and single addresses.
        if not isinstance(text, str) or "/" not in text:
            raise ValueError
        network = ipaddress.ip_network(text)
    except ValueError:
        raise RangesError(f"{text!r:.60} is no network") from None
    for other in NOT_CLOUDFLARE:
        if network.version == other.version and network.overlaps(other):
            raise RangesError(f"{network} cannot be Cloudflare's, since {other} is nobody's on the Internet")
    if network.prefixlen < WIDEST[network.version]:
        raise RangesError(f"{network} is wider than /{WIDEST[network.version]}")
    return network


def read(path: Path) -> Kept | None:
    """What the file keeps; None where there is none. Raises RangesError for a file that cannot be used."""
    try:
        kept = json.loads(path.read_bytes())
        found = Kept(believed(kept["ranges"]), str(kept["since"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RangesError(f"{type(error).__name__}: {error}") from error
    if not found.ranges:
        raise RangesError("it has no ranges")
    return found


def write(path: Path, kept: Kept) -> None:
    """Replaces the file, which everybody may read: readers see the old one or the new one. Raises OSError."""
    replace(path, (json.dumps(kept._asdict(), indent=2) + "\n").encode(), 0o644, (-1, -1), None)

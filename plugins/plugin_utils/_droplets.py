# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: what the inventory makes of DigitalOcean's droplet objects. Pure functions."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from ansible.template import trust_as_template

_INERT = re.compile(r"[A-Za-z0-9._:/@+-]*\Z")
_DIGITS = re.compile(r"(\d+)")


class Droplet(TypedDict):
    """A droplet as the inventory keeps and caches it: plain data; the keys name its host variables.

    A whole API object is about 5 kB (its size and region list each other); this is about 0.4 kB.
    """

    id: int
    name: str
    status: str
    tags: list[str]
    region: str
    size: str
    image: str
    image_distribution: str
    vpc_uuid: str
    public_ipv4: str
    private_ipv4: str
    public_ipv6: str
    vcpus: int
    memory: int
    disk: int
    locked: bool
    created_at: str


def reduced(droplet: Mapping[str, Any]) -> Droplet:
    """The API's droplet object as a Droplet. What it lacks is `""`, `0` or `[]`.

    Addresses: the first of each kind, as `networks.v4` lists them. `image` is the slug, or the id as a string
    where the image has none (snapshots).
    """
    addresses = {"public_v4": "", "private_v4": "", "public_v6": ""}
    for family, networks in (droplet.get("networks") or {}).items():
        for network in networks or ():
            kind = f"{network.get('type')}_{family}"
            if not addresses.get(kind, "-"):
                addresses[kind] = network.get("ip_address") or ""
    image = droplet.get("image") or {}
    return {
        "id": droplet["id"],
        "name": droplet["name"],
        "status": droplet.get("status") or "",
        "tags": sorted(droplet.get("tags") or []),
        "region": (droplet.get("region") or {}).get("slug") or "",
        "size": droplet.get("size_slug") or "",
        "image": image.get("slug") or str(image.get("id") or ""),
        "image_distribution": image.get("distribution") or "",
        "vpc_uuid": droplet.get("vpc_uuid") or "",
        "public_ipv4": addresses["public_v4"],
        "private_ipv4": addresses["private_v4"],
        "public_ipv6": addresses["public_v6"],
        "vcpus": droplet.get("vcpus") or 0,
        "memory": droplet.get("memory") or 0,
        "disk": droplet.get("disk") or 0,
        "locked": bool(droplet.get("locked")),
        "created_at": droplet.get("created_at") or "",
    }


def belongs(droplet: Droplet, instance: str) -> bool:
    """Whether a tag `<instance>` or `<instance>-...` makes the droplet one of the instance."""
    return any(tag == instance or tag.startswith(f"{instance}-") for tag in droplet["tags"])


def groups_of(droplet: Droplet, instance: str, known: Sequence[str]) -> list[str]:
    """The groups of `known` that the droplet's tags `<instance>-<group>` put it in, in that order."""
    return [group for group in known if f"{instance}-{group}" in droplet["tags"]]


def natural(text: str) -> tuple[Any, ...]:
    """Sorting key that puts worker-9 before worker-10."""
    return tuple(int(part) if part.isdigit() else part for part in _DIGITS.split(text))


def duplicates(droplets: Iterable[Droplet]) -> dict[str, list[int]]:
    """Names that several droplets have (DigitalOcean allows it), with their ids."""
    ids: dict[str, list[int]] = {}
    for droplet in droplets:
        ids.setdefault(droplet["name"], []).append(droplet["id"])
    return {name: sorted(found) for name, found in ids.items() if len(found) > 1}


def plain(value: Any) -> Any:
    """`value` so that `ansible-inventory --list` prints it as it is.

    ansible-core 2.19 marks strings from outside as unsafe and prints `{"__ansible_unsafe": ...}`, which
    readers of that JSON do not understand. A string without any character that a template needs is inert:
    calling it trusted changes nothing but the print. All others stay untrusted, so that no droplet's name
    or tag is ever run as a template.
    """
    if isinstance(value, str):
        return _plain_text(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


@functools.lru_cache(maxsize=4096)  # region, size, image and tags are those of thousands of other droplets
def _plain_text(value: str) -> Any:
    return trust_as_template(value) if _INERT.match(value) else value

"""What DigitalOcean offers: regions, sizes, images, database options. A short, realistic excerpt.

Shapes are those of the vendor's OpenAPI document (`region`, `size`, `image`, `options`); slugs and prices
are public knowledge and only have to be plausible.
"""

from __future__ import annotations

from typing import Any

_REGION_NAMES = {
    "nyc1": "New York 1",
    "nyc3": "New York 3",
    "ams3": "Amsterdam 3",
    "fra1": "Frankfurt 1",
    "lon1": "London 1",
    "sfo3": "San Francisco 3",
    "sgp1": "Singapore 1",
    "tor1": "Toronto 1",
}

DEFAULT_REGION = "nyc3"

_FEATURES = ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"]


def _size(
    slug: str, memory: int, vcpus: int, disk: int, *, transfer: float, monthly: float, family: str
) -> dict[str, Any]:
    return {
        "slug": slug,
        "memory": memory,
        "vcpus": vcpus,
        "disk": disk,
        "transfer": transfer,
        "price_monthly": monthly,
        "price_hourly": round(monthly / 672, 5),
        "regions": list(_REGION_NAMES),
        "available": True,
        "description": family,
        "disk_info": [{"type": "local", "size": {"amount": disk, "unit": "gib"}}],
    }


SIZES: dict[str, dict[str, Any]] = {
    size["slug"]: size
    for size in (
        _size("s-1vcpu-1gb", 1024, 1, 25, transfer=1.0, monthly=6.0, family="Basic"),
        _size("s-1vcpu-2gb", 2048, 1, 50, transfer=2.0, monthly=12.0, family="Basic"),
        _size("s-2vcpu-2gb", 2048, 2, 60, transfer=3.0, monthly=18.0, family="Basic"),
        _size("s-2vcpu-4gb", 4096, 2, 80, transfer=4.0, monthly=24.0, family="Basic"),
        _size("s-4vcpu-8gb", 8192, 4, 160, transfer=5.0, monthly=48.0, family="Basic"),
        _size("s-8vcpu-16gb", 16384, 8, 320, transfer=6.0, monthly=96.0, family="Basic"),
        _size("g-2vcpu-8gb", 8192, 2, 25, transfer=4.0, monthly=63.0, family="General Purpose"),
        _size("g-4vcpu-16gb", 16384, 4, 50, transfer=5.0, monthly=126.0, family="General Purpose"),
        _size("c-2", 4096, 2, 25, transfer=4.0, monthly=42.0, family="CPU-Optimized"),
        _size("c-4", 8192, 4, 50, transfer=5.0, monthly=84.0, family="CPU-Optimized"),
        _size("m-2vcpu-16gb", 16384, 2, 50, transfer=4.0, monthly=84.0, family="Memory-Optimized"),
    )
}

REGIONS: dict[str, dict[str, Any]] = {
    slug: {
        "name": name,
        "slug": slug,
        "features": list(_FEATURES),
        "available": True,
        "sizes": list(SIZES),
    }
    for slug, name in _REGION_NAMES.items()
}


def _image(number: int, name: str, distribution: str, slug: str, created: str) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "distribution": distribution,
        "slug": slug,
        "public": True,
        "regions": list(_REGION_NAMES),
        "created_at": created,
        "type": "base",
        "min_disk_size": 10,
        "size_gigabytes": 1.37,
        "description": f"{distribution} {name}",
        "tags": [],
        "status": "available",
    }


IMAGES: dict[int, dict[str, Any]] = {
    image["id"]: image
    for image in (
        _image(195932981, "13 x64", "Debian", "debian-13-x64", "2025-08-19T17:01:52Z"),
        _image(184391417, "12 x64", "Debian", "debian-12-x64", "2025-05-28T18:29:07Z"),
        _image(190000001, "24.04 (LTS) x64", "Ubuntu", "ubuntu-24-04-x64", "2025-06-19T20:16:52Z"),
        _image(155133621, "22.04 (LTS) x64", "Ubuntu", "ubuntu-22-04-x64", "2024-05-14T15:21:49Z"),
    )
}


def image(reference: str | int) -> dict[str, Any] | None:
    """An image by slug or id (an id may come as a string of digits)."""
    if isinstance(reference, int) or reference.isdigit():
        return IMAGES.get(int(reference))
    return next((found for found in IMAGES.values() if found["slug"] == reference), None)


_DATABASE_SIZES = [
    "db-s-1vcpu-1gb",
    "db-s-1vcpu-2gb",
    "db-s-2vcpu-4gb",
    "db-s-4vcpu-8gb",
    "db-s-6vcpu-16gb",
    "gd-2vcpu-8gb",
    "gd-4vcpu-16gb",
]


def _engine(versions: list[str], default: str) -> dict[str, Any]:
    layouts = [
        # a standby needs more than the smallest size
        {"num_nodes": nodes, "sizes": _DATABASE_SIZES[0 if nodes == 1 else 1 :]}
        for nodes in (1, 2, 3)
    ]
    return {
        "regions": list(_REGION_NAMES),
        "versions": versions,
        "layouts": layouts,
        "default_version": default,
    }


# The versions that the lab can run; DigitalOcean has older ones of PostgreSQL, too.
DATABASES: dict[str, dict[str, Any]] = {
    "pg": _engine(["17"], "17"),
    "valkey": _engine(["8"], "8"),
}

REFUSED_ENGINES = ("mysql", "mongodb", "kafka", "opensearch", "advanced_pg", "advanced_mysql")
"""The vendor has them, the lab does not."""


def database_memory_gib(size: str) -> int:
    """RAM of a database size, from its slug: what limits the connections of a cluster."""
    return int(size.rsplit("-", 1)[1].removesuffix("gb"))

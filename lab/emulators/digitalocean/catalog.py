"""What DigitalOcean offers: regions, sizes, images, database options. A short, realistic excerpt.

Shapes are those of the vendor's OpenAPI document (`region`, `size`, `image`, `options`); slugs and prices
are public knowledge and only have to be plausible.
"""

from __future__ import annotations

from typing import Any

_REGION_NAMES = {
    "ams3": "Amsterdam 3",
    "blr1": "Bangalore 1",
    "fra1": "Frankfurt 1",
    "lon1": "London 1",
    "nyc1": "New York 1",
    "nyc2": "New York 2",
    "nyc3": "New York 3",
    "sfo2": "San Francisco 2",
    "sfo3": "San Francisco 3",
    "sgp1": "Singapore 1",
    "syd1": "Sydney 1",
    "tor1": "Toronto 1",
}

DEFAULT_REGION = "nyc3"

_FEATURES = ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"]


# family: (name, (slug, GiB of memory, CPUs, GiB of disk, TiB of transfer, dollars a month), ...)
_FAMILIES: tuple[tuple[str, tuple[tuple[str, float, int, int, float, float], ...]], ...] = (
    (
        "Basic",
        (
            ("s-1vcpu-512mb-10gb", 0.5, 1, 10, 0.5, 4),
            ("s-1vcpu-1gb", 1, 1, 25, 1, 6),
            ("s-1vcpu-2gb", 2, 1, 50, 2, 12),
            ("s-2vcpu-2gb", 2, 2, 60, 3, 18),
            ("s-2vcpu-4gb", 4, 2, 80, 4, 24),
            ("s-4vcpu-8gb", 8, 4, 160, 5, 48),
            ("s-8vcpu-16gb", 16, 8, 320, 6, 96),
        ),
    ),
    *(
        (
            f"Premium {brand}",
            (
                (f"s-1vcpu-1gb-{suffix}", 1, 1, 25, 1, 7),
                (f"s-1vcpu-2gb-{suffix}", 2, 1, 50, 2, 14),
                (f"s-2vcpu-2gb-{suffix}", 2, 2, 60, 3, 21),
                (f"s-2vcpu-4gb-{suffix}", 4, 2, 80, 4, 28),
                (f"s-2vcpu-8gb-{suffix}", 8, 2, 100, 5, 42),
                (f"s-4vcpu-8gb-{suffix}", 8, 4, 160, 5, 56),
                (f"s-4vcpu-16gb-{suffix}", 16, 4, 200, 8, 84),
                (f"s-8vcpu-16gb-{suffix}", 16, 8, 320, 6, 112),
            ),
        )
        for brand, suffix in (("AMD", "amd"), ("Intel", "intel"))
    ),
    *(
        (
            name,
            tuple(
                (
                    slug.format(cpus=cpus, memory=cpus * ratio),
                    cpus * ratio,
                    cpus,
                    disk * cpus,
                    4 + cpus // 4,
                    price * cpus,
                )
                for cpus in (2, 4, 8, 16, 32)
            ),
        )
        for name, slug, ratio, disk, price in (
            ("General Purpose", "g-{cpus}vcpu-{memory}gb", 4, 12, 31.5),
            ("General Purpose, twice the disk", "gd-{cpus}vcpu-{memory}gb", 4, 25, 34),
            ("CPU-Optimized", "c-{cpus}", 2, 12, 21),
            ("Memory-Optimized", "m-{cpus}vcpu-{memory}gb", 8, 25, 42),
            ("Storage-Optimized", "so-{cpus}vcpu-{memory}gb", 8, 150, 65.5),
        )
    ),
)

SIZES: dict[str, dict[str, Any]] = {
    slug: {
        "slug": slug,
        "memory": int(memory * 1024),
        "vcpus": vcpus,
        "disk": disk,
        "transfer": float(transfer),
        "price_monthly": float(monthly),
        "price_hourly": round(monthly / 672, 5),
        "regions": list(_REGION_NAMES),
        "available": True,
        "description": family,
        "disk_info": [{"type": "local", "size": {"amount": disk, "unit": "gib"}}],
    }
    for family, sizes in _FAMILIES
    for slug, memory, vcpus, disk, transfer, monthly in sizes
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

"""What a lab is called and where it lives: the one place for its names, addresses and paths."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

LABEL = "io.vmst.lab"
"""Docker label on everything a lab makes; its value is the lab's name. `lab down` removes by it."""

LABEL_PART = "io.vmst.lab.part"
"""Docker label naming the part (`mirror`, `droplet`, `load-balancer`, ...) that a container is."""

IMAGE_PREFIX = "vmstio-lab"
"""Repository prefix of the images a lab builds; they are shared between labs and survive `lab down`."""

_SUBNETS = {
    # name: (public, private). The public ones are ranges for documentation (RFC 5737) and benchmarks
    # (RFC 2544): never routed anywhere, and not RFC 1918, so that a proxy chain sees what it sees on the
    # internet.
    "lab": ("198.51.100.0/24", "10.118.0.0/20"),
    "test": ("198.18.0.0/24", "10.119.0.0/20"),  # molecule
    "e2e": ("198.18.2.0/24", "10.121.0.0/20"),
    "vm": ("198.18.1.0/24", "10.120.0.0/20"),  # virtual machines (lab/vm.py)
}

_PARTS = {
    # part: host number in the public network
    "digitalocean": 2,
    "cloudflare": 3,
    "sendgrid": 4,
    "dns": 5,
    "mail": 6,
    "mirror": 7,
    "spaces": 8,
    "influxdb": 9,
    "registry": 10,
    "apt": 11,
}


@dataclass(frozen=True)
class Lab:
    """One lab.

    `name` prefixes every container, network and volume (`vmstio-NAME-...`). `public` and `private` are the
    two networks of the droplets. `state` holds what the lab writes on this machine: keys, certificates,
    the generated inventory, logs.
    """

    name: str
    public: ipaddress.IPv4Network
    private: ipaddress.IPv4Network
    state: Path

    @classmethod
    def load(cls, name: str | None = None) -> Lab:
        """The lab called `name` (default: `$LAB_NAME`, else `lab`).

        `$LAB_PUBLIC` and `$LAB_PRIVATE` set other subnets (CIDR). Raises ValueError for a name that has no
        subnets of its own while they are not set.
        """
        name = name or os.environ.get("LAB_NAME") or "lab"
        public, private = _SUBNETS.get(name, (None, None))
        public = os.environ.get("LAB_PUBLIC", public)
        private = os.environ.get("LAB_PRIVATE", private)
        if not public or not private:
            raise ValueError(
                f"lab {name!r} has no subnets: set LAB_PUBLIC and LAB_PRIVATE (CIDR, /24 or larger)"
            )
        return cls(
            name=name,
            public=ipaddress.IPv4Network(public),
            private=ipaddress.IPv4Network(private),
            state=REPOSITORY / ".lab" / name,
        )

    @property
    def cache(self) -> Path:
        """Built things that every lab shares and `lab down` keeps (root file systems, binaries, packages)."""
        return REPOSITORY / ".lab" / "cache"

    @property
    def ca(self) -> Path:
        """The lab's certificate authority (PEM): signs the APIs, the mirror and the instance."""
        return self.state / "pki" / "ca.crt"

    def container(self, part: str) -> str:
        return f"vmstio-{self.name}-{part}"

    def address(self, part: str) -> str:
        """Public address of a fixed part; droplets, load balancers and databases get theirs when created."""
        return str(self.public[_PARTS[part]])

    def host(self, part: str) -> str:
        """DNS name of a fixed part, as the droplets see it."""
        return f"{part}.lab.internal"

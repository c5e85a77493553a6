from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.config import Lab
from lab.emulators import digitalocean
from lab.emulators.common import grant
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import running
from lab.engine import LabError
from lab.pki import Authority
from lab.provision import Api, Provisioner, group_of, parse_droplets, tags_of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhYmxhYmxhYmxhYmxhYmxhYmxhYmxhYmxhYmxhYmxhYmxh lab"


def test_droplets() -> None:
    assert parse_droplets("exec,worker:2") == ["vmst-exec", "vmst-worker-1", "vmst-worker-2"]
    assert parse_droplets("none") == []
    assert parse_droplets(" exec , search ") == ["vmst-exec", "vmst-search"]


@pytest.mark.parametrize("text", ["worker:0", "worker:x", "Worker", "exec;worker", "worker:1000", ":3"])
def test_a_wrong_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GROUP"):
        parse_droplets(text)


def test_tags() -> None:
    assert group_of("vmst-worker-12") == "worker"
    assert tags_of("vmst-exec") == ["vmst-exec"]
    assert tags_of("vmst-worker-2") == ["vmst-worker", "vmst-lb"]


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


@pytest.fixture
def provisioner(tmp_path: Path, cloud: MemoryCloud) -> Iterator[Provisioner]:
    authority = Authority.open(tmp_path / "pki", "lab")
    networks = ipaddress.IPv4Network("198.18.0.0/24"), ipaddress.IPv4Network("10.119.0.0/20")
    lab = Lab("test", *networks, tmp_path)
    provisioner = Provisioner(lab, {"digitalocean_token": "all", "cloudflare_token": "all"})
    application = digitalocean.create_app(cloud, tokens=grant("all"))
    with running(application, authority.issue("api", ["localhost"], ["127.0.0.1"])) as url:
        provisioner.digitalocean = Api(url, "all", authority.file)
        yield provisioner


def test_a_droplet_that_could_not_be_made_is_told_and_ordered_again(
    provisioner: Provisioner, cloud: MemoryCloud
) -> None:
    key = provisioner._ssh_key(KEY)
    cloud.fail["create_droplet"] = "the engine refuses"
    provisioner._order_droplets(["vmst-exec"], key)
    with pytest.raises(LabError, match="droplet vmst-exec could not be made"):
        provisioner.await_droplets()
    refused = provisioner.droplet("vmst-exec")["id"]
    provisioner._order_droplets(["vmst-exec"], key)
    made = provisioner.await_droplets()["vmst-exec"]
    assert made["status"] == "active"
    assert made["id"] != refused
    provisioner._order_droplets(["vmst-exec"], key)
    assert provisioner.droplet("vmst-exec")["id"] == made["id"]

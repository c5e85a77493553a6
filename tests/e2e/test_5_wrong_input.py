"""Wrong input ends with a clear message and a non-zero exit, before anything is changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from .conftest import Run, TestLab, run


@pytest.fixture
def copy(converged: TestLab, tmp_path: Path) -> Path:
    """A copy of the lab's inventory, to be spoiled."""
    target = tmp_path / "inventory"
    shutil.copytree(converged.inventory, target)
    return target


def change(inventory: Path, **options: object) -> None:
    """Sets options of the inventory plugin; None removes one."""
    path = inventory / "digitalocean.yml"
    settings = yaml.safe_load(path.read_text())
    settings.update(options)
    path.write_text(yaml.safe_dump({key: value for key, value in settings.items() if value is not None}))


def site(inventory: Path, *arguments: str) -> Run:
    environment = {"DIGITALOCEAN_TOKEN": "", "DO_API_TOKEN": "", "DIGITALOCEAN_ACCESS_TOKEN": ""}
    return run("ansible-playbook", "-i", inventory, "playbooks/site.yml", *arguments, env=environment)


def refuses(done: Run, *words: str) -> None:
    assert done.code != 0, done.output
    assert not any(line.changed for line in done.recap.values())
    for word in words:
        assert word in done.output, done.output


def test_no_token(copy: Path) -> None:
    change(copy, api_token=None)
    refuses(site(copy), "token", "DIGITALOCEAN_TOKEN")


def test_wrong_token(copy: Path) -> None:
    change(copy, api_token="dop_v1_" + "0" * 64)
    done = site(copy)
    refuses(done, "token")
    assert "0" * 64 not in done.output


def test_no_droplets_with_the_tag(copy: Path) -> None:
    change(copy, instance="nobody")
    refuses(site(copy), "nobody")


def test_unreachable_api(copy: Path) -> None:
    change(copy, endpoint="https://127.0.0.1:9")
    refuses(site(copy), "https://127.0.0.1:9")


def test_missing_encryption_key(copy: Path) -> None:
    secrets = '{"mastodon_secrets": {"active_record_encryption_primary_key": ""}}'
    refuses(site(copy, "-e", secrets), "active_record_encryption_primary_key")


@pytest.mark.parametrize("version", ["4.7", "latest", "v4.2.9"])
def test_wrong_version(copy: Path, version: str) -> None:
    refuses(site(copy, "-e", f"mastodon_version={version}"), version, "mastodon_version")

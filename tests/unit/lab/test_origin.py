"""Where the lab's Mastodon comes from."""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

import pytest

from lab import inventory
from lab.config import Lab
from lab.engine import LabError
from lab.origin import OFFICIAL, OWN, STAND_IN, Origin

ROOT = Path(__file__).resolve().parents[3]

LOCK = """\
GIT
  remote: https://git.example/acme/webpush.git
  revision: 9631ac6

GIT
  remote: https://git.example/acme/elsewhere
  revision: 1234567

GEM
  remote: https://gems.example/
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Its mirror's packages are signed with a key of Debian's."""
    monkeypatch.setattr("lab.origin.node_key", lambda _: ROOT / "lab" / "services" / "debian-trixie.gpg")
    return Lab(
        "x", ipaddress.IPv4Network("198.51.100.0/24"), ipaddress.IPv4Network("10.118.0.0/20"), tmp_path / "x"
    )


@pytest.fixture
def git(tmp_path: Path) -> Path:
    """A folder with mastodon.git (tag v4.7.3+acme.1) and webpush.git."""
    folder = tmp_path / "git"
    work = folder / "mastodon.git"
    work.mkdir(parents=True)
    (work / "Gemfile.lock").write_text(LOCK)
    settings = ["-c", "user.name=A", "-c", "user.email=a@example", "-c", "commit.gpgsign=false"]
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["tag", "--no-sign", "v4.7.3+acme.1"],
    ):
        subprocess.run(["git", *settings, *command], cwd=work, check=True)
    (folder / "webpush.git").mkdir()
    return folder


@pytest.fixture
def gems(tmp_path: Path) -> Path:
    folder = tmp_path / "gems"
    folder.mkdir()
    (folder / "specs.4.8.gz").touch()
    return folder


def test_it_is_the_stand_in_unless_told(lab: Lab) -> None:
    assert Origin.load(lab) == Origin()
    assert inventory.sources(lab, Origin(), "https://npm.example")["mastodon_image_source"] == "registry"


def test_what_was_said_is_remembered(lab: Lab, git: Path, gems: Path) -> None:
    said = Origin.load(lab).changed(git=str(git), gems=str(gems), version="v4.7.3+acme.1", images="exec")
    said.save(lab)
    assert Origin.load(lab).changed() == said
    assert said.changed(version="v4.7.4+acme.1").git == said.git
    # Another kind begins anew.
    assert Origin.load(lab).changed(STAND_IN) == Origin(kind=STAND_IN)


def test_folders_of_this_machine_are_served_by_the_mirror(lab: Lab, git: Path, gems: Path) -> None:
    origin = Origin().changed(git=str(git), gems=str(gems), version="v4.7.3+acme.1", images="exec")
    assert origin.folders() == {"git": str(git), "gems": str(gems)}
    settings = inventory.sources(lab, origin, "https://npm.example")
    assert settings["exec_node_repository_fingerprint"] == "04B54C3CDCA79751B16BC6B5225629DF75B188BD"
    assert settings["mastodon_git_repository"] == "https://mirror.lab.internal/own/git/mastodon.git"
    assert settings["exec_gem_source"] == "https://mirror.lab.internal/own/gems/"
    assert settings["mastodon_version"] == "v4.7.3+acme.1"
    assert settings["mastodon_image_source"] == "exec"
    assert settings["exec_npm_registry"] == "https://npm.example"
    # Gems from git: those that lie beside mastodon.git, and no other.
    assert settings["exec_build_environment"] == {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "url.https://mirror.lab.internal/own/git/webpush.git.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://git.example/acme/webpush.git",
    }


def test_a_single_repository_is_served_under_the_same_name(git: Path) -> None:
    origin = Origin().changed(git=str(git / "mastodon.git"), version="v4.7.3+acme.1")
    assert origin.folders() == {"git/mastodon.git": str(git / "mastodon.git")}


def test_urls_are_taken_as_they_are(lab: Lab) -> None:
    origin = Origin().changed(git="https://git.example/m.git", gems="https://gems.example", version="v4.7.3")
    assert origin.folders() == {}
    settings = inventory.sources(lab, origin, "")
    assert settings["mastodon_git_repository"] == "https://git.example/m.git"
    assert settings["exec_gem_source"] == "https://gems.example"


def test_the_official_one_leaves_the_roles_defaults(lab: Lab) -> None:
    assert inventory.sources(lab, Origin(OFFICIAL), "") == {}
    assert inventory.sources(lab, Origin(OFFICIAL, version="v4.7.2"), "") == {"mastodon_version": "v4.7.2"}


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (
            None,
            {"git": "/nowhere", "version": "v4.7.3"},
            "/nowhere is neither a folder of this machine",
        ),
        (None, {"git": "{empty}", "version": "v4.7.3"}, "is no git repository, and no folder that has one"),
        (None, {"git": "https://git.example/m.git"}, "say which tag of the repository: --mastodon-version"),
        (None, {"gems": "https://gems.example"}, "--gem-source goes with --git-source"),
        (OFFICIAL, {"git": "https://git.example/m.git", "version": "v4.7.3"}, "exclude each other"),
        (
            None,
            {"git": "https://git.example/m.git", "gems": "{empty}", "version": "v4.7.3"},
            "is no gem source: it has no specs.4.8",
        ),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, kind: str | None, given: dict[str, str], expected: str) -> None:
    (tmp_path / "empty").mkdir()
    filled = {name: value.format(empty=tmp_path / "empty") for name, value in given.items()}
    with pytest.raises(LabError, match=expected):
        Origin().changed(kind, **filled)


def test_a_tag_that_is_not_there_is_named(lab: Lab, git: Path) -> None:
    origin = Origin().changed(git=str(git), version="v4.9.9")
    assert origin.kind == OWN
    with pytest.raises(LabError, match=r"has no tag v4\.9\.9"):
        origin.settings(lab)

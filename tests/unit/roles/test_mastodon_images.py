"""How exec makes the workers' images: what goes into them, and when. That they run is tested in a lab."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import mastodon_release
import pytest

VERSION = "v4.7.3+acme.1"
SETTINGS: dict[str, Any] = {"image_packages": ["ruby", "tini"], "streaming_packages": ["nodejs"]}
DIGESTS = {"mastodon": f"sha256:{'a' * 64}", "mastodon-streaming": f"sha256:{'b' * 64}"}
REFERENCES = {f"exec.internal/{name}:v4.7.3_acme.1": digest for name, digest in DIGESTS.items()}


@pytest.fixture(name="images")
def _images(
    program: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ModuleType:
    """The program on a host with one release that is built."""
    module = program("exec/mastodon_images")
    monkeypatch.setattr(mastodon_release, "ROOT", tmp_path / "opt")
    monkeypatch.setattr(mastodon_release, "SETTINGS", tmp_path / "release.json")
    for name, path in (("IMAGES", "share/images"), ("RECORD", "images.json"), ("WORK", "work")):
        monkeypatch.setattr(module, name, tmp_path / path)
    monkeypatch.setattr(mastodon_release, "identity", lambda user: {})
    (tmp_path / "release.json").write_text(json.dumps(SETTINGS))
    release = tmp_path / "opt/releases" / VERSION
    release.mkdir(parents=True)
    (release / mastodon_release.MARKER).write_text(json.dumps({"version": VERSION, "commit": "c0ffee"}))
    return module


def offer(images: ModuleType, tag: str, origin: str) -> Path:
    """An OCI image layout in the share, as the program leaves it."""
    layout: Path = images.IMAGES / tag
    layout.mkdir(parents=True)
    entries = [
        {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": name}}
        for name, digest in DIGESTS.items()
    ]
    (layout / "index.json").write_text(json.dumps({"manifests": entries}))
    (layout / "made-from").write_text(origin)
    return layout


def test_a_release_that_is_not_built_has_no_images(images: ModuleType) -> None:
    with pytest.raises(mastodon_release.ReleaseError, match=r"run mastodon-release build v4\.7\.4"):
        images.build("v4.7.4", dry_run=True)


def test_images_are_made_once(images: ModuleType) -> None:
    assert images.build(VERSION, dry_run=True) == {"changed": True, "digests": {}}
    offer(images, "v4.7.3_acme.1", images.made_from(images.release_of(VERSION), SETTINGS))
    images.write_record(REFERENCES)
    assert images.build(VERSION, dry_run=False) == {"changed": False, "digests": REFERENCES}


def test_a_record_that_is_lost_is_written_again_beside_what_it_has(images: ModuleType) -> None:
    offer(images, "v4.7.3_acme.1", images.made_from(images.release_of(VERSION), SETTINGS))
    other = {"docker.io/library/nginx:1.30.6": f"sha256:{'c' * 64}"}
    images.write_record(other)
    assert images.build(VERSION, dry_run=False)["changed"] is True
    assert images.record() == other | REFERENCES


@pytest.mark.parametrize("what", ["release", "packages"])
def test_another_build_or_other_packages_make_other_images(
    images: ModuleType, tmp_path: Path, what: str
) -> None:
    release = images.release_of(VERSION)
    offer(images, "v4.7.3_acme.1", images.made_from(release, SETTINGS))
    images.write_record(REFERENCES)
    if what == "release":
        (release / mastodon_release.MARKER).write_text(json.dumps({"version": VERSION, "commit": "other"}))
    else:
        (tmp_path / "release.json").write_text(json.dumps({**SETTINGS, "image_packages": ["ruby"]}))
    assert images.build(VERSION, dry_run=True)["changed"] is True


def test_images_go_with_their_release(images: ModuleType) -> None:
    assert images.prune() == {"changed": False, "removed": []}
    kept = offer(images, "v4.7.3_acme.1", "x")
    gone = offer(images, "v4.6.5_acme.1", "x")
    assert images.prune() == {"changed": True, "removed": ["v4.6.5_acme.1"]}
    assert kept.exists()
    assert not gone.exists()


def test_what_lies_where_in_the_archive(images: ModuleType, tmp_path: Path) -> None:
    source = tmp_path / "release"
    for name in (
        "app/models/user.rb",
        "tmp/cache/x",
        "log/production.log",
        "log/.keep",
        "node_modules/a/index.js",
        "app/javascript/node_modules/kept.js",
        ".env.production",
        ".bundle/config",
        "vendor/bundle/ruby/a.so",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "app/link").symlink_to("./models/user.rb")
    os.link(source / "app/models/user.rb", source / "app/twice.rb")
    settings = {"repository": "r", "npm_registry": "", "environment": {}}
    builder = mastodon_release.Builder(settings, VERSION)
    images.pack(builder, source, tmp_path / "a.tar", inside="/opt/mastodon", leave_out=images.NOT_IN_IMAGE)
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = {member.name: member for member in archive.getmembers()}
    files = {name for name, member in members.items() if not member.isdir()}
    assert files == {
        "opt/mastodon/app/models/user.rb",
        "opt/mastodon/app/link",
        "opt/mastodon/app/twice.rb",
        "opt/mastodon/app/javascript/node_modules/kept.js",
        "opt/mastodon/vendor/bundle/ruby/a.so",
    }
    assert members["opt/mastodon/app/link"].linkname == "./models/user.rb"
    assert members["opt/mastodon/app/twice.rb"].linkname == "opt/mastodon/app/models/user.rb"
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}


def test_libraries_are_those_that_the_gems_are_linked_with(
    images: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = images.release_of(VERSION)
    own = release / "vendor/bundle/ruby/3.3.0/own.so"
    own.parent.mkdir(parents=True)
    own.touch()
    owners = {"/usr/lib/x/libpq.so.5": "libpq5:amd64: /usr/lib/x/libpq.so.5", "/lib/x/libc.so.6": "libc6: /x"}

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if argv[0] == "ldd":
            lines = [
                "\tlibpq.so.5 => /usr/lib/x/libpq.so.5 (0x1)",
                "\tlibc.so.6 => /usr/lib/x/libc.so.6 (0x2)",
            ]
            lines += [f"\town.so => {own} (0x3)"]
            return subprocess.CompletedProcess(argv, 1, "\n".join(lines))
        found = owners.get(argv[-1])
        return subprocess.CompletedProcess(argv, 0 if found else 1, found or "")

    monkeypatch.setattr(images.subprocess, "run", run)
    assert images.libraries(release) == {"libpq5", "libc6"}
    owners.clear()
    with pytest.raises(mastodon_release.ReleaseError, match=r"libc\.so\.6, which a gem needs"):
        images.libraries(release)

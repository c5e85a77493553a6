"""The stand-in's sources and its git repository; images and behaviour are tested in tests/mastodon."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest

from lab import standin

TAGS = list(standin.VERSIONS)


@pytest.fixture
def gems(tmp_path: Path) -> Path:
    """As much of a gem source as the repository needs."""
    directory = tmp_path / "gems"
    directory.mkdir()
    (directory / "Gemfile.lock").write_text("GEM\n  specs:\n    rails (7.2.2)\n")
    return directory


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_same_files_give_the_same_commits(tmp_path: Path, gems: Path) -> None:
    first = standin.build_repository(tmp_path / "a.git", gems)
    assert first == standin.build_repository(tmp_path / "elsewhere" / "b.git", gems)
    assert list(first) == TAGS
    assert len(set(first.values())) == len(TAGS)


def test_nobodys_git_settings_matter(tmp_path: Path, gems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = standin.build_repository(tmp_path / "a.git", gems)
    settings = tmp_path / "gitconfig"
    settings.write_text("[commit]\n  gpgsign = true\n[user]\n  name = Somebody\n[core]\n  autocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))
    assert standin.build_repository(tmp_path / "b.git", gems) == expected


def test_repository_is_replaced_only_when_it_differs(tmp_path: Path, gems: Path) -> None:
    target = tmp_path / "mastodon.git"
    before = standin.build_repository(target, gems)
    identity = target.stat().st_ino
    standin.build_repository(target, gems)
    assert target.stat().st_ino == identity

    (gems / "Gemfile.lock").write_text("GEM\n  specs:\n    rails (7.2.3)\n")
    after = standin.build_repository(target, gems)
    assert target.stat().st_ino != identity
    assert set(before.values()).isdisjoint(after.values())
    assert [path.name for path in tmp_path.glob(".standin-*")] == []


def test_half_a_repository_is_replaced(tmp_path: Path, gems: Path) -> None:
    target = tmp_path / "mastodon.git"
    target.mkdir()
    (target / "HEAD").write_text("nonsense")
    commits = standin.build_repository(target, gems)
    assert git(target, "rev-parse", "v4.7.0^{commit}") == commits["v4.7.0"]


def test_clone_has_what_a_checkout_of_mastodon_has(tmp_path: Path, gems: Path) -> None:
    standin.build_repository(tmp_path / "mastodon.git", gems)
    for tag in TAGS:
        clone = tmp_path / tag
        git(
            tmp_path,
            "clone",
            "--quiet",
            "--branch",
            tag,
            "--depth",
            "1",
            f"file://{tmp_path}/mastodon.git",
            str(clone),
        )
        assert (clone / "Gemfile.lock").read_text() == (gems / "Gemfile.lock").read_text()
        for program in ("rails", "rake", "tootctl"):
            assert (clone / "bin" / program).stat().st_mode & 0o111
        assert f"'{tag.removeprefix('v')}'" in (clone / "lib/mastodon/version.rb").read_text()
        assert json.loads((clone / "package.json").read_text())["packageManager"].startswith("yarn@4.")
        assert (clone / ".ruby-version").is_file()
        assert (clone / ".nvmrc").is_file()


def test_missing_lock_is_named(tmp_path: Path) -> None:
    with pytest.raises(standin.StandinError, match=r"Gemfile\.lock is missing"):
        standin.build_repository(tmp_path / "mastodon.git", tmp_path / "nothing")


def test_unknown_version_names_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"v9\.9\.9: there are v4\.5\.0"):
        standin.tree("v9.9.9")


@pytest.mark.parametrize("tag", TAGS)
def test_schema_file_has_the_version_of_the_last_migration(tag: str) -> None:
    files = standin.tree(tag)
    last = max(Path(name).name.split("_")[0] for name in files if re.match(r"db/(post_)?migrate/", name))
    written = re.search(r"version: ([\d_]+)", files["db/schema.rb"].read_text())
    assert written
    assert written[1].replace("_", "") == last


def test_versions_differ_in_both_kinds_of_migrations() -> None:
    for before, after in pairwise(TAGS):
        new = set(standin.tree(after)) - set(standin.tree(before))
        assert any(name.startswith("db/migrate/") for name in new)
        assert any(name.startswith("db/post_migrate/") for name in new)


def test_an_overlay_holds_only_what_differs() -> None:
    for before, after in pairwise(TAGS):
        old = standin.tree(before)
        for name, path in standin.tree(after).items():
            if path.is_relative_to(standin.HERE / "versions" / after):
                assert name not in old or old[name].read_bytes() != path.read_bytes(), name


def test_digest_follows_names_contents_modes_and_extras(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("a")
    digests = {
        standin._digest({"x": file}),
        standin._digest({"y": file}),
        standin._digest({"x": file}, "base"),
    }
    file.chmod(0o755)
    digests.add(standin._digest({"x": file}))
    file.write_text("b")
    digests.add(standin._digest({"x": file}))
    assert len(digests) == 5
    assert standin._digest({"x": b"b"}) != standin._digest({"x": b"c"})


def test_context_is_the_same_whoever_makes_it(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    archive = standin._tar({"bin/program": program, "empty": b""})
    with tarfile.open(fileobj=archive) as tar:
        entries = {entry.name: (entry.mode, entry.mtime, entry.uid) for entry in tar.getmembers()}
    assert entries == {"bin/program": (0o755, 0, 0), "empty": (0o644, 0, 0)}


def test_builder_events_come_whole_however_they_are_cut() -> None:
    text = b'{"stream": "Step 1\\n"}\r\n{"error": "no"}\r\n{"aux": {}}'
    for size in (1, 7, len(text)):
        chunks = iter([text[start : start + size] for start in range(0, len(text), size)])
        assert list(standin._events(chunks)) == [{"stream": "Step 1\n"}, {"error": "no"}, {"aux": {}}]

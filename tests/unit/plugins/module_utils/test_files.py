from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils._files import (
    FilesError,
    Outcome,
    apply_entry,
    purge,
)

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


def entry(path: Path, **options: Any) -> dict[str, Any]:
    return {
        "path": str(path),
        "state": "file",
        "content": None,
        "target": None,
        "mode": None,
        "validate": None,
        **ME,
        **options,
    }


def apply(*entries: dict[str, Any], check: bool = False) -> Outcome:
    outcome = Outcome()
    for one in entries:
        apply_entry(one, outcome, check=check)
    return outcome


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    wanted = [
        entry(tmp_path / "d", state="directory", mode="0750"),
        entry(tmp_path / "d/f", content="a\n", mode="0640"),
        entry(tmp_path / "l", state="link", target="d/f"),
        entry(tmp_path / "gone", state="absent"),
    ]
    assert apply(*wanted).changed_paths == [str(tmp_path / name) for name in ("d", "d/f", "l")]
    assert (tmp_path / "l").read_text() == "a\n"
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "d/f").stat().st_mode) == 0o640
    assert apply(*wanted).changed_paths == []


def test_check_mode_predicts_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    wanted = [
        entry(tmp_path / "new/f", content="a", owner="nobody-yet"),
        entry(tmp_path / "old", state="absent"),
        entry(tmp_path / "l", state="link", target="x"),
    ]
    assert len(apply(*wanted, check=True).changed_paths) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_a_change_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("a\n")
    assert apply(entry(file, content="b\n")).diffs == [
        {"before_header": str(file), "after_header": str(file), "before": "a\n", "after": "b\n"}
    ]


def test_a_mode_alone_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("a")
    file.chmod(0o600)
    assert apply(entry(file, content="a", mode="0644")).changed_paths == [str(file)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_a_refused_file_leaves_the_old_one_and_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "f.conf"
    file.write_text("good")
    with pytest.raises(FilesError, match="nothing written"):
        apply(entry(file, content="bad", validate="false"))
    assert file.read_text() == "good"
    assert list(tmp_path.iterdir()) == [file]


def test_the_check_sees_the_new_content_under_the_files_suffix(tmp_path: Path) -> None:
    checker = tmp_path / "check"
    checker.write_text('#!/bin/sh\ncase "$1" in *.conf) ;; *) exit 1 ;; esac\ngrep -q new "$1"\n')
    checker.chmod(0o755)
    apply(entry(tmp_path / "f.conf", content="new", validate=f"{checker} %s"))
    assert (tmp_path / "f.conf").read_text() == "new"


def test_a_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "l").symlink_to("a")
    apply(entry(tmp_path / "l", state="link", target="b"))
    assert (tmp_path / "l").readlink() == Path("b")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"state": "link", "target": "x"}, "will not be replaced by a link"),
        ({"content": "x"}, "is a directory, not a file"),
    ],
)
def test_a_directory_is_never_replaced(tmp_path: Path, options: dict[str, Any], expected: str) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(FilesError, match=expected):
        apply(entry(tmp_path / "d", **options))


def test_purge_removes_what_matches_and_is_not_kept(tmp_path: Path) -> None:
    for name in ("a@1.service", "a@2.service", "b.service"):
        (tmp_path / name).touch()
    (tmp_path / "a@d.service").mkdir()
    for check in (True, False):
        outcome = Outcome()
        purge([f"{tmp_path}/a@*.service"], [f"{tmp_path}/a@1.service"], outcome, check=check)
        assert outcome.changed_paths == [f"{tmp_path}/a@2.service"]
        assert (tmp_path / "a@2.service").exists() is check
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a@1.service", "a@d.service", "b.service"]


def test_an_unknown_owner_is_named(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="no user 'nobody-yet' on this host"):
        apply(entry(tmp_path / "f", content="x", owner="nobody-yet"))


def test_a_check_that_cannot_run(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="cannot run its check '/no/such/checker %s'"):
        apply(entry(tmp_path / "f", content="a", validate="/no/such/checker %s"))
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="there is no group 'no-such-group' on this host; create it first"):
        apply(entry(tmp_path / "f", content="a", group="no-such-group"))


def test_an_owner_by_name(tmp_path: Path) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    assert apply(entry(tmp_path / "f", content="a", owner=name)).changed_paths


def test_a_link_takes_the_place_of_another(tmp_path: Path) -> None:
    link = tmp_path / "l"
    link.symlink_to("old")
    assert apply(entry(link, state="link", target="new")).changed_paths == [str(link)]
    assert str(link.readlink()) == "new"
    directory = tmp_path / "d"
    directory.mkdir()
    with pytest.raises(FilesError, match="is a directory, will not be replaced by a link to new"):
        apply(entry(directory, state="link", target="new"))


def test_a_path_below_a_file_is_absent(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    assert apply(entry(tmp_path / "f/x", state="absent")).changed_paths == []


def test_an_owner_alone_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    file.write_text("a")
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "chown", lambda *arguments: calls.append(arguments))
    wanted = entry(file, content="a", owner="12345")
    assert apply(wanted, check=True).changed_paths == [str(file)]
    assert calls == []
    assert apply(wanted).changed_paths == [str(file)]
    assert calls == [(file, 12345, os.getgid())]


def test_kinds_do_not_change(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_text("")
    with pytest.raises(FilesError, match="is a directory, not a file"):
        apply(entry(tmp_path / "d", content="a"))
    with pytest.raises(FilesError, match="is not a directory"):
        apply(entry(tmp_path / "f", state="directory"))


def test_a_directory_goes_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    assert apply(entry(tmp_path / "d", state="absent")).changed_paths == [str(tmp_path / "d")]
    assert list(tmp_path.iterdir()) == []

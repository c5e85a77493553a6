"""The share, published and taken: whole or not at all, also when somebody kills the publisher."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/share/files/mastodon_share_publish.py"
GROUP = os.getgid()
Program = Callable[[str], ModuleType]


@pytest.fixture(name="publisher")
def _publisher(program: Program) -> ModuleType:
    return program("share/mastodon_share_publish")


@pytest.fixture(name="syncer")
def _syncer(program: Program) -> ModuleType:
    return program("share/mastodon_share_sync")


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    root = tmp_path / "share"
    root.mkdir()
    return root


def publish(
    module: ModuleType,
    root: Path,
    *,
    keep: bool = False,
    dry_run: bool = False,
    group: int = GROUP,
    public: tuple[str, ...] = (),
    **files: str,
) -> Any:
    names = {name: name.replace("__", "/").replace("_", ".") for name in files}
    wanted = {names[name]: module.File(text.encode(), name in public) for name, text in files.items()}
    return module.publish(root, wanted, keep=keep, group=group, dry_run=dry_run)


def check_whole(generation: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((generation / "manifest.json").read_text())
    for name, sha in manifest["files"].items():
        assert hashlib.sha256((generation / name).read_bytes()).hexdigest() == sha
    return manifest


def test_publishes_once(publisher: ModuleType, root: Path) -> None:
    first = publish(publisher, root, common_env="A=1\n", tls__key="k")
    assert first == {"changed": True, "generation": 1, "files": ["common.env", "tls/key"]}
    assert check_whole(root / "current")["generation"] == 1
    again = publish(publisher, root, common_env="A=1\n", tls__key="k")
    assert again == {"changed": False, "generation": 1, "files": []}
    assert [path.name for path in (root / "generations").iterdir()] == ["1"]


def test_modes(publisher: ModuleType, root: Path) -> None:
    publish(publisher, root, tls__key="k", ca="c", public=("ca",))
    assert mode(root / "current/tls/key") == 0o640
    assert mode(root / "current/ca") == 0o644
    assert mode(root / "current/tls") == mode(root / "current/") == mode(root / "generations") == 0o751


def test_what_becomes_public_is_another_generation_and_no_other_file(
    publisher: ModuleType, root: Path
) -> None:
    publish(publisher, root, ca="c", key="k")
    before = (root / "current/ca").stat().st_mtime_ns
    again = publish(publisher, root, ca="c", key="k", public=("ca",))
    assert again == {"changed": True, "generation": 2, "files": ["ca"]}
    assert (root / "current/ca").stat().st_mtime_ns == before
    assert (mode(root / "current/ca"), mode(root / "current/key")) == (0o644, 0o640)
    publish(publisher, root, keep=True, ca="d")
    assert (mode(root / "current/ca"), mode(root / "current/key")) == (0o644, 0o640)


def test_a_share_of_another_reader_moves_over(
    publisher: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of its generations, and the images that lie beside them."""
    publish(publisher, root, a="1")
    publish(publisher, root, a="2", tls__key="k")
    (root / "images").mkdir()
    (root / "images/layer").touch()
    wanted = sorted(str(path) for folder in root.glob("[!.]*") for path in (folder, *folder.rglob("*"))
                    if not path.is_symlink())  # fmt: skip
    given: dict[str, int] = {}
    monkeypatch.setattr(publisher.os, "chown", lambda path, _, group: given.update({str(path): group}))
    monkeypatch.setattr(publisher.os, "fchown", lambda *_: None)
    assert publish(publisher, root, group=GROUP + 1, dry_run=True, a="2", tls__key="k")["changed"] is True
    assert given == {}
    moved = publish(publisher, root, group=GROUP + 1, a="2", tls__key="k")
    assert moved == {"changed": True, "generation": 2, "files": []}
    assert sorted(given) == wanted
    assert set(given.values()) == {GROUP + 1}


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_an_unchanged_file_keeps_its_time(publisher: ModuleType, root: Path) -> None:
    publish(publisher, root, a="1", b="1")
    before = (root / "current/a").stat().st_mtime_ns
    assert publish(publisher, root, a="1", b="2")["files"] == ["b"]
    assert (root / "current/a").stat().st_mtime_ns == before


def test_a_file_that_is_not_named_goes_unless_kept(publisher: ModuleType, root: Path) -> None:
    publish(publisher, root, a="1", b="1")
    assert publish(publisher, root, keep=True, b="2")["files"] == ["b"]
    assert (root / "current/a").read_text() == "1"
    assert publish(publisher, root, b="2")["files"] == ["a"]
    assert not (root / "current/a").exists()


def test_a_dry_run_says_what_would_change(publisher: ModuleType, root: Path) -> None:
    publish(publisher, root, a="1")
    assert publish(publisher, root, dry_run=True, a="2") == {"changed": True, "generation": 2, "files": ["a"]}
    assert (root / "current/a").read_text() == "1"


def test_a_damaged_generation_is_published_anew(publisher: ModuleType, root: Path) -> None:
    publish(publisher, root, a="1")
    (root / "current/a").write_text("broken")
    assert publish(publisher, root, a="1")["changed"] is True
    assert (root / "current/a").read_text() == "1"


def test_what_is_whole_in_a_damaged_generation_stays(publisher: ModuleType, root: Path) -> None:
    """Else everything that reads a file of the share would be restarted for one byte."""
    publish(publisher, root, a="1", b="1")
    before = (root / "current/a").stat().st_mtime_ns
    (root / "current/b").write_text("2")
    assert publish(publisher, root, a="1", b="1") == {"changed": True, "generation": 2, "files": ["b"]}
    assert check_whole(root / "current")["generation"] == 2
    assert (root / "current/a").stat().st_mtime_ns == before


def test_nothing_is_kept_of_a_damaged_generation_alone(publisher: ModuleType, root: Path) -> None:
    publish(publisher, root, a="1", b="1")
    (root / "current/a").write_text("2")
    with pytest.raises(publisher.ShareError, match="publish all files"):
        publish(publisher, root, keep=True, b="2")


def test_old_generations_go(publisher: ModuleType, root: Path) -> None:
    for number in range(6):
        publish(publisher, root, a=str(number))
    assert sorted(path.name for path in (root / "generations").iterdir()) == ["4", "5", "6"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", ".hidden", "manifest.json", "", "a\nb"])
def test_names_stay_inside(publisher: ModuleType, name: str) -> None:
    with pytest.raises(publisher.ShareError, match="cannot be the name of a file"):
        publisher.wanted_files({"files": {name: {"content": "x"}}})


@pytest.mark.parametrize("request_", [{}, [], {"files": []}, {"files": {}}])
def test_an_empty_request_is_refused(publisher: ModuleType, request_: Any) -> None:
    with pytest.raises(publisher.ShareError):
        publisher.wanted_files(request_)


def test_whenever_the_publisher_is_killed_a_reader_sees_a_whole_generation(root: Path) -> None:
    """SIGKILL at many moments of its life, with a reader looking all the while."""
    stop = threading.Event()
    seen: list[int] = []
    problems: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(check_whole(Path(os.path.realpath(root / "current")))["generation"])
            except FileNotFoundError as error:
                # Before the first generation there is no link; after it, one can be pruned while it is read
                # only if three newer ones came meanwhile.
                if seen and (root / "generations" / str(seen[-1])).exists():
                    problems.append(error)
            except Exception as error:
                problems.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, str(PROGRAM), "--root", str(root), "--group", grp.getgrgid(GROUP).gr_name]
    chance = random.Random(1)
    killed = 0
    try:
        for number in range(40):
            content = {f"file{part}": {"content": f"{number} " * 5000} for part in range(20)}
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            assert process.stdin
            process.stdin.write(json.dumps({"files": content}).encode())
            process.stdin.close()
            time.sleep(chance.uniform(0, 0.12))
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        result = subprocess.run(
            command, input=json.dumps({"files": {"a": {"content": "last"}}}), text=True, check=False
        )
    finally:
        stop.set()
        reader.join()
    assert result.returncode == 0
    assert mode(root / ".lock") & 0o007 == 0
    assert killed > 5
    assert problems == []
    assert (root / "current/a").read_text() == "last"
    assert not list((root / "generations").glob(".new*"))


class Directory:
    """A transport that copies from a share on this disk."""

    def __init__(self, module: ModuleType, root: Path) -> None:
        self.module, self.root, self.up = module, root, True

    def fetch(self, path: str, target: Path) -> None:
        if not self.up:
            raise self.module.Unreachable("no answer")
        subprocess.run(["cp", "-rL", "--no-target-directory", str(self.root / path), str(target)], check=True)


@pytest.fixture(name="copy")
def _copy(tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    return copy


@pytest.fixture(name="as_root")
def _as_root(syncer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not run as root everywhere; owners are looked at where they matter, on a real host."""
    monkeypatch.setattr(syncer.os, "chown", lambda *_: None)


@pytest.mark.usefixtures("as_root")
class TestSync:
    def test_takes_a_generation_whole(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, common_env="A=1\n", tls__key="k")
        transport = Directory(syncer, root)
        assert syncer.take(copy, transport) == ["common.env", "tls/key"]
        assert check_whole(copy / "current")["generation"] == 1
        assert syncer.take(copy, transport) is None

    def test_what_changed_is_as_young_as_the_switch_and_the_rest_as_old_as_before(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, a="1", b="1")
        syncer.take(copy, Directory(syncer, root))
        old = (copy / "current/a").stat().st_mtime_ns
        publish(publisher, root, a="1", b="2")
        os.utime(root / "current/b", (1, 1))
        switched = time.time()
        assert syncer.take(copy, Directory(syncer, root)) == ["b"]
        assert (copy / "current/a").stat().st_mtime_ns == old
        assert (copy / "current/b").stat().st_mtime >= switched - 1

    def test_one_wrong_byte_is_refused(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, a="1")
        syncer.take(copy, Directory(syncer, root))
        publish(publisher, root, a="2")
        (root / "current/a").write_text("3")
        with pytest.raises(syncer.Refused, match="a has not the checksum of the manifest"):
            syncer.take(copy, Directory(syncer, root))
        assert (copy / "current/a").read_text() == "1"
        assert not list((copy / "generations").glob(".new*"))

    def test_any_wrong_byte_of_the_manifest_is_refused(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        """Also where what remains is a manifest: of another file, or of a generation that exec has not."""
        transport = syncer.Nfs({"source": root})
        publish(publisher, root, a="1")
        syncer.take(copy, transport)
        publish(publisher, root, a="2")
        manifest = root / "current/manifest.json"
        good = manifest.read_bytes()
        for position in range(len(good)):
            bad = bytearray(good)
            bad[position] ^= 1
            manifest.write_bytes(bad)
            with pytest.raises(syncer.Refused):
                syncer.take(copy, transport)
            assert check_whole(copy / "current")["generation"] == 1
        manifest.write_bytes(good)
        assert syncer.take(copy, transport) == ["a"]

    def test_a_missing_file_is_refused(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, a="1", b="2")
        (root / "current/b").unlink()
        with pytest.raises(syncer.Refused, match="b is missing"):
            syncer.take(copy, Directory(syncer, root))
        assert not (copy / "current").exists()

    @pytest.mark.parametrize("name", ["../../etc/x", "/etc/x"])
    def test_a_manifest_cannot_point_outside(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path, name: str
    ) -> None:
        publish(publisher, root, a="1")
        (root / "current/manifest.json").write_text(
            json.dumps({"generation": 1, "files": {name: "0" * 64}, "public": []})
        )
        with pytest.raises(syncer.Refused, match="right form"):
            syncer.take(copy, Directory(syncer, root))

    def test_what_is_public_can_be_read_by_all(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, ca="c", tls__key="k")
        syncer.take(copy, Directory(syncer, root))
        assert (mode(copy / "current/ca"), mode(copy / "current/tls/key")) == (0o640, 0o640)
        publish(publisher, root, ca="c", tls__key="k", public=("ca",))
        before = (copy / "current/ca").stat().st_mtime_ns
        assert syncer.take(copy, Directory(syncer, root)) == []
        assert (mode(copy / "current/ca"), mode(copy / "current/tls/key")) == (0o644, 0o640)
        assert mode(copy / "current/tls") == 0o750
        assert (copy / "current/ca").stat().st_mtime_ns == before

    def test_a_generation_that_does_not_say_what_is_public_is_refused(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        """One of an older exec: containers could not read their authorities."""
        publish(publisher, root, a="1")
        manifest = json.loads((root / "current/manifest.json").read_text())
        del manifest["public"]
        (root / "current/manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(syncer.Refused, match=r"older release of this collection; run site\.yml"):
            syncer.take(copy, Directory(syncer, root))
        assert not (copy / "current").exists()

    def test_a_damaged_copy_is_mended(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, a="1")
        syncer.take(copy, Directory(syncer, root))
        (copy / "current/a").write_text("broken")
        assert syncer.take(copy, Directory(syncer, root)) == ["a"]
        assert (copy / "current/a").read_text() == "1"

    def test_an_exec_that_was_set_up_anew_counts_from_one_again(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path, tmp_path: Path
    ) -> None:
        for number in range(4):
            publish(publisher, root, a=str(number))
        syncer.take(copy, Directory(syncer, root))
        other = tmp_path / "other"
        other.mkdir()
        publish(publisher, other, a="new")
        assert syncer.take(copy, Directory(syncer, other)) == ["a"]
        assert (copy / "current/a").read_text() == "new"

    def test_an_exec_that_does_not_answer_leaves_the_copy(
        self, publisher: ModuleType, syncer: ModuleType, root: Path, copy: Path
    ) -> None:
        publish(publisher, root, a="1")
        transport = Directory(syncer, root)
        syncer.take(copy, transport)
        transport.up = False
        with pytest.raises(syncer.Unreachable):
            syncer.take(copy, transport)
        assert check_whole(copy / "current")["generation"] == 1

    @pytest.mark.parametrize(("code", "raised"), [(23, "Refused"), (12, "Unreachable"), (255, "Unreachable")])
    def test_what_rsync_cannot_read_is_not_exec_gone(
        self, syncer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, raised: str
    ) -> None:
        """23: the other side answered. ssh itself ends with 255 where nobody does."""
        rsync = tmp_path / "rsync"
        rsync.write_text(f"#!/bin/sh\necho reason >&2\nexit {code}\n")
        rsync.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        transport = syncer.Ssh({"source": "user@host:", "known_hosts": "k", "key": "i"})
        with pytest.raises(getattr(syncer, raised), match="reason"):
            transport.fetch("current/manifest.json", tmp_path / "target")


@pytest.fixture(name="look")
def _look(
    syncer: ModuleType,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """The program as a worker runs it: exit code, and what it says."""
    host = tmp_path / "host"
    (host / "etc/mastodon").mkdir(parents=True)
    (host / "run").mkdir()
    settings = {"transport": "nfs", "source": str(root), "reload": []}
    (host / "etc/mastodon/share-client.json").write_text(json.dumps(settings))
    monkeypatch.setenv("MASTODON_SHARE_TEST_ROOT", str(host))
    monkeypatch.setattr(syncer.os, "umask", lambda _: 0)  # this process is the tests'
    return lambda *arguments: (syncer.main(list(arguments)), capfd.readouterr().err)


@pytest.mark.usefixtures("as_root")
def test_exec_gone_is_said_once_and_so_is_its_return(
    publisher: ModuleType,
    syncer: ModuleType,
    root: Path,
    look: Callable[[], tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where exec is back with something damaged."""

    def gone(*_: object) -> None:
        raise syncer.Unreachable("no answer\nno data")

    publish(publisher, root, a="1")
    assert look() == (0, "<5>took generation 1: a\n")
    for _ in range(2):
        with monkeypatch.context() as away:
            away.setattr(syncer.Nfs, "fetch", gone)
            text = "exec does not answer; serving from the local copy, generation 1: no answer; no data"
            assert look() == (0, f"<4>{text}\n")
            assert look() == (0, "")
        publish(publisher, root, a="2", b="2")
        (root / "current/b").write_text("3")
        code, said = look()
        assert code == 1
        assert said.splitlines()[0] == "<5>exec answers again"
        assert "b has not the checksum of the manifest" in said
    publish(publisher, root, a="2", b="2")
    assert look() == (0, f"<5>took generation {(root / 'current').readlink().name}: a, b\n")


@pytest.mark.usefixtures("as_root")
def test_a_folder_beside_the_generations_is_fetched_whole_or_not_at_all(
    look: Callable[..., tuple[int, str]], root: Path, tmp_path: Path
) -> None:
    source = root / "images/v4.7.3/blobs"
    source.mkdir(parents=True)
    (source / "a").write_text("1")
    target = tmp_path / "images"
    assert look("--fetch", "images/v4.7.3", str(target)) == (0, "")
    assert (target / "blobs/a").read_text() == "1"
    (source / "a").write_text("2")
    assert look("--fetch", "images/v4.7.3", str(target))[0] == 0
    assert (target / "blobs/a").read_text() == "2"
    code, said = look("--fetch", "images/v4.8.0", str(target))
    assert code == 1
    assert "images/v4.8.0 of the share could not be fetched" in said
    assert (target / "blobs/a").read_text() == "2"
    assert sorted(path.name for path in tmp_path.glob(".*")) == []

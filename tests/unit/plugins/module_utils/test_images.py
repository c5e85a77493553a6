"""Pinned images: a tag that was used once means the same digest for ever."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils._images import (
    ImagesError,
    Layout,
    Result,
    ensure,
    prune,
    read_record,
    repository,
    write_record,
)

IMAGE = "registry.example:5000/mastodon/mastodon:v4.7.3"
NAME = "registry.example:5000/mastodon/mastodon"
OLD = "sha256:" + "a" * 64
NEW = "sha256:" + "b" * 64


class Engine:
    """A host with `present` digests, and a registry where every tag has the digest `registry`."""

    def __init__(self, registry: str | None = OLD, present: tuple[str, ...] = ()) -> None:
        self.registry = registry
        self.present = set(present)
        self.pulls = 0

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[1] == "pull":
            self.pulls += 1
            if self.registry is None:
                return 1, "", "Error response from daemon: no route to host\n"
            self.present.add(self.registry)
            return 0, f"v4.7.3: Pulling from mastodon/mastodon\nDigest: {self.registry}\nStatus: ok\n", ""
        assert argv[1:3] == ["image", "inspect"]
        return (0 if argv[-1].rpartition("@")[2] in self.present else 1), "", ""


def run(engine: Engine, record: dict[str, str], **options: Any) -> Result:
    arguments: dict[str, Any] = {"expected": {}, "accept_changed": False, "check": False, **options}
    return ensure(engine, [IMAGE], record, **arguments)


def test_first_pull_is_recorded() -> None:
    engine = Engine()
    result = run(engine, {})
    assert result.record == result.digests == {IMAGE: OLD}
    assert result.pulled == [IMAGE]
    assert result.pins == {IMAGE: f"{IMAGE}@{OLD}"}


def test_what_is_there_is_not_asked_for() -> None:
    engine = Engine(registry=None, present=(OLD,))
    result = run(engine, {IMAGE: OLD})
    assert (result.pulled, result.digests, engine.pulls) == ([], {IMAGE: OLD}, 0)


def test_lost_image_is_pulled_again() -> None:
    engine = Engine()
    assert run(engine, {IMAGE: OLD}).pulled == [IMAGE]
    assert engine.pulls == 1


@pytest.mark.parametrize("source", ["record", "expected"])
def test_moved_tag_is_refused(source: str) -> None:
    known = {IMAGE: OLD}
    with pytest.raises(ImagesError, match=f"{IMAGE} is {NEW} .* shall be {OLD}"):
        run(
            Engine(registry=NEW),
            known if source == "record" else {},
            expected=known if source != "record" else {},
        )


def test_moved_tag_is_accepted_when_told() -> None:
    result = run(Engine(registry=NEW, present=(OLD,)), {IMAGE: OLD}, accept_changed=True)
    assert result.record == {IMAGE: NEW}
    assert result.pulled == [IMAGE]


def test_accepting_what_did_not_move_changes_nothing() -> None:
    result = run(Engine(present=(OLD,)), {IMAGE: OLD}, accept_changed=True)
    assert (result.pulled, result.record) == ([], {IMAGE: OLD})


def test_expected_digest_goes_before_the_record() -> None:
    result = run(Engine(registry=NEW, present=(OLD,)), {IMAGE: OLD}, expected={IMAGE: NEW})
    assert result.record == {IMAGE: NEW}


def test_check_pulls_nothing() -> None:
    engine = Engine()
    result = run(engine, {}, check=True)
    assert (engine.pulls, result.pulled, result.digests, result.record) == (0, [IMAGE], {}, {})


def test_check_knows_the_recorded_digest() -> None:
    assert run(Engine(), {IMAGE: OLD}, check=True).digests == {IMAGE: OLD}


def test_registry_that_does_not_answer() -> None:
    with pytest.raises(ImagesError, match=f"cannot pull {IMAGE}: .*no route to host"):
        run(Engine(registry=None), {})


def test_repository() -> None:
    assert repository(IMAGE) == NAME


@pytest.mark.parametrize("reference", ["mastodon", "registry.example:5000/mastodon", f"{NAME}@{OLD}"])
def test_image_without_a_tag(reference: str) -> None:
    with pytest.raises(ImagesError, match="name a tag"):
        repository(reference)


def test_record_is_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "images.json")
    assert read_record(path) == {}
    write_record(path, {IMAGE: OLD})
    assert read_record(path) == {IMAGE: OLD}
    assert [entry.name for entry in tmp_path.iterdir()] == ["images.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"x": "latest"}'])
def test_damaged_record(tmp_path: Path, content: str) -> None:
    path = tmp_path / "images.json"
    path.write_text(content)
    with pytest.raises(ImagesError, match="restore it or delete it"):
        read_record(str(path))


def test_old_images_go_and_those_in_use_stay() -> None:
    other = "sha256:" + "c" * 64
    removals: list[str] = []

    def engine(argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[1:3] == ["image", "ls"]:
            names = [f"{NAME}@{digest}" for digest in (OLD, NEW, other, "<none>")]
            return 0, "\n".join([*names, f"{NAME}:v4.7.3"]), ""
        assert argv[1:3] == ["image", "rm"]
        removals.append(argv[-1])
        return (1 if argv[-1].endswith(OLD) else 0), "", "conflict: image is being used by running container"

    assert prune(engine, [IMAGE], {IMAGE: NEW}) == [f"{NAME}@{other}"]
    assert removals == [f"{NAME}@{OLD}", f"{NAME}@{other}"]


def test_a_record_that_cannot_be_written_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_record(str(tmp_path / "images.json"), {IMAGE: OLD})
    assert list(tmp_path.iterdir()) == []


def test_a_registry_without_digests() -> None:
    def odd(argv: Sequence[str]) -> tuple[int, str, str]:
        return 0, "v4.7.3: Pulled\n", ""

    with pytest.raises(ImagesError, match="but the registry named no digest: v4"):
        ensure(odd, [IMAGE], {}, expected={}, accept_changed=False, check=False)


# Images that were made elsewhere

MADE = "exec.internal/mastodon:v4.7.3_acme.1"


def layout(folder: Path, content: bytes = b'{"schemaVersion": 2}') -> tuple[Layout, str]:
    """An OCI image layout with one image; the digest of its manifest."""
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    blob = folder / "blobs/sha256" / digest[7:]
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    entry = {"digest": digest, "annotations": {"org.opencontainers.image.ref.name": "mastodon"}}
    (folder / "index.json").write_text(json.dumps({"manifests": [entry]}))
    return Layout(str(folder), [MADE]), digest


class Loader:
    """A host that loads images; `present` are the names that it has."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.called: list[str] = []

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.called.append(" ".join(argv[:3]))
        if argv[:2] == ["skopeo", "copy"]:
            self.archive = argv[-1].split(":", 2)[2]
        elif argv[:2] == ["docker", "load"]:
            self.present.add(self.archive)
        else:
            assert argv[:3] == ["docker", "image", "inspect"]
            return (0 if argv[-1] in self.present else 1), "", ""
        return 0, "", ""


def load(engine: Loader, made: Layout, record: dict[str, str], **options: Any) -> Result:
    arguments: dict[str, Any] = {"expected": {}, "accept_changed": False, "check": False, **options}
    return ensure(engine, [MADE], record, layout=made, **arguments)


def test_what_was_made_is_loaded_once_and_run_by_its_digest(tmp_path: Path) -> None:
    made, digest = layout(tmp_path)
    engine = Loader()
    first = load(engine, made, {}, expected={MADE: digest})
    assert first.pulled == [MADE]
    assert first.record == {MADE: digest}
    assert first.pins == {MADE: f"exec.internal/mastodon:sha256-{digest[7:]}"}
    again = load(engine, Layout(None, [MADE]), first.record, accept_changed=True)
    assert (again.pulled, again.pins) == ([], first.pins)
    assert engine.called.count("docker load --quiet") == 1
    assert list(tmp_path.glob(".load-*")) == []


def test_another_image_than_exec_recorded_is_refused(tmp_path: Path) -> None:
    made, _ = layout(tmp_path)
    with pytest.raises(ImagesError, match=f"exec recorded {OLD}: it was made anew"):
        load(Loader(), made, {}, expected={MADE: OLD})


def test_a_damaged_layout_is_refused(tmp_path: Path) -> None:
    made, digest = layout(tmp_path)
    (tmp_path / "blobs/sha256" / digest[7:]).write_bytes(b"{}")
    with pytest.raises(ImagesError, match="the manifest of mastodon is damaged"):
        load(Loader(), made, {})
    (tmp_path / "index.json").unlink()
    with pytest.raises(ImagesError, match="has no image mastodon"):
        load(Loader(), made, {})


def test_without_a_layout_it_is_said_that_one_is_missing() -> None:
    with pytest.raises(ImagesError, match="is not on this host: name the layout"):
        load(Loader(), Layout(None, [MADE]), {})


def test_a_check_loads_nothing() -> None:
    engine = Loader()
    found = load(engine, Layout(None, [MADE]), {}, expected={MADE: OLD}, check=True)
    assert found.pulled == [MADE]
    assert found.pins == {MADE: f"exec.internal/mastodon:sha256-{'a' * 64}"}
    assert set(engine.called) == {"docker image inspect"}


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    made, _ = layout(tmp_path)

    def broken(argv: Sequence[str]) -> tuple[int, str, str]:
        return 1, "", "layer sha256:1: checksum mismatch\n"

    with pytest.raises(ImagesError, match=f"cannot load {MADE}: layer sha256:1: checksum mismatch"):
        ensure(broken, [MADE], {}, expected={}, accept_changed=False, check=False, layout=made)


def test_loaded_images_of_other_releases_go() -> None:
    names = [f"exec.internal/mastodon:sha256-{letter * 64}" for letter in "ab"]

    def engine(argv: Sequence[str]) -> tuple[int, str, str]:
        listing = [*names, "exec.internal/mastodon@<none>", "exec.internal/mastodon:by-hand"]
        return 0, "\n".join(listing) if argv[2] == "ls" else "", ""

    assert prune(engine, [MADE], {MADE: f"sha256:{'b' * 64}"}) == [names[0]]

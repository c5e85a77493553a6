"""What exec's programs decide and refuse; what they run is tested on a real host."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

Program = Callable[[str], ModuleType]
KEYS = {
    "secret_key_base": "a" * 128,
    "active_record_encryption_primary_key": "p" * 32,
    "active_record_encryption_deterministic_key": "d" * 32,
    "active_record_encryption_key_derivation_salt": "s" * 32,
    "vapid_private_key": "x",
    "vapid_public_key": "y",
}


SETTINGS = {
    "repository": "https://git.example.org/mastodon.git",
    "commit": "",
    "gem_source": "",
    "npm_registry": "",
    "corepack": "",
    "bundle_config": {},
    "environment": {},
    "keep": 1,
}


@pytest.fixture(name="release")
def _release(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = program("exec/mastodon_release")
    for name, path in (
        ("ROOT", ""),
        ("BUILD", "build"),
        ("SETTINGS", "release.json"),
        ("COMMITS", "commits.json"),
    ):
        monkeypatch.setattr(module, name, tmp_path / path)
    monkeypatch.setattr(module, "identity", lambda user: {})
    (tmp_path / "release.json").write_text(json.dumps({"keep": 1}))
    (tmp_path / "releases").mkdir()
    (tmp_path / "build").mkdir()
    return module


def deploy(module: ModuleType, version: str, *, complete: bool = True) -> None:
    path = module.ROOT / "releases" / version
    path.mkdir()
    if complete:
        (path / module.MARKER).write_text("{}")
        (module.ROOT / "current").unlink(missing_ok=True)
        (module.ROOT / "current").symlink_to(f"releases/{version}")


@pytest.mark.parametrize(
    ("deployed", "wanted"),
    [
        ("v4.6.0", "v4.6.0"),
        ("v4.6.0", "v4.6.5"),
        ("v4.6.9", "v4.7.0"),
        ("v4.7.3", "v5.0.0"),
        ("v4.9.0", "v4.10.0"),
    ],
)
def test_steps_that_mastodon_can_do(release: ModuleType, deployed: str, wanted: str) -> None:
    deploy(release, deployed)
    release.check_step(wanted)


@pytest.mark.parametrize(
    ("deployed", "wanted", "expected"),
    [
        ("v4.6.5", "v4.6.4", "v4.6.5 is deployed and v4.6.4 is older"),
        ("v4.10.0", "v4.9.0", "is older"),
        ("v5.0.0", "v4.9.0", "is older"),
        ("v4.5.0", "v4.7.0", "skips a minor version. Upgrade to a release of v4.6 first"),
        ("v4.7.0", "v5.1.0", "skips a minor version. Upgrade to a release of v5.0 first"),
        ("v4.7.0", "v6.0.0", "skips a minor version"),
        ("v4.7.0", "main", "'main' is not a release"),
    ],
)
def test_steps_that_are_refused(release: ModuleType, deployed: str, wanted: str, expected: str) -> None:
    deploy(release, deployed)
    for verb in (release.build, release.activate):
        with pytest.raises(release.ReleaseError, match=re.escape(expected)):
            verb(wanted, dry_run=False)


def test_the_first_release_may_be_any(release: ModuleType) -> None:
    release.check_step("v4.7.3")


class Registry(BaseHTTPRequestHandler):
    """A registry of Node packages that has corepack 0.34.0."""

    asked: ClassVar[list[str]] = []
    integrity: ClassVar[str] = ""
    package: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        address = f"http://{self.headers['Host']}"
        about = {"dist": {"tarball": f"{address}/corepack.tgz", "integrity": self.integrity}}
        body = self.package if self.path == "/corepack.tgz" else json.dumps(about).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(name="builder")
def _builder(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A builder whose registry has a corepack of one file, with the right checksum."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/dist/corepack.js"))
    digest = base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    monkeypatch.setattr(Registry, "asked", [])
    monkeypatch.setattr(Registry, "package", packed.getvalue())
    monkeypatch.setattr(Registry, "integrity", f"sha512-{digest}")
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings = {"corepack": "0.34.0", "npm_registry": f"http://127.0.0.1:{server.server_port}/"}
        yield release.Builder(SETTINGS | settings, "v4.7.0")
        server.shutdown()


def test_corepack_is_fetched_once(release: ModuleType, builder: Any) -> None:
    program = release.BUILD / "corepack-0.34.0/package/dist/corepack.js"
    for _ in range(2):
        assert builder.corepack() == ["node", str(program)]
    assert program.is_file()
    assert Registry.asked == ["/corepack/0.34.0", "/corepack.tgz"]


def test_a_corepack_that_was_cut_off_is_fetched_anew(release: ModuleType, builder: Any) -> None:
    half = release.BUILD / "corepack.new/package"
    half.mkdir(parents=True)
    (half / "left-over").touch()
    builder.corepack()
    assert not half.parent.exists()
    assert not (release.BUILD / "corepack-0.34.0/package/left-over").exists()


def test_a_corepack_with_another_checksum_is_refused(
    release: ModuleType, builder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "package", Registry.package + b"!")
    with pytest.raises(release.ReleaseError, match=r"corepack 0\.34\.0 from http://.* has not the checksum"):
        builder.corepack()
    assert not list(release.BUILD.glob("*corepack*"))


def packed(*members: tuple[str, dict[str, Any]]) -> io.BytesIO:
    """An archive as the build user could make it: names, and attributes of tarfile.TarInfo."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            content = attributes.pop("content", b"")
            member.size = len(content)
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    file.seek(0)
    return file


DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o2777}


def linked(to: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, Any]:
    return {"type": kind, "linkname": to}


def test_what_was_built_becomes_roots(release: ModuleType, tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.mkdir()
    archive = packed(
        (".", {**DIRECTORY}),
        ("./bin", {**DIRECTORY}),
        ("./bin/run", {"content": b"#!", "mode": 0o6777, "uid": 991, "mtime": 1_700_000_000}),
        ("./a", {"content": b"text", "mode": 0o600}),
        ("./bin/link", linked("../a")),
    )
    release.take_over(archive, target)
    modes = {path.name: path.lstat().st_mode & 0o7777 for path in target.rglob("*") if not path.is_symlink()}
    assert modes == {"bin": 0o755, "run": 0o755, "a": 0o644}
    assert {path.lstat().st_uid for path in target.rglob("*")} == {os.getuid()}
    assert (target / "bin/run").stat().st_mtime == 1_700_000_000
    assert (target / "bin/link").read_bytes() == b"text"


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", {"content": b"x"})],
        [("{outside}", {"content": b"x"})],
        [("a/b", {"content": b"x"})],
        [("link", linked("{outside}"))],
        [("link", linked("../outside"))],
        [("d", DIRECTORY), ("d/link", linked("../tmp/planted"))],
        [("d", DIRECTORY), ("d/link", linked("../../outside"))],
        [("link", linked(".")), ("link/b", {"content": b"x"})],
        [("link", linked("a")), ("link", {"content": b"x"})],
        [("a", {"content": b"x"}), ("a", {"content": b"y"})],
        [("hard", linked("{outside}", tarfile.LNKTYPE))],
        [("pipe", {"type": tarfile.FIFOTYPE})],
        [("device", {"type": tarfile.BLKTYPE, "devmajor": 8})],
    ],
    ids=lambda members: " ".join(f"{name}>{about.get('linkname', '')}" for name, about in members),
)
def test_what_leads_elsewhere_is_refused(
    release: ModuleType, tmp_path: Path, members: list[tuple[str, dict[str, Any]]]
) -> None:
    outside, target = tmp_path / "outside", tmp_path / "taken"
    outside.write_text("mine")
    target.mkdir()

    def filled(text: Any) -> Any:
        return text.replace("{outside}", str(outside)) if isinstance(text, str) else text

    made = [(filled(name), {key: filled(value) for key, value in about.items()}) for name, about in members]
    with pytest.raises(release.ReleaseError, match=r"of the build|cannot be taken"):
        release.take_over(packed(*made), target)
    assert outside.read_text() == "mine"
    assert not (tmp_path / "b").exists()


def test_a_chain_of_links_leads_nowhere_outside(release: ModuleType, tmp_path: Path) -> None:
    """By its text `a/b/top/../../outside` lies within; behind the link `top` it would be two levels above."""
    target = tmp_path / "here" / "target"
    target.mkdir(parents=True)
    archive = packed(
        ("a", {**DIRECTORY}),
        ("a/b", {**DIRECTORY}),
        ("a/b/top", linked("../..")),
        ("out", linked("a/b/top/../../outside")),
    )
    release.take_over(archive, target)
    assert (target / "a/b/top").resolve() == target
    assert (target / "out").resolve() == target / "a" / "outside"


@pytest.mark.parametrize("content", [b"no archive" * 100, b"", b"x" * 512])
def test_a_stream_that_is_no_archive_is_refused(release: ModuleType, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(release.ReleaseError, match="cannot be taken"):
        release.take_over(io.BytesIO(content), tmp_path)


def test_the_first_commit_of_a_tag_counts(release: ModuleType) -> None:
    def check(commit: str, pinned: str = "") -> None:
        release.Builder(SETTINGS | {"commit": pinned}, "v4.7.0").check_commit(commit)

    check("a" * 40)
    release.remember("v4.7.0", "a" * 40)
    check("a" * 40)
    with pytest.raises(
        release.ReleaseError, match=f"and was {'a' * 40} when.*exec_commit: {'b' * 40} accepts"
    ):
        check("b" * 40)
    check("b" * 40, pinned="b" * 40)
    with pytest.raises(release.ReleaseError, match="find out which one is right"):
        check("a" * 40, pinned="b" * 40)
    release.remember("v4.8.0", "c" * 40)
    assert release.commits() == {"v4.7.0": "a" * 40, "v4.8.0": "c" * 40}


def test_passwords_of_addresses_are_not_on_command_lines(
    release: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    address = "https://user:hunter2@git.example.org/mastodon.git"
    settings = SETTINGS | {"repository": address, "gem_source": "https://user:hunter2@gems.example.org/"}
    builder = release.Builder(settings | {"environment": {"GIT_CONFIG_COUNT": "0"}}, "v4.7.0")
    builder.prepare()
    assert builder.run("git", "config", "remote.source.url", capture=True).strip() == address
    assert "hunter2" not in builder.run("env", capture=True)  # nobody else needs it
    with pytest.raises(release.ReleaseError) as error:
        builder.fetch()
    with pytest.raises(release.ReleaseError):
        builder.gems()
    assert "hunter2" in (builder.work / ".bundle/config").read_text()
    assert "hunter2" not in f"{error.value}{capfd.readouterr().err}"


def test_bundler_reads_what_is_written_for_it(release: ModuleType) -> None:
    settings = {"mirror.https://rubygems.org/": "https://gems.example.org/", "build.idn-ruby": "--with-idn"}
    assert release.bundle_config(settings).splitlines() == [
        "---",
        'BUNDLE_MIRROR__HTTPS://RUBYGEMS__ORG/: "https://gems.example.org/"',
        'BUNDLE_BUILD__IDN___RUBY: "--with-idn"',
    ]


def test_a_build_meets_nothing_that_an_earlier_one_left(release: ModuleType) -> None:
    """But yarn's cache."""
    builder = release.Builder(SETTINGS, "v4.7.0")
    builder.prepare()
    for name in ("bin/git", ".gitconfig", "repository.git/config", "corepack-1/x", ".yarn/berry/cache/a.zip"):
        (release.BUILD / name).parent.mkdir(parents=True, exist_ok=True)
        (release.BUILD / name).write_text("planted")
    (release.BUILD / "bin/git").chmod(0o755)
    builder.prepare()
    left = {str(path.relative_to(release.BUILD)) for path in release.BUILD.rglob("*") if path.is_file()}
    assert left == {".yarn/berry/cache/a.zip"}
    assert builder.environment["PATH"].split(":").index(f"{release.BUILD}/bin") == 3


def test_no_gem_is_taken_of_what_somebody_else_owns(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(release, "v4.6.0")
    (release.ROOT / "releases/v4.6.0" / release.MARKER).unlink()
    (release.ROOT / "releases/v4.6.0/vendor/bundle").mkdir(parents=True)
    builder, ran = release.Builder(SETTINGS, "v4.7.0"), []
    monkeypatch.setattr(builder, "run", lambda *argv, **_: ran.append(argv[0]))
    builder.gems()
    assert "bundle" in ran
    assert "cp" not in ran
    (release.ROOT / "releases/v4.6.0" / release.MARKER).touch()
    builder.gems()
    assert "cp" in ran


@pytest.mark.parametrize("header", [{"mtime": "nan"}, {"mtime": "1e300"}, {"path": "a\0b"}])
def test_an_odd_archive_is_refused_like_any_other(
    release: ModuleType, tmp_path: Path, header: dict[str, str]
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = header
        archive.addfile(member)
    packed.seek(0)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(release.ReleaseError):
        release.take_over(packed, target)


@pytest.mark.parametrize("foreign", ["release", "marker"])
def test_what_somebody_else_owns_is_no_release(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch, foreign: str
) -> None:
    deploy(release, "v4.6.0")
    path = release.ROOT / "releases/v4.6.0"
    assert release.is_complete(path)
    if foreign == "marker":
        (path / release.MARKER).rename(path / "m")
        (path / release.MARKER).symlink_to("m")
    else:
        monkeypatch.setattr(release.os, "geteuid", lambda: os.getuid() + 1)
    assert not release.is_complete(path)


@pytest.fixture(name="built")
def _built(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of a build, which do nothing but the last; their names appear here."""
    steps: list[str] = []
    for name in ("prepare", "gems", "assets", "clear", "run"):
        monkeypatch.setattr(release.Builder, name, lambda *_, step=name, **__: steps.append(step))
    monkeypatch.setattr(release.Builder, "fetch", lambda _: "c0ffee")
    monkeypatch.setattr(release.Builder, "hand_over", lambda _, target: (target / "Gemfile").touch())
    (release.ROOT / "release.json").write_text(json.dumps(SETTINGS))
    return steps


def test_what_somebody_else_owns_is_built_anew_while_it_runs(
    release: ModuleType, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(release, "v4.6.0")
    releases = release.ROOT / "releases"
    (releases / "v4.6.0" / release.MARKER).unlink()
    link = (release.ROOT / "current").lstat().st_ino
    assert release.build("v4.6.0", dry_run=False)["changed"] is True
    assert release.is_complete(releases / "v4.6.0")
    assert (releases / "v4.6.0/Gemfile").exists()
    assert (releases / "v4.6.0/.bundle/config").read_text() == release.bundle_config(release.BUNDLER)
    # Sidekiq restarts where the link is another one.
    assert (release.ROOT / "current").lstat().st_ino != link
    monkeypatch.setattr(release, "in_use", lambda: {releases / ".old-v4.6.0"})
    assert release.prune()["removed"] == []
    monkeypatch.setattr(release, "in_use", set)
    assert release.prune()["removed"] == [".old-v4.6.0"]
    assert [path.name for path in releases.iterdir()] == ["v4.6.0"]


def test_cut_off_between_the_two_steps_it_is_put_back(release: ModuleType, built: list[str]) -> None:
    deploy(release, "v4.6.0")
    target = release.ROOT / "releases/v4.6.0"
    target.rename(target.with_name(".old-v4.6.0"))
    assert release.build("v4.6.0", dry_run=False)["changed"] is False
    assert built == []
    assert release.is_complete(target)


def test_after_a_build_that_failed_the_next_begins_with_nothing(
    release: ModuleType, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Any) -> None:
        raise release.ReleaseError("no network")

    monkeypatch.setattr(release.Builder, "assets", fail)
    with pytest.raises(release.ReleaseError, match="no network"):
        release.build("v4.6.0", dry_run=False)
    assert built == ["prepare", "gems", "clear"]
    assert release.commits() == {}
    monkeypatch.setattr(release.Builder, "assets", lambda _: None)
    assert release.build("v4.6.0", dry_run=False)["commit"] == "c0ffee"
    assert [path.name for path in (release.ROOT / "releases").iterdir()] == ["v4.6.0"]


def test_a_complete_release_is_not_built_again(release: ModuleType) -> None:
    deploy(release, "v4.6.0")
    assert release.build("v4.6.0", dry_run=False) == {"changed": False, "version": "v4.6.0"}


def test_an_incomplete_release_is_not_activated(release: ModuleType) -> None:
    deploy(release, "v4.6.0")
    deploy(release, "v4.7.0", complete=False)
    with pytest.raises(release.ReleaseError, match=r"v4\.7\.0 is not built completely"):
        release.activate("v4.7.0", dry_run=False)
    assert release.current() == "v4.6.0"


def test_activation_is_one_step_and_then_none(release: ModuleType) -> None:
    deploy(release, "v4.7.0")
    deploy(release, "v4.6.0")
    assert release.activate("v4.7.0", dry_run=True)["changed"] is True
    assert release.current() == "v4.6.0"
    assert release.activate("v4.7.0", dry_run=False)["changed"] is True
    assert release.current() == "v4.7.0"
    assert release.activate("v4.7.0", dry_run=False)["changed"] is False


def test_pruning_keeps_what_is_current_kept_or_running(
    release: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("v4.4.0", "v4.5.0", "v4.6.0", "v4.7.0"):
        deploy(release, version)
    monkeypatch.setattr(release, "in_use", lambda: {release.ROOT / "releases/v4.4.0/tmp"})
    assert release.prune() == {"changed": True, "removed": ["v4.5.0"]}
    assert sorted(path.name for path in (release.ROOT / "releases").iterdir()) == [
        "v4.4.0",
        "v4.6.0",
        "v4.7.0",
    ]


def test_the_check_names_fixes_of_the_series(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(release, "v4.6.0")
    (release.ROOT / "release.json").write_text(json.dumps(SETTINGS))
    tags = "\n".join(f"0\trefs/tags/{tag}" for tag in ("v4.5.9", "v4.6.2", "v4.7.0", "v4.7.0-rc.1"))
    monkeypatch.setattr(release.Builder, "run", lambda *_, **__: tags)
    assert release.check() == (
        "<4>v4.6.0 is deployed and v4.7.0 is the newest release; v4.6.2 has fixes, maybe of security, "
        "for the deployed series."
    )


@pytest.fixture(name="secrets")
def _secrets(program: Program, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = program("exec/mastodon_secrets")
    monkeypatch.setattr(module, "database_has_data", lambda: False)
    return module


def with_data(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "database_has_data", lambda: True)


def test_missing_secrets_are_made_once(secrets: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = secrets.ensure({}, {})
    assert set(made) == set(secrets.NAMES)
    assert re.fullmatch(r"[0-9a-f]{128}", made["secret_key_base"])
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", made[name]) for name in secrets.ENCRYPTION)
    assert len(set(made.values())) == len(made)
    with_data(secrets, monkeypatch)
    assert secrets.ensure({}, made) == made


def test_the_vapid_pair_belongs_together(secrets: ModuleType) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pair = secrets.vapid_pair()
    private, public = (base64.urlsafe_b64decode(pair[name]) for name in secrets.VAPID)
    key = ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    assert point == public


@pytest.mark.parametrize("name", list(KEYS))
def test_a_lost_secret_is_not_made_anew_over_data(
    secrets: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with_data(secrets, monkeypatch)
    kept = {key: value for key, value in KEYS.items() if key != name}
    with pytest.raises(secrets.SecretsError, match=f"{name} is neither in mastodon_secrets nor in"):
        secrets.ensure({}, kept)


def test_another_encryption_key_is_refused_over_data(
    secrets: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"active_record_encryption_primary_key": "z" * 32}
    assert secrets.ensure(given, KEYS)["active_record_encryption_primary_key"] == "z" * 32
    with_data(secrets, monkeypatch)
    with pytest.raises(secrets.SecretsError) as error:
        secrets.ensure(given, KEYS)
    assert "z" * 32 not in str(error.value)
    assert "p" * 32 not in str(error.value)


def test_the_settings_may_bring_a_lost_secret_back(
    secrets: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_data(secrets, monkeypatch)
    assert secrets.ensure(KEYS, {}) == KEYS


class Database:
    """Answers the queries of mastodon-migrate."""

    def __init__(self, done: list[str] | None, duplicates: tuple[str, ...] = ()) -> None:
        self.done, self.duplicates = done, duplicates

    def __call__(self, query: str) -> list[str]:
        if "to_regclass" in query:
            return ["f" if self.done is None else "t"]
        if "schema_migrations" in query:
            return list(self.done or [])
        if "information_schema" in query:
            return ["1"]
        return list(self.duplicates)


@pytest.fixture(name="migrate")
def _migrate(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = program("exec/mastodon_migrate")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "FIRST_SETUP", tmp_path / ".first-setup")
    for path in (
        "db/migrate/20250101000000_a.rb",
        "db/migrate/20250103000000_c.rb",
        "db/post_migrate/20250102000000_b.rb",
    ):
        file = tmp_path / "releases/v4.7.0" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return module


def prepare(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, database: Database
) -> list[tuple[str, bool]]:
    """Let the module talk to `database`; returns the list in which the rails tasks appear."""
    ran: list[tuple[str, bool]] = []

    def rails(release: Path, task: str, *, skip_post: bool) -> None:
        ran.append((task, skip_post))
        files = [
            *release.glob("db/migrate/*.rb"),
            *([] if skip_post else release.glob("db/post_migrate/*.rb")),
        ]
        database.done = sorted({*(database.done or []), *(file.name[:14] for file in files)})

    monkeypatch.setattr(module, "psql", database)
    monkeypatch.setattr(module, "rails", rails)
    return ran


def test_an_empty_database_is_set_up(migrate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = prepare(migrate, monkeypatch, Database(None))
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is True
    assert ran == [("db:migrate", False), ("db:seed", False)]
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is False


def test_a_first_setup_that_was_cut_off_is_finished(
    migrate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.FIRST_SETUP.touch()
    ran = prepare(migrate, monkeypatch, Database(["20250101000000", "20250102000000", "20250103000000"]))
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is True
    assert ("db:seed", False) in ran
    assert not migrate.FIRST_SETUP.exists()


def test_an_upgrade_has_two_phases(migrate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = prepare(migrate, monkeypatch, Database(["20250101000000"]))
    assert migrate.pre("v4.7.0", dry_run=True)["changed"] is True
    assert ran == []
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is True
    assert ran == [("db:migrate", True)]
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is False
    assert migrate.post("v4.7.0", dry_run=False)["changed"] is True
    assert ran == [("db:migrate", True), ("db:migrate", False)]
    assert migrate.post("v4.7.0", dry_run=False)["changed"] is False


def test_a_newer_database_is_refused(migrate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = prepare(migrate, monkeypatch, Database(["20250101000000", "20260101000000"]))
    with pytest.raises(migrate.MigrateError, match=r"newer than v4\.7\.0"):
        migrate.pre("v4.7.0", dry_run=False)
    assert ran == []


def test_duplicate_uris_stop_the_upgrade_to_4_7(migrate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(["20250101000000"], ("https://a.test/x|2",))
    ran = prepare(migrate, monkeypatch, database)
    unique = "db/post_migrate/20260720104058_add_unique_index_on_accounts_uri.rb"
    for version in ("v4.7.0", "v4.7.0-rc.1", "v4.7.0+acme.2"):
        release = migrate.ROOT / "releases" / version
        if version != "v4.7.0":
            shutil.copytree(migrate.ROOT / "releases" / "v4.7.0", release)
        (release / unique).touch()
        with pytest.raises(migrate.MigrateError, match=re.escape("https://a.test/x|2")):
            migrate.pre(version, dry_run=False)
    assert ran == []
    database.done = ["20250101000000", "20250102000000", "20250103000000", "20260720104058"]
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is False


def test_duplicate_uris_are_nothing_to_a_release_that_allows_them(
    migrate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(migrate, monkeypatch, Database(["20250101000000"], ("https://a.test/x|2",)))
    assert migrate.pre("v4.7.0", dry_run=False)["changed"] is True


@pytest.mark.parametrize("skip", [True, False])
def test_migrations_are_skipped_by_a_variable_that_is_there_or_not(
    program: Program, monkeypatch: pytest.MonkeyPatch, *, skip: bool
) -> None:
    """Mastodon 4.5 to 4.7 ask `ENV['SKIP_POST_DEPLOYMENT_MIGRATIONS']` alone: `false` would skip as well."""
    module = program("exec/mastodon_migrate")
    called: list[list[str]] = []

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(argv)
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(module.subprocess, "run", run)
    module.rails(Path("/opt/mastodon/releases/v4.7.0"), "db:migrate", skip_post=skip)
    words = [word for word in called[0] if "SKIP_POST" in word]
    assert words == (["SKIP_POST_DEPLOYMENT_MIGRATIONS=true"] if skip else [])


def test_an_incomplete_release_is_named(migrate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(migrate, monkeypatch, Database([]))
    with pytest.raises(migrate.MigrateError, match="has no migrations"):
        migrate.pre("v4.8.0", dry_run=False)


def test_environment_files_are_read_as_docker_reads_them(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "common.env"
    file.write_text("# comment\nA=x = y\nB=Mastodon <a@b> # c\n\n")
    found: Any = program("exec/mastodon_run").read(file)
    assert found == {"A": "x = y", "B": "Mastodon <a@b> # c"}

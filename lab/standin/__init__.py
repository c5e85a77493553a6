"""The stand-in Mastodon: git repository, gem source and images, built from the files beside this one.

`source/` is v4.5.0; each folder of `versions/` holds the files in which that version differs from the one
before it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.config import IMAGE_PREFIX, REPOSITORY

if TYPE_CHECKING:
    import docker

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "source"

VERSIONS = {
    # tag: day of its release (commits carry it, so that a repository is always the same)
    "v4.5.0": "2025-11-06T12:00:00+00:00",
    "v4.6.0": "2026-06-10T12:00:00+00:00",
    "v4.7.0": "2026-08-20T12:00:00+00:00",
}

CACHE = REPOSITORY / ".lab" / "cache" / "standin"
"""Where built gems are kept unless a caller names a place; shared by all labs."""

HOST_AUTHORITIES = Path("/usr/local/share/ca-certificates")

Log = Callable[[str], None]


class StandinError(Exception):
    """A part of the stand-in could not be built; the message says which and why."""


def _quiet(_line: str) -> None:
    pass


def tree(tag: str) -> dict[str, Path]:
    """The files of one version: path inside it -> file here. KeyError for a tag that does not exist."""
    files: dict[str, Path] = {}
    for version in list(VERSIONS)[: list(VERSIONS).index(_known(tag)) + 1]:
        root = SOURCE if version == next(iter(VERSIONS)) else HERE / "versions" / version
        paths = (path for path in sorted(root.rglob("*")) if path.is_file())
        files.update({str(path.relative_to(root)): path for path in paths})
    return files


def _known(tag: str) -> str:
    if tag not in VERSIONS:
        raise KeyError(f"no stand-in {tag}: there are {', '.join(VERSIONS)}")
    return tag


def _digest(files: Mapping[str, Path | bytes], *extra: str) -> str:
    """Twelve hexadecimal digits that follow the names, contents and modes of `files`, and `extra`."""
    digest = hashlib.sha256("\0".join(extra).encode())
    for name, content in sorted(files.items()):
        data = content if isinstance(content, bytes) else content.read_bytes()
        mode = isinstance(content, Path) and os.access(content, os.X_OK)
        digest.update(f"\0{name}\0{mode}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


# -- the git repository -----------------------------------------------------------------------------


def build_repository(target: Path, gems: Path | None = None) -> dict[str, str]:
    """Write a bare git repository with every version as a commit and a tag; returns tag -> commit.

    `gems` is what `build_gems` made: its Gemfile.lock becomes each version's, because only that one names
    gems which the gem source has. Without it the gems in the cache are taken, and built if there are none.
    The same files give the same commits. `target` is replaced as a whole, and only if it differs. Raises
    StandinError.
    """
    lock = (gems or build_gems()) / "Gemfile.lock"
    if not lock.is_file():
        raise StandinError(f"{lock} is missing: build_gems() makes it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".standin-") as name:
        work, bare = Path(name) / "work", Path(name) / "bare"
        _git(["init", "--quiet", "--initial-branch=main", str(work)])
        for tag, day in VERSIONS.items():
            for path in work.iterdir():
                if path.name != ".git":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            _write(work, tag, lock)
            _git(["add", "--all", "--force"], work, day)
            _git(["commit", "--quiet", f"--message=Bump version to {tag}"], work, day)
            _git(["tag", "--annotate", f"--message={tag}", tag], work, day)
        commits = {tag: _git(["rev-parse", f"{tag}^{{commit}}"], work) for tag in VERSIONS}
        if target.is_dir() and _commits(target) == commits:
            return commits
        _git(["clone", "--quiet", "--bare", str(work), str(bare)])
        _git(["remote", "remove", "origin"], bare)
        # For a server that only hands out files.
        _git(["update-server-info"], bare)
        if target.exists():
            shutil.rmtree(target)
        bare.rename(target)
    return commits


def _write(directory: Path, tag: str, lock: Path) -> None:
    for name, path in {**tree(tag), "Gemfile.lock": lock}.items():
        destination = directory / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)
        destination.chmod(0o755 if os.access(path, os.X_OK) and name.startswith("bin/") else 0o644)


def _commits(repository: Path) -> dict[str, str]:
    try:
        return {tag: _git(["rev-parse", "--verify", f"{tag}^{{commit}}"], repository) for tag in VERSIONS}
    except StandinError:
        return {}


def _git(arguments: list[str], directory: Path | None = None, day: str = "1970-01-01T00:00:00+00:00") -> str:
    identity = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Stand-in"), ("EMAIL", "standin@lab.internal"), ("DATE", day))
    }
    # Nobody's settings (signing, hooks, line ends) may change the commits.
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    command = ["git", "-c", "core.autocrlf=false", *(["-C", str(directory)] if directory else []), *arguments]
    done = subprocess.run(command, env=settings | identity, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StandinError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


# -- gems and images --------------------------------------------------------------------------------


def build_gems(target: Path | None = None, *, base: str | None = None, log: Log = _quiet) -> Path:
    """Pack the gems of Debian that the stand-in needs into a static gem source at `target`; returns it.

    Made in a container of `base` (default: the lab's minimal Debian). Nothing is done where `target` holds
    what the same files and the same base gave before. Raises StandinError.
    """
    target = target or CACHE / "gems"
    builder = _Builder(base, log)
    files: dict[str, Path | bytes] = {
        "Gemfile": SOURCE / "Gemfile",
        "pack_gems.rb": HERE / "pack_gems.rb",
        "Dockerfile": HERE / "images" / "Dockerfile",
    }
    wanted = _digest(files, builder.base_id)
    stamp = target / ".built"
    if stamp.is_file() and stamp.read_text() == wanted:
        return target
    image = builder.image(f"standin-gems:{wanted}", "gems", _dependencies_context(None))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".standin-") as name:
        with tarfile.open(fileobj=io.BytesIO(builder.read(image, "/gems"))) as tar:
            # Debian 12's Python has no filter yet.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(name)  # noqa: S202  - of an image made here
        built = Path(name) / "gems"
        (built / ".built").write_text(wanted)
        if target.exists():
            shutil.rmtree(target)
        built.rename(target)
    return target


def build_images(
    *, base: str | None = None, gems: Path | None = None, tags: list[str] | None = None, log: Log = _quiet
) -> dict[str, str]:
    """Build the two images of each version: `mastodon:v4.5.0`, `mastodon-streaming:v4.5.0`, ... -> image.

    The values are names in the local engine that end in a digest of everything that went in: an image that
    exists under its name is not built again. All versions share the layers below their code. Raises
    StandinError.
    """
    builder = _Builder(base, log)
    gems = gems or build_gems(base=builder.base, log=log)
    context = _dependencies_context(gems)
    shared_digest = _digest(context, builder.base_id)
    images: dict[str, str] = {}
    for tag in tags or list(VERSIONS):
        files: dict[str, Path | bytes] = {f"code/{name}": path for name, path in tree(tag).items()}
        files["code/Gemfile.lock"] = gems / "Gemfile.lock"
        files["Dockerfile"] = HERE / "images" / "version.Dockerfile"
        digest = _digest(files, shared_digest)
        names = {part: f"{part}:{tag}-{digest}" for part in ("mastodon", "mastodon-streaming")}
        arguments = {}
        if not all(builder.exists(name) for name in names.values()):
            arguments = {
                part.upper().replace("-", "_"): builder.image(
                    f"standin-{part}:{shared_digest}", part, context
                )
                for part in ("dependencies", "node", "streaming-dependencies")
            }
        images |= {
            f"{part}:{tag}": builder.image(name, part, files, arguments) for part, name in names.items()
        }
    return images


def default_base(client: docker.DockerClient, log: Log = _quiet) -> str:
    """The lab's minimal Debian 13, made if need be: these images travel to every worker."""
    from lab.images import Images  # noqa: PLC0415  - only what builds images needs it

    return Images(client, REPOSITORY / ".lab" / "cache", log).rootfs()


def _dependencies_context(gems: Path | None) -> dict[str, Path | bytes]:
    files: dict[str, Path | bytes] = {
        "Dockerfile": HERE / "images" / "Dockerfile",
        "pack_gems.rb": HERE / "pack_gems.rb",
    }
    for name in ("Gemfile", "package.json", "yarn.lock", ".yarnrc.yml", "streaming/package.json"):
        files[f"source/{name}"] = SOURCE / name
    files["authorities/.keep"] = b""
    for path in sorted(HOST_AUTHORITIES.rglob("*.crt")):
        files[f"authorities/{path.name}"] = path
    if gems:
        files |= {f"gems/{path.relative_to(gems)}": path for path in sorted(gems.rglob("*.gem"))}
        files["gems/Gemfile.lock"] = gems / "Gemfile.lock"
    return files


class _Builder:
    """The engine's classic builder."""

    def __init__(self, base: str | None, log: Log) -> None:
        import docker  # noqa: PLC0415  - a repository can be built without an engine

        self._client = docker.from_env(timeout=600)
        self._missing = docker.errors.ImageNotFound
        self._log = log
        self.base = base or default_base(self._client, log)
        self.base_id = str(self._client.images.get(self.base).id)

    def exists(self, name: str) -> bool:
        try:
            self._client.images.get(f"{IMAGE_PREFIX}/{name}")
        except self._missing:
            return False
        return True

    def image(
        self,
        name: str,
        target: str,
        files: Mapping[str, Path | bytes],
        arguments: Mapping[str, str] | None = None,
    ) -> str:
        """One target of the context's Dockerfile, unless there is an image of that name; its full name."""
        full = f"{IMAGE_PREFIX}/{name}"
        if self.exists(name):
            return full
        self._log(f"building {full}")
        answer = self._client.api.build(
            fileobj=_tar(files),
            custom_context=True,
            target=target,
            tag=full,
            buildargs={"BASE": self.base, **(arguments or {})},
            rm=True,
            forcerm=True,
        )
        tail: list[str] = []
        for event in _events(answer):
            text = str(event.get("error") or event.get("stream") or "").rstrip()
            if text:
                tail = [*tail[-20:], text]
            if text.startswith("Step "):
                self._log(f"{name}: {text[:90]}")
            if "error" in event:
                raise StandinError("image {} was not built:\n{}".format(full, "\n".join(tail)))
        return full

    def read(self, image: str, path: str) -> bytes:
        """A folder of an image, as a tar archive."""
        container = self._client.containers.create(image, ["true"])
        try:
            return b"".join(container.get_archive(path)[0])
        finally:
            container.remove()


def _events(answer: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The builder's JSON documents, one a line, however they are cut into chunks."""
    pending = b""
    for chunk in answer:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in filter(bytes.strip, lines):
            yield json.loads(line)
    if pending.strip():
        yield json.loads(pending)


def _tar(files: Mapping[str, Path | bytes]) -> io.BytesIO:
    """A build context; times and owners are left out, so that the builder's cache holds."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in sorted(files.items()):
            data = content if isinstance(content, bytes) else content.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if isinstance(content, Path) and os.access(content, os.X_OK) else 0o644
            tar.addfile(entry, io.BytesIO(data))
    buffer.seek(0)
    return buffer

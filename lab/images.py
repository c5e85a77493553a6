"""The images a lab runs on: built once, shared by all labs, kept by `lab down`.

Every tag carries a hash of what went into the image, so an unchanged input is never built again and a
changed one always is. Builds that are cut off leave no tag and no file: they start afresh.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests.exceptions
import yaml

from lab.config import IMAGE_PREFIX, REPOSITORY, Lab
from lab.engine import LabError, connect, exists
from lab.threads import workers

SUITE = "trixie"
ROOTFS = f"{IMAGE_PREFIX}/rootfs:{SUITE}"
SLUG = "debian-13-x64"
"""DigitalOcean's name of the image that droplets are made from."""
DROPLET = f"{IMAGE_PREFIX}/droplet:{SLUG}"
SERVICES = f"{IMAGE_PREFIX}/services:current"
SPACES = f"{IMAGE_PREFIX}/spaces:current"
PYTHON = "3.13"
"""Debian 13's Python, which the services image has."""
VERSITYGW = "v1.8.0"
NODE = "24.19.0"
"""What Mastodon 4.6 and newer need: Debian 13 has Node 20."""


def _default(role: str, variable: str) -> str:
    defaults = yaml.safe_load((REPOSITORY / "roles" / role / "defaults" / "main.yml").read_text())
    return str(defaults[variable])


NGINX = _default("worker", "worker_nginx_image").removeprefix("docker.io/library/")
COREPACK = _default("exec", "exec_corepack_version")

_SOURCES = Path(__file__).parent / "services"
_HOST_CAS = Path("/usr/local/share/ca-certificates")
_ANSWER_SECONDS = 20
_PULL_SECONDS = 900
_NGINX = """\
ARG ROOTFS
FROM ${ROOTFS}
RUN apt-get update -qq \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends curl nginx \\
 && rm -rf /var/lib/apt/lists/* /etc/nginx/sites-enabled/*
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
"""
_locks: dict[str, threading.Lock] = {}
_locks_guard = threading.Lock()

Report = Callable[[str], None]


@dataclass
class _Context:
    """A build context: small files by path, whole directories by path (not part of the tag's hash)."""

    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    trees: dict[str, Path] = field(default_factory=dict)

    def add(self, source: Path, below: str = "") -> None:
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file() and "__pycache__" not in path.parts:
                name = str(path.relative_to(source)) if source.is_dir() else path.name
                mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
                self.files[f"{below}{name}"] = (path.read_bytes(), mode)

    def digest(self, *more: str) -> str:
        found = hashlib.sha256()
        for name, (content, mode) in sorted(self.files.items()):
            found.update(f"{name}\0{mode}\0{len(content)}\0".encode() + content)
        for text in more:
            found.update(f"{text}\0".encode())
        return found.hexdigest()[:12]

    def write(self, target: Any) -> None:
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name, (content, mode) in sorted(self.files.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), mode
                archive.addfile(info, io.BytesIO(content))
            for name, tree in self.trees.items():
                archive.add(tree, arcname=name)


@contextmanager
def debian_keys() -> Iterator[Path]:
    """A file with the keys that sign Debian 13, which everybody may read: apt does as a user of its own, who
    may not enter a home directory.

    They are those of Debian's debian-archive-keyring 2023.3+deb12u2; Ubuntu's package is older.
    """
    with tempfile.TemporaryDirectory(prefix="debian-keys-") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "debian-trixie.gpg"
        path.write_bytes((_SOURCES / path.name).read_bytes())
        path.chmod(0o644)
        yield path


def scratch(cache: Path) -> Path:
    """This process's directory for what is not finished. What killed processes left in theirs is removed."""
    own = cache / "tmp" / str(os.getpid())
    own.mkdir(parents=True, exist_ok=True)
    for path in own.parent.iterdir():
        if path.name.isdigit() and not Path("/proc", path.name).exists():
            shutil.rmtree(path, ignore_errors=True)
    return own


class Images:
    """Makes images on demand; each method returns the tag to run. Threads may call them at once."""

    def __init__(
        self,
        client: docker.DockerClient,
        cache: Path,
        report: Report = lambda _: None,
        registry: str | None = None,
    ) -> None:
        """`registry`: where public images are, `$LAB_REGISTRY` or Docker Hub if not given."""
        self.client = client
        self.cache = cache
        self.report = report
        self.registry = registry or os.environ.get("LAB_REGISTRY") or "docker.io"

    # -- Debian -----------------------------------------------------------------------------------------

    def rootfs(self) -> str:
        """A minimal Debian: the public image where it can be pulled, else made from Debian's packages."""
        with self._once("rootfs"):
            if exists(self.client, ROOTFS):
                return ROOTFS
            public = f"{self.registry}/library/debian:{SUITE}-slim"
            if self._pull(public):
                self.client.images.get(public).tag(ROOTFS)
                return ROOTFS
            self.report(f"rootfs: {public} cannot be pulled, making it with mmdebstrap")
            self._debootstrap()
            return ROOTFS

    def _pull(self, image: str) -> bool:
        """One try. The engine has no time limit of its own for a registry that never answers."""
        self.report(f"pulling {image}")
        try:
            connect(timeout=_ANSWER_SECONDS).images.get_registry_data(image)
            run = subprocess.run(
                ["docker", "pull", "--quiet", image], capture_output=True, timeout=_PULL_SECONDS, check=False
            )
        except (
            docker.errors.DockerException,
            requests.exceptions.RequestException,
            subprocess.TimeoutExpired,
        ):
            return False
        return run.returncode == 0

    def _debootstrap(self) -> None:
        with tempfile.TemporaryFile(dir=scratch(self.cache)) as archive, debian_keys() as keys:
            command = [
                *("mmdebstrap", "--quiet", "--variant=minbase", f"--keyring={keys}"),
                *("--include=ca-certificates", SUITE, "-"),
            ]
            try:
                run = subprocess.run(
                    command, stdout=archive, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False
                )
            except FileNotFoundError as error:
                raise LabError("mmdebstrap is not installed: run scripts/bootstrap") from error
            if run.returncode:
                tail = run.stderr.decode(errors="replace").strip().splitlines()[-5:]
                raise LabError(
                    f"mmdebstrap could not make Debian {SUITE} (is its mirror reachable?): {' / '.join(tail)}"
                )
            archive.seek(0)
            repository, tag = ROOTFS.split(":")
            # A generator: the SDK sends this chunked, and for a file would claim a length as well.
            chunks = iter(lambda: archive.read(1 << 20), b"")
            self.client.api.import_image_from_stream(chunks, repository=repository, tag=tag)

    def base(self) -> str:
        """Debian with this machine's certificate authorities and a few tools; parent of all others."""
        rootfs = self.rootfs()
        context = _Context()
        context.add(_SOURCES / "base")
        context.files["ca/.keep"] = (b"", 0o644)
        if _HOST_CAS.is_dir():
            for path in sorted(_HOST_CAS.rglob("*.crt")):
                context.files[f"ca/{path.name}"] = (path.read_bytes(), 0o644)
        return self._build("base", context, {"ROOTFS": rootfs})

    def droplet(self) -> str:
        """What a droplet's disk is written from; also tagged with DigitalOcean's slug."""
        context = _Context()
        context.add(_SOURCES / "droplet")
        made = self._build("droplet", context, {"BASE": self.base()})
        self.client.images.get(made).tag(DROPLET)
        return DROPLET

    # -- the lab's own parts ----------------------------------------------------------------------------

    def services(self) -> str:
        """Every server the lab runs, and the Python packages that `lab` needs."""
        context = _Context()
        context.add(_SOURCES / "services")
        context.trees["python"] = self._python_packages()
        made = self._build("services", context, {"BASE": self.base()}, *_requirements(), PYTHON)
        self.client.images.get(made).tag(SERVICES)
        return made

    def _python_packages(self) -> Path:
        """The `lab` extra's packages for the image's Python, unpacked; pip's settings are the host's."""
        wanted = _requirements()
        inputs = "\0".join([PYTHON, platform.machine(), *wanted])
        name = f"python-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
        target = self.cache / name
        with self._once(name):
            if target.is_dir():
                return target
            self.report("services: fetching Python packages")
            work = Path(tempfile.mkdtemp(dir=scratch(self.cache)))
            machine = platform.machine()
            glibcs = ("_2_36", "_2_34", "_2_28", "_2_17", "2014")
            command = [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
                *("--no-compile", f"--target={work}", "--implementation=cp", f"--python-version={PYTHON}"),
                *("--only-binary=:all:", *(f"--platform=manylinux{glibc}_{machine}" for glibc in glibcs)),
                *wanted,
            ]
            run = subprocess.run(
                command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
            )
            if run.returncode:
                shutil.rmtree(work, ignore_errors=True)
                raise LabError(f"pip could not fetch the lab's Python packages: {run.stderr.strip()[-600:]}")
            work.chmod(0o755)
            work.rename(target)
            return target

    def spaces(self) -> str:
        """The S3 server."""
        context = _Context()
        context.files["Dockerfile"] = (
            b"ARG BASE\nFROM ${BASE}\nCOPY versitygw /usr/local/bin/versitygw\n", 0o644
        )  # fmt: skip
        context.trees["versitygw"] = self.versitygw()
        made = self._build("spaces", context, {"BASE": self.base()}, VERSITYGW)
        self.client.images.get(made).tag(SPACES)
        return made

    def versitygw(self) -> Path:
        """The S3 server's program: that of its public image where it can be pulled, else built with Go."""
        binary = self.cache / f"versitygw-{VERSITYGW}-{platform.machine()}"
        with self._once("versitygw"):
            public = f"{self.registry}/versity/versitygw:{VERSITYGW}"
            if not binary.exists() and not (self._pull(public) and self._take_versitygw(public, binary)):
                self._build_versitygw(binary)
        return binary

    def nginx(self) -> str:
        """nginx for a worker: the public image where it can be pulled, else Debian's nginx in its form."""
        tag = f"{IMAGE_PREFIX}/{NGINX}"
        with self._once("nginx"):
            if exists(self.client, tag):
                return tag
            public = f"{self.registry}/library/{NGINX}"
            if self._pull(public):
                self.client.images.get(public).tag(tag)
                return tag
            context = _Context()
            context.files["Dockerfile"] = (_NGINX.encode(), 0o644)
            self.client.images.get(self._build("nginx", context, {"ROOTFS": self.rootfs()})).tag(tag)
            return tag

    def node(self, base: str, target: Path) -> None:
        """An apt repository with a newer Node than Debian's at `target`, as NodeSource's. `base` has npm."""
        context = _Context()
        context.add(_SOURCES / "node")
        image = self._build("node", context, {"BASE": base, "NODE": NODE, "COREPACK": COREPACK})
        stamp = target / ".image"
        if stamp.is_file() and stamp.read_text() == image:
            return
        container = self.client.containers.create(image, ["true"])
        try:
            with tempfile.TemporaryDirectory(dir=scratch(self.cache)) as folder:
                chunks, _ = container.get_archive("/srv/node")
                with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                    # Debian 12's Python has no filter yet.
                    archive.extraction_filter = getattr(tarfile, "data_filter", None)
                    archive.extractall(folder)  # noqa: S202  - of an image made here
                made = Path(folder) / "node"
                (made / ".image").write_text(image)
                shutil.rmtree(target, ignore_errors=True)
                made.rename(target)
        finally:
            container.remove()

    def _take_versitygw(self, public: str, binary: Path) -> bool:
        """The program of the public image; False where it does not run on the lab's Debian."""
        container = self.client.containers.create(public)
        try:
            chunks, _ = container.get_archive("/usr/local/bin/versitygw")
            beside = scratch(self.cache) / binary.name
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                member = archive.extractfile("versitygw")
                beside.write_bytes(member.read() if member else b"")
            beside.chmod(0o755)
            mount = {str(beside): {"bind": "/versitygw", "mode": "ro"}}
            self.client.containers.run(self.base(), ["/versitygw", "--version"], volumes=mount, remove=True)
        except (docker.errors.APIError, docker.errors.ContainerError):
            return False
        finally:
            container.remove(force=True)
        beside.rename(binary)
        return True

    def _build_versitygw(self, binary: Path) -> None:
        package = f"github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"
        self.report(f"spaces: building versitygw {VERSITYGW} (about two minutes)")
        work = Path(tempfile.mkdtemp(dir=scratch(self.cache)))
        try:
            options = ["-trimpath", "-ldflags=-s -w"]
            if shutil.which("go"):
                command = ["go", "install", *options, package]
            else:
                script = (
                    "apt-get update -qq"
                    " && apt-get install -y -qq --no-install-recommends golang-go >/dev/null"
                    " && CGO_ENABLED=0 GOTOOLCHAIN=auto GOBIN=/out"
                    f" go install {shlex.join(options)} {package}"
                )
                # The engine removes it, whatever becomes of this process; `timeout` hands on Ctrl-C.
                command = ["docker", "run", "--rm", f"--volume={work}:/out", self.base()]
                command += ["timeout", "1800", "sh", "-c", script]
            run = subprocess.run(
                command, env=_go_environment(work), capture_output=True, text=True, check=False
            )
            if run.returncode:
                raise LabError(f"Go could not build versitygw: {run.stderr.strip()[-600:]}")
            built = work / "versitygw"
            built.chmod(0o755)
            built.rename(binary)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    # -- all --------------------------------------------------------------------------------------------

    def all(self) -> None:
        """Builds what is missing. The first error stops it; what is done stays done."""
        with workers() as pool:
            work = (self.spaces, self._python_packages, self.droplet, self.services)
            for job in as_completed([pool.submit(each) for each in work]):
                job.result()

    def empty_cache(self) -> None:
        """Removes the cache. Some of its files belong to users that only exist in containers."""
        if self.cache.is_dir() and exists(self.client, ROOTFS):
            mount = {str(self.cache): {"bind": "/cache", "mode": "rw"}}
            command = ["find", "/cache", "-mindepth", "1", "-delete"]
            self.client.containers.run(ROOTFS, command, volumes=mount, remove=True)
        shutil.rmtree(self.cache, ignore_errors=True)

    def prune(self) -> list[str]:
        """Removes every image the labs have built (`lab purge`); returns the tags."""
        every = (tag for image in self.client.images.list() for tag in image.tags)
        tags = [tag for tag in every if tag.startswith(f"{IMAGE_PREFIX}/")]
        for tag in tags:
            self.client.images.remove(tag, force=True, noprune=False)
        return tags

    # -- helpers ----------------------------------------------------------------------------------------

    @contextmanager
    def _once(self, name: str) -> Iterator[None]:
        """One builder at a time, over threads and over processes (two labs may start together)."""
        with _locks_guard:
            lock = _locks.setdefault(name, threading.Lock())
        scratch(self.cache)
        with lock, (self.cache / "tmp" / f"{name}.lock").open("w") as file:
            flock(file, LOCK_EX)
            yield

    def _build(self, name: str, context: _Context, args: dict[str, str], *more: str) -> str:
        tag = f"{IMAGE_PREFIX}/{name}:{context.digest(*args.values(), *more)}"
        with self._once(f"image-{name}"):
            if exists(self.client, tag):
                return tag
            self.report(f"{name}: building")
            with tempfile.TemporaryFile(dir=scratch(self.cache)) as archive:
                context.write(archive)
                archive.seek(0)
                self._run_build(name, archive, tag, args)
            return tag

    def _run_build(self, name: str, archive: Any, tag: str, args: dict[str, str]) -> None:
        log = self.cache / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            try:
                for event in self.client.api.build(
                    fileobj=archive,
                    custom_context=True,
                    tag=tag,
                    buildargs=args,
                    rm=True,
                    forcerm=True,
                    decode=True,
                ):
                    if "error" in event:
                        raise LabError(f"image {name}: {event['error'].strip()} (log: {log})")
                    text = event.get("stream", "")
                    output.write(text)
                    output.flush()
                    if text.startswith("Step "):
                        self.report(f"{name}: {text.strip()[:90]}")
            except (docker.errors.APIError, requests.exceptions.RequestException) as error:
                raise LabError(f"image {name}: the engine refused or broke off the build: {error}") from error


def _requirements() -> list[str]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    return sorted(project["optional-dependencies"]["lab"])


def _go_environment(target: Path) -> dict[str, str]:
    return {**os.environ, "GOBIN": str(target), "CGO_ENABLED": "0", "GOFLAGS": "-p=2"}


def main() -> None:
    """`python -m lab.images [NAME...]`: build some or all images and print their tags."""
    images = Images(connect(timeout=1800), Lab.load().cache, lambda text: print(text, flush=True))
    for name in sys.argv[1:] or ["droplet", "services", "spaces", "nginx"]:
        print(getattr(images, name)())


if __name__ == "__main__":
    main()

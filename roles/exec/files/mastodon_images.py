#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make the workers' two container images from a release that is built on this host.

    mastodon-images build VERSION      web and sidekiq, and streaming, as an OCI layout in the share
    mastodon-images prune              remove the images of releases that are gone

No container engine is needed: mmdebstrap installs Debian's packages into an archive, which is the image's
lower layer; the release is the upper one; umoci puts them together. They are laid out as Mastodon's official
images are (docs/forks.md compares them).

Settings are those of mastodon-release (/etc/mastodon/release.json), of them here: image_packages and
streaming_packages. The digests are recorded in /etc/mastodon/images.json, where the workers' playbook
looks for them. Killed at any moment, it leaves the images that are there; the next run starts over. Answers
with JSON on standard output: changed, and the digests.
"""

from __future__ import annotations

import argparse
import fcntl
import grp
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mastodon_release
from mastodon_release import Builder, ReleaseError

IMAGES = Path("/srv/mastodon/share/images")
RECORD = Path("/etc/mastodon/images.json")
WORK = Path("/var/lib/mastodon-images")
LOCK = Path("/run/mastodon-images.lock")
REPOSITORY = "exec.internal"
"""Where no registry is: the workers never pull these."""
HOME = "/opt/mastodon"
UID = 991
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What the official images set (Dockerfile and streaming/Dockerfile of Mastodon 4.4 to 4.7), but for jemalloc,
# which they link into their own Ruby.
ENVIRONMENT = {
    "mastodon": {
        "PATH": f"{SYSTEM_PATH}:/opt/ruby/bin:{HOME}/bin",
        "LANG": "C.UTF-8",
        "TZ": "Etc/UTC",
        "BIND": "0.0.0.0",  # noqa: S104  - as theirs; the workers' units say 127.0.0.1
        "NODE_ENV": "production",
        "RAILS_ENV": "production",
        "RAILS_SERVE_STATIC_FILES": "true",
        "RUBY_YJIT_ENABLE": "1",
        "LD_PRELOAD": "libjemalloc.so.2",
        "MALLOC_CONF": "narenas:2,background_thread:true,thp:never,dirty_decay_ms:1000,muzzy_decay_ms:0",
        "MASTODON_SIDEKIQ_READY_FILENAME": "sidekiq_process_has_started_and_will_begin_processing_jobs",
    },
    "mastodon-streaming": {
        "PATH": SYSTEM_PATH,
        "TZ": "Etc/UTC",
        "BIND": "0.0.0.0",  # noqa: S104
        "PORT": "4000",
        "NODE_ENV": "production",
    },
}
# Entrypoint, command and port.
START = {
    "mastodon": (["/usr/bin/tini", "--"], [], 3000),
    "mastodon-streaming": ([], ["node", "./streaming/index.js"], 4000),
}
BUNDLE_CONFIG = f"""---
BUNDLE_DEPLOYMENT: "true"
BUNDLE_PATH: "{HOME}/vendor/bundle"
BUNDLE_WITHOUT: "development:test"
"""
"""For running. The one that the release was built with may name a private gem source, with its password."""
NOT_IN_IMAGE = (".bundle", ".complete.json", ".git", ".env*", "log/*", "node_modules", "tmp")


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*argv: str, cwd: Path | None = None) -> str:
    """Runs it as root; what it says on standard output. Raises ReleaseError."""
    log(f"+ {' '.join(argv)}")
    result = subprocess.run(
        argv, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False,
        env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": "/root"},
    )  # fmt: skip
    if result.returncode:
        raise ReleaseError(
            f"{' '.join(argv[:3])} ended with exit code {result.returncode}; see its output above"
        )
    return result.stdout


def release_of(version: str) -> Path:
    path = mastodon_release.ROOT / "releases" / version
    if not mastodon_release.is_complete(path):
        raise ReleaseError(f"{version} is not built completely: run mastodon-release build {version}")
    return path


def libraries(release: Path) -> set[str]:
    """Debian's packages that have the shared libraries which the release's gems are linked with."""
    files = [str(path) for path in sorted(release.glob("vendor/bundle/**/*.so"))]
    linked: set[str] = set()
    for start in range(0, len(files), 200):
        # As the build user: ldd may run what it looks at. Exit code 1: one of them is no dynamic program.
        said = subprocess.run(
            ["ldd", *files[start : start + 200]], check=False, capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin"}, start_new_session=True,
            **mastodon_release.identity(mastodon_release.BUILD_USER),
        )  # fmt: skip
        linked |= set(re.findall(r"=> (/\S+)", said.stdout))
    owners: set[str] = set()
    for path in sorted({Path(name).resolve() for name in linked}):
        if not path.is_relative_to(release.resolve()):
            owners.add(owner(path))
    return owners


def owner(path: Path) -> str:
    """The package that a file of this host belongs to."""
    # Packages may have been built before /lib became a link to /usr/lib.
    for name in (str(path), str(path).removeprefix("/usr")):
        said = subprocess.run(["dpkg-query", "--search", name], check=False, capture_output=True, text=True)
        if said.returncode == 0:
            return re.split("[,:]", said.stdout, maxsplit=1)[0]
    raise ReleaseError(f"{path}, which a gem needs, is of no package: it cannot go into the image")


def debian(packages: set[str], target: Path) -> None:
    """Debian with `packages` as an archive, from this host's own package sources."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    sources = [
        str(path)
        for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*")))
        if path.suffix in (".list", ".sources") and path.is_file() and path.read_text().strip()
    ]
    # In a file: a proxy's address may hold a password, which a command line shows.
    settings = target.with_name("apt.conf")
    settings.touch(mode=0o600)
    lines = run("apt-config", "dump", "Acquire").splitlines(keepends=True)
    settings.write_text(
        "".join(line for line in lines if re.match(r"Acquire::(https?|Retries|ForceIP)", line))
    )
    user = f"{UID}:{UID}"
    hooks = [
        # The host's sources and proxy are of no use in it: it has no apt.
        'rm -rf "$1/etc/apt"',
        f'chroot "$1" groupadd --gid {UID} mastodon',
        f'chroot "$1" useradd --system --no-log-init --uid {UID} --gid {UID} -m --home-dir {HOME} mastodon',
        f'ln -s {HOME} "$1/mastodon"',
        f'chown {user} "$1{HOME}"',
    ]
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=essential", "--format=tar",
        f"--include={','.join(sorted({*packages, 'passwd'}))}", f"--aptopt={settings}",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        *(f"--customize-hook={hook}" for hook in hooks),
        release["VERSION_CODENAME"], str(target), *sources,
    )  # fmt: skip


def warm(builder: Builder, release: Path, cache: Path) -> None:
    """The cache of bootsnap, which holds the program's compiled files by their path in the image."""
    cache.mkdir()
    user, group = builder.identity["user"], builder.identity["group"]
    os.chown(cache, user, group)
    script = (
        f'mount --bind "$1" {HOME} && cd {HOME} && '
        f"exec setpriv --reuid={user} --regid={group} --clear-groups "
        # Not the host's /tmp, where everybody can leave a configuration for bundler.
        'env HOME="$2" BOOTSNAP_CACHE_DIR="$2" setsid --wait '
        "bundle exec bootsnap precompile --gemfile app/ lib/"
    )
    run("unshare", "--mount", "--propagation=private", "sh", "-c", script, "warm", str(release), str(cache))


def pack(
    builder: Builder, source: Path, target: Path, *,
    inside: str, owner: int = 0, leave_out: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """The files of `source` as an archive in which they lie at `inside`; the build user reads them."""
    with target.open("wb") as file:
        builder.run(
            "tar", "--create", "--sort=name", "--numeric-owner", f"--owner={owner}", f"--group={owner}",
            f"--transform=s,^\\.\\(/\\|$\\),{inside.strip('/')}\\1,S",
            "--anchored", *(f"--exclude=./{name}" for name in leave_out), ".",
            cwd=source, into=file,
        )  # fmt: skip


def web_layers(builder: Builder, release: Path, packages: set[str], work: Path) -> Iterator[Path]:
    debian(packages | libraries(release), work / "debian.tar")
    yield work / "debian.tar"
    pack(builder, release, work / "release.tar", inside=HOME, leave_out=NOT_IN_IMAGE)
    yield work / "release.tar"
    config = work / "config"
    (config / ".bundle").mkdir(parents=True)
    (config / ".bundle" / "config").write_text(BUNDLE_CONFIG)
    pack(builder, config / ".bundle", work / "config.tar", inside=f"{HOME}/.bundle")
    yield work / "config.tar"
    own = work / "own"
    for name in ("tmp/pids", "public/system"):
        (own / name).mkdir(parents=True)
    if (release / "config/boot.rb").exists() and "bootsnap" in (release / "Gemfile.lock").read_text():
        warm(builder, release, own / "tmp" / "cache")
    for name in ("tmp", "public/system"):
        target = work / f"{name.replace('/', '-')}.tar"
        pack(builder, own / name, target, inside=f"{HOME}/{name}", owner=UID)
        yield target


def streaming_layers(builder: Builder, release: Path, packages: set[str], work: Path) -> Iterator[Path]:
    debian(packages, work / "debian.tar")
    yield work / "debian.tar"
    code = mastodon_release.BUILD / "streaming"
    builder.run("rm", "-rf", str(code))
    builder.run("mkdir", str(code))
    for name in ("package.json", "yarn.lock", ".yarnrc.yml", ".yarn", "streaming"):
        if (release / name).exists():
            builder.run("cp", "--archive", str(release / name), name, cwd=code)
    workspace = json.loads((release / "streaming/package.json").read_text())["name"]
    builder.yarn("workspaces", "focus", "--production", workspace, cwd=code)
    pack(builder, code, work / "code.tar", inside=HOME, leave_out=(".yarn/cache", ".yarn/install-state.gz"))
    builder.run("rm", "-rf", str(code))
    yield work / "code.tar"


def assemble(layout: Path, name: str, layers: Iterator[Path], labels: dict[str, str]) -> str:
    """The image `name` of an OCI layout; its digest. A layer is removed when it is in."""
    image = f"{layout}:{name}"
    run("umoci", "new", "--image", image)
    for layer in layers:
        run("umoci", "raw", "add-layer", "--image", image, str(layer))
        layer.unlink()
    entrypoint, command, port = START[name]
    options = [f"--config.env={key}={value}" for key, value in ENVIRONMENT[name].items()]
    options += [f"--config.label={key}={value}" for key, value in labels.items()]
    options += [f"--config.entrypoint={word}" for word in entrypoint] + [
        f"--config.cmd={word}" for word in command
    ]
    run(
        "umoci", "config", "--image", image, "--config.user=mastodon", f"--config.workingdir={HOME}",
        f"--config.exposedports={port}/tcp", *options,
    )  # fmt: skip
    return digests(layout)[name]


def digests(layout: Path) -> dict[str, str]:
    """Name of each image in an OCI layout -> digest of its manifest."""
    index = json.loads((layout / "index.json").read_text())
    return {
        entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"]
        for entry in index["manifests"]
    }


def reference(name: str, version: str) -> str:
    return f"{REPOSITORY}/{name}:{mastodon_release.parse(version).image_tag}"


def record() -> dict[str, str]:
    return dict(json.loads(RECORD.read_text())) if RECORD.exists() else {}


def write_record(content: dict[str, str]) -> None:
    candidate = RECORD.with_name(f".{RECORD.name}.new")
    candidate.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    candidate.chmod(0o644)
    candidate.replace(RECORD)


def made_from(release: Path, settings: dict[str, Any]) -> str:
    """What decides whether images are still those of the release: its build and the settings of images."""
    marker = (release / mastodon_release.MARKER).read_text()
    parts = [marker, sorted(settings["image_packages"]), sorted(settings["streaming_packages"])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def build(version: str, *, dry_run: bool) -> dict[str, Any]:
    settings = json.loads(mastodon_release.SETTINGS.read_text())
    tag = mastodon_release.parse(version).image_tag
    target = IMAGES / tag
    release = release_of(version)
    origin = made_from(release, settings)
    known = record()
    if (target / "made-from").is_file() and (target / "made-from").read_text() == origin:
        there = {reference(name, version): digest for name, digest in digests(target).items()}
        changed = any(known.get(name) != digest for name, digest in there.items())
        if changed and not dry_run:
            write_record(known | there)
        return {"changed": changed, "digests": there}
    if dry_run:
        return {"changed": True, "digests": {}}
    started = time.monotonic()
    builder = Builder(settings, version)
    with scratch() as work:
        layout = work / "layout"
        run("umoci", "init", "--layout", str(layout))
        commit = json.loads((release / mastodon_release.MARKER).read_text())["commit"]
        labels = {"org.opencontainers.image.version": version, "org.opencontainers.image.revision": commit}
        web, streaming = work / "web", work / "streaming"
        web.mkdir()
        streaming.mkdir()
        web_packages, streaming_packages = (
            set(settings["image_packages"]),
            set(settings["streaming_packages"]),
        )
        assemble(layout, "mastodon", web_layers(builder, release, web_packages, web), labels)
        assemble(
            layout,
            "mastodon-streaming",
            streaming_layers(builder, release, streaming_packages, streaming),
            labels,
        )
        run("umoci", "gc", "--layout", str(layout))
        (layout / "made-from").write_text(origin)
        publish(layout, target)
    there = {reference(name, version): digest for name, digest in digests(target).items()}
    write_record(known | there)
    return {"changed": True, "digests": there, "seconds": round(time.monotonic() - started)}


def publish(layout: Path, target: Path) -> None:
    """Into the share, whole: readers see the images that were there, or these."""
    reader = grp.getgrnam("mastodon-share").gr_gid
    IMAGES.mkdir(mode=0o750, exist_ok=True)
    os.chown(IMAGES, 0, reader)
    staging = IMAGES / f".new-{target.name}"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(layout, staging)
    for path in (staging, *staging.rglob("*")):
        os.chown(path, 0, reader)
        path.chmod(0o750 if path.is_dir() else 0o640)
    run("sync", "--file-system", str(staging))
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory of root's, which others may pass through and not list."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(mode=0o711)
    try:
        yield WORK
    finally:
        shutil.rmtree(WORK, ignore_errors=True)


def prune() -> dict[str, Any]:
    """Images whose release is not on this host any more."""
    releases = [path.name for path in (mastodon_release.ROOT / "releases").iterdir()]
    tags = {version.image_tag for name in releases if (version := mastodon_release.known(name))}
    removed = (
        sorted(path.name for path in IMAGES.glob("[!.]*") if path.name not in tags) if IMAGES.is_dir() else []
    )
    for name in removed:
        shutil.rmtree(IMAGES / name)
    return {"changed": bool(removed), "removed": removed}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    command = verbs.add_parser("build", help="make the images of a release that is built")
    command.add_argument("version")
    command.add_argument("--dry-run", action="store_true", help="say whether there is something to do")
    verbs.add_parser("prune", help="remove the images of releases that are gone")
    arguments = parser.parse_args()
    os.umask(0o022)
    try:
        with open(LOCK, "w", opener=mastodon_release.private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if arguments.verb == "build":
                answer = build(arguments.version, dry_run=arguments.dry_run)
            else:
                answer = prune()
    except (ReleaseError, OSError, ValueError) as error:
        print(f"mastodon-images: {error}. The images that were there are untouched.", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build, activate and prune releases of Mastodon below /opt/mastodon.

    mastodon-release build VERSION     fetch the tag, install gems and packages, compile assets
    mastodon-release activate VERSION  make `current` point to it, in one step
    mastodon-release prune             remove what is neither current, nor kept, nor still running
    mastodon-release check             for a timer: say which newer releases there are

Settings are read from /etc/mastodon/release.json: repository, commit (empty: not pinned), gem_source,
npm_registry (empty: the tools' own), corepack (version; empty: Node's), bundle_config (name: value),
environment (for the build), keep.

A build happens in a directory of its own that becomes `releases/VERSION` when it is complete. Killed at
any moment, it leaves releases and `current` as they were; the next run starts the build over. Answers
with JSON on standard output: changed, and what for.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import io
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from mastodon_version import Version, VersionError

ROOT = Path(os.environ.get("MASTODON_RELEASE_TEST_ROOT", "/opt/mastodon"))
SETTINGS = Path(os.environ.get("MASTODON_RELEASE_TEST_SETTINGS", "/etc/mastodon/release.json"))
USER = "mastodon"
MARKER = ".complete.json"


class ReleaseError(Exception):
    """The release could not be made or may not be; the text says what to do."""


def parse(version: str) -> Version:
    try:
        return Version.parse(version)
    except VersionError as error:
        raise ReleaseError(str(error)) from error


def current() -> str | None:
    """Version that `current` points to."""
    link = ROOT / "current"
    return link.readlink().name if link.is_symlink() else None


def check_step(version: str) -> None:
    """Refuse what Mastodon cannot do: a step back, or over a minor version."""
    new, running = parse(version), current()
    if running is None:
        return
    old = parse(running)
    if new.is_older_than(old):
        raise ReleaseError(
            f"{running} is deployed and {version} is older. Its code does not know the database as it "
            f"is now: set mastodon_version to {running} or newer"
        )
    if series := new.skips_from(old):
        raise ReleaseError(
            f"{running} is deployed and {version} skips a minor version. Upgrade to a release of "
            f"v{series[0]}.{series[1]} first (or the last minor before it), with its migrations, then go on"
        )


class Builder:
    def __init__(self, settings: dict[str, Any], version: str) -> None:
        self.settings = settings
        self.version = version
        self.home = ROOT
        self.identity = self.identity_of_user()
        self.environment = {
            "HOME": str(ROOT),
            "USER": USER,
            "LANG": "C.UTF-8",
            "PATH": f"{ROOT}/bin:/usr/local/bin:/usr/bin:/bin",
            "RAILS_ENV": "production",
            "NODE_ENV": "production",
            "GIT_TERMINAL_PROMPT": "0",
            "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0",
            "COREPACK_HOME": f"{ROOT}/.cache/corepack",
            # Node has authorities of its own; the host's may be more (a proxy's, a private registry's).
            "NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/ca-certificates.crt",
            # Assets need no secret, and the dummy keeps the real ones out of the build.
            "SECRET_KEY_BASE_DUMMY": "1",
        }
        if registry := settings["npm_registry"].rstrip("/"):
            self.environment |= {
                "COREPACK_NPM_REGISTRY": registry,
                "YARN_NPM_REGISTRY_SERVER": registry,
                "npm_config_registry": f"{registry}/",
            }
        self.environment |= settings["environment"]

    @staticmethod
    def identity_of_user() -> dict[str, Any]:
        """What makes `subprocess.run` drop root's rights; nothing where there are none to drop."""
        if os.getuid() != 0:
            return {}
        user = pwd.getpwnam(USER)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(self, *argv: str, cwd: Path, capture: bool = False) -> str:
        print(f"+ {' '.join(argv)}", file=sys.stderr, flush=True)
        result = subprocess.run(
            argv, cwd=cwd, env=self.environment, stdin=subprocess.DEVNULL, text=True, check=False,
            stdout=subprocess.PIPE if capture else sys.stderr, stderr=None, **self.identity,
        )  # fmt: skip
        if result.returncode:
            raise ReleaseError(
                f"{' '.join(argv[:4])} ended with exit code {result.returncode}; see its output above"
            )
        return result.stdout if capture else ""

    def directory(self, path: Path, mode: int = 0o755) -> None:
        path.mkdir(mode=mode, exist_ok=True)
        if self.identity:
            os.chown(path, self.identity["user"], self.identity["group"])

    def fetch(self, staging: Path) -> str:
        """The tag's files into `staging`; returns the commit."""
        repository, tag = self.home / "repository.git", f"refs/tags/{self.version}"
        self.directory(repository)
        if not (repository / "HEAD").exists():
            self.run("git", "init", "--quiet", "--bare", ".", cwd=repository)
        source = self.settings["repository"]
        if not self.run("git", "ls-remote", source, tag, cwd=repository, capture=True).strip():
            raise ReleaseError(f"{source} has no tag {self.version}: correct mastodon_version")
        self.run("git", "fetch", "--quiet", "--force", "--depth=1", source, f"{tag}:{tag}", cwd=repository)
        commit = self.run("git", "rev-parse", f"{tag}^{{commit}}", cwd=repository, capture=True).strip()
        if (pinned := self.settings["commit"]) and commit != pinned:
            raise ReleaseError(
                f"the tag {self.version} of {source} is commit {commit}, and exec_commit says {pinned}: "
                "find out which one is right before building it"
            )
        self.run("git", "archive", f"--output={staging.parent}/.source.tar", tag, cwd=repository)
        archive = staging.parent / ".source.tar"
        self.run("tar", "--extract", f"--file={archive}", cwd=staging)
        archive.unlink()
        return commit

    def gems(self, staging: Path) -> None:
        before = (ROOT / "current").resolve() / "vendor" / "bundle"
        if before.is_dir():
            # Hard links: gems that the last release has need not be built again, and take no space.
            (staging / "vendor").mkdir(exist_ok=True)
            if self.identity:
                os.chown(staging / "vendor", self.identity["user"], self.identity["group"])
            self.run("cp", "--archive", "--link", str(before), "vendor/bundle", cwd=staging)
        settings = {"deployment": "true", "without": "development:test", "path": "vendor/bundle"}
        if source := self.settings["gem_source"]:
            settings["mirror.https://rubygems.org"] = source
        for name, value in (settings | self.settings["bundle_config"]).items():
            self.run("bundle", "config", "set", "--local", name, value, cwd=staging)
        self.run("bundle", "install", "--jobs", str(os.cpu_count() or 1), "--retry", "3", cwd=staging)
        self.run("bundle", "clean", cwd=staging)

    def corepack(self) -> list[str]:
        """The command that is corepack: Node's own, or the version that the settings name."""
        version = self.settings["corepack"]
        if not version:
            return ["corepack"]
        target = ROOT / f".corepack-{version}"
        if not target.exists():
            registry = self.settings["npm_registry"].rstrip("/")
            with urllib.request.urlopen(f"{registry}/corepack/{version}", timeout=60) as answer:  # noqa: S310
                about = json.load(answer)["dist"]
            with urllib.request.urlopen(about["tarball"], timeout=60) as answer:  # noqa: S310
                packed = answer.read()
            digest = base64.b64encode(hashlib.sha512(packed).digest()).decode()
            if about["integrity"] != f"sha512-{digest}":
                raise ReleaseError(
                    f"corepack {version} from {registry} has not the checksum that the registry gives"
                )
            staging = target.with_name(f".new{target.name}")
            shutil.rmtree(staging, ignore_errors=True)
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                # Debian 12's Python has no filter yet.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(staging)  # noqa: S202  - what it holds has its checksum
            staging.rename(target)
        return ["node", str(target / "package" / "dist" / "corepack.js")]

    def yarn(self, *arguments: str, cwd: Path) -> None:
        """Yarn of the version that package.json in `cwd` names."""
        programs = ROOT / "bin"
        self.directory(programs)
        self.directory(ROOT / ".cache")
        self.run(*self.corepack(), "enable", "--install-directory", str(programs), "yarn", cwd=cwd)
        self.run("yarn", *arguments, cwd=cwd)

    def assets(self, staging: Path) -> None:
        self.yarn("install", "--immutable", cwd=staging)
        self.run("bundle", "exec", "rails", "assets:precompile", cwd=staging)
        # exec runs neither web nor streaming: what only built the assets can go.
        self.run("rm", "-rf", "node_modules", cwd=staging)


def build(version: str, *, dry_run: bool) -> dict[str, Any]:
    check_step(version)
    target = ROOT / "releases" / version
    if (target / MARKER).exists():
        return {"changed": False, "version": version}
    if dry_run:
        return {"changed": True, "version": version}
    builder = Builder(json.loads(SETTINGS.read_text()), version)
    builder.directory(ROOT)
    builder.directory(ROOT / "releases")
    for left_over in (ROOT / "releases").glob(".new-*"):
        shutil.rmtree(left_over)
    if target.exists():
        shutil.rmtree(target)
    staging = ROOT / "releases" / f".new-{version}"
    builder.directory(staging)
    started = time.monotonic()
    commit = builder.fetch(staging)
    builder.gems(staging)
    builder.assets(staging)
    for name in ("tmp", "log"):
        builder.directory(staging / name)
    (staging / MARKER).write_text(json.dumps({"version": version, "commit": commit}) + "\n")
    subprocess.run(["sync", "--file-system", str(staging)], check=True)
    staging.rename(target)
    return {
        "changed": True,
        "version": version,
        "commit": commit,
        "seconds": round(time.monotonic() - started),
    }


def activate(version: str, *, dry_run: bool) -> dict[str, Any]:
    check_step(version)
    if current() == version:
        return {"changed": False, "version": version}
    if dry_run:
        return {"changed": True, "version": version}
    if not (ROOT / "releases" / version / MARKER).exists():
        raise ReleaseError(f"{version} is not built completely: run mastodon-release build {version}")
    link = ROOT / ".current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(f"releases/{version}")
    link.replace(ROOT / "current")
    return {"changed": True, "version": version}


def in_use() -> set[Path]:
    """Directories that a running process has as its working directory."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found.add(process.readlink())
        except OSError:
            continue
    return found


def prune() -> dict[str, Any]:
    keep = int(json.loads(SETTINGS.read_text())["keep"])
    releases = sorted(
        (
            path
            for path in (ROOT / "releases").iterdir()
            if (path / MARKER).exists() and path.name != current()
        ),
        key=lambda path: parse(path.name).order,
        reverse=True,
    )
    running = in_use()
    removed = [path for path in releases[keep:] if not any(cwd.is_relative_to(path) for cwd in running)]
    for path in removed:
        shutil.rmtree(path)
    return {"changed": bool(removed), "removed": [path.name for path in removed]}


def check() -> str:
    """What newer releases the repository has; for a person who reads the journal."""
    deployed = current()
    if deployed is None:
        raise ReleaseError("no release is deployed")
    source = json.loads(SETTINGS.read_text())["repository"]
    result = subprocess.run(
        ["git", "ls-remote", "--tags", source], check=False, capture_output=True, text=True, timeout=300
    )
    if result.returncode:
        raise ReleaseError(f"{source} does not answer: {result.stderr.strip()}")
    newer = newer_releases(parse(deployed), re.findall(r"refs/tags/(\S+?)$", result.stdout, re.MULTILINE))
    if not newer:
        return f"{deployed} is the newest release."
    fixes = [version for version in newer if version.series == parse(deployed).series]
    hint = f"; {fixes[-1].text} has fixes, maybe of security, for the deployed series" if fixes else ""
    return f"<4>{deployed} is deployed and {newer[-1].text} is the newest release{hint}."


def newer_releases(deployed: Version, tags: list[str]) -> list[Version]:
    """What of `tags` is newer and of the same fork, oldest first. Release candidates count where one runs."""
    found = []
    for tag in tags:
        try:
            version = Version.parse(tag)
        except VersionError:  # a repository has other tags, too
            continue
        if version.family == deployed.family and (deployed.is_prerelease or not version.is_prerelease):
            found.append(version)
    return sorted((version for version in found if deployed.is_older_than(version)), key=lambda v: v.order)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("build", "activate"):
        command = verbs.add_parser(verb)
        command.add_argument("version")
        command.add_argument("--dry-run", action="store_true", help="say whether there is something to do")
    verbs.add_parser("prune")
    verbs.add_parser("check")
    arguments = parser.parse_args()
    os.umask(0o022)
    try:
        if arguments.verb == "check":
            print(check())
            return 0
        with (ROOT / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if arguments.verb == "build":
                answer = build(arguments.version, dry_run=arguments.dry_run)
            elif arguments.verb == "activate":
                answer = activate(arguments.version, dry_run=arguments.dry_run)
            else:
                answer = prune()
    except (ReleaseError, OSError, subprocess.CalledProcessError) as error:
        print(f"mastodon-release: {error}. The deployed release is untouched.", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())

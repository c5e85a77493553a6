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

A user of its own builds in a directory of its own: what a gem or a package runs while it is installed is
neither root nor Mastodon, and sees no secret. Root takes a copy of what is complete, file by file, into
`releases/VERSION`, which belongs to root; Mastodon writes into its `tmp` and `log` alone. Root touches
nothing below a directory of somebody else's.

The commit of a version's first build is kept in /etc/mastodon/commits.json: a tag that was moved is refused.

Killed at any moment, a build leaves releases and `current` as they were; the next run starts it over.
Answers with JSON on standard output: changed, and what for.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import urllib.request
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mastodon_version import Version, VersionError

ROOT = Path("/opt/mastodon")
SETTINGS = Path(os.environ.get("MASTODON_RELEASE_SETTINGS", "/etc/mastodon/release.json"))
"""The timer's unit, which does not run as root, is handed a copy."""
COMMITS = Path("/etc/mastodon/commits.json")
LOCK = Path("/run/mastodon-release.lock")
USER = "mastodon"
BUILD_USER = "mastodon-build"
BUILD = Path("/var/lib/mastodon-build")
"""The build user's home. Root looks into it through that user's eyes only."""
MARKER = ".complete.json"
WRITABLE = ("tmp", "log")
"""What of a release Mastodon writes into."""
BUNDLER = {"deployment": "true", "path": "vendor/bundle", "without": "development:test"}
"""Settings of bundler for building and for running."""


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


def identity(user: str) -> dict[str, Any]:
    """What makes `subprocess.run` drop root's rights for a user's; nothing where there are none to drop."""
    if os.getuid() != 0:
        return {}
    found = pwd.getpwnam(user)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


def private(path: str, flags: int) -> int:
    """For `open`: a file that nobody else opens. Who may read a lock may also hold it."""
    handle = os.open(path, flags, 0o600)
    os.fchmod(handle, 0o600)
    return handle


def is_complete(release: Path) -> bool:
    """Whether root has put it there whole. What somebody else owns is no release."""
    try:
        files = release.lstat(), (release / MARKER).lstat()
    except OSError:
        return False
    return stat.S_ISREG(files[1].st_mode) and all(file.st_uid == os.geteuid() for file in files)


def without_password(address: str) -> str:
    """An address for people."""
    return re.sub(r"//[^/@]*@", "//", address)


class Builder:
    """Runs the steps of a build as the build user."""

    def __init__(self, settings: dict[str, Any], version: str) -> None:
        self.settings = settings
        self.version = version
        self.source = without_password(settings["repository"])
        self.identity = identity(BUILD_USER)
        self.work = BUILD / "release"
        self.environment = {
            "HOME": str(BUILD),
            "USER": BUILD_USER,
            "LANG": "C.UTF-8",
            # The user's own last: who leaves a `git` or a `tar` there has no say in the steps after it.
            "PATH": f"/usr/local/bin:/usr/bin:/bin:{BUILD}/bin",
            "RAILS_ENV": "production",
            "NODE_ENV": "production",
            "GIT_TERMINAL_PROMPT": "0",
            "COREPACK_ENABLE_DOWNLOAD_PROMPT": "0",
            "COREPACK_HOME": f"{BUILD}/.cache/corepack",
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
        # The repository's address may hold a token: not on a command line, and in nobody's hands but git's.
        count = int(self.environment.get("GIT_CONFIG_COUNT", "0"))
        self.git_environment = {
            "GIT_CONFIG_COUNT": str(count + 1),
            f"GIT_CONFIG_KEY_{count}": "remote.source.url",
            f"GIT_CONFIG_VALUE_{count}": settings["repository"],
        }

    def process(self, *argv: str, cwd: Path, **options: Any) -> subprocess.Popen[Any]:
        """A command as the build user, who also changes to `cwd` himself, without the caller's terminal."""
        print(f"+ {' '.join(argv)}", file=sys.stderr, flush=True)
        command = ("/usr/bin/env", f"--chdir={cwd}", "--", *argv)
        environment = self.environment | (self.git_environment if argv[0] == "git" else {})
        return subprocess.Popen(
            command, cwd="/", env=environment, start_new_session=True, **self.identity, **options
        )

    def run(
        self,
        *argv: str,
        cwd: Path | None = None,
        given: bytes | None = None,
        capture: bool = False,
        into: Any = None,
    ) -> str:
        """`given` is standard input; standard output is returned (`capture`), or goes to the file `into`."""
        stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
        stdout = subprocess.PIPE if capture else into or sys.stderr
        process = self.process(*argv, cwd=cwd or BUILD, stdin=stdin, stdout=stdout)
        said, _ = process.communicate(given)
        self.must_have_ended_well(process, argv)
        return said.decode() if capture else ""

    @staticmethod
    def must_have_ended_well(process: subprocess.Popen[Any], argv: tuple[str, ...]) -> None:
        if process.wait():
            raise ReleaseError(
                f"{' '.join(argv[:4])} ended with exit code {process.returncode}; see its output above"
            )

    def prepare(self) -> None:
        """The build user's home, with nothing in it but what is slow to fetch: no process and no file of an
        earlier build has a say in this one."""
        BUILD.mkdir(mode=0o700, exist_ok=True)
        if self.identity:
            os.chown(BUILD, self.identity["user"], self.identity["group"], follow_symlinks=False)
            # 1: there is none.
            subprocess.run(["pkill", "--signal", "KILL", "--uid", str(self.identity["user"])], check=False)
        # Yarn's cache stays: what it takes of it has the checksum of yarn.lock.
        cache = f"{BUILD}/.yarn"
        self.clear("-not", "(", "-path", cache, "-type", "d", ")", "-not", "-path", f"{cache}/*")
        self.run("mkdir", "-p", str(self.work), "repository.git", "bin")

    def clear(self, *but: str) -> None:
        """Everything of the build user's home; `but` are conditions of find's that spare some."""
        self.run("find", str(BUILD), "-mindepth", "1", *but, "-delete")

    def fetch(self) -> str:
        """The tag's files; returns the commit."""
        repository, tag = BUILD / "repository.git", f"refs/tags/{self.version}"
        self.run("git", "init", "--quiet", "--bare", ".", cwd=repository)
        if not self.run("git", "ls-remote", "source", tag, cwd=repository, capture=True).strip():
            raise ReleaseError(f"{self.source} has no tag {self.version}: correct mastodon_version")
        self.run("git", "fetch", "--quiet", "--force", "--depth=1", "source", f"{tag}:{tag}", cwd=repository)
        commit = self.run("git", "rev-parse", f"{tag}^{{commit}}", cwd=repository, capture=True).strip()
        self.check_commit(commit)
        self.run("git", "archive", f"--output={BUILD}/source.tar", tag, cwd=repository)
        self.run("tar", "--extract", f"--file={BUILD}/source.tar", cwd=self.work)
        self.run("rm", "source.tar")
        return commit

    def check_commit(self, commit: str) -> None:
        if pinned := self.settings["commit"]:
            if commit != pinned:
                raise ReleaseError(
                    f"the tag {self.version} of {self.source} is commit {commit}, and exec_commit says "
                    f"{pinned}: find out which one is right before building it"
                )
        elif (first := commits().get(self.version, commit)) != commit:
            raise ReleaseError(
                f"the tag {self.version} of {self.source} is commit {commit}, and was {first} when it was "
                f"built first: find out who moved it, and why. exec_commit: {commit} accepts it"
            )

    def gems(self) -> None:
        release = (ROOT / "current").resolve()
        before = release / "vendor" / "bundle"
        if is_complete(release) and before.is_dir():
            # What the last release has need not be built again.
            self.run("mkdir", "-p", "vendor", cwd=self.work)
            self.run("cp", "--archive", "--reflink=auto", f"{before}/", "vendor/bundle", cwd=self.work)
        mirror = self.settings["gem_source"]
        settings = BUNDLER | ({"mirror.https://rubygems.org/": mirror} if mirror else {})
        # Not by `bundle config`: the gem source may have a password, which a command line would show.
        content = bundle_config(settings | self.settings["bundle_config"]).encode()
        self.run("mkdir", "-p", ".bundle", cwd=self.work)
        self.run("sh", "-c", "cat > .bundle/config", cwd=self.work, given=content)
        self.run("bundle", "install", "--jobs", str(os.cpu_count() or 1), "--retry", "3", cwd=self.work)
        self.run("bundle", "clean", cwd=self.work)

    def corepack(self) -> list[str]:
        """The command that is corepack: Node's own, or the version that the settings name."""
        version = self.settings["corepack"]
        if not version:
            return ["corepack"]
        program = BUILD / f"corepack-{version}"
        if not program.exists():
            registry = self.settings["npm_registry"].rstrip("/")
            with urllib.request.urlopen(f"{registry}/corepack/{version}", timeout=60) as answer:  # noqa: S310
                about = json.load(answer)["dist"]
            with urllib.request.urlopen(about["tarball"], timeout=60) as answer:  # noqa: S310
                packed = answer.read()
            digest = base64.b64encode(hashlib.sha512(packed).digest()).decode()
            if about["integrity"] != f"sha512-{digest}":
                raise ReleaseError(
                    f"corepack {version} from {without_password(registry)} has not the checksum that the "
                    "registry gives"
                )
            self.run("rm", "-rf", "corepack.new")
            self.run("mkdir", "corepack.new")
            self.run("tar", "--extract", "--gzip", "--directory=corepack.new", given=packed)
            self.run("mv", "corepack.new", str(program))
        return ["node", str(program / "package" / "dist" / "corepack.js")]

    def yarn(self, *arguments: str, cwd: Path) -> None:
        """Yarn of the version that package.json in `cwd` names."""
        self.run(*self.corepack(), "enable", "--install-directory", f"{BUILD}/bin", "yarn", cwd=cwd)
        self.run(f"{BUILD}/bin/yarn", *arguments, cwd=cwd)

    def assets(self) -> None:
        self.yarn("install", "--immutable", cwd=self.work)
        self.run("bundle", "exec", "rails", "assets:precompile", cwd=self.work)

    def hand_over(self, target: Path) -> None:
        """What was built into `target`, a new directory of root's."""
        # exec runs neither web nor streaming: what only built the assets stays behind.
        left_behind = ("node_modules", ".bundle", *WRITABLE)
        argv = ("tar", "--create", "--hard-dereference", "--anchored",
                *(f"--exclude=./{name}" for name in left_behind), ".")  # fmt: skip
        with self.process(*argv, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            take_over(process.stdout, target)
            self.must_have_ended_well(process, argv)


def take_over(stream: IO[bytes], target: Path) -> None:
    """Unpack an archive that somebody else made into the empty directory `target`, whatever is in it.

    Files, directories and links that lead nowhere outside; they belong to who unpacks, and none can be
    written by others or has more rights than to be run. Raises ReleaseError for everything else.
    """
    directories = {PurePosixPath()}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                place = target / name
                if name in directories and member.isdir():
                    continue
                if name.is_absolute() or ".." in name.parts or name.parent not in directories:
                    raise ReleaseError(f"{member.name!r} of the build does not lie in its directory")
                if member.isdir():
                    place.mkdir(mode=0o755)
                    directories.add(name)
                elif member.isreg():
                    write(archive.extractfile(member), place, member)
                elif member.issym() and (inside := within(name, member.linkname)):
                    place.symlink_to(inside)
                else:
                    raise ReleaseError(f"{member.name!r} of the build is no file, and no link within it")
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise ReleaseError(f"what was built cannot be taken: {error}") from error


def write(content: IO[bytes] | None, place: Path, member: tarfile.TarInfo) -> None:
    assert content is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    handle = os.open(place, flags, 0o755 if member.mode & 0o111 else 0o644)
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        # Bootsnap knows by it what it has compiled.
        os.utime(file.fileno(), (member.mtime, member.mtime))


def within(name: PurePosixPath, to: str) -> str | None:
    """Where the link `name` leads, as a text that cannot lead outside; None for what does.

    `..` stands in front only: behind another link it would lead up from where that one leads.
    """
    short = os.path.normpath(to)
    up = short.split("/").count("..")
    if short.startswith("/") or up > len(name.parent.parts):
        return None
    # What root reads in a release shall be root's.
    reached = (*name.parent.parts[: len(name.parent.parts) - up], *PurePosixPath(short).parts[up:])
    return None if reached[:1] in {(directory,) for directory in WRITABLE} else short


def bundle_config(settings: dict[str, str]) -> str:
    """A file of bundler's, which names its settings in a way of its own (Bundler::Settings#key_for)."""
    names = {name: name.replace(".", "__").replace("-", "___").upper() for name in settings}
    return "---\n" + "".join(f'BUNDLE_{names[name]}: "{value}"\n' for name, value in settings.items())


def commits() -> dict[str, str]:
    """Version -> commit of its first build."""
    return dict(json.loads(COMMITS.read_text())) if COMMITS.exists() else {}


def remember(version: str, commit: str) -> None:
    candidate = COMMITS.with_name(f".{COMMITS.name}.new")
    candidate.write_text(json.dumps(commits() | {version: commit}, indent=2, sort_keys=True) + "\n")
    candidate.replace(COMMITS)


def remove(release: Path) -> None:
    """Everything of a release; what is not root's, its owner removes."""
    owner = release.lstat().st_uid
    foreign = [release] if owner != os.geteuid() else [release / name for name in WRITABLE]
    for directory in (path for path in foreign if path.is_dir()):
        status = directory.stat()
        rights: dict[str, Any] = {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
        command = ["find", str(directory), "-mindepth", "1", "-delete"]
        subprocess.run(command, cwd="/", check=True, **(rights if os.geteuid() == 0 else {}))
    if foreign == [release]:
        release.rmdir()
    else:
        shutil.rmtree(release)


def build(version: str, *, dry_run: bool) -> dict[str, Any]:
    check_step(version)
    releases = ROOT / "releases"
    target, old = releases / version, releases / f".old-{version}"
    if old.exists() and not target.exists():
        old.rename(target)  # cut off below, between the two steps
    if is_complete(target):
        return {"changed": False, "version": version}
    if dry_run:
        return {"changed": True, "version": version}
    builder = Builder(json.loads(SETTINGS.read_text()), version)
    for left_over in releases.glob(".new-*"):
        remove(left_over)
    started = time.monotonic()
    staging = releases / f".new-{version}"
    staging.mkdir(mode=0o755)
    try:
        builder.prepare()
        commit = builder.fetch()
        builder.gems()
        builder.assets()
        builder.hand_over(staging)
    except (ReleaseError, OSError):
        builder.clear()  # whatever is wrong there, the next build does not meet it
        raise
    (staging / ".bundle").mkdir()
    # Without the gem source, which may have a password.
    (staging / ".bundle" / "config").write_text(bundle_config(BUNDLER))
    for name in WRITABLE:
        (staging / name).mkdir()
        if mastodon := identity(USER):
            os.chown(staging / name, mastodon["user"], mastodon["group"], follow_symlinks=False)
    with (staging / MARKER).open("x") as marker:
        marker.write(json.dumps({"version": version, "commit": commit}) + "\n")
    subprocess.run(["sync", "--file-system", str(staging)], check=True)
    remember(version, commit)
    if target.exists():  # one that is not root's
        target.rename(old)
    staging.rename(target)
    if current() == version:
        point(version)  # what runs shall see that it is another one
    builder.run("rm", "-rf", str(builder.work))
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
    if not is_complete(ROOT / "releases" / version):
        raise ReleaseError(f"{version} is not built completely: run mastodon-release build {version}")
    point(version)
    return {"changed": True, "version": version}


def point(version: str) -> None:
    link = ROOT / ".current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(f"releases/{version}")
    link.replace(ROOT / "current")


def in_use() -> set[Path]:
    """Directories that a running process has as its working directory."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found.add(process.readlink())
        except OSError:
            continue
    return found


def known(name: str) -> Version | None:
    try:
        return Version.parse(name)
    except VersionError:
        return None


def prune() -> dict[str, Any]:
    keep = int(json.loads(SETTINGS.read_text())["keep"])
    found = {path: known(path.name) for path in (ROOT / "releases").iterdir() if path.name != current()}
    releases = sorted(
        ((path, version) for path, version in found.items() if version),
        key=lambda pair: pair[1].order,
        reverse=True,
    )
    running = in_use()
    candidates = [path for path, _ in releases[keep:]] + [
        path for path in found if path.name.startswith(".old-")
    ]
    removed = [path for path in candidates if not any(cwd.is_relative_to(path) for cwd in running)]
    for path in removed:
        remove(path)
    return {"changed": bool(removed), "removed": [path.name for path in removed]}


def check() -> str:
    """What newer releases the repository has; for a person who reads the journal."""
    deployed = current()
    if deployed is None:
        raise ReleaseError("no release is deployed")
    builder = Builder(json.loads(SETTINGS.read_text()), deployed)
    tags = builder.run("git", "ls-remote", "--tags", "source", cwd=BUILD, capture=True)
    newer = newer_releases(parse(deployed), re.findall(r"refs/tags/(\S+?)$", tags, re.MULTILINE))
    if not newer:
        return f"{deployed} is the newest release."
    fixes = [version for version in newer if version.series == parse(deployed).series]
    hint = f"; {fixes[-1].text} has fixes, maybe of security, for the deployed series" if fixes else ""
    return f"<4>{deployed} is deployed and {newer[-1].text} is the newest release{hint}."


def newer_releases(deployed: Version, tags: list[str]) -> list[Version]:
    """What of `tags` is newer and of the same fork, oldest first. Release candidates count where one runs."""
    found = []
    for tag in tags:
        version = known(tag)  # a repository has other tags, too
        if (
            version
            and version.family == deployed.family
            and (deployed.is_prerelease or not version.is_prerelease)
        ):
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
        with open(LOCK, "w", opener=private) as lock:
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

#!/usr/bin/python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take the share's current generation into the local copy, whole or not at all.

    mastodon-share-sync                        the generation
    mastodon-share-sync --fetch PATH TARGET    a folder beside the generations, into a new directory TARGET

Settings (JSON, /etc/mastodon/share-client.json):

    transport   nfs: read below `source`; ssh: rsync from `source` (user@host:)
    source      where the share is
    key, known_hosts   files for ssh
    reload      units to reload when a certificate (tls/...) changed, where they run

The local copy has the share's own shape: `generations/N/` and the link `current`. Every file is checked
against the manifest before the link is replaced. They are root's; what the manifest calls public may be
read by everybody. Files whose content is new get the time of the switch, so that a process that started
earlier is seen to have old settings.

Exit code 0: the copy is current, or exec does not answer and a copy is there to serve from (said once in
the journal). 1: there is no copy, or what came was refused; the text says why.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

KEPT = 2
MANIFEST = "manifest.json"
TIMEOUT = 20
"""Seconds after which exec counts as gone."""
FETCH_LIMIT = 1800
"""Seconds that a folder may take: container images are some hundred megabytes."""


class Unreachable(Exception):
    """exec does not answer."""


class Refused(Exception):
    """What came is not what its manifest says."""


def say(level: int, text: str) -> None:
    """One line for the journal: further ones would be messages of their own. `level` is syslog's."""
    print(f"<{level}>{'; '.join(text.splitlines())}", file=sys.stderr, flush=True)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def parse_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text())
        if isinstance(manifest["generation"], int) and all(
            isinstance(sha, str) and not name.startswith("/") and ".." not in name.split("/")
            for name, sha in manifest["files"].items()
        ):
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"the manifest cannot be read: {error}") from error
    raise Refused("the manifest has not the right form")


class Transport:
    """How the share is read: by another program, so that one that hangs does not hang this one."""

    limit: float

    def __init__(self, settings: dict[str, Any]) -> None:
        self.source = settings["source"]

    def command(self, path: str, target: Path) -> list[str]:
        raise NotImplementedError

    def answered(self, error: subprocess.CalledProcessError) -> bool:
        """Whether exec is there all the same, and what it offers cannot be read."""
        raise NotImplementedError

    def fetch(self, path: str, target: Path) -> None:
        try:
            subprocess.run(
                self.command(path, target),
                check=True, capture_output=True, text=True, timeout=self.limit,
                env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"nothing within {self.limit} s") from error
        except subprocess.CalledProcessError as error:
            reason = error.stderr.strip()
            if self.answered(error):
                raise Refused(f"{path} cannot be read: {reason}") from error
            raise Unreachable(reason) from error


class Nfs(Transport):
    """The share, mounted."""

    limit = TIMEOUT

    def command(self, path: str, target: Path) -> list[str]:
        return ["cp", "-rL", "--no-target-directory", f"{self.source}/{path}", str(target)]

    def answered(self, error: subprocess.CalledProcessError) -> bool:
        return "No such file or directory" in error.stderr


class Ssh(Transport):
    """The share, through rsync to exec."""

    limit = 2 * TIMEOUT

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.shell = (
            f"ssh -o BatchMode=yes -o IdentitiesOnly=yes -o ConnectTimeout={TIMEOUT // 2} -o "
            "ControlPath=none "
            "-o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=none -o "
            f"UserKnownHostsFile={settings['known_hosts']} "
            f"-o HostKeyAlgorithms=ssh-ed25519 -i {settings['key']}"
        )

    def command(self, path: str, target: Path) -> list[str]:
        return ["rsync", "-r", "--no-motd", f"--timeout={TIMEOUT}", "-e", self.shell,
                f"{self.source}{path}", str(target)]  # fmt: skip

    def answered(self, error: subprocess.CalledProcessError) -> bool:
        return error.returncode == 23  # "partial transfer": files that are missing, or cannot be read


def whole(path: Path, manifest: dict[str, Any]) -> str | None:
    """What is wrong with the files at `path`; None where all are as `manifest` says."""
    for name, sha in manifest["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if digest(file) != sha:
            return f"{name} has not the checksum of the manifest"
    return None


def local_state(copy: Path) -> tuple[bytes | None, dict[str, str]]:
    """Manifest (None where the copy is missing or damaged) and checksums of the current local copy."""
    current = copy / "current"
    try:
        manifest = parse_manifest(current / MANIFEST)
        if whole(current, manifest) is None:
            return (current / MANIFEST).read_bytes(), dict(manifest["files"])
    except Refused:
        pass
    return None, {}


def take(copy: Path, transport: Transport) -> list[str] | None:
    """Bring the current generation here. Returns the names that changed; None where nothing was to do."""
    generations = copy / "generations"
    generations.mkdir(mode=0o750, exist_ok=True)
    os.chown(generations, 0, 0)
    for left_over in generations.glob(".new*"):
        shutil.rmtree(left_over)
    have, checksums = local_state(copy)
    staging = generations / ".new"
    staging.mkdir(mode=0o750)
    try:
        transport.fetch(f"current/{MANIFEST}", staging / MANIFEST)
        if (staging / MANIFEST).read_bytes() == have:
            return None
        manifest = parse_manifest(staging / MANIFEST)
        if "public" not in manifest:
            raise Refused("exec published it with an older release of this collection; run site.yml for exec")
        number = str(manifest["generation"])
        body = generations / ".new-body"
        transport.fetch(f"generations/{number}/", body)
        if (body / MANIFEST).read_bytes() != (staging / MANIFEST).read_bytes():
            raise Refused(f"the manifest of generation {number} changed while it was read")
        if problem := whole(body, manifest):
            raise Refused(f"generation {number}: {problem}")
        changed = sorted(
            name
            for name in checksums.keys() | manifest["files"].keys()
            if checksums.get(name) != manifest["files"].get(name)
        )
        os.chown(body, 0, 0)
        body.chmod(0o750)
        for path in sorted(body.rglob("*")):
            name = str(path.relative_to(body))
            if path.is_file() and checksums.get(name) == manifest["files"].get(name, ""):
                path.unlink()
                path.hardlink_to(copy / "current" / name)
            else:
                os.utime(path)
            os.chown(path, 0, 0)
            path.chmod(0o750 if path.is_dir() else 0o644 if name in manifest["public"] else 0o640)
        subprocess.run(["sync", "--file-system", str(body)], check=True)
        target = generations / number
        if target.exists():  # damaged, or of an exec that was set up anew: number alone says nothing
            target.rename(generations / ".new-old")
        body.rename(target)
        link = copy / ".current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(f"generations/{number}")
        link.replace(copy / "current")
        others = sorted(
            (entry for entry in generations.iterdir() if entry.name.isdecimal() and entry != target),
            key=lambda entry: entry.stat().st_mtime,
        )
        for old in others[: -(KEPT - 1)]:
            shutil.rmtree(old)
        return changed
    finally:
        for left_over in generations.glob(".new*"):
            shutil.rmtree(left_over)


def reload_units(units: list[str]) -> None:
    """Reload what runs; a failure is said, and is not the copy's: it is current."""
    for unit in units:
        if subprocess.run(["systemctl", "--quiet", "is-active", unit], check=False).returncode:
            continue
        result = subprocess.run(["systemctl", "reload", unit], check=False, capture_output=True, text=True)
        if result.returncode:
            say(3, f"{unit} did not take the new certificate: {result.stderr.strip()}")
        else:
            say(6, f"{unit} reloaded with the new certificate")


def exec_answers(gone: Path) -> None:
    """Said once after exec was gone."""
    if gone.exists():
        say(5, "exec answers again")
        gone.unlink()


def fetch(transport: Transport, path: str, target: Path) -> int:
    """A folder of the share as it is; who reads it checks it. `target` is there when all of it has come."""
    transport.limit = FETCH_LIMIT
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        transport.fetch(f"{path.strip('/')}/", staging)
    except (Unreachable, Refused) as error:
        shutil.rmtree(staging, ignore_errors=True)
        say(3, f"{path} of the share could not be fetched: {error}")
        return 1
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    return 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--fetch", nargs=2, metavar=("PATH", "TARGET"), help="a folder beside the generations"
    )
    options = parser.parse_args(arguments)
    root = Path(os.environ.get("MASTODON_SHARE_TEST_ROOT", "/"))
    settings = json.loads((root / "etc/mastodon/share-client.json").read_text())
    copy = root / "etc/mastodon/share"
    gone = root / "run/mastodon-share-unreachable"
    transport: Transport = Nfs(settings) if settings["transport"] == "nfs" else Ssh(settings)
    os.umask(0o027)
    if options.fetch:
        return fetch(transport, options.fetch[0], Path(options.fetch[1]))
    copy.mkdir(mode=0o750, parents=True, exist_ok=True)
    os.chown(copy, 0, 0)
    with (copy / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            changed = take(copy, transport)
        except Unreachable as error:
            have, _ = local_state(copy)
            if have is None:
                say(3, f"exec does not answer and there is no local copy to serve from: {error}")
                return 1
            if not gone.exists():
                number = json.loads(have)["generation"]
                say(4, f"exec does not answer; serving from the local copy, generation {number}: {error}")
                gone.touch()
            return 0
        except Refused as error:
            exec_answers(gone)
            say(3, f"refused, the local copy stays as it was: {error}")
            return 1
    exec_answers(gone)
    if changed is None:
        return 0
    say(5, f"took generation {(copy / 'current').readlink().name}: {', '.join(changed)}")
    print(json.dumps({"changed": changed}))
    if any(name.startswith("tls/") for name in changed):
        reload_units(settings["reload"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where the lab's Mastodon comes from: the stand-in, Mastodon's own public sources, or an admin's."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ansible_collections.vmstio.mastodon.plugins.module_utils._openpgp import fingerprints

from lab import secret
from lab.config import Lab
from lab.engine import LabError

STAND_IN, OFFICIAL, OWN = "stand-in", "official", "own"


@dataclass(frozen=True)
class Origin:
    """`kind`: stand-in, official (Mastodon's own git, gems and images; needs the internet) or own.

    Of kind own, `git` is a repository, or a folder of bare repositories of which `mastodon.git` is the one;
    `gems` is a gem source. Each is a folder of this machine, which the lab's mirror serves, or a URL.
    `version` is a tag of it (empty: the stand-in's newest, else the roles' default). `images`: registry or
    exec.
    """

    kind: str = STAND_IN
    git: str = ""
    gems: str = ""
    version: str = ""
    images: str = "registry"

    @classmethod
    def load(cls, lab: Lab) -> Origin:
        """As this lab was last started."""
        path = lab.state / "origin.json"
        if not path.exists():
            return cls()
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(path.read_text()).items() if name in known})

    def save(self, lab: Lab) -> None:
        secret.write(lab.state / "origin.json", json.dumps(asdict(self), indent=2) + "\n")

    def changed(self, kind: str | None = None, **given: str | None) -> Origin:
        """With what the caller gave; None leaves it as it is. Another kind begins anew. Raises LabError."""
        values = {name: value for name, value in given.items() if value is not None}
        for name in ("git", "gems"):
            if values.get(name) and not is_url(values[name]):
                values[name] = str(_folder(name, values[name]))
        if values.get("git"):
            if kind in (STAND_IN, OFFICIAL):
                raise LabError(f"--mastodon {kind} and --git-source exclude each other")
            kind = OWN
        before = self if kind in (None, self.kind) else Origin(kind=str(kind))
        after = replace(before, **values)
        if after.gems and after.kind != OWN:
            raise LabError("--gem-source goes with --git-source: the stand-in has gems of its own")
        if after.kind == OWN and not after.version:
            raise LabError("say which tag of the repository: --mastodon-version TAG")
        return after

    def folders(self) -> Mapping[str, str]:
        """Folders of this machine that the mirror serves: path there -> folder."""
        found = {}
        if self.git and not is_url(self.git):
            name = "git" if _is_collection(Path(self.git)) else "git/mastodon.git"
            found[name] = self.git
        if self.gems and not is_url(self.gems):
            found["gems"] = self.gems
        return found

    def settings(self, lab: Lab) -> dict[str, Any]:
        """Variables of the instance, for an origin of kind own."""
        mirror = f"https://{lab.host('mirror')}/own"
        found: dict[str, Any] = {
            "mastodon_git_repository": self.git if is_url(self.git) else f"{mirror}/git/mastodon.git",
            "mastodon_version": self.version,
            "mastodon_image_source": self.images,
            "exec_node_repository": f"https://{lab.host('mirror')}/node",
            "exec_node_repository_key": f"https://{lab.host('mirror')}/node/key.asc",
            "exec_node_repository_fingerprint": fingerprints(node_key(lab).read_bytes())[0],
        }
        if self.gems:
            found["exec_gem_source"] = self.gems if is_url(self.gems) else f"{mirror}/gems/"
        if others := self._other_repositories():
            # git asks the mirror where the lock file names another server.
            variables = {"GIT_CONFIG_COUNT": str(len(others))}
            for number, (url, name) in enumerate(sorted(others.items())):
                variables[f"GIT_CONFIG_KEY_{number}"] = f"url.{mirror}/git/{name}.insteadOf"
                variables[f"GIT_CONFIG_VALUE_{number}"] = url
            found["exec_build_environment"] = variables
        return found

    def _other_repositories(self) -> dict[str, str]:
        """Gems that come from git and lie beside mastodon.git: their address in the lock file -> folder."""
        if is_url(self.git) or not _is_collection(Path(self.git)):
            return {}
        show = ["git", "-C", f"{self.git}/mastodon.git", "show", f"{self.version}:Gemfile.lock"]
        done = subprocess.run(show, check=False, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"{self.git}/mastodon.git has no tag {self.version}: {done.stderr.strip()}")
        remotes = re.findall(r"^GIT\n  remote: (\S+)$", done.stdout, re.MULTILINE)
        named = {url: url.rstrip("/").rpartition("/")[2].removesuffix(".git") + ".git" for url in remotes}
        return {url: name for url, name in named.items() if Path(self.git, name).is_dir()}


def node_key(lab: Lab) -> Path:
    """The key that signs the mirror's packages of Node."""
    return lab.cache / "standin" / "node" / "key.asc"


def is_url(text: str) -> bool:
    return "://" in text


def _is_collection(path: Path) -> bool:
    return (path / "mastodon.git").is_dir()


def _folder(what: str, text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise LabError(f"{text} is neither a folder of this machine nor a URL")
    if what == "gems" and not any(path.glob("specs.*")):
        raise LabError(f"{text} is no gem source: it has no specs.4.8 (`gem generate_index` makes it)")
    if (
        what == "git"
        and not _is_collection(path)
        and not ((path / "HEAD").exists() or (path / ".git").exists())
    ):
        raise LabError(f"{text} is no git repository, and no folder that has one called mastodon.git")
    return path

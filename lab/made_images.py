"""The container images that exec has made (`--image-source exec`), taken into this machine's engine."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker

from lab.config import IMAGE_PREFIX, LABEL, LABEL_PART, Lab
from lab.engine import LabError
from lab.images import SERVICES, scratch
from lab.parts import INSTANCE
from lab.runtime import Runtime

MADE = f"{IMAGE_PREFIX}/made"
"""What the names of these images begin with."""
_SHARED = "/srv/mastodon/share/images"


def take(client: docker.DockerClient, lab: Lab, say: Callable[[str], None]) -> list[str]:
    """Have them as `vmstio-lab/made/mastodon:TAG` and `...-streaming:TAG`; the tags, those of before too.

    Raises LabError.
    """
    droplet = Runtime(client, lab).resolve(f"{INSTANCE}-exec").name
    with tempfile.TemporaryDirectory(dir=scratch(lab.cache)) as folder:
        _run("docker", "cp", "--quiet", f"{droplet}:{_SHARED}", folder)
        layouts = sorted(path for path in Path(folder, "images").iterdir() if (path / "index.json").exists())
        for layout in layouts:
            for name in ("mastodon", "mastodon-streaming"):
                target = f"{MADE}/{name}:{layout.name}"
                say(target)
                archive = Path(folder, "image.tar")
                archive.unlink(missing_ok=True)
                _run(
                    *("docker", "run", "--rm", f"--label={LABEL}={lab.name}", f"--label={LABEL_PART}=take"),
                    *("--network=none", f"--volume={folder}:/work", SERVICES, "skopeo", "copy", "--quiet"),
                    *(f"oci:/work/images/{layout.name}:{name}", f"docker-archive:/work/image.tar:{target}"),
                )
                _run("docker", "load", "--quiet", "--input", str(archive))
    every = (name for image in client.images.list(f"{MADE}/mastodon") for name in image.tags)
    return sorted(name.rpartition(":")[2] for name in every)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"{' '.join(command[:2])} failed: {done.stderr.strip()}")

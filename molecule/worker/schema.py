"""Makes the schema through the direct port, as exec does before the workers: schema.py LAB VERSION."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import docker

from lab import standin
from lab.config import Lab
from lab.docker_cloud import LABEL_NAME
from lab.engine import containers

SHARE = "/etc/mastodon/share/current"
DIRECT = {"DB_PORT": "25060", "DB_NAME": "mastodon"}


def migrate(lab: Lab, version: str) -> None:
    """In a container that has the settings, the authorities and the network of the worker."""
    client = docker.from_env()
    (worker,) = (c for c in containers(client, lab.name) if c.labels.get(LABEL_NAME) == "vmst-worker-1")
    lines = worker.exec_run(["cat", f"{SHARE}/common.env", f"{SHARE}/web.env"]).output.decode().splitlines()
    settings, _ = worker.get_archive("/etc/mastodon")
    container = client.containers.create(
        standin.build_images(tags=[version])[f"mastodon:{version}"],
        ["bundle", "exec", "rails", "db:migrate"],
        user="0",  # whose the copy is; the worker's own containers see single files of it
        environment=dict(line.split("=", 1) for line in lines) | DIRECT,
        network_mode=f"container:{worker.id}",
    )
    try:
        container.put_archive("/etc", b"".join(settings))
        container.start()
        if container.wait()["StatusCode"]:
            sys.exit(container.logs().decode())
    finally:
        container.remove(force=True)


if __name__ == "__main__":
    migrate(Lab.load(sys.argv[1]), sys.argv[2])

"""Public images, on the real engine and a real registry: taken where they can be pulled, made where not."""

from __future__ import annotations

import io
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import httpx
import pytest

from lab import images as lab_images
from lab.config import LABEL, REPOSITORY, Lab
from lab.engine import connect, exists
from lab.images import SUITE, VERSITYGW, Images

ROOTFS = "vmstio-lab-test/rootfs:public"
DEBIAN = f"library/debian:{SUITE}-slim"
S3 = f"versity/versitygw:{VERSITYGW}"
SETTINGS = REPOSITORY / "lab/services/mirror/registry.yml"


@pytest.fixture(scope="module")
def client() -> docker.DockerClient:
    return connect(timeout=600)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab.load()


@pytest.fixture(scope="module")
def registry(client: docker.DockerClient, lab: Lab) -> Iterator[str]:
    """HOST:PORT of an empty registry; an engine needs no TLS to one at its own loopback address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    container = client.containers.run(
        Images(client, lab.cache).services(),
        ["docker-registry", "serve", "/etc/registry.yml"],
        detach=True,
        labels={LABEL: "machines"},
        volumes={str(SETTINGS): {"bind": "/etc/registry.yml", "mode": "ro"}},
        tmpfs={"/data": ""},
        ports={"5000/tcp": ("127.0.0.1", port)},
    )
    try:
        until_it_answers(port)
        yield f"127.0.0.1:{port}"
    finally:
        container.remove(force=True)


@pytest.fixture(scope="module")
def program(client: docker.DockerClient, lab: Lab) -> bytes:
    """The S3 server's program, as this machine has or makes it. For the module: before `made` is in place."""
    return Images(client, lab.cache).versitygw().read_bytes()


@pytest.fixture
def images(client: docker.DockerClient, registry: str, tmp_path: Path) -> Iterator[Images]:
    """With a cache of its own."""
    yield Images(client, tmp_path, registry=registry)
    for name in (DEBIAN, S3):
        if exists(client, f"{registry}/{name}"):
            client.images.remove(f"{registry}/{name}")


@pytest.fixture
def no_rootfs(client: docker.DockerClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this machine had no Debian yet."""
    monkeypatch.setattr(lab_images, "ROOTFS", ROOTFS)
    yield
    if exists(client, ROOTFS):
        client.images.remove(ROOTFS)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What would have been made on this machine, in place of the minutes that it takes."""
    found: list[str] = []
    monkeypatch.setattr(Images, "_debootstrap", lambda _: found.append("Debian"))
    monkeypatch.setattr(Images, "_build_versitygw", lambda *_: found.append("versitygw"))
    return found


def until_it_answers(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the registry does not answer")


def publish(client: docker.DockerClient, name: str, files: dict[str, bytes]) -> str:
    """Push an image of these files to the registry that its name says; its id. Nothing of it stays here."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o755
            tar.addfile(info, io.BytesIO(content))
    repository, _, tag = name.rpartition(":")
    client.api.import_image_from_data(
        archive.getvalue(), repository=repository, tag=tag, changes=['CMD ["/none"]']
    )
    identifier = str(client.images.get(name).id)
    for event in client.images.push(repository, tag, stream=True, decode=True):
        assert "error" not in event, event
    client.images.remove(name)
    return identifier


@pytest.mark.usefixtures("no_rootfs")
def test_a_public_image_is_pulled_and_not_made(
    client: docker.DockerClient, registry: str, images: Images, made: list[str]
) -> None:
    public = publish(client, f"{registry}/{DEBIAN}", {"etc/mark": b"public"})
    assert client.images.get(images.rootfs()).id == public
    assert made == []


def test_the_program_of_a_public_image_is_taken(
    client: docker.DockerClient, program: bytes, registry: str, images: Images, made: list[str]
) -> None:
    publish(client, f"{registry}/{S3}", {"usr/local/bin/versitygw": program})
    assert images.versitygw().read_bytes() == program
    assert made == []


@pytest.mark.parametrize("program", [b"#!/bin/none\n", None], ids=["does not run here", "is not in it"])
def test_a_public_image_whose_program_is_of_no_use(
    client: docker.DockerClient, registry: str, images: Images, made: list[str], program: bytes | None
) -> None:
    publish(client, f"{registry}/{S3}", {"usr/local/bin/versitygw": program} if program else {"other": b""})
    assert not images.versitygw().exists()
    assert made == ["versitygw"]


@pytest.mark.usefixtures("no_rootfs")
def test_what_the_registry_has_not_is_made(images: Images, made: list[str]) -> None:
    images.registry += "/elsewhere"
    images.rootfs()
    images.versitygw()
    assert made == ["Debian", "versitygw"]


def test_a_mirror_is_named_in_the_environment(
    client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAB_REGISTRY", raising=False)
    assert Images(client, tmp_path).registry == "docker.io"
    monkeypatch.setenv("LAB_REGISTRY", "hub.example.com")
    assert Images(client, tmp_path).registry == "hub.example.com"


@pytest.mark.usefixtures("no_rootfs")
def test_no_registry(images: Images, made: list[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        images.registry = f"127.0.0.1:{closed.getsockname()[1]}"
        images.rootfs()
    assert made == ["Debian"]


@pytest.mark.usefixtures("no_rootfs")
def test_a_registry_that_never_answers(
    images: Images, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_images, "_ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        images.registry = f"127.0.0.1:{silent.getsockname()[1]}"
        images.rootfs()
    assert made == ["Debian"]

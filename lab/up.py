"""`lab up`: from whatever there is to a lab that runs. Every step does only what is missing."""

from __future__ import annotations

import io
import json
import os
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, cast

import docker
import docker.errors
import httpx

from lab import inventory, parts, secret, standin
from lab.config import IMAGE_PREFIX, LABEL, LABEL_PART, REPOSITORY, Lab
from lab.docker_cloud import LABEL_ID, LABEL_PRIVATE, LABEL_PUBLIC
from lab.engine import LabError, connect, containers
from lab.images import NGINX, SERVICES, Images, scratch
from lab.origin import OFFICIAL, OWN, Origin
from lab.pki import Authority, Certificate
from lab.progress import Progress, Step
from lab.provision import Provisioned, Provisioner
from lab.runtime import Runtime
from lab.threads import workers

_SSH_SECONDS = 60


@dataclass(frozen=True)
class Started:
    """What `lab up` leaves behind."""

    made: Provisioned
    inventory: Path


def lock_file(lab: Lab) -> Path:
    return lab.state.parent / f"{lab.name}.lock"


@contextmanager
def only_one(lab: Lab) -> Iterator[None]:
    """One command that changes the lab at a time. Raises LabError while another one runs."""
    path = lock_file(lab)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise LabError(
                f"another command is changing lab {lab.name!r}: wait for it, or end it and try again"
            ) from error
        yield


def openapi() -> Path | None:
    """The vendors' API documents, where they are present: `$VENDOR_OPENAPI`, else beside the repository."""
    path = Path(os.environ.get("VENDOR_OPENAPI") or REPOSITORY.parent / "shared" / "openapi").resolve()
    return path if path.is_dir() else None


def up(
    lab: Lab,
    progress: Progress,
    droplets: list[str],
    *,
    only_parts: bool = False,
    origin: Origin | None = None,
) -> Started | None:
    """Everything up to the first converge. None when `only_parts` were asked for.

    `origin`: where Mastodon comes from; None: as this lab did before.
    """
    client = connect(timeout=1800)
    lab.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = secret.load(lab.state)
    runtime = Runtime(client, lab)
    origin = origin or Origin.load(lab)
    origin.save(lab)
    with workers() as pool:
        stand_in = pool.submit(lambda: _build_mastodon(lab, origin, progress))
        with progress.step("images") as step:
            _await(pool.submit(Images(client, lab.cache, step.say).all), stand_in)
        with progress.step("parts") as step:
            runtime.report = step.say
            _certificates(lab)
            _secret_files(lab, secrets)
            runtime.networks()
            mirror = lab.cache / "standin"
            for name in ("git", "gems", "node"):
                (mirror / name).mkdir(parents=True, exist_ok=True)
            for name in ("registry", f"apt-{lab.name}"):
                (lab.cache / name).mkdir(exist_ok=True)
            runtime.start(parts.fixed(lab, openapi=openapi(), mirror=mirror, own=origin.folders()))
            runtime.resume()
            _bucket(client, lab)
            _metrics_database(lab, secrets)
        if only_parts:
            _fill_registry(client, lab, stand_in.result(), progress)
            return None
        with progress.step("droplets, databases, load balancer") as step:
            key, public_key = secret.ssh_key(lab.state)
            provisioner = Provisioner(lab, secrets, step.say)
            made = provisioner.everything(droplets, public_key)
            write_known_hosts(client, lab)
            stand_in.result()
            path = _inventory(client, lab, secrets, made, key, origin=origin)
        _fill_registry(client, lab, stand_in.result(), progress)
    if made.droplets:
        with progress.step("SSH") as step:
            await_ssh(client, lab, step)
    return Started(made, path)


def _await(job: Future[Any], other: Future[Any]) -> None:
    """Until `job` is done. Raises what it raises, or what `other` raises meanwhile."""
    running = {job, other}
    while job in running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for each in done:
            each.result()


def _build_mastodon(lab: Lab, origin: Origin, progress: Progress) -> dict[str, str]:
    """What the mirror and the registry have of the lab's own; name in the registry -> image here."""
    if origin.kind == OFFICIAL:
        return {}
    with progress.step("stand-in Mastodon") as step:
        images = Images(connect(timeout=1800), lab.cache, step.say)
        gems = standin.build_gems(lab.cache / "standin" / "gems", log=step.say)
        standin.build_repository(lab.cache / "standin" / "git" / "mastodon.git", gems)
        built = standin.build_images(gems=gems, log=step.say)
        if origin.kind == OWN:
            images.node(_npm_image(images.client), lab.cache / "standin" / "node")
        return {f"mastodon/{name}": image for name, image in built.items()} | {
            f"library/{NGINX}": images.nginx()
        }


def _certificates(lab: Lab) -> None:
    authority = Authority.open(lab.state / "pki", f"vmstio lab {lab.name}")
    for name, (names, addresses) in parts.certificate_names(lab).items():
        authority.issue(name, names, addresses)
    instance_certificate(authority)


def instance_certificate(authority: Authority) -> Certificate:
    return authority.issue("instance", [parts.DOMAIN, f"*.{parts.DOMAIN}"])


def _secret_files(lab: Lab, secrets: dict[str, str]) -> None:
    """Each part finds its own secrets in files of its own."""
    folder = lab.state / "parts"
    for name in ("digitalocean", "cloudflare", "sendgrid"):
        secret.write(folder / f"{name}.tokens", secrets[f"{name}_token"] + "\n")
    # SendGrid's SMTP password is an API key
    secret.write(folder / "smtp", secrets["sendgrid_token"] + "\n")
    secret.write(
        folder / "spaces.env",
        f"export ROOT_ACCESS_KEY={secrets['spaces_access_key']}\n"
        f"export ROOT_SECRET_KEY={secrets['spaces_secret_key']}\n",
    )


# -- contents of the parts ------------------------------------------------------------------------------

_BUCKET = r"""
set -eu
. /secrets/spaces.env
call() {
  printf 'user = "%s:%s"\n' "$ROOT_ACCESS_KEY" "$ROOT_SECRET_KEY" |
    curl -sSk -K - --aws-sigv4 aws:amz:ams3:s3 -o /tmp/answer -w '%{http_code}' "$@"
}
url=https://127.0.0.1/media
case $(call -I "$url") in
  200) ;;
  404)
    made=$(call -X PUT -H 'x-amz-object-ownership: BucketOwnerPreferred' "$url")
    [ "$made" = 200 ] || { cat /tmp/answer; exit 1; }
    ;;
  *) cat /tmp/answer; exit 1 ;;
esac
policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
  "Action":"s3:GetObject","Resource":"arn:aws:s3:::media/*"}]}'
case $(call -X PUT -H 'content-type: application/json' -d "$policy" "$url?policy") in
  20?) ;;
  *) cat /tmp/answer; exit 1 ;;
esac
"""


def _bucket(client: docker.DockerClient, lab: Lab) -> None:
    """The bucket for media, readable by everybody as Mastodon's is."""
    container = client.containers.get(lab.container("spaces"))
    code, output = container.exec_run(["sh", "-c", _BUCKET])
    if code:
        text = cast(bytes, output).decode(errors="replace").strip()
        raise LabError(f"the bucket {inventory.BUCKET!r} could not be made: {text}")


def _metrics_database(lab: Lab, secrets: dict[str, str]) -> None:
    """InfluxDB's administrator, the database `telegraf` and the user that writes to it."""
    context = ssl.create_default_context(cafile=str(lab.ca))
    admin, telegraf = secrets["influxdb_admin_password"], secrets["influxdb_telegraf_password"]
    with httpx.Client(
        base_url=f"https://{lab.address('influxdb')}:8086", verify=context, timeout=15, trust_env=False
    ) as http:
        # Without any user this one statement is allowed; later it needs the administrator, who exists then.
        http.post("/query", data={"q": f"CREATE USER admin WITH PASSWORD '{admin}' WITH ALL PRIVILEGES"})
        for statement in (
            "CREATE DATABASE telegraf",
            f"CREATE USER telegraf WITH PASSWORD '{telegraf}'",
            "GRANT ALL ON telegraf TO telegraf",
        ):
            response = http.post("/query", data={"q": statement}, auth=("admin", admin))
            if response.is_error or "error" in response.json():
                raise LabError(f"InfluxDB at {http.base_url} refused its set-up: {response.status_code}")


_PUSH = r"""
set -eu
for pair in "$@"; do
  skopeo copy --quiet --dest-tls-verify=false --dest-compress-level 1 \
    "docker-archive:/images.tar:${pair%%=*}" "docker://${pair#*=}" >&2
  echo "${pair#*=}"
done
"""


def _fill_registry(client: docker.DockerClient, lab: Lab, wanted: dict[str, str], progress: Progress) -> None:
    """Push `wanted` (name in the registry -> image here); what the registry has already is left alone.

    The engine itself could not push: it neither resolves the lab's names nor trusts its authority.
    """
    with progress.step("registry") as step:
        stamp = lab.cache / "registry" / "pushed.json"
        pushed: dict[str, str] = json.loads(stamp.read_text()) if stamp.exists() else {}
        identifiers = {name: str(client.images.get(image).id) for name, image in sorted(wanted.items())}
        missing = [name for name in identifiers if pushed.get(name) != identifiers[name]]
        if not missing:
            return
        step.say("writing the images to a file")
        with tempfile.TemporaryDirectory(dir=scratch(lab.cache)) as folder:
            archive = Path(folder) / "images.tar"
            save = ["docker", "save", "--output", str(archive), *(wanted[name] for name in missing)]
            run = subprocess.run(save, capture_output=True, text=True, check=False)
            if run.returncode:
                raise LabError(f"docker save failed: {run.stderr.strip()}")
            registry = f"{lab.host('registry')}:5000"
            pairs = [f"{wanted[name]}={registry}/{name}" for name in missing]
            for number, name in enumerate(_pushes(client, lab, archive, pairs), start=1):
                step.far(number, len(missing))
                step.say(name)
        secret.write(stamp, json.dumps(pushed | identifiers, indent=2), 0o644)


def _pushes(client: docker.DockerClient, lab: Lab, archive: Path, pairs: list[str]) -> Iterator[str]:
    """Copy the archive's images, `IMAGE=TARGET`; yields each target when it is there."""
    container = client.containers.create(
        SERVICES,
        ["sh", "-c", _PUSH, "push", *pairs],
        labels={LABEL: lab.name, LABEL_PART: "push"},
        network=lab.container("public"),
        volumes={str(archive): {"bind": "/images.tar", "mode": "ro"}},
    )
    try:
        container.start()
        for line in container.logs(stream=True, follow=True, stdout=True, stderr=False):
            yield line.decode(errors="replace").strip()
        if container.wait(timeout=60)["StatusCode"]:
            text = container.logs(tail=10).decode(errors="replace").strip()
            raise LabError(f"images could not be put into the lab's registry: {text}")
    finally:
        container.remove(force=True)


# -- inventory and SSH ----------------------------------------------------------------------------------


def _npm_image(client: docker.DockerClient) -> str:
    """An image that has npm, with this machine's settings."""
    images = client.images.list(f"{IMAGE_PREFIX}/standin-node")
    if not images:
        raise LabError("the stand-in's images are not built; run `lab up` again")
    return str(images[0].tags[0])


def npm_registry(client: docker.DockerClient) -> str:
    """The registry that npm itself is set to: exec fetches corepack and Yarn there."""
    said = client.containers.run(_npm_image(client), ["npm", "config", "get", "registry"], remove=True)
    return str(said.decode()).strip().rstrip("/")


def _inventory(
    client: docker.DockerClient,
    lab: Lab,
    secrets: dict[str, str],
    made: Provisioned,
    key: Path,
    *,
    origin: Origin,
) -> Path:
    authority = Authority.open(lab.state / "pki", f"vmstio lab {lab.name}")
    certificate = instance_certificate(authority)
    settings = inventory.variables(lab, secrets, made, certificate, key)
    settings |= inventory.sources(lab, origin, npm_registry(client) if origin.kind != OFFICIAL else "")
    return inventory.write_inventory(lab, settings, inventory.source(lab, secrets["digitalocean_token"]))


def write_known_hosts(client: docker.DockerClient, lab: Lab) -> None:
    """The host keys of the droplets, read from their disks: nothing on the network is trusted for them."""
    found = {}
    for container in containers(client, lab.name, "droplet"):
        keys = _host_keys(container)
        if keys:
            addresses = [container.labels[each] for each in (LABEL_PUBLIC, LABEL_PRIVATE)]
            found[",".join(addresses)] = keys
    secret.write(lab.state / "ssh" / "known_hosts", inventory.known_hosts(found))


def _host_keys(container: Any) -> list[str]:
    """Public host keys; a droplet that has just been started makes them within a second."""
    end = time.monotonic() + 15
    while True:
        keys = []
        for kind in ("ed25519", "ecdsa", "rsa"):
            try:
                chunks, _ = container.get_archive(f"/etc/ssh/ssh_host_{kind}_key.pub")
            except docker.errors.NotFound:
                continue
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                member = archive.extractfile(archive.getmembers()[0])
                text = member.read().decode() if member else ""
            if len(text.split()) >= 2:
                keys.append(text)
        if len(keys) == 3 or time.monotonic() > end or container.status != "running":
            return keys
        time.sleep(0.2)


def await_ssh(client: docker.DockerClient, lab: Lab, step: Step) -> None:
    """Until every running droplet's sshd answers on its public address."""
    end = time.monotonic() + _SSH_SECONDS
    waiting = {
        container.labels[LABEL_PUBLIC]: container.labels[LABEL_ID]
        for container in containers(client, lab.name, "droplet")
        if container.status == "running"
    }
    total = len(waiting)
    while waiting:
        for address in list(waiting):
            try:
                with socket.create_connection((address, 22), timeout=1) as connection:
                    connection.settimeout(2)
                    if connection.recv(4) == b"SSH-":
                        del waiting[address]
            except OSError:
                continue
        step.far(total - len(waiting), total)
        if waiting and time.monotonic() > end:
            raise LabError(f"no SSH on {', '.join(sorted(waiting))} after {_SSH_SECONDS} s")
        time.sleep(0.2)

"""The command `lab`: a whole instance on this machine, with everything around it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click
import docker.errors
import httpx
from rich.console import Console
from rich.table import Table

from lab import made_images, secret
from lab.accounts import ADMIN, log_in
from lab.cloud import CloudError
from lab.config import REPOSITORY, Lab
from lab.converge import converge, environment
from lab.docker_cloud import LABEL_PUBLIC
from lab.engine import LabError, connect, containers
from lab.images import Images
from lab.instance import Instance
from lab.load import Load, User
from lab.origin import OFFICIAL, STAND_IN, Origin
from lab.parts import DOMAIN
from lab.progress import Progress, clock
from lab.prove import prove
from lab.provision import DEFAULT_DROPLETS, IMAGE, Provisioner, parse_droplets
from lab.runtime import Row, Runtime
from lab.standin import StandinError
from lab.up import Started, await_ssh, lock_file, only_one, up, write_known_hosts
from lab.vm_cli import vm_group

_EMULATORS = ("digitalocean", "cloudflare", "sendgrid")
_ENGINE_FAULTS = ("pause", "unpause", "stop", "start", "kill", "restart")
_ERRORS = (LabError, CloudError, StandinError, docker.errors.DockerException, ValueError, OSError)


def _plainly(command: Callable[..., Any]) -> Callable[..., Any]:
    """Errors in one sentence, exit code 1; Ctrl-C leaves a lab that the next `lab up` finishes."""

    @wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return command(*arguments, **options)
        except _ERRORS as error:
            if os.environ.get("LAB_DEBUG"):
                raise
            click.echo(f"lab: {error}", err=True)
            raise SystemExit(1) from error
        except KeyboardInterrupt as error:
            click.echo("lab: interrupted; the same command goes on where this one ended", err=True)
            raise SystemExit(130) from error

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--name", envvar="LAB_NAME", default="lab", show_default=True, help="Which lab (also LAB_NAME)."
)
@click.pass_context
@_plainly
def main(context: click.Context, name: str) -> None:
    """A Mastodon instance on emulated DigitalOcean, on this machine.

    `lab up` starts it, `lab status` shows it, `lab down` removes it.
    """
    context.obj = Lab.load(name)


@main.command("up")
@click.option("--no-converge", is_flag=True, help="Leave the droplets as DigitalOcean would hand them out.")
@click.option("--parts-only", is_flag=True, help="Only the APIs and servers: no droplet, no database.")
@click.option(
    "--droplets",
    default=DEFAULT_DROPLETS,
    show_default=True,
    help="GROUP or GROUP:COUNT, with commas; or none.",
)
@click.option(
    "--mastodon",
    type=click.Choice([STAND_IN, OFFICIAL]),
    help="What is run: a small stand-in (the default), or Mastodon itself, which needs the internet.",
)
@click.option("--git-source", metavar="DIR|URL", help="Another repository of Mastodon, as a fork's.")
@click.option("--gem-source", metavar="DIR|URL", help="Where its gems are, if not at their usual place.")
@click.option("--mastodon-version", metavar="TAG", help="The tag to run.")
@click.option(
    "--image-source",
    type=click.Choice(["registry", "exec"]),
    help="Where the workers' images come from: pulled (the default), or made by exec from its release.",
)
@click.pass_obj
@_plainly
def up_command(
    lab: Lab,
    *,
    no_converge: bool,
    parts_only: bool,
    droplets: str,
    mastodon: str | None,
    git_source: str | None,
    gem_source: str | None,
    mastodon_version: str | None,
    image_source: str | None,
) -> None:
    """Start the lab, converge site.yml and prove that the instance works. Again: only what is missing.

    What is run is remembered: `lab up` alone goes on with it.
    """
    origin = Origin.load(lab).changed(
        mastodon, git=git_source, gems=gem_source, version=mastodon_version, images=image_source
    )
    names = parse_droplets(droplets)
    progress = Progress()
    with only_one(lab), progress.run():
        started = up(lab, progress, names, only_parts=parts_only, origin=origin)
        if started is not None and not no_converge and started.made.droplets:
            with progress.step("site.yml") as step:
                changed = converge(lab, started.inventory, step)
            with progress.step("proof") as step:
                prove(lab, step)
            total = sum(changed.values())
            progress.console.print(f"{total} changes on {len(changed)} hosts" if total else "nothing changed")
    _say_how_to_use(lab, started, converged=not no_converge)


def _say_how_to_use(lab: Lab, started: Started | None, *, converged: bool) -> None:
    program = os.path.relpath(sys.argv[0])
    playbook = os.path.relpath(Path(sys.executable).with_name("ansible-playbook"))
    command = program if lab.name == "lab" else f"{program} --name {lab.name}"
    lines = [f"Lab {lab.name!r} is up.", ""]
    if started is not None and started.made.droplets:
        secrets = secret.load(lab.state)
        address = started.made.load_balancer
        if converged:
            lines += [
                f"  instance     https://{DOMAIN} at {address} (authority: {lab.ca})",
                f"               curl --cacert {lab.ca} --resolve {DOMAIN}:443:{address} https://{DOMAIN}/",
                f"  admin        {ADMIN}@{DOMAIN}, password {secrets['admin_password']}",
            ]
        lines += [
            f"  inventory    {started.inventory}",
            f"               {playbook} -i {started.inventory} playbooks/site.yml",
            f"  droplets     {command} ssh vmst-exec",
        ]
    lines += [
        f"  mail         https://{lab.address('mail')}/mails",
        f"  more         {command} status, {command} logs NAME, {command} fault NAME ..., {command} down",
    ]
    click.echo("\n".join(lines))


@main.command("images")
@click.pass_obj
@_plainly
def images_command(lab: Lab) -> None:
    """Take the images that exec has made (`--image-source exec`) into the engine here; print their tags."""
    progress = Progress(Console(stderr=True, highlight=False))
    with progress.run(), progress.step("images") as step:
        tags = made_images.take(connect(timeout=600), lab, step.say)
    for tag in tags:
        click.echo(tag)


@main.command()
@click.pass_obj
@_plainly
def down(lab: Lab) -> None:
    """Remove everything this lab made. Built images and downloads stay (`lab purge`)."""
    progress = Progress()
    with only_one(lab), progress.run(), progress.step(f"removing lab {lab.name}") as step:
        Runtime(connect(), lab, step.say).down()
        lock_file(lab).unlink()


@main.command()
@click.confirmation_option(prompt="Remove all images and downloads of every lab?")
@click.pass_obj
@_plainly
def purge(lab: Lab) -> None:
    """Remove the images that labs are built from, and the cache. Labs have to be down."""
    client = connect()
    left = client.containers.list(all=True, filters={"label": "io.vmst.lab"})
    if left:
        raise LabError(f"{len(left)} containers of labs exist ({left[0].name}, ...): run `lab down` first")
    images = Images(client, lab.cache)
    images.empty_cache()
    for tag in images.prune():
        click.echo(f"removed image {tag}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
@_plainly
def status(lab: Lab, as_json: bool) -> None:
    """Show what runs, where, how it is and since when. Exit code 3: something is not well."""
    rows = Runtime(connect(), lab).status()
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
    else:
        if not rows:
            raise LabError(f"lab {lab.name!r} is down: `lab up` starts it")
        console = Console() if sys.stdout.isatty() else Console(width=160)
        console.print(_table(lab, rows))
    if any(row.ill for row in rows):
        raise SystemExit(3)


def _table(lab: Lab, rows: list[Row]) -> Table:
    table = Table(title=f"lab {lab.name}", title_justify="left")
    for column in ("what", "name", "public", "private", "state", "health", "since"):
        table.add_column(column, no_wrap=column not in ("health",))
    for row in rows:
        style = "red" if row.ill else ""
        table.add_row(
            row.kind, row.name, row.public, row.private, row.state, row.health, _since(row), style=style
        )
    return table


def _since(row: Row) -> str:
    try:
        started = datetime.fromisoformat(row.since[:19]).replace(tzinfo=UTC)
    except ValueError:
        return ""
    return clock((datetime.now(UTC) - started).total_seconds())


@main.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--tail", default="200", show_default=True, help="How many of the last lines, or all.")
@click.pass_obj
@_plainly
def logs(lab: Lab, name: str, follow: bool, tail: str) -> None:
    """Show what a part, load balancer or database wrote; of a droplet, its journal."""
    container = Runtime(connect(), lab).resolve(name)
    if container.labels.get("io.vmst.lab.part") == "droplet":
        command = ["docker", "exec", container.name, "journalctl", "--no-pager", "-n", tail]
        command += ["-f"] if follow else []
    else:
        command = ["docker", "logs", "--tail", tail, *(["-f"] if follow else []), container.name]
    raise SystemExit(subprocess.run(command, check=False).returncode)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
@_plainly
def ssh(lab: Lab, name: str, command: tuple[str, ...]) -> None:
    """A shell as root on droplet NAME, or COMMAND there."""
    container = Runtime(connect(), lab).resolve(name)
    if LABEL_PUBLIC not in container.labels or container.labels.get("io.vmst.lab.part") != "droplet":
        raise LabError(f"{name!r} is no droplet: `docker exec -it {container.name} bash` enters it")
    folder = lab.state / "ssh"
    call = ["ssh", "-i", str(folder / "id_ed25519"), "-o", f"UserKnownHostsFile={folder / 'known_hosts'}"]
    call += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]
    call += [f"root@{container.labels[LABEL_PUBLIC]}", *command]
    raise SystemExit(subprocess.run(call, check=False).returncode)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
@_plainly
def run(lab: Lab, command: tuple[str, ...]) -> None:
    """Run an Ansible program on the lab: `lab run ansible-playbook playbooks/site.yml`.

    Its inventory is the lab's, its settings are the repository's.
    """
    variables = environment() | {"ANSIBLE_INVENTORY": str(lab.state / "inventory")}
    raise SystemExit(subprocess.run(command, cwd=REPOSITORY, env=variables, check=False).returncode)


@main.command("env")
@click.pass_obj
@_plainly
def env_command(lab: Lab) -> None:
    """Print what makes other programs use this lab's APIs: `eval "$(lab env)"`. Holds tokens."""
    secrets = secret.load(lab.state)
    for name, value in {
        "ANSIBLE_INVENTORY": str(lab.state / "inventory"),
        "DIGITALOCEAN_TOKEN": secrets["digitalocean_token"],
        "DIGITALOCEAN_ENDPOINT": f"https://{lab.address('digitalocean')}",
        "DIGITALOCEAN_CA_FILE": str(lab.ca),
        "CLOUDFLARE_TOKEN": secrets["cloudflare_token"],
        "CLOUDFLARE_ENDPOINT": f"https://{lab.address('cloudflare')}/client/v4",
        "CLOUDFLARE_CA_FILE": str(lab.ca),
        "SENDGRID_API_KEY": secrets["sendgrid_token"],
        "SENDGRID_ENDPOINT": f"https://{lab.address('sendgrid')}",
        "SENDGRID_CA_FILE": str(lab.ca),
    }.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@click.argument("name")
@click.argument("action", default="list")
@click.argument("rule", default="")
@click.pass_obj
@_plainly
def fault(lab: Lab, name: str, action: str, rule: str) -> None:
    """Make a part fail, or well again.

    \b
    Any part, load balancer, database or droplet:
      lab fault NAME pause | unpause | stop | start | kill | restart
    An emulator (digitalocean, cloudflare, sendgrid):
      lab fault NAME list
      lab fault NAME clear
      lab fault NAME set '[{"match": {"method": "GET", "path": "/v2/droplets"}, "times": 2,
                            "action": {"status": 429, "retry_after": 1}}]'
    """
    if action in _ENGINE_FAULTS:
        container = Runtime(connect(), lab).resolve(name)
        getattr(container, action)()
        container.reload()
        click.echo(f"{name}: {container.status}")
        return
    if name not in _EMULATORS:
        raise LabError(
            f"{name!r} knows only {', '.join(_ENGINE_FAULTS)}; rules are for {', '.join(_EMULATORS)}"
        )
    client = httpx.Client(verify=_trust(lab), timeout=10, trust_env=False)
    url = f"https://{lab.address(name)}/_lab/faults"
    try:
        if action == "list":
            response = client.get(url)
        elif action == "clear":
            response = client.delete(url)
        elif action == "set":
            response = client.put(url, content=rule)
        else:
            raise LabError(f"no such action {action!r}; see `lab fault --help`")
    except httpx.HTTPError as error:
        raise LabError(f"emulator {name} does not answer: {error}") from error
    if response.is_error:
        raise LabError(f"emulator {name} refused: {response.text}")
    if response.content:
        click.echo(json.dumps(response.json(), indent=2))


@main.command("load")
@click.option("--seconds", default=60, show_default=True, type=click.IntRange(1, 7200))
@click.option(
    "--rate",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.1, 50),
    help="Pages a second, each with all its files.",
)
@click.option(
    "--users",
    default=4,
    show_default=True,
    type=click.IntRange(1, 10),
    help="Accounts that read by the API and post, each as often as Mastodon allows.",
)
@click.option(
    "--streams",
    default=4,
    show_default=True,
    type=click.IntRange(0, 100),
    help="WebSockets, open all the time.",
)
@click.pass_obj
@_plainly
def load_command(lab: Lab, seconds: int, rate: float, users: int, streams: int) -> None:
    """Visit the instance steadily, and report what failed, as JSON.

    Ctrl-C ends it early, with the report. Exit code 3: something was not well.
    """
    balancers = containers(connect(), lab.name, "load-balancer")
    if not balancers:
        raise LabError(f"lab {lab.name!r} is down: `lab up` starts it")
    with Instance(DOMAIN, balancers[0].labels[LABEL_PUBLIC], lab.ca) as instance:
        click.echo(f"{users} users log in", err=True)
        tokens = [log_in(lab, instance, f"load_{number}") for number in range(1, users + 1)]

        async def run() -> dict[str, Any]:
            load = Load(instance, [User(token) for token in tokens], rate=rate, streams=streams)
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, load.stop)
            click.echo(f"load for {seconds} s", err=True)
            return await load.run(seconds)

        report = asyncio.run(run())
    click.echo(json.dumps(report, indent=2))
    if report["ill"]:
        raise SystemExit(3)


def _trust(lab: Lab) -> Any:
    import ssl  # noqa: PLC0415

    if not lab.ca.exists():
        raise LabError(f"lab {lab.name!r} is down: `lab up` starts it")
    return ssl.create_default_context(cafile=str(lab.ca))


@main.group()
def droplet() -> None:
    """Droplets, as in DigitalOcean's control panel."""


def _provisioner(lab: Lab) -> Provisioner:
    if not lab.ca.exists():
        raise LabError(f"lab {lab.name!r} is down: `lab up` starts it")
    return Provisioner(lab, secret.load(lab.state))


def _settle(lab: Lab) -> None:
    """The droplets' host keys into known_hosts, and their sshd awake."""
    client = connect()
    write_known_hosts(client, lab)
    progress = Progress(Console(quiet=True))
    with progress.step("SSH") as step:
        await_ssh(client, lab, step)


@droplet.command("create")
@click.argument("name")
@click.pass_obj
@_plainly
def droplet_create(lab: Lab, name: str) -> None:
    """Order a droplet; its name (vmst-GROUP or vmst-GROUP-N) gives its tags."""
    provisioner = _provisioner(lab)
    if name in provisioner.droplets():
        raise LabError(f"there is a droplet {name!r} already")
    provisioner.order_droplet(name)
    provisioner.await_droplets()
    _settle(lab)


@droplet.command("destroy")
@click.argument("name")
@click.pass_obj
@_plainly
def droplet_destroy(lab: Lab, name: str) -> None:
    """Delete a droplet and its disk."""
    provisioner = _provisioner(lab)
    provisioner.digitalocean("DELETE", f"/v2/droplets/{provisioner.droplet(name)['id']}")
    provisioner.until_gone(name)


def _action(verb: str, text: str, **action: str) -> None:
    @droplet.command(verb, help=text)
    @click.argument("name")
    @click.pass_obj
    @_plainly
    def command(lab: Lab, name: str) -> None:
        _provisioner(lab).act(name, **action)
        if verb != "stop":
            _settle(lab)


_action(
    "rebuild", "A fresh disk from the image, new host keys; the addresses stay.", type="rebuild", image=IMAGE
)
_action("stop", "Shut a droplet down.", type="shutdown")
_action("start", "Switch a droplet on.", type="power_on")
_action("reboot", "Reboot a droplet.", type="reboot")

main.add_command(vm_group)


if __name__ == "__main__":
    main()

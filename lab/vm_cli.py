"""`lab vm`: the lab's virtual machines."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

import click

from lab import vm
from lab.config import Lab
from lab.engine import LabError

_LAB = "vm"
"""The machines are a lab of their own: they share no network with the containers of another."""


def _lab() -> Lab:
    return Lab.load(os.environ.get("LAB_VM_NAME", _LAB))


def _reporter() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda text: click.echo(f"[{time.monotonic() - started:5.1f} s] {text}")


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except LabError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, name="vm")
def vm_group() -> None:
    """Virtual machines: exec and a worker with kernels of their own (QEMU)."""


@vm_group.command()
def up() -> None:
    """Make and start the machines; build their image if it is not there."""
    vm.up(_lab(), _reporter())


@vm_group.command()
def down() -> None:
    """Remove the machines and all that they wrote; the image stays."""
    count = vm.down(_lab())
    click.echo(f"removed {count} machines" if count else "no machines here")


@vm_group.command()
def status() -> None:
    """Say which machines there are, and where."""
    for machine in vm.load(_lab()):
        pid = machine.process()
        state = f"on (process {pid})" if pid else "off"
        click.echo(
            f"{machine.name:10} {state:20} private {machine.private_address}  console {machine.console}"
        )


@vm_group.command()
@click.argument("name")
def off(name: str) -> None:
    """Take the power away from NAME: nothing is shut down, nothing is written."""
    vm.get(_lab(), name).power_off()


@vm_group.command()
@click.argument("name")
def on(name: str) -> None:
    """Start NAME and wait until it answers."""
    vm.get(_lab(), name).power_on()


@vm_group.command()
@click.argument("name")
def reboot(name: str) -> None:
    """Restart NAME from inside and wait until it answers."""
    vm.get(_lab(), name).reboot()


@vm_group.command(context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, command: tuple[str, ...]) -> None:
    """A shell in NAME, or one COMMAND there."""
    raise SystemExit(subprocess.call(vm.get(_lab(), name).ssh_command(*command)))


if __name__ == "__main__":
    vm_group()

"""Virtual machines without starting one: what they are started with, and what a cut-off run leaves."""

from __future__ import annotations

import ipaddress
import json
import os
import tarfile
from pathlib import Path

import pytest

from lab import vm
from lab.config import Lab
from lab.engine import LabError
from lab.vm_image import MachineImage


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(
        "test", ipaddress.IPv4Network("198.18.1.0/24"), ipaddress.IPv4Network("10.120.0.0/20"), tmp_path
    )


@pytest.fixture
def machine(lab: Lab) -> vm.Machine:
    path = lab.state / "machines" / "vm-exec"
    path.mkdir(parents=True)
    settings = {"image": "/image", "ssh_port": 61022, "network_port": 61001}
    (path / "machine.json").write_text(json.dumps(settings))
    (found,) = vm.load(lab)
    return found


def test_a_machine_is_reached_from_this_machine_only(machine: vm.Machine) -> None:
    command = machine._command()
    networks = [command[i + 1] for i, word in enumerate(command) if word == "-netdev"]
    assert "hostfwd=tcp:127.0.0.1:61022-198.18.1.20:22" in networks[0]
    assert networks[1].endswith("localaddr=127.0.0.1")


@pytest.mark.parametrize(
    ("processor", "accessible", "wanted"),
    [("flags : fpu vmx", True, "kvm"), ("flags : fpu", True, "tcg"), ("flags : fpu svm", False, "tcg")],
)
def test_kvm_where_the_processor_offers_it(
    monkeypatch: pytest.MonkeyPatch, processor: str, accessible: bool, wanted: str
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self: processor)
    monkeypatch.setattr(os, "access", lambda *_: accessible)
    vm.accelerator.cache_clear()
    try:
        assert vm.accelerator().startswith(wanted)
    finally:
        vm.accelerator.cache_clear()


def test_a_machine_that_is_off_has_no_process(machine: vm.Machine) -> None:
    assert machine.process() is None
    machine.power_off()  # nothing to do is not an error


def test_one_whose_making_was_cut_off_is_not_there_and_is_removed(lab: Lab) -> None:
    (lab.state / "machines" / "vm-worker").mkdir(parents=True)
    (lab.state / "machines" / "vm-worker" / "host_key").write_text("half a key")
    assert vm.load(lab) == []
    with pytest.raises(LabError, match="lab vm up"):
        vm.get(lab, "vm-worker")
    assert vm.down(lab) == 1
    assert not (lab.state / "machines").exists()


def test_the_keys_are_known_before_the_first_boot(
    lab: Lab, machine: vm.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = vm.Machine(lab, "vm-worker", 21, 61023, 61001)
    run = vm._run
    monkeypatch.setattr(vm, "_run", lambda command: run(command) if command[0] == "ssh-keygen" else None)
    made.make(MachineImage(Path("/image")))
    with tarfile.open(made.path / "seed.tar") as seed:
        content = {info.name: seed.extractfile(info).read() for info in seed if info.isfile()}  # type: ignore[union-attr]
        assert seed.getmember("etc/ssh/ssh_host_ed25519_key").mode == 0o600
        assert seed.getmember("root/.ssh").mode == 0o700
    assert content["etc/hostname"] == b"vm-worker\n"
    assert b"Address=10.120.0.21/20" in content["etc/systemd/network/eth1.network"]
    (machine.path / "host_key.pub").write_text("ssh-ed25519 AAAA\n")
    vm._write_ssh_files(lab, [machine, made])
    known = vm.ssh_config(lab).with_name("known_hosts").read_text()
    assert f"vm-worker {content['etc/ssh/ssh_host_ed25519_key.pub'].decode().strip()}" in known
    assert "StrictHostKeyChecking yes" in vm.ssh_config(lab).read_text()

from __future__ import annotations

import dataclasses
import ipaddress
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab import secret
from lab.config import REPOSITORY, Lab
from lab.engine import LabError
from lab.images import _Context
from lab.parts import certificate_names, fixed
from lab.runtime import Runtime


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    networks = ipaddress.IPv4Network("198.51.100.0/24"), ipaddress.IPv4Network("10.118.0.0/20")
    return Lab("x", *networks, tmp_path / "x")


def test_every_part_has_an_address_and_a_health_check(lab: Lab) -> None:
    parts = fixed(lab)
    assert len({lab.address(part.name) for part in parts}) == len(parts)
    assert all(part.healthy for part in parts)


def test_no_secret_on_a_command_line_or_in_the_environment(lab: Lab) -> None:
    values = set(secret.load(lab.state).values())
    for part in fixed(lab, openapi=lab.state, mirror=lab.state):
        said = " ".join([*part.command, *part.environment.values(), part.healthy])
        assert not [value for value in values if value in said], part.name


def test_only_digitalocean_reaches_the_engine_and_the_authoritys_key(lab: Lab) -> None:
    pki = str(lab.state / "pki")
    for part in fixed(lab):
        mighty = [
            source for source in part.binds if source in (pki, f"{pki}/ca.key") or "docker.sock" in source
        ]
        assert bool(mighty) == (part.name == "digitalocean"), part.name


def test_a_server_shows_its_own_certificate(lab: Lab) -> None:
    names = certificate_names(lab)
    for part in fixed(lab):
        pairs = [target for target in part.binds.values() if target.startswith("/pki/") and ".key" in target]
        assert pairs in ([], [f"/pki/{part.name}.key"])
        if pairs:
            assert lab.address(part.name) in names[part.name][1]


def test_what_a_part_needs_of_the_repository_is_there(lab: Lab) -> None:
    for part in fixed(lab):
        for source in part.binds:
            if source.startswith(str(REPOSITORY / "lab")):
                assert Path(source).exists(), source
        assert all(source.exists() for source in part.sources)


def test_a_change_asks_for_a_new_container(lab: Lab) -> None:
    runtime = Runtime(SimpleNamespace(), lab)  # type: ignore[arg-type]  # no engine is asked
    part = fixed(lab)[0]
    before = runtime._digest(part, "sha256:1")
    assert runtime._digest(fixed(lab)[0], "sha256:1") == before
    assert runtime._digest(part, "sha256:2") != before
    assert runtime._digest(dataclasses.replace(part, command=("other",)), "sha256:1") != before
    assert runtime._digest(dataclasses.replace(part, sources=()), "sha256:1") != before


@pytest.mark.parametrize(
    ("route", "taken"),
    [("198.51.0.0/16", True), ("198.51.100.7", True), ("198.51.101.0/24", False), ("default", False)],
)
def test_a_subnet_that_the_machine_uses_is_refused(
    lab: Lab, route: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = f'[{{"dst": "{route}", "dev": "eth0"}}]'

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, answer, "")

    monkeypatch.setattr(subprocess, "run", run)
    runtime = Runtime(SimpleNamespace(), lab)  # type: ignore[arg-type]  # no engine is asked
    if taken:
        with pytest.raises(LabError, match="LAB_PUBLIC"):
            runtime._refuse_taken(lab.public)
    else:
        runtime._refuse_taken(lab.public)


def test_an_images_tag_follows_what_goes_into_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "run").write_text("#!/bin/sh\n")

    def digest(*more: str) -> str:
        context = _Context()
        context.add(tmp_path)
        return context.digest(*more)

    before = digest("base:1")
    assert digest("base:1") == before
    assert digest("base:2") != before
    (tmp_path / "run").chmod(0o755)
    executable = digest("base:1")
    assert executable != before
    (tmp_path / "run").write_text("#!/bin/dash\n")
    assert digest("base:1") not in (before, executable)

"""What every role says of its variables: argument_specs.yml, defaults and README agree."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())


def load(path: Path) -> Any:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def options(role: Path) -> dict[str, dict[str, Any]]:
    """The options of all entry points; one that several have must be the same in each."""
    found: dict[str, dict[str, Any]] = {}
    for entry, spec in load(role / "meta/argument_specs.yml")["argument_specs"].items():
        for name, option in spec.get("options", {}).items():
            assert found.setdefault(name, option) == option, f"{role.name}: {name} differs in {entry}"
    return found


def same(value: Any) -> Any:
    """Defaults are compared without the blanks that YAML's folding leaves in expressions."""
    return " ".join(value.split()) if isinstance(value, str) else value


@pytest.fixture(params=ROLES, ids=lambda role: role.name)
def role(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_entry_point_has_a_specification(role: Path) -> None:
    included = set(re.findall(r"(?:import|include)_tasks: (\w+)\.yml", _tasks(role)))
    entries = {path.stem for path in (role / "tasks").glob("*.yml")}
    specified = set(load(role / "meta/argument_specs.yml")["argument_specs"])
    assert specified <= entries
    assert entries - specified <= included


def _tasks(role: Path) -> str:
    return "\n".join(path.read_text() for path in (role / "tasks").glob("*.yml"))


def test_defaults_are_those_of_the_specification(role: Path) -> None:
    defaults = {name: same(value) for name, value in load(role / "defaults/main.yml").items()}
    specified = {
        name: same(option.get("default"))
        for name, option in options(role).items()
        if not option.get("required")
    }
    assert defaults == specified


def test_secrets_are_not_logged(role: Path) -> None:
    for name, option in options(role).items():
        if re.search(r"password|private_key|secret_access_key|secrets$|token$", name):
            assert option.get("no_log") is True, f"{name} is a secret: no_log"


def test_every_variable_stands_in_the_readme(role: Path) -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.*)$", (role / "README.md").read_text(), re.MULTILINE))
    wanted = options(role)
    assert set(wanted) <= set(rows)
    for name, option in wanted.items():
        value = option.get("default")
        if isinstance(value, bool):
            assert f"`{str(value).lower()}`" in rows[name]
        elif isinstance(value, int) or (isinstance(value, str) and value and "{{" not in value):
            assert f"`{value}`" in rows[name]


def test_variables_carry_the_prefix_of_their_role(role: Path) -> None:
    prefix = "mastodon_" if role.name == "instance" else f"{role.name}_"
    assert [name for name in options(role) if not name.startswith(prefix)] == []

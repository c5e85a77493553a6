from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROLES = Path(__file__).resolve().parents[3] / "roles"


@pytest.fixture(name="program")
def _program() -> Callable[[str], ModuleType]:
    """Load a role's program as a module: `program("share/mastodon_share_sync")`."""

    def load(name: str) -> ModuleType:
        role, _, stem = name.partition("/")
        path = ROLES / role / "files" / f"{stem}.py"
        specification = importlib.util.spec_from_file_location(f"program_{stem}", path)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module
        specification.loader.exec_module(module)
        return module

    return load

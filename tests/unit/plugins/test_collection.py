"""What must agree within the collection."""

from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.vmstio.mastodon.plugins.module_utils._version import VERSION

ROOT = Path(__file__).resolve().parents[3]
MODULES = {path.stem: path.read_text() for path in (ROOT / "plugins" / "modules").glob("*.py")}


def test_the_user_agent_tells_the_version() -> None:
    assert yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"] == VERSION


def test_the_action_group_has_the_modules_that_call_an_api() -> None:
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["action_groups"]
    calling = {name for name, text in MODULES.items() if "**arguments()" in text}
    assert set(groups["all"]) == calling
    assert calling == {name for name, text in MODULES.items() if "_attributes.action_group" in text}


def test_every_filter_has_a_page() -> None:
    filters = ROOT / "plugins" / "filter"
    assert {path.stem for path in filters.glob("*.py")} == {path.stem for path in filters.glob("*.yml")}

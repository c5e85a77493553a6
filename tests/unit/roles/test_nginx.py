"""The headers that nginx keeps visitors from saying."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.visitor import lies

ROLE = Path(__file__).parents[3] / "roles/worker"


def test_every_header_that_nginx_overwrites_is_tried() -> None:
    """By the tests that send lies through it, and the other way round."""
    told = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__worker_told"]
    assert set(told) - {"Host"} == set(lies("social.test"))

from __future__ import annotations

import pytest

from lab.provision import group_of, parse_droplets, tags_of


def test_droplets() -> None:
    assert parse_droplets("exec,worker:2") == ["vmst-exec", "vmst-worker-1", "vmst-worker-2"]
    assert parse_droplets("none") == []
    assert parse_droplets(" exec , search ") == ["vmst-exec", "vmst-search"]


@pytest.mark.parametrize("text", ["worker:0", "worker:x", "Worker", "exec;worker", "worker:1000", ":3"])
def test_a_wrong_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="GROUP"):
        parse_droplets(text)


def test_tags() -> None:
    assert group_of("vmst-worker-12") == "worker"
    assert tags_of("vmst-exec") == ["vmst-exec"]
    assert tags_of("vmst-worker-2") == ["vmst-worker", "vmst-lb"]

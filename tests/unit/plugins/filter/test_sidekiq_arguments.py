"""Filter sidekiq_arguments."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vmstio.mastodon.plugins.filter.sidekiq_arguments import (
    FilterModule,
    sidekiq_arguments,
)
from hypothesis import given
from hypothesis import strategies as st

queues = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.integers(1, 99), min_size=1
)


def test_is_found_by_its_name() -> None:
    assert FilterModule().filters() == {"sidekiq_arguments": sidekiq_arguments}


def test_list_and_mapping() -> None:
    assert sidekiq_arguments({"queues": ["default,8", "push"], "concurrency": 10}) == (
        "--concurrency 10 --queue default,8 --queue push"
    )
    assert sidekiq_arguments({"queues": {"push": 6, "pull": 1}}, timeout=60) == (
        "--concurrency 5 --timeout 60 --queue push,6 --queue pull,1"
    )


@given(queues, st.integers(1, 50))
def test_every_queue_once_in_order_and_nothing_for_a_shell(weights: dict[str, int], threads: int) -> None:
    text = sidekiq_arguments({"queues": weights, "concurrency": threads})
    words = shlex.split(text)
    assert words == text.split(" ")
    assert words[:2] == ["--concurrency", str(threads)]
    assert words[2::2] == ["--queue"] * len(weights)
    assert words[3::2] == [f"{name},{weight}" for name, weight in weights.items()]


@pytest.mark.parametrize(
    ("process", "message"),
    [
        ("default", "needs a mapping, not str"),
        ({}, "queues must be a list"),
        ({"queues": []}, "queues must be a list"),
        ({"queues": "default"}, "queues must be a list"),
        ({"queues": ["default; rm"]}, "'default; rm' is no queue"),
        ({"queues": ["default,0"]}, "'default,0' is no queue"),
        ({"queues": [1]}, "1 is no queue"),
        ({"queues": {"default": 0}}, "the weight of default must be 1 or more, not 0"),
        ({"queues": {"default": True}}, "the weight of default must be 1 or more, not True"),
        ({"queues": ["push", "push,2"]}, "the queue push is listed twice"),
        ({"queues": ["push"], "concurrency": 0}, "concurrency must be 1 or more, not 0"),
    ],
)
def test_what_is_no_process(process: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        sidekiq_arguments(process)

"""Filter connection_budget."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vmstio.mastodon.plugins.filter.connection_budget import (
    FilterModule,
    connection_budget,
)
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = {
    "workers": 3,
    "web_processes": 2,
    "web_threads": 5,
    "streaming": 10,
    "worker_sidekiq": [{"queues": ["default"], "concurrency": 10}, {"queues": ["push"]}],
    "exec_sidekiq": [{"queues": ["scheduler"]}],
}


def test_is_found_by_its_name() -> None:
    assert FilterModule().filters() == {"connection_budget": connection_budget}


def test_counts_every_process() -> None:
    assert connection_budget(SETTINGS) == {
        "worker": {"web": 10, "streaming": 10, "sidekiq": 15, "total": 35},
        "exec": 5,
        "total": 110,
        "problems": [],
    }


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"pool_clients": 110, "pool_size": 40, "server": 45}, None),
        (
            {"pool_clients": 109},
            "want 110 connections (3 workers x 35, exec 5) and the pool accepts 109: lower",
        ),
        (
            {"pool_size": 40, "server": 44},
            "The pool's 40 connections and 5 direct ones are more than the server's 44",
        ),
        ({"server": 115}, None),
        ({"server": 114}, "Without a pool, the processes' 110 connections and 5 direct ones are more than"),
        ({"server": 114, "direct": 4}, None),
    ],
)
def test_limits(limits: dict[str, int], problem: str | None) -> None:
    problems = connection_budget(SETTINGS, **limits)["problems"]
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problem in problems[0]


@given(st.integers(0, 9), st.lists(st.integers(1, 50)), st.lists(st.integers(1, 50)))
def test_one_more_worker_costs_what_a_worker_costs(workers: int, theirs: list[int], execs: list[int]) -> None:
    settings = {
        **SETTINGS,
        "worker_sidekiq": [{"concurrency": threads} for threads in theirs],
        "exec_sidekiq": [{"concurrency": threads} for threads in execs],
    }
    less = connection_budget({**settings, "workers": workers})
    more = connection_budget({**settings, "workers": workers + 1})
    assert more["total"] - less["total"] == more["worker"]["total"] == 20 + sum(theirs)
    assert connection_budget({**settings, "workers": 0})["total"] == sum(execs)


def test_what_is_missing_is_named() -> None:
    settings: dict[str, Any] = {**SETTINGS}
    del settings["streaming"]
    with pytest.raises(AnsibleFilterError, match="the settings lack 'streaming'"):
        connection_budget(settings)

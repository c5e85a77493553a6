"""Filter environment_file: what Docker and systemd read as the same values."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vmstio.mastodon.plugins.filter.environment_file import FilterModule, environment_file
from hypothesis import given
from hypothesis import strategies as st

names = st.from_regex(r"[A-Z][A-Z0-9_]{0,12}", fullmatch=True)
values = st.text(
    st.characters(codec="utf-8", exclude_characters="\"'\\", exclude_categories=["Cs", "Cc", "Z"])
)


def read(text: str) -> dict[str, str]:
    """As Docker reads it: a line is NAME=value, one that starts with # is a comment."""
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_is_found_by_its_name() -> None:
    assert FilterModule().filters() == {"environment_file": environment_file}


def test_lines() -> None:
    given_variables = {
        "B": 4,
        "A": True,
        "C": False,
        "EMPTY": "",
        "NONE": None,
        "U": "postgres://a:b@c/d?e=f#g",
    }
    assert environment_file(given_variables) == "A=true\nB=4\nC=false\nU=postgres://a:b@c/d?e=f#g\n"


def test_an_empty_value_that_is_added_is_meant() -> None:
    added = {"S3_PERMISSION": "", "B": 5, "NONE": None, "http_proxy": "http://p"}
    assert environment_file({"A": "", "B": 4}, added) == "B=5\nS3_PERMISSION=\nhttp_proxy=http://p\n"


@given(st.dictionaries(names, values))
def test_is_read_as_it_was_given(variables: dict[str, str]) -> None:
    assert read(environment_file(variables)) == {name: value for name, value in variables.items() if value}


@given(st.dictionaries(names, values), st.randoms(use_true_random=False))
def test_order_makes_no_difference(variables: dict[str, str], random: Any) -> None:
    items = list(variables.items())
    random.shuffle(items)
    assert environment_file(dict(items)) == environment_file(variables)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (["A=b"], "needs a mapping, not list"),
        ({"lower": "x"}, "'lower' is not a name"),
        ({"A B": "x"}, "'A B' is not a name"),
        ({"A": "s3cret\nB=c"}, "A holds a line break"),
        ({"A": "s3cret "}, "A begins or ends with a blank"),
        ({"A": 's3cret"'}, 'A holds the character "'),
        ({"A": "s3cret\\"}, r"A holds the character \\"),
    ],
)
def test_what_is_read_differently_is_refused_and_never_shown(variables: Any, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message) as refusal:
        environment_file(variables)
    assert "s3cret" not in str(refusal.value)

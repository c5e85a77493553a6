"""Versions of Mastodon and of its forks."""

from __future__ import annotations

import random
import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.vmstio.mastodon.plugins.filter.image_tag import image_tag
from ansible_collections.vmstio.mastodon.plugins.module_utils._mastodon_version import Version, VersionError
from hypothesis import given
from hypothesis import strategies as st

# In their order.
SORTED = [
    "v4.5.15",
    "v4.5.15+acme.1",
    "v4.5.15+acme.2",
    "v4.5.15+acme.10",
    "v4.5.15+glitch",
    "v4.6.0-alpha.3",
    "v4.6.0-beta.1",
    "v4.6.0-rc.1",
    "v4.6.0-rc.2",
    "v4.6.0-rc.10",
    "v4.6.0",
    "v4.6.0-acme.1",
    "v4.6.1-rc1",
    "v4.6.1",
    "v4.10.0",
    "v5.0.0-alpha.1+glitch",
]
IMAGE_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""What the OCI distribution specification allows."""


@pytest.mark.parametrize(
    "text",
    [
        "4.7.3",
        "v4.7",
        "v4.7.3.1",
        "v04.7.3",
        "latest",
        "main",
        "v4.7.3 ",
        "v4.7.3_glitch",
        "v4.7.3+",
        "v4.7.3+a b",
        "v4.7.3+../x",
        "v4.7.3-",
        "",
    ],
)
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(VersionError, match=re.escape("should look like v4.7.3, v4.7.0-rc.1 or")):
        Version.parse(text)


def test_order() -> None:
    versions = [Version.parse(text) for text in SORTED]
    mixed = random.Random(1).sample(versions, len(versions))
    assert sorted(mixed, key=lambda version: version.order) == versions


@pytest.mark.parametrize(
    ("new", "old", "back"),
    [
        ("v4.7.0-rc.1", "v4.7.0", True),
        ("v4.7.0", "v4.7.0-rc.1", False),
        ("v4.7.3", "v4.7.3+glitch", False),
        ("v4.7.3+glitch", "v4.7.3", False),
        ("v4.7.3+acme.1", "v4.7.3+acme.2", True),
        ("v4.7.3+acme.9", "v4.7.3+glitch.1", False),
        ("v4.7.2+acme.9", "v4.7.3", True),
    ],
)
def test_steps_back(new: str, old: str, *, back: bool) -> None:
    assert Version.parse(new).is_older_than(Version.parse(old)) is back


@pytest.mark.parametrize(
    ("new", "old", "between"),
    [
        ("v4.7.0-rc.1", "v4.6.5+glitch", None),
        ("v4.7.0+glitch", "v4.5.15", (4, 6)),
        ("v5.0.0-rc.1", "v4.7.3", None),
        ("v5.1.0", "v4.7.3", (5, 0)),
    ],
)
def test_series_in_between(new: str, old: str, between: tuple[int, int] | None) -> None:
    assert Version.parse(new).skips_from(Version.parse(old)) == between


@pytest.mark.parametrize("text", SORTED)
def test_image_tags(text: str) -> None:
    assert image_tag(text) == text.replace("+", "_")


def test_no_tag_for_what_is_no_version() -> None:
    with pytest.raises(AnsibleFilterError, match="image_tag: 'latest' is not a release's git tag"):
        image_tag("latest")


_WORDS = st.from_regex(r"[0-9A-Za-z]{1,8}([.-][0-9A-Za-z]{1,8}){0,3}", fullmatch=True)


@given(
    st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)),
    st.sampled_from(["", "-alpha.1", "-beta.2", "-rc.3"]),
    st.one_of(st.just(""), _WORDS.map(lambda word: f"+{word}"), _WORDS.map(lambda word: f"-{word}")),
)
def test_every_version_has_a_legal_tag_of_its_own(numbers: tuple[int, ...], stage: str, suffix: str) -> None:
    text = f"v{'.'.join(map(str, numbers))}{stage}{suffix}"
    version = Version.parse(text)
    assert IMAGE_TAG.fullmatch(version.image_tag)
    assert version.image_tag.replace("_", "+") == text
    assert not version.is_older_than(version)

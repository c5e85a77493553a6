"""What is believed to be a list of Cloudflare's ranges."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils._ranges import (
    NOT_CLOUDFLARE,
    PUBLISHED,
    WIDEST,
    RangesError,
    answered,
    believed,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("198.51.100.1/24", "'198.51.100.1/24' is no network"),
        ("198.51.100.1", "is no network"),
        ("198.51.100.0/33", "is no network"),
        ("", "'' is no network"),
        (3325256704, "is no network"),
        (None, "None is no network"),
        ("x" * 500, f"'{'x' * 59} is no network"),
        ("10.1.0.0/16", "10.1.0.0/16 cannot be Cloudflare's, since 10.0.0.0/8 is nobody's on the Internet"),
        ("127.0.0.0/24", "since 127.0.0.0/8 is"),
        ("0.0.0.0/0", "since 0.0.0.0/8 is"),
        ("128.0.0.0/1", "since 169.254.0.0/16 is"),
        ("::/0", "since ::/8 is"),
        ("::ffff:198.51.100.0/120", "since ::/8 is"),
        ("::1/128", "since ::/8 is"),
        ("fd00::/32", "since fc00::/7 is"),
        ("fe80::/64", "since fe80::/10 is"),
        ("104.0.0.0/9", "104.0.0.0/9 is wider than /10"),
        ("2600::/23", "2600::/23 is wider than /24"),
    ],
)
def test_what_is_not_believed(text: Any, why: str) -> None:
    with pytest.raises(RangesError) as caught:
        believed(["9.9.9.0/24", text])
    assert why in str(caught.value)


def test_the_order_is_that_of_addresses() -> None:
    given = [
        "2606:4700::/32",
        "198.51.100.0/24",
        "9.9.9.0/24",
        "9.9.0.0/16",
        "2400:CB00:0::/32",
        "9.9.9.0/24",
    ]
    assert believed(given) == [
        "9.9.0.0/16",
        "9.9.9.0/24",
        "198.51.100.0/24",
        "2400:cb00::/32",
        "2606:4700::/32",
    ]


networks = st.one_of(
    st.builds(
        lambda number, bits: str(ipaddress.IPv4Network((number, bits), strict=False)),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, bits: str(ipaddress.IPv6Network((number, bits), strict=False)),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | networks,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
answers = junk | st.fixed_dictionaries(
    {
        "success": st.just(True),
        "result": junk
        | st.fixed_dictionaries(
            {
                "ipv4_cidrs": st.lists(st.sampled_from(PUBLISHED) | networks, max_size=4),
                "ipv6_cidrs": st.lists(st.sampled_from(PUBLISHED) | junk, max_size=4),
            }
        ),
    }
)


@given(answers)
def test_any_answer_is_a_list_or_is_refused(answer: Any) -> None:
    try:
        ranges = answered(answer)
    except RangesError:
        return
    assert ranges == believed(reversed(ranges))
    for network in map(ipaddress.ip_network, ranges):
        assert network.prefixlen >= WIDEST[network.version]
        assert not any(
            network.overlaps(other) for other in NOT_CLOUDFLARE if other.version == network.version
        )


@given(st.lists(networks, min_size=1, max_size=6))
def test_a_list_with_one_bad_entry_is_refused_whole(texts: list[str]) -> None:
    with pytest.raises(RangesError, match=r"127\.0\.0\.0/8"):
        believed(["127.0.0.0/8", *[text for text in texts if _good(text)]])


def _good(text: str) -> bool:
    try:
        return bool(believed([text]))
    except RangesError:
        return False

"""What h2load prints, as nghttp2 1.64 does."""

from __future__ import annotations

import pytest

from lab.engine import LabError
from lab.load import Outcome, assets, parse

OUTPUT = """\
starting benchmark...
spawning thread #0: 100 total client(s). Timing-based test with 0s of warm-up time and 60s of main duration.
finished in 60.00s, 312.45 req/s, 1.02MB/s
requests: 18747 total, 18847 started, 18747 done, 18700 succeeded, 47 failed, 3 errored, 1 timeout
status codes: 18690 2xx, 10 3xx, 40 4xx, 4 5xx
traffic: 61.20MB (64172032) total, 5.01MB (5253120) headers (space savings 0.00%), 55.00MB (57671680) data
"""


def test_summary() -> None:
    assert parse(OUTPUT) == Outcome(312.45, 3, {2: 18690, 3: 10, 4: 40, 5: 4})


def test_without_a_summary() -> None:
    with pytest.raises(LabError, match="nothing that can be read: could not connect"):
        parse("could not connect\n")


def test_assets() -> None:
    page = '<link href="/packs/a.css"><link href="/about"><script src="https://files.example/packs/b.js"></script>'
    assert assets(page) == ["/packs/a.css", "/packs/b.js"]

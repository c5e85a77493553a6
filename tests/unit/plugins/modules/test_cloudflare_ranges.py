"""Module cloudflare_ranges, call by call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.vmstio.mastodon.plugins.module_utils._ranges import PUBLISHED, believed

FOUR, SIX = ["198.51.100.0/24", "9.9.9.0/24"], ["2606:4700::/32"]
LIST = ["9.9.9.0/24", "198.51.100.0/24", "2606:4700::/32"]
SINCE = "2026-01-02T03:04:05Z"
CALL = "GET https://api.cloudflare.com/client/v4/ips"


def asks(script: Any, answer: Any = None, **more: Any) -> None:
    found = {"ipv4_cidrs": FOUR, "ipv6_cidrs": SIX, "etag": "1"}
    body = {"success": True, "errors": [], "messages": [], "result": found} if answer is None else answer
    script.expect("GET", "/client/v4/ips", answer=body, token=None, **more)


class Host:
    """A host with the file, and the module that runs there."""

    def __init__(self, path: Path, run: Any) -> None:
        self.path = path
        self._run = run

    def run(self, *, check: bool = False, **more: Any) -> dict[str, Any]:
        arguments = {"path": str(self.path), **more}
        result: dict[str, Any] = self._run("cloudflare_ranges", arguments, check=check, token=None)
        return result

    def keeps(self, ranges: Any = LIST) -> None:
        self.path.write_text(json.dumps({"ranges": ranges, "since": SINCE}))

    def warned(self, result: dict[str, Any]) -> str:
        (warning,) = result["warnings"]
        return str(warning)


@pytest.fixture
def host(tmp_path: Path, run: Any) -> Host:
    return Host(tmp_path / "ranges.json", run)


def test_keeps_the_answer(script: Any, host: Host) -> None:
    asks(script)
    planned = host.run(check=True)
    assert (planned["changed"], planned["ranges"], planned["source"]) == (True, LIST, "cloudflare")
    assert not host.path.exists()
    asks(script)
    done = host.run()
    assert planned == done
    assert done["diff"] == {"before": {"ranges": []}, "after": {"ranges": LIST}}
    assert json.loads(host.path.read_text())["ranges"] == LIST
    assert host.path.stat().st_mode & 0o777 == 0o644
    written = host.path.stat()
    asks(script)
    again = host.run()
    assert (again["changed"], again["ranges"], again["source"]) == (False, LIST, "cloudflare")
    assert host.path.stat() == written
    assert [entry.name for entry in host.path.parent.iterdir()] == ["ranges.json"]


def test_a_list_that_changed(script: Any, host: Host) -> None:
    host.keeps(["9.9.9.0/24", "2606:4700::/32"])
    asks(script)
    result = host.run()
    assert (result["changed"], result["ranges"]) == (True, LIST)
    assert result["diff"]["before"] == {"ranges": ["9.9.9.0/24", "2606:4700::/32"]}
    kept = json.loads(host.path.read_text())
    assert kept["ranges"] == LIST
    assert kept["since"] > SINCE


@pytest.mark.parametrize(
    ("fault", "asked", "problem"),
    [
        ({"status": 500, "answer": {"success": False}}, 5, "500 an answer that is JSON without a reason"),
        ({"answer": b"<html>log in</html>"}, 5, "200 an answer that is no JSON (<html>log in</html>)."),
        ({"status": 403, "answer": b"no"}, 1, "Check that the endpoint is the API and that no proxy answers"),
        (
            {"status": 403, "answer": {"errors": [{"code": 10000, "message": "Authentication error"}]}},
            1,
            "403 Authentication error (code 10000). Check that the endpoint is the API",
        ),
        ({"answer": {"success": False}}, 1, "the answer is not believed: it does not say `success: true`."),
        ({"answer": []}, 1, "the answer is not believed: it does not say `success: true`."),
        ({"answer": {"success": True, "result": {"ipv4_cidrs": FOUR}}}, 1, "it lacks ranges in"),
        ({"answer": {"success": True, "result": {"ipv4_cidrs": [], "ipv6_cidrs": SIX}}}, 1, "it lacks"),
        ({"answer": {"success": True, "result": "none"}}, 1, "it lacks ranges in"),
    ],
)
def test_goes_on_without_an_answer(
    script: Any, host: Host, fault: dict[str, Any], asked: int, problem: str
) -> None:
    for _unused in range(asked):
        asks(script, **fault)
    result = host.run()
    assert (result["changed"], result["ranges"], result["source"]) == (False, list(PUBLISHED), "published")
    assert host.warned(result).startswith(
        f"Cloudflare's ranges are those of 2026-10-05, since there is no {host.path} yet. {CALL}: "
    )
    assert problem in host.warned(result)
    assert not host.path.exists()
    host.keeps()
    before = host.path.read_bytes()
    for _unused in range(asked):
        asks(script, **fault)
    result = host.run()
    assert (result["changed"], result["ranges"], result["source"]) == (False, LIST, "kept")
    assert host.warned(result).startswith(
        f"Cloudflare's ranges are those that {host.path} keeps since {SINCE}. {CALL}: "
    )
    assert problem in host.warned(result)
    assert host.path.read_bytes() == before


DAMAGED = [
    b"",
    b"\xff",
    b"[]",
    b"{}",
    b'{"ranges": []}',
    b'{"ranges": [], "since": ""}',
    b'{"ranges": 5, "since": ""}',
    b'{"ranges": ["10.0.0.0/8"], "since": ""}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_that_is_damaged(script: Any, host: Host, content: bytes) -> None:
    host.path.write_bytes(content)
    asks(script, {"success": False})
    result = host.run()
    assert (result["changed"], result["source"]) == (False, "published")
    assert f"2026-10-05, since {host.path} cannot be used (" in host.warned(result)
    assert host.path.read_bytes() == content
    asks(script)
    result = host.run()
    assert (result["changed"], result["ranges"], result["source"]) == (True, LIST, "cloudflare")
    assert host.warned(result).startswith(f"{host.path} cannot be used (")
    assert json.loads(host.path.read_text())["ranges"] == LIST


def test_a_file_that_cannot_be_written(script: Any, host: Host) -> None:
    host.path = host.path.parent / "missing" / "ranges.json"
    asks(script)
    assert host.run(check=True)["changed"] is True
    asks(script)
    assert host.run()["msg"] == (
        f"{host.path} cannot be written: No such file or directory. Check the directory, then run again."
    )


def test_settings_that_cannot_work(script: Any, host: Host) -> None:
    result = host.run(endpoint="http://api.cloudflare.example")
    assert result["msg"].startswith("http://api.cloudflare.example: the endpoint is not an https:// URL.")
    assert result["failure"]["status"] is None
    assert "there is no file /none.pem" in host.run(ca_file="/none.pem")["msg"]


def test_the_list_in_the_code_is_believed() -> None:
    assert believed(PUBLISHED) == list(PUBLISHED)

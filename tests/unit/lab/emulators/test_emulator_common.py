"""What every emulator does: the log, faults, state on disk, tokens."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.emulators import digitalocean
from lab.emulators.common import Store, Window, grant, parse_tokens
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import running

Start = Callable[..., Any]


def test_health_needs_no_token(ocean: Start) -> None:
    answer = ocean().get("/_lab/health", headers={"authorization": ""})
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "emulator": "digitalocean", "contract": "off"}


def test_the_log_keeps_order_and_no_secrets(ocean: Start) -> None:
    client = ocean()
    client.post("/v2/tags?x=1", json={"name": "web"})
    client.post("/v2/certificates", json={"name": "c", "private_key": "PRIVATE", "leaf_certificate": "L"})
    client.get("/v2/tags/web")
    log = client.get("/_lab/requests").json()
    assert [(e["method"], e["path"], e["status"]) for e in log["requests"]] == [
        ("POST", "/v2/tags", 201),
        ("POST", "/v2/certificates", 422),
        ("GET", "/v2/tags/web", 200),
    ]
    assert log["requests"][0]["query"] == {"x": "1"}
    assert log["requests"][0]["body"] == {"name": "web"}
    text = json.dumps(log)
    assert "PRIVATE" not in text
    assert "Bearer" not in text
    assert "authorization" not in text


def test_the_log_can_be_narrowed_and_emptied(ocean: Start) -> None:
    client = ocean()
    client.get("/v2/tags")
    client.get("/v2/vpcs")
    client.post("/v2/tags", json={"name": "web"})
    found = client.get("/_lab/requests", params={"method": "GET", "path": "tags$"}).json()
    assert [e["path"] for e in found["requests"]] == ["/v2/tags"]
    assert client.delete("/_lab/requests").status_code == 204
    assert client.get("/_lab/requests").json()["total"] == 0


def faults(client: Any, *rules: dict[str, Any]) -> None:
    answer = client.put("/_lab/faults", json=list(rules))
    assert answer.status_code == 200, answer.text


def test_a_fault_strikes_what_matches_as_often_as_told(ocean: Start) -> None:
    client = ocean()
    rule = {"match": {"method": "GET", "path": "^/v2/tags"}, "times": 2}
    faults(client, rule | {"action": {"status": 429, "retry_after": 3}})
    assert client.post("/v2/tags", json={"name": "web"}).status_code == 201
    for _ in range(2):
        answer = client.get("/v2/tags")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "3"
        assert answer.json()["id"] == "too_many_requests"
    assert client.get("/v2/tags").status_code == 200
    assert client.get("/_lab/faults").json()[0]["hits"] == 2


def test_a_fault_can_pass_some_calls_first(ocean: Start) -> None:
    client = ocean()
    faults(client, {"match": {"path": "tags"}, "skip": 1, "times": None, "action": {"status": 500}})
    assert [client.get("/v2/tags").status_code for _ in range(3)] == [200, 500, 500]
    assert client.delete("/_lab/faults").status_code == 204
    assert client.get("/v2/tags").status_code == 200


def test_429_without_retry_after(ocean: Start) -> None:
    client = ocean()
    faults(client, {"action": {"status": 429}})
    assert "retry-after" not in client.get("/v2/tags").headers


def test_a_lost_answer_has_taken_effect(ocean: Start) -> None:
    client = ocean()
    faults(client, {"match": {"method": "POST"}, "action": {"status": 503, "after": True}})
    assert client.post("/v2/tags", json={"name": "web"}).status_code == 503
    assert client.get("/v2/tags/web").status_code == 200


def test_a_refused_call_has_taken_none(ocean: Start) -> None:
    client = ocean()
    faults(client, {"match": {"method": "POST"}, "action": {"status": 503}})
    client.post("/v2/tags", json={"name": "web"})
    assert client.get("/v2/tags/web").status_code == 404


def test_an_answer_that_is_no_json(ocean: Start) -> None:
    client = ocean()
    faults(client, {"action": {"status": 502, "body": "<html>Bad Gateway</html>"}})
    answer = client.get("/v2/tags")
    assert answer.status_code == 502
    assert answer.headers["content-type"] == "text/html"
    assert answer.text == "<html>Bad Gateway</html>"


def test_a_wrong_answer_with_status_200(ocean: Start) -> None:
    client = ocean()
    faults(client, {"action": {"body": {"droplets": None}}})
    assert client.get("/v2/droplets").json() == {"droplets": None}


def test_a_slow_answer_is_the_right_one(ocean: Start) -> None:
    client = ocean()
    faults(client, {"action": {"delay": 0.01}})
    assert client.get("/v2/account").json()["account"]["status"] == "active"


def test_a_cut_answer() -> None:
    app = digitalocean.create_app(MemoryCloud(), tokens=grant("t"), contract="off")
    with running(app) as url, httpx.Client(base_url=url, headers={"authorization": "Bearer t"}) as client:
        faults(client, {"match": {"path": "account"}, "action": {"cut": True}})
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/v2/account")
        assert client.get("/v2/account").status_code == 200


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"action": {"status": 500}}, "list"),
        ([{"status": 500}], "action"),
        ([{"action": {"statsu": 500}}], "statsu"),
        ([{"match": {"path": "("}, "action": {"status": 500}}], "regular expression"),
    ],
)
def test_a_wrong_fault_is_refused(ocean: Start, rules: Any, says: str) -> None:
    answer = ocean().put("/_lab/faults", json=rules)
    assert answer.status_code == 400
    assert says in answer.json()["error"]


def test_cloudflare_words_a_fault_as_an_envelope(flare: Start) -> None:
    client = flare()
    faults(client, {"action": {"status": 500}})
    body = client.get("/client/v4/zones").json()
    assert body["success"] is False
    assert body["result"] is None
    assert body["errors"][0]["message"]


def test_sendgrid_words_a_fault_as_errors(grid: Start) -> None:
    client = grid()
    faults(client, {"action": {"status": 429}})
    body = client.get("/v3/tracking_settings").json()
    assert body == {"errors": [{"field": None, "message": "too many requests"}]}


def test_a_body_that_is_no_json_is_refused(ocean: Start, flare: Start, grid: Start) -> None:
    assert ocean().post("/v2/tags", content=b"{").status_code == 400
    zone = (client := flare()).get("/client/v4/zones").json()["result"][0]["id"]
    assert client.post(f"/client/v4/zones/{zone}/dns_records", content=b"[1]").status_code == 400
    assert grid().patch("/v3/tracking_settings/open", content=b"no").status_code == 400


def test_state_is_private_and_replaced_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "state.json")
    assert store.load() is None
    store.save({"a": 1})
    store.save({"a": 2})
    assert store.load() == {"a": 2}
    assert stat.S_IMODE((tmp_path / "deep" / "state.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["state.json"]


def test_a_broken_state_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=str(path)):
        Store(path).load()


def test_tokens_from_a_file() -> None:
    tokens = parse_tokens("# ours\nfull\nreader droplet:read,tag:read  # for the inventory\n\n")
    assert tokens["full"].may("anything")
    assert tokens["reader"].may("tag:read")
    assert not tokens["reader"].may("droplet:delete")
    assert set(tokens) == {"full", "reader"}


def test_a_sliding_window() -> None:
    at = 100.0
    window = Window(2, 60, lambda: at)
    assert window.take()
    at = 130.0
    assert window.take()
    assert not window.take()
    assert window.reset == 160.0
    at = 161.0
    assert window.take()
    assert not window.take()

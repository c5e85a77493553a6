"""Module droplet_rebuild, call by call."""

from __future__ import annotations

from typing import Any

import pytest
import requests

DROPLET = "/v2/droplets/7"
ACTIONS = f"{DROPLET}/actions"
PAGE = {"per_page": "200", "page": "1"}
BODY = {"type": "rebuild", "image": "debian-13-x64"}


def droplet(**more: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "name": "vmst-worker-1",
        "status": "active",
        "disk": 25,
        "image": {"id": 1, "slug": "debian-12-x64", "distribution": "Debian"},
        "region": {"slug": "ams3"},
        **more,
    }


def action(identifier: int = 5, status: str = "completed", kind: str = "rebuild") -> dict[str, Any]:
    return {
        "id": identifier,
        "status": status,
        "type": kind,
        "started_at": f"2026-07-21T18:00:0{identifier}Z",
        "completed_at": None if status == "in-progress" else "2026-07-21T18:01:00Z",
    }


def sees(script: Any, *actions: dict[str, Any], first: bool = True) -> None:
    if first:
        script.expect("GET", DROPLET, answer={"droplet": droplet()})
    script.expect(
        "GET", ACTIONS, query=PAGE, answer={"actions": list(actions), "meta": {"total": len(actions)}}
    )


def sees_image(script: Any, **more: Any) -> None:
    image = {
        "id": 2,
        "slug": "debian-13-x64",
        "distribution": "Debian",
        "regions": ["ams3"],
        "min_disk_size": 7,
        **more,
    }
    script.expect("GET", "/v2/images/debian-13-x64", answer={"image": image})


def starts(script: Any, status: str = "in-progress") -> None:
    script.expect("POST", ACTIONS, body=BODY, status=201, answer={"action": action(6, status)})


def polls(script: Any, status: str, **details: Any) -> None:
    script.expect("GET", f"{ACTIONS}/6", **{"answer": {"action": action(6, status)}, **details})


def is_rebuilt(script: Any) -> None:
    rebuilt = droplet(image={"id": 2, "slug": "debian-13-x64", "distribution": "Debian"})
    script.expect("GET", DROPLET, answer={"droplet": rebuilt})


def arguments(**more: Any) -> dict[str, Any]:
    return {"id": 7, "image": "debian-13-x64", **more}


def test_rebuilds_and_waits(script: Any, run: Any) -> None:
    old = action(5)
    sees(script, old)
    sees_image(script)
    sees(script, old, first=False)
    starts(script)
    polls(script, "in-progress")
    polls(script, "completed")
    is_rebuilt(script)
    result = run("droplet_rebuild", arguments())
    assert result["changed"] is True
    assert result["droplet"] == {
        "id": 7,
        "name": "vmst-worker-1",
        "status": "active",
        "image": "debian-13-x64",
    }
    assert result["action"]["id"] == 6
    assert result["progress"] == ["0 s: rebuild 6 is in-progress", "10 s: rebuild 6 is completed"]
    assert result["diff"]["before"]["image"] == "debian-12-x64"


def test_check_mode_only_reads(script: Any, run: Any) -> None:
    sees(script)
    sees_image(script)
    result = run("droplet_rebuild", arguments(), check=True)
    assert result["changed"] is True
    assert result["droplet"]["image"] == "debian-13-x64"
    assert result["action"] == {}


def test_finds_the_droplet_by_name(script: Any, run: Any) -> None:
    query = {**PAGE, "name": "vmst-worker-1"}
    script.expect("GET", "/v2/droplets", query=query, answer={"droplets": [droplet()], "meta": {"total": 1}})
    sees(script, first=False)
    sees_image(script)
    result = run("droplet_rebuild", {"name": "vmst-worker-1", "image": "debian-13-x64"}, check=True)
    assert result["droplet"]["id"] == 7


def test_a_name_must_be_one_droplets(script: Any, run: Any) -> None:
    query = {**PAGE, "name": "twin"}
    twins = [droplet(id=7), droplet(id=8)]
    script.expect("GET", "/v2/droplets", query=query, answer={"droplets": twins, "meta": {"total": 2}})
    message = run("droplet_rebuild", {"name": "twin", "image": "debian-13-x64"})["msg"]
    assert message == "2 droplets are called twin (7, 8): give the id."


def test_goes_on_waiting_for_a_rebuild_that_runs(script: Any, run: Any) -> None:
    sees(script, action(6, "in-progress"))
    polls(script, "completed")
    is_rebuilt(script)
    result = run("droplet_rebuild", arguments())
    assert (result["changed"], result["action"]["id"]) == (True, 6)


def test_a_rebuild_since_then_counts_as_done(script: Any, run: Any) -> None:
    sees(script, action(5))
    result = run("droplet_rebuild", arguments(since="2026-07-21T18:00:05Z"))
    assert (result["changed"], result["action"]["id"]) == (False, 5)
    sees(script, action(5))
    sees_image(script)
    assert run("droplet_rebuild", arguments(since="2026-07-21T18:00:06Z"), check=True)["changed"] is True
    assert "since: yesterday is no time" in run("droplet_rebuild", arguments(since="yesterday"))["msg"]


def test_waits_for_a_pending_event(script: Any, run: Any) -> None:
    pending = {"id": "unprocessable_entity", "message": "Droplet already has a pending event."}
    sees(script)
    sees_image(script)
    sees(script, first=False)
    for status in (422, 423):
        script.expect("POST", ACTIONS, body=BODY, status=status, answer=pending)
        sees(script, action(4, "in-progress", "power_cycle"), first=False)
    starts(script, "completed")
    is_rebuilt(script)
    result = run("droplet_rebuild", arguments())
    assert result["progress"][0] == "0 s: another action of the droplet runs; waiting for it"
    assert script.sleeps == [5, 5]


def test_patience_ends(script: Any, run: Any) -> None:
    pending = {"id": "unprocessable_entity", "message": "Droplet already has a pending event."}
    sees(script)
    sees_image(script)
    sees(script, first=False)
    script.expect("POST", ACTIONS, body=BODY, status=422, answer=pending)
    result = run("droplet_rebuild", arguments(wait_timeout=1))
    assert result["msg"] == (
        "another action of the droplet is not over after 1 s. It may still end well: run again, which waits "
        "for it, or raise wait_timeout."
    )


@pytest.mark.parametrize(
    "lost",
    [
        {"status": 503, "answer": {"id": "down", "message": "down"}},
        {"answer": b'{"action": {"id"'},
        {"answer": requests.exceptions.ReadTimeout("timed out")},
    ],
)
def test_never_starts_two(script: Any, run: Any, lost: Any) -> None:
    sees(script, action(5))
    sees_image(script)
    sees(script, action(5), first=False)
    script.expect("POST", ACTIONS, body=BODY, **lost)
    sees(script, action(5), action(6, "in-progress"), first=False)
    polls(script, "completed")
    is_rebuilt(script)
    result = run("droplet_rebuild", arguments())
    assert result["action"]["id"] == 6
    assert "no clear answer" in result["progress"][0]


def test_starts_again_what_was_not_started_and_gives_up(script: Any, run: Any) -> None:
    sees(script)
    sees_image(script)
    sees(script, first=False)
    for attempt in range(3):
        script.expect("POST", ACTIONS, body=BODY, status=500, answer={"id": "error", "message": "oops"})
        if attempt < 2:
            sees(script, first=False)
    result = run("droplet_rebuild", arguments())
    assert result["msg"] == (
        "POST https://api.digitalocean.com/v2/droplets/7/actions: 500 oops. "
        "The API has a problem: see status.digitalocean.com, then run again."
    )


def test_a_connection_lost_while_polling_is_no_end(script: Any, run: Any) -> None:
    sees(script, action(6, "in-progress"))
    for _unused in range(5):
        polls(script, "", answer=requests.exceptions.ConnectionError("unreachable"))
    polls(script, "completed")
    is_rebuilt(script)
    result = run("droplet_rebuild", arguments())
    assert result["changed"] is True
    assert "no answer" in result["progress"][1]


def test_a_poll_that_is_refused_is_the_end(script: Any, run: Any) -> None:
    sees(script, action(6, "in-progress"))
    refusal = {"id": "unauthorized", "message": "Unable to authenticate you"}
    script.expect("GET", f"{ACTIONS}/6", status=401, answer=refusal)
    result = run("droplet_rebuild", arguments())
    assert result["msg"].endswith("Set a valid token in api_token or DIGITALOCEAN_TOKEN.")
    assert result["progress"] == ["0 s: rebuild 6 is in-progress"]


def test_an_action_that_fails(script: Any, run: Any) -> None:
    sees(script, action(6, "in-progress"))
    polls(script, "errored")
    assert run("droplet_rebuild", arguments())["msg"] == (
        "rebuild 6 of droplet 7 failed at DigitalOcean: look at the droplet's console, then run again."
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"distribution": "Ubuntu"}, "vmst-worker-1 runs Debian and the image debian-13-x64 is Ubuntu"),
        ({"regions": ["nyc3"]}, "The image debian-13-x64 is not in the region ams3 of vmst-worker-1"),
        ({"min_disk_size": 50}, "The image debian-13-x64 needs a disk of 50 GiB; vmst-worker-1 has 25."),
    ],
)
def test_refuses_an_image_that_does_not_fit(script: Any, run: Any, image: Any, message: str) -> None:
    sees(script)
    sees_image(script, **image)
    assert run("droplet_rebuild", arguments())["msg"].startswith(message)


def test_an_image_by_id(script: Any, run: Any) -> None:
    sees(script)
    script.expect("GET", "/v2/images/42", answer={"image": {"id": 42, "distribution": "Debian"}})
    assert run("droplet_rebuild", arguments(image="42"), check=True)["droplet"]["image"] == "42"


def test_a_droplet_that_is_not_there(script: Any, run: Any) -> None:
    # pydo hands a 404 on as if it were the answer
    script.expect("GET", DROPLET, status=404, answer={"id": "not_found", "message": "could not be found"})
    result = run("droplet_rebuild", arguments())
    assert result["msg"] == (
        "GET https://api.digitalocean.com/v2/droplets/7: 404 could not be found. "
        "It may have been deleted: check its id or name."
    )
    assert result["failure"]["status"] == 404


def test_a_token_without_the_scope(script: Any, run: Any) -> None:
    sees(script)
    sees_image(script)
    sees(script, first=False)
    refusal = {"id": "forbidden", "message": "You are not authorized to perform this operation"}
    script.expect("POST", ACTIONS, body=BODY, status=403, answer=refusal)
    assert run("droplet_rebuild", arguments())["msg"].endswith(
        "The token lacks a scope: this call needs droplet:update and droplet:admin."
    )


def test_without_pydo(script: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydo", None)
    message = run("droplet_rebuild", arguments())["msg"]
    assert "cannot import pydo" in message
    assert "pip install" in message


def test_pauses_between_tries_count(script: Any, run: Any) -> None:
    for _unused in range(3):
        script.expect("GET", DROPLET, status=503, answer={"id": "down", "message": "down"})
    assert "503 down" in run("droplet_rebuild", arguments(wait_timeout=3))["msg"]
    assert script.sleeps == [0.5, 1.0], "a third pause of 2 s would be one too many"


def test_a_lost_connection_counts(script: Any, run: Any) -> None:
    sees(script, action(6, "in-progress"))
    for _unused in range(3):
        polls(script, "", answer=requests.exceptions.ConnectionError("unreachable"))
    result = run("droplet_rebuild", arguments(wait_timeout=7))
    assert result["msg"].startswith("rebuild 6 is not over after 7 s.")
    assert script.sleeps == [5, 0.5, 1.0]

"""Module load_balancer_members, call by call."""

from __future__ import annotations

from typing import Any

import pytest

PATH = "/v2/load_balancers"
LB = "4de7ac8b-495b-4884-9a69-1050c6793cd6"
TAGGED = "/v2/tags/vmst-lb/resources"


def balancer(*ids: int, **more: Any) -> dict[str, Any]:
    return {
        "id": LB,
        "name": "vmst-lb",
        "ip": "203.0.113.10",
        "status": "active",
        "tag": "vmst-lb",
        "droplet_ids": list(ids),
        **more,
    }


def listed(script: Any, *found: dict[str, Any]) -> None:
    script.expect(
        "GET",
        PATH,
        query={"per_page": "200", "page": "1"},
        answer={"load_balancers": list(found), "meta": {"total": len(found)}},
    )


def shows(script: Any, found: dict[str, Any]) -> None:
    script.expect("GET", f"{PATH}/{LB}", answer={"load_balancer": found})


def resources(identifier: str) -> dict[str, Any]:
    return {"resources": [{"resource_id": identifier, "resource_type": "droplet"}]}


def arguments(**more: Any) -> dict[str, Any]:
    return {"load_balancer": "vmst-lb", **more}


def test_removes_by_the_tag_and_waits(script: Any, run: Any) -> None:
    listed(script, balancer(1, 2, 3))
    script.expect("DELETE", TAGGED, body=resources("2"), status=204)
    shows(script, balancer(1, 2, 3))
    shows(script, balancer(1, 3))
    result = run("load_balancer_members", arguments(droplet_id=2, state="absent", keep=2))
    assert result["changed"] is True
    assert result["members"] == [1, 3]
    assert result["load_balancer"] == {
        "id": LB,
        "name": "vmst-lb",
        "ip": "203.0.113.10",
        "status": "active",
        "tag": "vmst-lb",
    }
    assert result["diff"] == {"before": {"members": [1, 2, 3]}, "after": {"members": [1, 3]}}
    assert script.sleeps == [2]


def test_adds_by_the_tag(script: Any, run: Any) -> None:
    listed(script, balancer(1))
    script.expect("POST", TAGGED, body=resources("2"), status=204)
    shows(script, balancer(1, 2))
    assert run("load_balancer_members", arguments(droplet_id=2))["members"] == [1, 2]


@pytest.mark.parametrize(("state", "method"), [("present", "POST"), ("absent", "DELETE")])
def test_by_list(script: Any, run: Any, state: str, method: str) -> None:
    before, after = ([1, 3], [1, 2, 3]) if state == "present" else ([1, 2, 3], [1, 3])
    listed(script, balancer(name="other", id="x"), balancer(*before, tag=""))
    script.expect(method, f"{PATH}/{LB}/droplets", body={"droplet_ids": [2]}, status=204)
    shows(script, balancer(*after, tag=""))
    result = run("load_balancer_members", {"load_balancer": LB, "droplet_id": 2, "state": state})
    assert result["members"] == after


@pytest.mark.parametrize(("droplet", "state"), [(1, "present"), (9, "absent"), (None, "present")])
def test_changes_nothing_twice(script: Any, run: Any, droplet: int | None, state: str) -> None:
    listed(script, balancer(2, 1))
    given = arguments(state=state) | ({"droplet_id": droplet} if droplet else {})
    result = run("load_balancer_members", given)
    assert (result["changed"], result["members"]) == (False, [1, 2])


def test_check_mode_only_reads(script: Any, run: Any) -> None:
    listed(script, balancer(1, 2))
    result = run("load_balancer_members", arguments(droplet_id=2, state="absent"), check=True)
    assert (result["changed"], result["members"]) == (True, [1])


def test_keeps_enough_members(script: Any, run: Any) -> None:
    listed(script, balancer(1, 2))
    assert run("load_balancer_members", arguments(droplet_id=2, state="absent", keep=2))["msg"] == (
        "Droplet 2 stays behind vmst-lb: without it 1 members would be left, and keep is 2. "
        "Put others back first."
    )


def test_an_api_that_does_not_agree(script: Any, run: Any) -> None:
    listed(script, balancer(1))
    script.expect("POST", TAGGED, body=resources("2"), status=204)
    shows(script, balancer(1))
    shows(script, balancer(1))
    assert run("load_balancer_members", arguments(droplet_id=2, wait_timeout=3))["msg"] == (
        "vmst-lb still lacks droplet 2 after 3 s: look at it in the control panel, then run again."
    )


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "No load balancers are called vmst-lb (the account has: none): give one's name or id."),
        (
            [balancer(), balancer(id="x")],
            "2 load balancers are called vmst-lb (the account has: vmst-lb, vmst-lb): give one's name or id.",
        ),
    ],
)
def test_which_load_balancer(script: Any, run: Any, found: Any, message: str) -> None:
    listed(script, *found)
    assert run("load_balancer_members", arguments())["msg"] == message


def test_repeats_what_can_be_repeated(script: Any, run: Any) -> None:
    listed(script, balancer(1))
    script.expect("POST", TAGGED, body=resources("2"), status=500, answer={"id": "x", "message": "oops"})
    script.expect("POST", TAGGED, body=resources("2"), status=204)
    shows(script, balancer(1, 2))
    assert run("load_balancer_members", arguments(droplet_id=2))["changed"] is True
    assert script.sleeps == [0.5]


def test_refusals(script: Any, run: Any) -> None:
    query = {"per_page": "200", "page": "1"}
    script.expect("GET", PATH, query=query, status=403, answer={"id": "forbidden", "message": "no"})
    result = run("load_balancer_members", arguments())
    assert result["msg"] == (
        f"GET https://api.digitalocean.com{PATH}: 403 no. "
        "The token lacks a scope: this call needs load_balancer:read."
    )
    assert result["failure"]["code"] == "forbidden"

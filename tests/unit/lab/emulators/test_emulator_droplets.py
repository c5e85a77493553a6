"""The emulated DigitalOcean account: droplets, actions, tags, load balancers, paging, limits, restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.emulators.common import grant
from lab.emulators.digitalocean import Limits
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import eventually

Start = Callable[..., Any]

DROPLET = {"region": "nyc3", "size": "s-1vcpu-2gb", "image": "debian-13-x64"}


def create(client: Any, name: str, *tags: str) -> int:
    """Create a droplet and wait until it is active; its id."""
    answer = client.post("/v2/droplets", json={**DROPLET, "name": name, "tags": list(tags)})
    assert answer.status_code == 202, answer.text
    identifier = answer.json()["droplet"]["id"]
    eventually(lambda: droplet(client, identifier)["status"] == "active")
    return int(identifier)


def droplet(client: Any, identifier: int) -> dict[str, Any]:
    return dict(client.get(f"/v2/droplets/{identifier}").json()["droplet"])


def act(client: Any, identifier: int, kind: str, **more: Any) -> Any:
    return client.post(f"/v2/droplets/{identifier}/actions", json={"type": kind, **more})


def finished(client: Any, action: int) -> str:
    """The status of an action that runs no longer."""

    def status() -> str | None:
        found = str(client.get(f"/v2/actions/{action}").json()["action"]["status"])
        return None if found == "in-progress" else found

    return str(eventually(status))


# droplets and actions


def test_a_droplet_is_new_then_active(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    key = client.post("/v2/account/keys", json={"name": "k", "public_key": "ssh-ed25519 AAAAC3Nz me"}).json()
    cloud.pause()
    body = {**DROPLET, "name": "w1", "tags": ["vmst-worker"], "ssh_keys": [key["ssh_key"]["id"]]}
    answer = client.post("/v2/droplets", json=body)
    assert answer.status_code == 202
    made = answer.json()["droplet"]
    assert made["status"] == "new"
    assert made["networks"] == {"v4": [], "v6": []}
    link = answer.json()["links"]["actions"][0]
    assert link["rel"] == "create"
    assert client.get(f"/v2/actions/{link['id']}").json()["action"]["status"] == "in-progress"
    cloud.release()
    assert finished(client, link["id"]) == "completed"
    found = droplet(client, made["id"])
    assert found["status"] == "active"
    assert {n["type"] for n in found["networks"]["v4"]} == {"public", "private"}
    assert found["tags"] == ["vmst-worker"]
    assert cloud.droplets[made["id"]].ssh_keys == ("ssh-ed25519 AAAAC3Nz me",)
    assert cloud.droplets[made["id"]].image == "debian-13-x64"


def test_several_droplets_at_once(ocean: Start) -> None:
    client = ocean()
    answer = client.post("/v2/droplets", json={**DROPLET, "names": ["a", "b", "c"]}).json()
    assert [d["name"] for d in answer["droplets"]] == ["a", "b", "c"]
    assert len({d["id"] for d in answer["droplets"]}) == 3
    assert len(answer["links"]["actions"]) == 3
    for link in answer["links"]["actions"]:
        assert finished(client, link["id"]) == "completed"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": "s-nope"}, "size"),
        ({"image": "debian-99"}, "image"),
        ({"region": "moon1"}, "region"),
        ({"name": "a b"}, "hostname"),
        ({"name": ""}, "blank"),
        ({"tags": ["no spaces"]}, "tag"),
        ({"ssh_keys": [1]}, "key"),
        ({"vpc_uuid": "5a4981aa-9653-4bd1-bef5-d6bff52042e4"}, "VPC"),
        ({"user_data": "x" * 70000}, "64"),
        ({"names": [f"n{i}" for i in range(11)]}, "10"),
    ],
)
def test_a_droplet_that_can_not_be(
    ocean: Start, cloud: MemoryCloud, change: dict[str, Any], says: str
) -> None:
    client = ocean()
    answer = client.post("/v2/droplets", json={**DROPLET, "name": "w1", **change})
    assert answer.status_code == 422
    assert answer.json()["id"] == "unprocessable_entity"
    assert says in answer.json()["message"]
    assert client.get("/v2/droplets").json()["droplets"] == []
    assert cloud.calls == []


def test_a_pending_event_refuses_the_next(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    identifier = create(client, "w1")
    cloud.pause()
    first = act(client, identifier, "reboot")
    assert first.status_code == 201
    for answer in (
        act(client, identifier, "rebuild", image="debian-13-x64"),
        client.delete(f"/v2/droplets/{identifier}"),
    ):
        assert answer.status_code == 422
        assert answer.json()["message"] == "Droplet already has a pending event."
    cloud.release()
    assert finished(client, first.json()["action"]["id"]) == "completed"
    again = act(client, identifier, "rebuild", image="debian-12-x64")
    assert again.status_code == 201
    assert finished(client, again.json()["action"]["id"]) == "completed"
    assert droplet(client, identifier)["image"]["slug"] == "debian-12-x64"


def test_rebuild_keeps_the_addresses(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    identifier = create(client, "w1")
    before = droplet(client, identifier)["networks"]
    action = act(client, identifier, "rebuild", image=195932981).json()["action"]
    assert finished(client, action["id"]) == "completed"
    assert droplet(client, identifier)["networks"] == before
    assert ("rebuild_droplet", identifier, "debian-13-x64") in cloud.calls


def test_rebuild_needs_a_known_image(ocean: Start) -> None:
    client = ocean()
    identifier = create(client, "w1")
    assert act(client, identifier, "rebuild").status_code == 422
    assert act(client, identifier, "rebuild", image="nope").status_code == 422


def test_an_action_that_fails_is_errored(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    identifier = create(client, "w1")
    cloud.fail["reboot_droplet"] = "no such container"
    action = act(client, identifier, "reboot").json()["action"]
    assert finished(client, action["id"]) == "errored"
    assert act(client, identifier, "reboot").status_code == 201


def test_power(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    identifier = create(client, "w1")
    off = act(client, identifier, "shutdown").json()["action"]
    assert finished(client, off["id"]) == "completed"
    assert droplet(client, identifier)["status"] == "off"
    assert ("power_droplet", identifier, False, True) in cloud.calls
    assert act(client, identifier, "reboot").status_code == 422
    on = act(client, identifier, "power_on").json()["action"]
    assert finished(client, on["id"]) == "completed"
    assert droplet(client, identifier)["status"] == "active"


def test_actions_the_lab_has_not_are_refused(ocean: Start) -> None:
    client = ocean()
    identifier = create(client, "w1")
    for kind in ("snapshot", "restore", "rebiuld", None):
        assert act(client, identifier, kind).status_code == 422, kind  # type: ignore[arg-type]


def test_actions_by_tag_know_no_rebuild(ocean: Start) -> None:
    client = ocean()
    create(client, "w1", "web")
    create(client, "w2", "web")
    path = "/v2/droplets/actions?tag_name=web"
    assert client.post(path, json={"type": "rebuild", "image": "debian-13-x64"}).status_code == 422
    answer = client.post(path, json={"type": "power_off"})
    assert answer.status_code == 201
    assert len(answer.json()["actions"]) == 2


def test_the_watch_sees_a_machine_that_stopped_by_itself(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean(watch_seconds=0.02)
    identifier = create(client, "w1")
    cloud.running.clear()
    eventually(lambda: droplet(client, identifier)["status"] == "off")
    cloud.running.add(identifier)
    eventually(lambda: droplet(client, identifier)["status"] == "active")


def test_delete(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    identifier = create(client, "w1")
    assert client.delete(f"/v2/droplets/{identifier}").status_code == 204
    answer = client.get(f"/v2/droplets/{identifier}")
    assert answer.status_code == 404
    assert answer.json()["id"] == "not_found"
    eventually(lambda: ("delete_droplet", identifier) in cloud.calls)


def test_delete_by_tag(ocean: Start) -> None:
    client = ocean()
    create(client, "w1", "old")
    create(client, "w2", "old")
    left = create(client, "w3")
    assert client.delete("/v2/droplets?tag_name=old").status_code == 204
    assert [d["id"] for d in client.get("/v2/droplets").json()["droplets"]] == [left]
    assert client.delete("/v2/droplets?tag_name=old").status_code == 404


# lists


def test_paging(ocean: Start) -> None:
    client = ocean(synthetic_droplets=450)
    seen = []
    for page, rels in ((1, {"next", "last"}), (2, {"first", "prev", "next", "last"}), (3, {"first", "prev"})):
        body = client.get(f"/v2/droplets?per_page=200&page={page}").json()
        assert body["meta"] == {"total": 450}
        assert set(body["links"]["pages"]) == rels
        seen += [d["id"] for d in body["droplets"]]
    assert len(seen) == len(set(seen)) == 450
    assert client.get("/v2/droplets?per_page=200&page=4").json()["droplets"] == []


def test_a_page_has_twenty_and_at_most_two_hundred(ocean: Start) -> None:
    client = ocean(synthetic_droplets=450)
    assert len(client.get("/v2/droplets").json()["droplets"]) == 20
    assert len(client.get("/v2/droplets?per_page=1000").json()["droplets"]) == 200


def test_links_of_pages_keep_the_filter_and_can_be_followed(ocean: Start) -> None:
    client = ocean(synthetic_droplets=50)
    url, names = "/v2/droplets?tag_name=vmst-worker&per_page=20", []
    while url:
        body = client.get(url).json()
        names += [d["name"] for d in body["droplets"]]
        url = body["links"].get("pages", {}).get("next")
    assert len(names) == 49
    assert "vmst-exec-0" not in names


def test_a_single_page_has_no_links(ocean: Start) -> None:
    body = ocean().get("/v2/droplets").json()
    assert body == {"droplets": [], "links": {}, "meta": {"total": 0}}


def test_filters(ocean: Start) -> None:
    client = ocean()
    first = create(client, "W1", "web")
    create(client, "w2")
    assert [d["id"] for d in client.get("/v2/droplets?tag_name=web").json()["droplets"]] == [first]
    assert [d["id"] for d in client.get("/v2/droplets?name=w1").json()["droplets"]] == [first]
    assert client.get("/v2/droplets?tag_name=none").json()["droplets"] == []
    assert client.get("/v2/droplets?tag_name=web&name=w1").status_code == 422
    assert client.get("/v2/droplets?type=gpus").json()["droplets"] == []


# tokens and limits


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic all", "all"])
def test_no_or_a_wrong_token(ocean: Start, header: str) -> None:
    answer = ocean().get("/v2/droplets", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json() == {"id": "unauthorized", "message": "Unable to authenticate you."}


def test_a_token_may_only_what_its_scopes_say(ocean: Start) -> None:
    client = ocean(tokens=grant(reader=["droplet:read", "tag:read"]))
    create(client, "w1", "web")
    reader = {"authorization": "Bearer reader"}
    found = client.get("/v2/droplets?tag_name=web", headers=reader)
    assert found.status_code == 200
    assert found.json()["droplets"][0]["tags"] == ["web"]
    refused = client.post("/v2/droplets", json={**DROPLET, "name": "w2"}, headers=reader)
    assert refused.status_code == 403
    assert refused.json()["id"] == "forbidden"


def test_fields_that_a_token_may_not_read_are_hidden(ocean: Start) -> None:
    client = ocean(tokens=grant(narrow=["droplet:read"]))
    create(client, "w1", "web")
    narrow = {"authorization": "Bearer narrow"}
    found = client.get("/v2/droplets", headers=narrow).json()["droplets"][0]
    assert found["tags"] == []
    assert found["image"] == {}
    assert "vpc_uuid" not in found
    assert client.get("/v2/droplets?tag_name=web", headers=narrow).status_code == 403


def test_the_burst_limit_says_when_to_come_back(ocean: Start) -> None:
    client = ocean(limits=Limits(per_minute=3, per_hour=100))
    for left in (99, 98, 97):
        answer = client.get("/v2/account")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-limit"] == "100"
        assert answer.headers["ratelimit-remaining"] == str(left)
    answer = client.get("/v2/account")
    assert answer.status_code == 429
    assert answer.json()["id"] == "too_many_requests"
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_the_hourly_limit_does_not(ocean: Start) -> None:
    client = ocean(limits=Limits(per_minute=100, per_hour=1))
    client.get("/v2/account")
    answer = client.get("/v2/account")
    assert answer.status_code == 429
    assert "retry-after" not in answer.headers
    assert answer.headers["ratelimit-remaining"] == "0"
    assert int(answer.headers["ratelimit-reset"]) > 0


def test_an_unknown_path_and_method(ocean: Start) -> None:
    client = ocean()
    assert client.get("/v2/nothing").status_code == 404
    answer = client.put("/v2/droplets", json={})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, POST"


# tags and load balancers

RULE = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}


def balance(client: Any, **settings: Any) -> str:
    body = {"name": "lb", "region": "nyc3", "forwarding_rules": [RULE], **settings}
    answer = client.post("/v2/load_balancers", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["load_balancer"]["status"] == "new"
    identifier = str(answer.json()["load_balancer"]["id"])
    eventually(lambda: lb(client, identifier)["status"] == "active")
    return identifier


def lb(client: Any, identifier: str) -> dict[str, Any]:
    return dict(client.get(f"/v2/load_balancers/{identifier}").json()["load_balancer"])


def members(cloud: MemoryCloud, identifier: str) -> set[str]:
    return {member.name for member in cloud.load_balancers.get(identifier, [])}


def tag(client: Any, verb: str, name: str, *droplets: int) -> int:
    body = {"resources": [{"resource_id": str(d), "resource_type": "droplet"} for d in droplets]}
    return int(client.request(verb, f"/v2/tags/{name}/resources", json=body).status_code)


def test_a_load_balancer_follows_its_tag(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    first, second = create(client, "w1", "vmst-lb"), create(client, "w2", "vmst-lb")
    third = create(client, "w3")
    identifier = balance(client, tag="vmst-lb")
    assert lb(client, identifier)["ip"]
    assert lb(client, identifier)["droplet_ids"] == [first, second]
    assert members(cloud, identifier) == {"w1", "w2"}
    assert tag(client, "DELETE", "vmst-lb", first) == 204
    eventually(lambda: members(cloud, identifier) == {"w2"})
    assert tag(client, "POST", "vmst-lb", first, third) == 204
    eventually(lambda: members(cloud, identifier) == {"w1", "w2", "w3"})
    client.delete(f"/v2/droplets/{second}")
    eventually(lambda: members(cloud, identifier) == {"w1", "w3"})
    create(client, "w4", "vmst-lb")
    eventually(lambda: members(cloud, identifier) == {"w1", "w3", "w4"})
    assert client.delete("/v2/tags/vmst-lb").status_code == 204
    eventually(lambda: members(cloud, identifier) == set())


def test_other_tags_leave_a_load_balancer_alone(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    first = create(client, "w1", "vmst-lb")
    client.post("/v2/tags", json={"name": "other"})
    balance(client, tag="vmst-lb")
    applied = [call for call in cloud.calls if call[0] == "apply_load_balancer"]
    tag(client, "POST", "other", first)
    create(client, "w2", "other")
    assert [call for call in cloud.calls if call[0] == "apply_load_balancer"] == applied


def test_changes_during_an_application_are_applied_once_more(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    droplets = [create(client, f"w{i}", "vmst-lb") for i in range(4)]
    identifier = balance(client, tag="vmst-lb")
    before = len(cloud.calls)
    cloud.pause()
    for one in droplets[:3]:
        tag(client, "DELETE", "vmst-lb", one)
    cloud.release()
    eventually(lambda: members(cloud, identifier) == {"w3"})
    applied = [call for call in cloud.calls[before:] if call[0] == "apply_load_balancer"]
    assert applied[-1][2] == [droplets[3]]
    assert len(applied) == 2


def test_a_stranger_in_a_list_of_resources_changes_nothing(ocean: Start) -> None:
    client = ocean()
    first = create(client, "w1")
    client.post("/v2/tags", json={"name": "web"})
    assert tag(client, "POST", "web", first, 1) == 404
    assert droplet(client, first)["tags"] == []


def test_a_tagged_load_balancer_takes_no_single_droplets(ocean: Start) -> None:
    client = ocean()
    first = create(client, "w1", "vmst-lb")
    identifier = balance(client, tag="vmst-lb")
    path = f"/v2/load_balancers/{identifier}/droplets"
    assert client.post(path, json={"droplet_ids": [first]}).status_code == 422
    assert client.request("DELETE", path, json={"droplet_ids": [first]}).status_code == 422


def test_a_load_balancer_of_single_droplets(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    first, second = create(client, "w1"), create(client, "w2")
    identifier = balance(client, droplet_ids=[first])
    path = f"/v2/load_balancers/{identifier}/droplets"
    assert client.post(path, json={"droplet_ids": [second]}).status_code == 204
    eventually(lambda: members(cloud, identifier) == {"w1", "w2"})
    assert client.request("DELETE", path, json={"droplet_ids": [first]}).status_code == 204
    eventually(lambda: members(cloud, identifier) == {"w2"})
    assert lb(client, identifier)["droplet_ids"] == [second]


def test_an_update_replaces_the_whole(ocean: Start) -> None:
    client = ocean()
    create(client, "w1", "vmst-lb")
    check = {"protocol": "http", "port": 8080, "path": "/health", "check_interval_seconds": 3}
    identifier = balance(client, tag="vmst-lb", health_check=check, enable_proxy_protocol=True)
    assert lb(client, identifier)["health_check"]["unhealthy_threshold"] == 5
    body = {"name": "lb", "region": "nyc3", "tag": "vmst-lb", "forwarding_rules": [RULE]}
    answer = client.put(f"/v2/load_balancers/{identifier}", json=body)
    assert answer.status_code == 200
    found = lb(client, identifier)
    assert found["enable_proxy_protocol"] is False
    assert found["health_check"]["port"] == 80
    assert found["health_check"]["path"] == "/"
    # and without tag or droplet_ids nobody is left
    client.put(f"/v2/load_balancers/{identifier}", json={**body, "tag": ""})
    assert lb(client, identifier)["droplet_ids"] == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tag": "web", "droplet_ids": "ID"}, "both"),
        ({"forwarding_rules": []}, "rule"),
        ({"forwarding_rules": [RULE, RULE]}, "twice"),
        (
            {"forwarding_rules": [{**RULE, "entry_protocol": "https", "target_protocol": "http"}]},
            "certificate",
        ),
        ({"forwarding_rules": [{**RULE, "entry_port": 0}]}, "entry_port"),
        ({"droplet_ids": [1]}, "does not exist"),
        ({"http_idle_timeout_seconds": 3600}, "http_idle_timeout"),
        ({"health_check": {"intervall": 1}}, "intervall"),
        ({"region": "moon1"}, "region"),
    ],
)
def test_a_load_balancer_that_can_not_be(ocean: Start, change: dict[str, Any], says: str) -> None:
    client = ocean()
    identifier = create(client, "w1", "web")
    change = {key: [identifier] if value == "ID" else value for key, value in change.items()}
    body = {"name": "lb", "region": "nyc3", "forwarding_rules": [RULE], "tag": "", **change}
    answer = client.post("/v2/load_balancers", json=body)
    assert answer.status_code == 422
    assert says in answer.json()["message"]
    assert client.get("/v2/load_balancers").json()["load_balancers"] == []


def test_a_deleted_load_balancer_does_not_come_back(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    first = create(client, "w1", "vmst-lb")
    identifier = balance(client, tag="vmst-lb")
    cloud.pause()
    tag(client, "DELETE", "vmst-lb", first)
    assert client.delete(f"/v2/load_balancers/{identifier}").status_code == 204
    cloud.release()
    eventually(lambda: ("delete_load_balancer", identifier) in cloud.calls)
    assert cloud.calls[-1] == ("delete_load_balancer", identifier)
    assert identifier not in cloud.load_balancers


def test_tags_count_what_has_them(ocean: Start) -> None:
    client = ocean()
    identifier = create(client, "w1", "web")
    found = client.get("/v2/tags/web").json()["tag"]
    assert found["resources"]["droplets"]["count"] == 1
    assert found["resources"]["droplets"]["last_tagged_uri"].endswith(f"/droplets/{identifier}")
    assert client.post("/v2/tags", json={"name": "a b"}).status_code == 422


# restart


def test_a_restart_remembers_and_goes_on_counting(ocean: Start, cloud: MemoryCloud, tmp_path: Path) -> None:
    first = ocean(state=tmp_path)
    identifier = create(first, "w1", "vmst-lb")
    balancer = balance(first, tag="vmst-lb")
    before = droplet(first, identifier)
    again = ocean(state=tmp_path)
    assert droplet(again, identifier) == before
    assert lb(again, balancer)["droplet_ids"] == [identifier]
    assert create(again, "w2") == identifier + 1


def test_what_was_under_way_is_finished_after_a_restart(
    ocean: Start, cloud: MemoryCloud, tmp_path: Path
) -> None:
    dead = ocean(state=tmp_path)
    running = create(dead, "w1", "vmst-lb")
    cloud.pause()  # its jobs never end: as if it were killed now
    action = act(dead, running, "rebuild", image="debian-12-x64").json()["action"]["id"]
    made = dead.post("/v2/droplets", json={**DROPLET, "name": "w2", "tags": ["vmst-lb"]}).json()
    body = {"name": "lb", "region": "nyc3", "forwarding_rules": [RULE], "tag": "vmst-lb"}
    balancer = dead.post("/v2/load_balancers", json=body).json()["load_balancer"]["id"]
    other = MemoryCloud()
    other.addresses = dict(cloud.addresses)
    alive = ocean(state=tmp_path, cloud=other)
    assert finished(alive, action) == "completed"
    assert finished(alive, made["links"]["actions"][0]["id"]) == "completed"
    assert droplet(alive, running)["image"]["slug"] == "debian-12-x64"
    eventually(lambda: {m.name for m in other.load_balancers.get(balancer, [])} == {"w1", "w2"})
    assert lb(alive, balancer)["status"] == "active"
    cloud.release()


def test_a_delete_that_failed_is_done_after_a_restart(
    ocean: Start, cloud: MemoryCloud, tmp_path: Path
) -> None:
    first = ocean(state=tmp_path, retry_seconds=())
    identifier = create(first, "w1")
    cloud.fail["delete_droplet"] = "the engine is away"
    first.delete(f"/v2/droplets/{identifier}")
    eventually(lambda: ("delete_droplet", identifier) in cloud.calls)
    assert identifier in cloud.droplets
    ocean(state=tmp_path)
    eventually(lambda: identifier not in cloud.droplets)


def test_a_load_balancer_is_tried_again(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean(retry_seconds=(0.01,))
    create(client, "w1", "vmst-lb")
    cloud.fail["apply_load_balancer"] = "the engine is away"
    identifier = balance(client, tag="vmst-lb")
    assert members(cloud, identifier) == {"w1"}
    assert [call[0] for call in cloud.calls].count("apply_load_balancer") == 2


def test_what_keeps_failing_is_shown(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean(retry_seconds=())
    cloud.fail["apply_load_balancer"] = "the engine is away"
    body = {"name": "lb", "region": "nyc3", "forwarding_rules": [RULE], "tag": "vmst-lb"}
    identifier = client.post("/v2/load_balancers", json=body).json()["load_balancer"]["id"]
    eventually(lambda: lb(client, identifier)["status"] == "errored")


def test_synthetic_droplets_are_not_kept(ocean: Start, tmp_path: Path) -> None:
    client = ocean(state=tmp_path, synthetic_droplets=3)
    client.post("/v2/tags", json={"name": "x"})
    assert client.get("/v2/droplets").json()["meta"]["total"] == 3
    assert ocean(state=tmp_path).get("/v2/droplets").json()["meta"]["total"] == 0

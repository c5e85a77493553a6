"""The DigitalOcean emulator through pydo, every exchange held against the vendor's document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import eventually

Ocean = Callable[..., Any]

DROPLET = {"region": "nyc3", "size": "s-2vcpu-4gb", "image": "debian-13-x64"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbVDTmpE7Jk9QmpmYAfFFFA1hX2DbCjKSKyeOMdXYFQ me"
RULE = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}


def done(client: Any, action: int) -> str:
    def status() -> str | None:
        found = str(client.actions.get(action)["action"]["status"])
        return None if found == "in-progress" else found

    return str(eventually(status))


def test_the_catalogue(ocean: Ocean) -> None:
    client = ocean()
    assert client.account.get()["account"]["status"] == "active"
    assert "nyc3" in {region["slug"] for region in client.regions.list()["regions"]}
    assert client.sizes.list(per_page=200)["sizes"]
    images = client.images.list(type="distribution")["images"]
    assert {"debian-12-x64", "debian-13-x64"} <= {image["slug"] for image in images}
    assert client.images.get(images[0]["id"])["image"] == images[0]
    assert client.databases.list_options()["options"]["pg"]["versions"]
    assert client.projects.get_default()["project"]["is_default"]


def test_a_droplets_life(ocean: Ocean) -> None:
    client = ocean()
    key = client.ssh_keys.create({"name": "me", "public_key": KEY})["ssh_key"]
    body = {**DROPLET, "name": "w1", "tags": ["vmst-worker"], "ssh_keys": [key["fingerprint"]]}
    made = client.droplets.create(body)
    identifier = made["droplet"]["id"]
    assert done(client, made["links"]["actions"][0]["id"]) == "completed"
    found = client.droplets.list(tag_name="vmst-worker", per_page=200, page=2)
    assert found["meta"]["total"] == 250
    for change in (
        {"type": "rebuild", "image": "debian-13-x64"},
        {"type": "power_off"},
        {"type": "power_on"},
        {"type": "reboot"},
        {"type": "rename", "name": "w9"},
    ):
        action = client.droplet_actions.post(identifier, change)["action"]
        assert done(client, action["id"]) == "completed"
        assert client.droplet_actions.get(identifier, action["id"])["action"]["type"] == change["type"]
    assert client.droplets.get(identifier)["droplet"]["name"] == "w9"
    assert client.droplet_actions.list(identifier)["meta"]["total"] == 6
    assert client.ssh_keys.get(key["fingerprint"])["ssh_key"] == key
    assert client.droplets.destroy(identifier) is None
    # pydo does not raise on 404: it gives the refusal
    assert client.droplets.get(identifier)["id"] == "not_found"


def test_many_droplets_are_paged(ocean: Ocean) -> None:
    client = ocean()
    first = client.droplets.list(per_page=200)
    assert len(first["droplets"]) == 200
    assert first["links"]["pages"]["next"].endswith("page=2&per_page=200")
    assert len(client.droplets.list(per_page=200, page=2)["droplets"]) == 50


def test_a_pending_event(ocean: Ocean, cloud: MemoryCloud) -> None:
    client = ocean()
    made = client.droplets.create({**DROPLET, "name": "w1"})
    assert done(client, made["links"]["actions"][0]["id"]) == "completed"
    cloud.pause()
    body = {"type": "reboot"}
    client.droplet_actions.post(made["droplet"]["id"], body)
    with pytest.raises(HttpResponseError, match="pending event") as raised:
        client.droplet_actions.post(made["droplet"]["id"], body)
    assert raised.value.status_code == 422
    cloud.release()


def test_refusals_are_in_the_document_too(ocean: Ocean) -> None:
    with pytest.raises(ClientAuthenticationError):
        ocean("wrong").droplets.list()
    with pytest.raises(HttpResponseError) as raised:
        ocean("reader").load_balancers.list()
    assert raised.value.status_code == 403
    assert ocean("reader").droplets.list(tag_name="vmst-exec")["meta"]["total"] == 1
    with pytest.raises(HttpResponseError, match="size") as raised:
        ocean().droplets.create({**DROPLET, "name": "w1", "size": "s-nope"})
    assert raised.value.status_code == 422


def test_a_load_balancer_and_its_tag(ocean: Ocean, cloud: MemoryCloud) -> None:
    client = ocean()
    made = client.droplets.create({**DROPLET, "names": ["w1", "w2"], "tags": ["vmst-lb"]})
    for link in made["links"]["actions"]:
        assert done(client, link["id"]) == "completed"
    check = {"protocol": "http", "port": 8080, "path": "/health", "check_interval_seconds": 3}
    body = {
        "name": "vmst",
        "region": "nyc3",
        "tag": "vmst-lb",
        "forwarding_rules": [RULE],
        "health_check": check,
        "enable_proxy_protocol": True,
    }
    identifier = client.load_balancers.create(body)["load_balancer"]["id"]

    def active() -> Any:
        found = client.load_balancers.get(identifier)["load_balancer"]
        return found if found["status"] == "active" else None

    found = eventually(active)
    assert found["droplet_ids"] == [droplet["id"] for droplet in made["droplets"]]
    resource = {"resource_id": str(made["droplets"][0]["id"]), "resource_type": "droplet"}
    client.tags.unassign_resources("vmst-lb", {"resources": [resource]})
    eventually(lambda: [member.name for member in cloud.load_balancers[identifier]] == ["w2"])
    with pytest.raises(HttpResponseError) as raised:
        client.load_balancers.add_droplets(identifier, {"droplet_ids": [made["droplets"][0]["id"]]})
    assert raised.value.status_code == 422
    client.tags.assign_resources("vmst-lb", {"resources": [resource]})
    updated = client.load_balancers.update(identifier, {**body, "health_check": {"port": 81}})
    assert updated["load_balancer"]["health_check"]["path"] == "/"
    assert client.load_balancers.list()["meta"]["total"] == 1
    assert client.tags.get("vmst-lb")["tag"]["resources"]["droplets"]["count"] == 2
    client.load_balancers.delete(identifier)
    assert client.load_balancers.get(identifier)["id"] == "not_found"


def test_databases(ocean: Ocean) -> None:
    client = ocean()
    body = {"name": "vmst-pg", "engine": "pg", "region": "nyc3", "size": "db-s-1vcpu-2gb", "num_nodes": 1}
    pg = client.databases.create_cluster({**body, "version": "17", "tags": ["vmst"]})["database"]["id"]

    def online() -> bool:
        return bool(client.databases.get_cluster(pg)["database"]["status"] == "online")

    eventually(online)
    assert client.databases.add(pg, {"name": "mastodon"})["db"]["name"] == "mastodon"
    user = client.databases.add_user(pg, {"name": "mastodon"})["user"]
    pool = {"name": "mastodon-pool", "mode": "transaction", "size": 20, "db": "mastodon", "user": "mastodon"}
    made = client.databases.add_connection_pool(pg, pool)["pool"]
    assert made["connection"]["password"] == user["password"]
    change = {"mode": "transaction", "size": 15, "db": "mastodon", "user": "mastodon"}
    assert client.databases.update_connection_pool(pg, "mastodon-pool", change) is None
    assert client.databases.get_connection_pool(pg, "mastodon-pool")["pool"]["size"] == 15
    assert client.databases.get_ca(pg)["ca"]["certificate"]
    rules = {"rules": [{"type": "tag", "value": "vmst-worker"}]}
    client.databases.update_firewall_rules(pg, rules)
    assert client.databases.list_firewall_rules(pg)["rules"][0]["value"] == "vmst-worker"
    assert client.databases.list_clusters(tag_name="vmst")["databases"][0]["id"] == pg
    assert client.databases.reset_auth(pg, "mastodon", {})["user"]["password"] != user["password"]
    client.databases.patch_config(pg, {"config": {"timezone": "Europe/Berlin"}})
    assert client.databases.get_config(pg)["config"]["timezone"] == "Europe/Berlin"
    client.databases.update_cluster_size(pg, {"size": "db-s-2vcpu-4gb", "num_nodes": 1})
    client.databases.update_maintenance_window(pg, {"day": "monday", "hour": "03:00"})
    eventually(online)
    for listed in (
        client.databases.list(pg)["dbs"],
        client.databases.list_users(pg)["users"],
        client.databases.list_connection_pools(pg)["pools"],
        client.databases.list_events_logs(pg)["events"],
    ):
        assert listed
    assert client.databases.list_backups(pg)["backups"] == []
    client.databases.delete_connection_pool(pg, "mastodon-pool")
    client.databases.delete_user(pg, "mastodon")
    client.databases.delete(pg, "mastodon")
    client.databases.destroy_cluster(pg)
    assert client.databases.get_cluster(pg)["id"] == "not_found"


def test_valkey_and_no_redis(ocean: Ocean) -> None:
    client = ocean()
    body = {
        "name": "vmst-valkey",
        "engine": "valkey",
        "region": "nyc3",
        "size": "db-s-1vcpu-1gb",
        "num_nodes": 1,
    }
    valkey = client.databases.create_cluster(body)["database"]["id"]
    eventually(lambda: client.databases.get_cluster(valkey)["database"]["status"] == "online")
    client.databases.update_eviction_policy(valkey, {"eviction_policy": "noeviction"})
    assert client.databases.get_eviction_policy(valkey)["eviction_policy"] == "noeviction"
    client.databases.patch_config(valkey, {"config": {"valkey_timeout": 0}})
    assert client.databases.get_config(valkey)["config"]["valkey_timeout"] == 0
    with pytest.raises(HttpResponseError, match="no longer supported"):
        client.databases.create_cluster({**body, "name": "old", "engine": "redis"})


def test_networks_and_firewalls(ocean: Ocean) -> None:
    client = ocean()
    vpc = client.vpcs.create({"name": "mine", "region": "nyc3", "ip_range": "10.9.0.0/24"})["vpc"]
    client.vpcs.patch(vpc["id"], {"description": "x"})
    assert client.vpcs.get(vpc["id"])["vpc"]["description"] == "x"
    assert client.vpcs.list_members(vpc["id"])["members"] == []
    client.vpcs.delete(vpc["id"])
    default = client.vpcs.list()["vpcs"][0]["id"]
    with pytest.raises(HttpResponseError) as raised:
        client.vpcs.delete(default)
    assert raised.value.status_code == 403
    client.tags.create({"name": "vmst-web"})
    body = {
        "name": "vmst",
        "tags": ["vmst-web"],
        "inbound_rules": [{"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}],
        "outbound_rules": [{"protocol": "tcp", "ports": "all", "destinations": {"addresses": ["::/0"]}}],
    }
    firewall = client.firewalls.create(body)["firewall"]["id"]
    eventually(lambda: client.firewalls.get(firewall)["firewall"]["status"] == "succeeded")
    client.firewalls.update(firewall, {**body, "tags": []})
    client.firewalls.add_tags(firewall, {"tags": ["vmst-web"]})
    client.firewalls.delete_tags(firewall, {"tags": ["vmst-web"]})
    assert client.firewalls.list()["meta"]["total"] == 1
    client.firewalls.delete(firewall)


def test_storage(ocean: Ocean, raw_ocean: httpx.Client) -> None:
    client = ocean()
    made = client.cdn.create_endpoint({"origin": "media.ams3.digitaloceanspaces.com", "ttl": 3600})
    endpoint = made["endpoint"]["id"]
    client.cdn.update_endpoints(endpoint, {"ttl": 600})
    assert client.cdn.get_endpoint(endpoint)["endpoint"]["ttl"] == 600
    client.cdn.purge_cache(endpoint, {"files": ["*"]})
    client.cdn.delete_endpoint(endpoint)
    body = {"name": "media", "grants": [{"bucket": "media", "permission": "readwrite"}]}
    key = client.spaces_key.create(body)["key"]
    assert client.spaces_key.list()["keys"][0]["access_key"] == key["access_key"]
    for path in (f"/v2/spaces/keys/{key['access_key']}", "/v2/certificates", "/v2/snapshots", "/v2/tags"):
        assert raw_ocean.get(path).status_code == 200, path
    client.spaces_key.delete(key["access_key"])


# What a client sends wrong never reaches the account.


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v2/droplets?per_page=500", None),
        ("GET", "/v2/droplets?page=0", None),
        ("GET", "/v2/droplets?type=gpu", None),
        ("GET", "/v2/droplets/w1", None),
        ("GET", "/v2/dorplets", None),
        ("POST", "/v2/droplets", {**DROPLET, "nmae": "w1"}),
        ("POST", "/v2/droplets", {**DROPLET, "name": "a b"}),
        ("POST", "/v2/droplets", {**DROPLET, "name": "w1", "tags": "web"}),
        ("POST", "/v2/droplets/400000000/actions", {"type": "rebiuld"}),
        ("POST", "/v2/droplets/400000000/actions", {"type": "rebuild", "imgae": "debian-13-x64"}),
        ("POST", "/v2/droplets/400000000/actions", {"type": "rebuild", "image": {}}),
        ("POST", "/v2/tags", {"name": "a b"}),
        ("POST", "/v2/tags/web/resources", {"resources": [{"resource_id": "1", "resource_type": "dorplet"}]}),
        ("POST", "/v2/load_balancers", {"name": "lb", "region": "nyc3", "tag": "web"}),
        (
            "POST",
            "/v2/load_balancers",
            {
                "name": "lb",
                "region": "nyc3",
                "tag": "web",
                "forwarding_rules": [{**RULE, "entry_protocol": "ftp"}],
            },
        ),
        (
            "POST",
            "/v2/databases",
            {"name": "pg", "engine": "postgres", "num_nodes": 1, "size": "s", "region": "nyc3"},
        ),
        ("PUT", "/v2/databases/9cc10173-e9ea-4176-9dbc-a4cee4c4ff30/firewall", {"rules": [{"type": "tags"}]}),
        (
            "POST",
            "/v2/databases/9cc10173-e9ea-4176-9dbc-a4cee4c4ff30/pools",
            {"name": "pool", "mode": "transaction", "size": 1},
        ),
    ],
)
def test_a_malformed_call_is_caught(closed_ocean: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = closed_ocean.request(method, path, json=body)
    assert answer.status_code == 500, answer.text
    assert answer.json()["id"] == "contract_violation"
    assert "request breaks digitalocean-fixed.json" in answer.json()["message"]

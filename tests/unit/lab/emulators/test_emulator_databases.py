"""The emulated DigitalOcean account: database clusters, VPCs, firewalls, storage."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab.emulators.common import grant
from lab.emulators.digitalocean import Limits
from lab.emulators.memory_cloud import CA, MemoryCloud
from lab.emulators.testing import eventually
from lab.pki import Authority

Start = Callable[..., Any]

CLUSTER = {"region": "nyc3", "size": "db-s-1vcpu-1gb", "num_nodes": 1}


def cluster(client: Any, name: str = "vmst-pg", engine: str = "pg") -> str:
    """Create a cluster and wait until it is online; its path."""
    answer = client.post("/v2/databases", json={**CLUSTER, "name": name, "engine": engine})
    assert answer.status_code == 201, answer.text
    assert answer.json()["database"]["status"] == "creating"
    path = f"/v2/databases/{answer.json()['database']['id']}"
    eventually(lambda: client.get(path).json()["database"]["status"] == "online")
    return path


POOL = {"name": "mastodon-pool", "mode": "transaction", "size": 10, "db": "mastodon", "user": "mastodon"}


def filled(client: Any) -> str:
    path = cluster(client)
    assert client.post(f"{path}/dbs", json={"name": "mastodon"}).status_code == 201
    assert client.post(f"{path}/users", json={"name": "mastodon"}).status_code == 201
    assert client.post(f"{path}/pools", json=POOL).status_code == 201
    return path


def test_a_cluster_is_not_there_before_it_is_online(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    cloud.pause()
    made = client.post("/v2/databases", json={**CLUSTER, "name": "vmst-pg", "engine": "pg"}).json()
    path = f"/v2/databases/{made['database']['id']}"
    assert "connection" not in made["database"]
    assert client.get(f"{path}/ca").status_code == 412
    assert client.post(f"{path}/dbs", json={"name": "x"}).status_code == 412
    cloud.release()
    eventually(lambda: client.get(path).json()["database"]["status"] == "online")
    connection = client.get(path).json()["database"]["private_connection"]
    assert connection["host"] == "private-vmst-pg.db.lab.internal"
    assert connection["port"] == 25060
    assert connection["ssl"] is True
    assert connection["password"] in connection["uri"]


def test_dbs_users_and_pools_reach_the_cloud_before_the_answer(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    path = filled(client)
    state = cloud.databases[path.rsplit("/", 1)[1]]
    assert state.dbs == ("mastodon",)
    user = client.get(f"{path}/users/mastodon").json()["user"]
    assert state.users == {"mastodon": user["password"]}
    assert len(user["password"]) > 12
    assert state.pools == (POOL,)
    pool = client.get(f"{path}/pools/mastodon-pool").json()["pool"]
    assert pool["private_connection"]["port"] == 25061
    assert pool["private_connection"]["database"] == "mastodon-pool"
    assert pool["private_connection"]["password"] == user["password"]
    assert client.get(f"{path}/dbs").json() == {"dbs": [{"name": "defaultdb"}, {"name": "mastodon"}]}


def test_what_the_cloud_refuses_has_not_happened(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    path = filled(client)
    cloud.fail["apply_database"] = "disk full"
    answer = client.post(f"{path}/dbs", json={"name": "other"})
    assert answer.status_code == 500
    assert answer.json()["message"] == "disk full"
    assert client.get(f"{path}/dbs/other").status_code == 404
    assert client.post(f"{path}/dbs", json={"name": "other"}).status_code == 201


def test_changes_at_the_same_time_undo_only_themselves(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    path = filled(client)
    cloud.pause()
    cloud.fail["apply_database"] = "disk full"

    def add(name: str) -> int:
        return int(client.post(f"{path}/dbs", json={"name": name}).status_code)

    with ThreadPoolExecutor() as threads:
        answers = [threads.submit(add, name) for name in ("one", "two", "two")]
        cloud.release()
        codes = sorted(answer.result() for answer in answers)
    assert codes in ([201, 201, 500], [201, 422, 500])
    dbs = {db["name"] for db in client.get(f"{path}/dbs").json()["dbs"]}
    assert len(dbs) == 2 + codes.count(201)
    assert set(cloud.databases[path.rsplit("/", 1)[1]].dbs) == dbs - {"defaultdb"}


def test_a_pool_is_updated_whole_and_answers_nothing(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    path = filled(client)
    answer = client.put(f"{path}/pools/mastodon-pool", json={"mode": "session", "size": 5, "db": "mastodon"})
    assert answer.status_code == 204
    assert answer.content == b""
    pool = client.get(f"{path}/pools/mastodon-pool").json()["pool"]
    assert (pool["mode"], pool["size"], pool["user"]) == ("session", 5, "doadmin")
    assert client.delete(f"{path}/pools/mastodon-pool").status_code == 204
    assert client.get(f"{path}/pools").json() == {"pools": []}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mode": "tranaction"}, "mode"),
        ({"db": "nope"}, "nope"),
        ({"user": "nope"}, "nope"),
        # 1 GB: 25 connections, 3 kept by the vendor, 10 in the other pool
        ({"size": 13}, "1 to 12"),
        ({"name": "no"}, "pool name"),
        ({"name": "mastodon-pool", "size": 1}, "not available"),
    ],
)
def test_a_pool_that_can_not_be(ocean: Start, change: dict[str, Any], says: str) -> None:
    client = ocean()
    path = filled(client)
    answer = client.post(f"{path}/pools", json={**POOL, "name": "second", **change})
    assert answer.status_code == 422
    assert says in answer.json()["message"]


def test_what_a_pool_uses_stays(ocean: Start) -> None:
    client = ocean()
    path = filled(client)
    assert client.delete(f"{path}/dbs/mastodon").status_code == 422
    assert client.delete(f"{path}/users/mastodon").status_code == 422


def test_a_reset_password_is_another_one(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    path = filled(client)
    before = client.get(f"{path}/users/mastodon").json()["user"]["password"]
    answer = client.post(f"{path}/users/mastodon/reset_auth", json={})
    after = answer.json()["user"]["password"]
    assert after != before
    assert cloud.databases[path.rsplit("/", 1)[1]].users == {"mastodon": after}


def test_passwords_need_a_scope(ocean: Start) -> None:
    client = ocean(tokens=grant(reader=["database:read"]))
    path = filled(client)
    reader = {"authorization": "Bearer reader"}
    shown = client.get(path, headers=reader).json()["database"]
    assert shown["connection"]["password"] == ""
    assert "password-of" not in str(shown)
    assert "password" not in client.get(f"{path}/users/mastodon", headers=reader).json()["user"]


def test_the_authority_is_base64_of_pem(ocean: Start) -> None:
    client = ocean()
    path = cluster(client)
    text = client.get(f"{path}/ca").json()["ca"]["certificate"]
    assert base64.b64decode(text).decode() == CA


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"engine": "redis"}, "no longer supported"),
        ({"engine": "mysql"}, "mysql"),
        ({"engine": "postgres"}, "engine"),
        ({"version": "9"}, "version"),
        ({"size": "db-s-64vcpu-1gb"}, "size"),
        ({"num_nodes": 2}, "size"),
        ({"num_nodes": 9}, "nodes"),
        ({"region": "moon1"}, "region"),
        ({"name": "A"}, "name"),
    ],
)
def test_a_cluster_that_can_not_be(
    ocean: Start, cloud: MemoryCloud, change: dict[str, Any], says: str
) -> None:
    answer = ocean().post("/v2/databases", json={**CLUSTER, "name": "vmst-pg", "engine": "pg", **change})
    assert answer.status_code == 422
    assert says in answer.json()["message"]
    assert cloud.calls == []


def test_valkey(ocean: Start) -> None:
    client = ocean()
    path = cluster(client, "vmst-valkey", "valkey")
    shown = client.get(path).json()["database"]
    assert shown["private_connection"]["uri"].startswith("rediss://default:")
    assert client.get(f"{path}/eviction_policy").json() == {"eviction_policy": "noeviction"}
    assert client.put(f"{path}/eviction_policy", json={"eviction_policy": "allkeys_lru"}).status_code == 204
    assert client.put(f"{path}/eviction_policy", json={"eviction_policy": "lru"}).status_code == 422
    config = client.get(f"{path}/config").json()["config"]
    assert config["valkey_maxmemory_policy"] == "allkeys_lru"
    assert config["valkey_timeout"] == 300
    patched = client.patch(f"{path}/config", json={"config": {"valkey_timeout": 0}})
    assert patched.json()["config"]["valkey_timeout"] == 0
    assert client.patch(f"{path}/config", json={"config": {"valkey_timout": 0}}).status_code == 422
    assert client.post(f"{path}/dbs", json={"name": "x"}).status_code == 412
    assert client.get(f"{path}/pools").status_code == 412


def test_trusted_sources_are_replaced_whole(ocean: Start) -> None:
    client = ocean()
    path = cluster(client)
    for value in ("vmst-worker", "vmst-exec"):
        body = {"rules": [{"type": "tag", "value": value}]}
        assert client.put(f"{path}/firewall", json=body).status_code == 204
    rules = client.get(f"{path}/firewall").json()["rules"]
    assert [(rule["type"], rule["value"]) for rule in rules] == [("tag", "vmst-exec")]
    assert client.put(f"{path}/firewall", json={"rules": [{"type": "tags", "value": "x"}]}).status_code == 422


def test_a_restart_brings_a_cluster_back(ocean: Start, cloud: MemoryCloud, tmp_path: Path) -> None:
    path = filled(ocean(state=tmp_path))
    identifier = path.rsplit("/", 1)[1]
    before = cloud.databases[identifier]
    other = MemoryCloud()
    again = ocean(state=tmp_path, cloud=other)
    eventually(lambda: other.databases.get(identifier) == before)
    assert again.get(f"{path}/users/mastodon").json()["user"]["password"] == before.users["mastodon"]


def test_a_cluster_is_deleted(ocean: Start, cloud: MemoryCloud) -> None:
    client = ocean()
    path = cluster(client)
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404
    eventually(lambda: not cloud.databases)


# VPCs and firewalls


def test_everything_is_in_the_default_vpc(ocean: Start) -> None:
    client = ocean(private="10.118.0.0/20")
    cluster(client)
    vpc = client.get("/v2/vpcs").json()["vpcs"][0]
    assert (vpc["name"], vpc["default"], vpc["ip_range"]) == ("default-nyc3", True, "10.118.0.0/20")
    found = client.get(f"/v2/vpcs/{vpc['id']}/members").json()["members"]
    assert [member["name"] for member in found] == ["vmst-pg"]
    answer = client.delete(f"/v2/vpcs/{vpc['id']}")
    assert answer.status_code == 403


def test_vpcs_do_not_overlap(ocean: Start) -> None:
    client = ocean()
    body = {"name": "mine", "region": "nyc3", "ip_range": "10.7.0.0/24"}
    vpc = client.post("/v2/vpcs", json=body).json()["vpc"]
    for name, wanted in (("b", "10.7.0.0/20"), ("c", "8.8.8.0/24"), ("d", "10.8.0.0/29"), ("mine", None)):
        answer = client.post("/v2/vpcs", json={"name": name, "region": "nyc3", "ip_range": wanted})
        assert answer.status_code == 422, name
    assert (
        client.patch(f"/v2/vpcs/{vpc['id']}", json={"description": "x"}).json()["vpc"]["description"] == "x"
    )
    assert client.delete(f"/v2/vpcs/{vpc['id']}").status_code == 204


INBOUND = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}


def test_a_firewall_takes_time_to_arrive(ocean: Start) -> None:
    client = ocean(action_seconds=0.2)
    client.post("/v2/tags", json={"name": "web"})
    body = {"name": "fw", "tags": ["web"], "inbound_rules": [INBOUND]}
    answer = client.post("/v2/firewalls", json=body)
    assert answer.status_code == 202
    firewall = answer.json()["firewall"]
    assert firewall["status"] == "waiting"
    path = f"/v2/firewalls/{firewall['id']}"
    eventually(lambda: client.get(path).json()["firewall"]["status"] == "succeeded")
    everything = {"protocol": "tcp", "ports": "all", "destinations": {"addresses": ["::/0"]}}
    replaced = client.put(path, json={"name": "fw", "outbound_rules": [everything]}).json()["firewall"]
    assert replaced["tags"] == []
    assert replaced["inbound_rules"] == []
    assert replaced["outbound_rules"][0]["ports"] == "0"
    assert client.post(f"{path}/tags", json={"tags": ["web"]}).status_code == 204
    assert client.post(f"{path}/tags", json={"tags": ["nope"]}).status_code == 422
    assert client.post(f"{path}/rules", json={"inbound_rules": [INBOUND]}).status_code == 204
    assert client.get(path).json()["firewall"]["inbound_rules"] == [INBOUND]
    assert client.delete(path).status_code == 204


def test_a_firewall_shows_what_is_pending(ocean: Start) -> None:
    client = ocean()
    made = client.post(
        "/v2/droplets",
        json={
            "name": "w1",
            "region": "nyc3",
            "size": "s-1vcpu-1gb",
            "image": "debian-13-x64",
            "tags": ["web"],
        },
    ).json()["droplet"]
    body = {"name": "fw", "tags": ["web"], "inbound_rules": [INBOUND]}
    pending = client.post("/v2/firewalls", json=body).json()["firewall"]["pending_changes"]
    assert pending == [{"droplet_id": made["id"], "removing": False, "status": "waiting"}]
    assert client.get(f"/v2/droplets/{made['id']}/firewalls").json()["meta"]["total"] == 1


# certificates, CDN, Spaces keys


def test_a_certificate_is_read_and_its_key_not_kept(ocean: Start, tmp_path: Path) -> None:
    client = ocean(state=tmp_path / "state")
    authority = Authority.open(tmp_path / "pki", "test")
    pair, other = authority.issue("a", ["social.test"]), authority.issue("b", ["social.test"])
    body = {
        "name": "c",
        "type": "custom",
        "leaf_certificate": pair.certificate.read_text(),
        "private_key": pair.key.read_text(),
    }
    wrong = client.post("/v2/certificates", json={**body, "private_key": other.key.read_text()})
    assert wrong.status_code == 422
    answer = client.post("/v2/certificates", json=body)
    assert answer.status_code == 201
    certificate = answer.json()["certificate"]
    assert certificate["dns_names"] == ["social.test"]
    assert certificate["state"] == "verified"
    assert len(certificate["sha1_fingerprint"]) == 40
    assert "PRIVATE" not in (tmp_path / "state" / "digitalocean.json").read_text()


def test_a_cdn_endpoint(ocean: Start) -> None:
    client = ocean()
    body = {"origin": "media.ams3.digitaloceanspaces.com", "ttl": 3600}
    made = client.post("/v2/cdn/endpoints", json=body).json()["endpoint"]
    assert made["endpoint"] == "media.ams3.cdn.digitaloceanspaces.com"
    assert client.post("/v2/cdn/endpoints", json=body).status_code == 409
    assert client.put(f"/v2/cdn/endpoints/{made['id']}", json={"ttl": 61}).status_code == 422
    purge = {"files": [f"f{i}" for i in range(51)]}
    path = f"/v2/cdn/endpoints/{made['id']}/cache"
    assert client.request("DELETE", path, json=purge).status_code == 422
    assert client.request("DELETE", path, json={"files": ["*"]}).status_code == 204


def test_cdn_calls_have_a_limit_of_their_own(ocean: Start) -> None:
    client = ocean(limits=Limits(per_minute=100, per_hour=100))
    codes = [client.get("/v2/cdn/endpoints").status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]


def test_the_secret_of_a_spaces_key_is_shown_once(ocean: Start) -> None:
    client = ocean()
    body = {"name": "media", "grants": [{"bucket": "media", "permission": "readwrite"}]}
    key = client.post("/v2/spaces/keys", json=body).json()["key"]
    assert key["secret_key"]
    listed = client.get("/v2/spaces/keys").json()["keys"]
    assert [entry["access_key"] for entry in listed] == [key["access_key"]]
    assert "secret_key" not in listed[0]
    wrong = {"name": "x", "grants": [{"bucket": "media", "permission": "write"}]}
    assert client.post("/v2/spaces/keys", json=wrong).status_code == 400
    assert client.delete(f"/v2/spaces/keys/{key['access_key']}").status_code == 204

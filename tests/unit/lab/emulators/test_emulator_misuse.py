"""Whatever JSON a client sends, it gets an answer: a refusal or a success, never a crash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lab.emulators.testing import eventually

Start = Callable[..., Any]

# The client of these tests raises what an emulator raises, so a crash fails them by itself.
WRONG: list[Any] = [None, 1, -1, 1.5, True, "x", "", [], [1], ["x"], [None], [{}], [[1]], {}, {"x": 1}]

RULE = {"entry_protocol": "tcp", "entry_port": 1, "target_protocol": "tcp", "target_port": 1}
INBOUND = {"protocol": "tcp", "ports": "22", "sources": {"addresses": ["0.0.0.0/0"]}}
CLUSTER = {"name": "x1x", "engine": "pg", "region": "nyc3", "size": "db-s-1vcpu-1gb", "num_nodes": 1}
DROPLET = {"name": "a", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "debian-13-x64"}
BALANCER = {"name": "l", "region": "nyc3", "tag": "", "droplet_ids": [], "forwarding_rules": [RULE]}

OCEAN: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v2/droplets", {**DROPLET, "tags": [], "ssh_keys": [], "user_data": "", "vpc_uuid": ""}),
    ("POST", "/v2/droplets", {**DROPLET, "names": ["b"]}),
    ("POST", "DROPLET/actions", {"type": "rebuild", "image": "debian-13-x64"}),
    ("POST", "DROPLET/actions", {"type": "rename", "name": "b"}),
    ("POST", "DROPLET/actions", {"type": "resize", "size": "s-1vcpu-1gb"}),
    ("POST", "/v2/tags", {"name": "x"}),
    ("POST", "/v2/tags/a/resources", {"resources": [{"resource_id": "1", "resource_type": "droplet"}]}),
    ("POST", "/v2/load_balancers", {**BALANCER, "health_check": {}, "firewall": {}, "size_unit": 1}),
    ("POST", "/v2/vpcs", {"name": "v", "region": "nyc3", "ip_range": "10.99.0.0/24"}),
    ("POST", "/v2/firewalls", {"name": "fw", "droplet_ids": [], "tags": ["a"], "inbound_rules": [INBOUND]}),
    ("POST", "/v2/databases", {**CLUSTER, "version": "17", "tags": [], "rules": []}),
    ("POST", "CLUSTER/dbs", {"name": "x"}),
    ("POST", "CLUSTER/users", {"name": "x"}),
    (
        "POST",
        "CLUSTER/pools",
        {"name": "pool", "mode": "session", "size": 1, "db": "defaultdb", "user": "doadmin"},
    ),
    ("PUT", "CLUSTER/firewall", {"rules": [{"type": "tag", "value": "a"}]}),
    ("PATCH", "CLUSTER/config", {"config": {"timezone": "UTC"}}),
    ("PUT", "CLUSTER/resize", {"size": "db-s-1vcpu-1gb", "num_nodes": 1}),
    ("POST", "/v2/certificates", {"name": "c", "type": "custom", "private_key": "", "leaf_certificate": ""}),
    ("POST", "/v2/cdn/endpoints", {"origin": "a.b.c.d", "ttl": 60, "custom_domain": ""}),
    ("POST", "/v2/spaces/keys", {"name": "k", "grants": [{"bucket": "b", "permission": "read"}]}),
    ("POST", "/v2/account/keys", {"name": "k", "public_key": "ssh-ed25519 AAAA me"}),
]


def misuse(client: Any, method: str, path: str, valid: dict[str, Any]) -> None:
    bodies = [{**valid, key: wrong} for key in valid for wrong in WRONG]
    for body in [*bodies, *WRONG]:
        assert client.request(method, path, json=body).status_code < 500, body


@pytest.mark.parametrize(("method", "path", "valid"), OCEAN)
def test_digitalocean(ocean: Start, method: str, path: str, valid: dict[str, Any]) -> None:
    client = ocean()
    droplet = client.post("/v2/droplets", json={**DROPLET, "tags": ["a"]}).json()["droplet"]["id"]
    cluster = client.post("/v2/databases", json={**CLUSTER, "name": "pg1"}).json()["database"]["id"]
    client.post("/v2/load_balancers", json={**BALANCER, "tag": "a", "name": "first"})
    replaced = path.replace("DROPLET", f"/v2/droplets/{droplet}").replace(
        "CLUSTER", f"/v2/databases/{cluster}"
    )
    eventually(lambda: client.get(f"/v2/databases/{cluster}").json()["database"]["status"] == "online")
    misuse(client, method, replaced, valid)
    for listed in ("droplets", "load_balancers", "firewalls", "databases", "vpcs", "spaces/keys", "tags"):
        assert client.get(f"/v2/{listed}?per_page=200").status_code == 200


RECORD = {
    "type": "A",
    "name": "a",
    "content": "192.0.2.1",
    "ttl": 1,
    "proxied": False,
    "tags": [],
    "settings": {},
}
SRV = {"priority": 1, "weight": 1, "port": 1, "target": "x"}


@pytest.mark.parametrize(
    ("method", "path", "valid"),
    [
        ("POST", "dns_records", RECORD),
        ("POST", "dns_records", {"type": "SRV", "name": "x", "data": SRV, "ttl": 1}),
        ("POST", "dns_records", {"type": "MX", "name": "x", "content": "x", "priority": 1, "ttl": 1}),
        ("POST", "dns_records/batch", {"deletes": [], "patches": [], "puts": [], "posts": []}),
        ("PATCH", "settings/ssl", {"value": "full"}),
        ("PATCH", "settings/browser_cache_ttl", {"value": 1}),
        ("POST", "purge_cache", {"files": ["x"]}),
        ("PUT", "rulesets/phases/http_request_cache_settings/entrypoint", {"rules": [], "name": "x"}),
    ],
)
def test_cloudflare(flare: Start, method: str, path: str, valid: dict[str, Any]) -> None:
    client = flare()
    zone = client.get("/client/v4/zones").json()["result"][0]["id"]
    misuse(client, method, f"/client/v4/zones/{zone}/{path}", valid)
    assert client.get(f"/client/v4/zones/{zone}/dns_records").status_code == 200
    assert client.get(f"/client/v4/zones/{zone}/dns_records?page=x").status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "valid"),
    [
        ("PATCH", "/v3/tracking_settings/click", {"enabled": True}),
        ("PATCH", "/v3/tracking_settings/subscription", {"enabled": True, "landing": "x"}),
        (
            "POST",
            "/v3/whitelabel/domains",
            {"domain": "a.test", "subdomain": "x", "ips": [], "default": False},
        ),
        ("POST", "/v3/whitelabel/links", {"domain": "a.test", "default": False}),
    ],
)
def test_sendgrid(grid: Start, method: str, path: str, valid: dict[str, Any]) -> None:
    client = grid()
    misuse(client, method, path, valid)
    assert client.get("/v3/tracking_settings").status_code == 200
    assert client.get("/v3/whitelabel/domains?limit=x").status_code == 400

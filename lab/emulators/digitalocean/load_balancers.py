"""Load balancers."""

from __future__ import annotations

import uuid
from typing import Any

from lab.emulators.common import Call, JsonObject, Reply, Routes, now
from lab.emulators.digitalocean import catalog
from lab.emulators.digitalocean.account import default_project
from lab.emulators.digitalocean.api import DigitalOcean, unprocessable

routes = Routes()

_HEALTH_CHECK = {
    "protocol": "http",
    "port": 80,
    "path": "/",
    "check_interval_seconds": 10,
    "response_timeout_seconds": 5,
    "unhealthy_threshold": 5,
    "healthy_threshold": 3,
}
"""Defaults of the vendor's document."""

_OPTIONS: dict[str, Any] = {
    "size_unit": 1,
    "algorithm": "round_robin",
    "redirect_http_to_https": False,
    "enable_proxy_protocol": False,
    "enable_backend_keepalive": False,
    "http_idle_timeout_seconds": 60,
    "disable_lets_encrypt_dns_records": False,
    "network": "EXTERNAL",
    "network_stack": "IPV4",
    "type": "REGIONAL",
    "tls_cipher_policy": "DEFAULT",
}

_ENTRY = ("http", "https", "http2", "http3", "tcp", "udp")
_TARGET = ("http", "https", "http2", "tcp", "udp")


def show(api: DigitalOcean, load_balancer: JsonObject) -> JsonObject:
    shown = {k: v for k, v in load_balancer.items() if k != "applied_members"}
    if load_balancer["tag"]:
        shown["droplet_ids"] = [d["id"] for d in api.tagged(load_balancer["tag"])]
    return shown | {"region": catalog.REGIONS[load_balancer["region"]]}


def _read(api: DigitalOcean, call: Call) -> JsonObject:
    """What a create or update call wants; what it leaves out is the default. Raises Problem 422."""
    body = call.json(
        name=str,
        region=str,
        project_id=str,
        vpc_uuid=str,
        tag=str,
        droplet_ids=[int],
        forwarding_rules=[dict],
        health_check=dict,
        sticky_sessions=dict,
        firewall=dict,
        **{key: type(default) for key, default in _OPTIONS.items()},
    )
    if not body.get("name"):
        raise unprocessable("name is required")
    region = body.get("region") or catalog.DEFAULT_REGION
    api.region(region, "the load balancer")
    tag, droplet_ids = body.get("tag") or "", body.get("droplet_ids") or []
    if tag and droplet_ids:
        raise unprocessable("cannot specify both tag and droplet_ids")
    _must_exist(api, droplet_ids)
    if tag:
        api.add_tag(tag)
    rules = body.get("forwarding_rules")
    if not rules:
        raise unprocessable("forwarding_rules: must have at least one rule")
    vpc = api.state.vpcs.get(body["vpc_uuid"]) if body.get("vpc_uuid") else api.default_vpc(region)
    if vpc is None or vpc["region"] != region:
        raise unprocessable(f"vpc_uuid {body['vpc_uuid']} is no VPC in {region}")
    options = _OPTIONS | {key: body[key] for key in _OPTIONS if body.get(key) is not None}
    if not 1 <= options["size_unit"] <= 100:
        raise unprocessable("size_unit must be between 1 and 100")
    if not 30 <= options["http_idle_timeout_seconds"] <= 600:
        raise unprocessable("http_idle_timeout_seconds must be between 30 and 600")
    unknown = set(body.get("health_check") or {}) - set(_HEALTH_CHECK)
    if unknown:
        raise unprocessable(f"health_check knows no {', '.join(sorted(unknown))}")
    firewall = body.get("firewall") or {}
    return {
        "name": body["name"],
        "region": region,
        "project_id": body.get("project_id") or default_project(api)["id"],
        "vpc_uuid": vpc["id"],
        "tag": tag,
        "droplet_ids": list(droplet_ids),
        "forwarding_rules": _rules(api, rules),
        "health_check": _HEALTH_CHECK | (body.get("health_check") or {}),
        "sticky_sessions": body.get("sticky_sessions") or {"type": "none"},
        "firewall": {"deny": firewall.get("deny") or [], "allow": firewall.get("allow") or []},
        **options,
    }


def _rules(api: DigitalOcean, rules: list[JsonObject]) -> list[JsonObject]:
    """Forwarding rules, whole and checked. Raises Problem 422 naming the rule."""
    entries = set()
    checked = []
    for wanted in rules:
        rule: JsonObject = {"certificate_id": "", "tls_passthrough": False} | wanted
        entry = f"{rule.get('entry_protocol')}:{rule.get('entry_port')}"
        if rule.get("entry_protocol") not in _ENTRY or rule.get("target_protocol") not in _TARGET:
            raise unprocessable(f"forwarding rule {entry}: unknown protocol")
        for key in ("entry_port", "target_port"):
            if not isinstance(rule.get(key), int) or not 1 <= rule[key] <= 65535:
                raise unprocessable(f"forwarding rule {entry}: {key} must be between 1 and 65535")
        if rule["entry_port"] in entries:
            raise unprocessable(f"forwarding rule {entry}: the port is used twice")
        entries.add(rule["entry_port"])
        terminates = rule["entry_protocol"] in ("https", "http2", "http3") and not rule["tls_passthrough"]
        if terminates and rule["certificate_id"] not in api.state.certificates:
            raise unprocessable(f"forwarding rule {entry}: needs a certificate_id or tls_passthrough")
        if rule["tls_passthrough"] and rule["target_protocol"] not in ("https", "http2"):
            raise unprocessable(f"forwarding rule {entry}: passes TLS through to a target without TLS")
        checked.append(rule)
    return checked


def _must_exist(api: DigitalOcean, droplet_ids: list[int]) -> None:
    for identifier in droplet_ids:
        if str(identifier) not in api.state.droplets:
            raise unprocessable(f"droplet {identifier} does not exist")


@routes.get("/v2/load_balancers", "load_balancer:read")
def list_load_balancers(api: DigitalOcean, call: Call) -> Reply:
    found = list(api.state.load_balancers.values())
    return api.page(call, "load_balancers", found, lambda item: show(api, item))


@routes.post("/v2/load_balancers", "load_balancer:create")
def create(api: DigitalOcean, call: Call) -> Reply:
    wanted = _read(api, call)
    if any(other["name"] == wanted["name"] for other in api.state.load_balancers.values()):
        raise unprocessable(f"a load balancer named {wanted['name']} already exists")
    identifier = str(uuid.uuid4())
    api.state.load_balancers[identifier] = {
        "id": identifier,
        "ip": "",
        "status": "new",
        "created_at": now(),
        **wanted,
        "applied_members": None,
    }
    api.apply_load_balancer(identifier)
    return Reply(202, {"load_balancer": show(api, api.state.load_balancers[identifier])})


def _need(api: DigitalOcean, call: Call) -> JsonObject:
    return api.need(api.state.load_balancers, call.params["load_balancer"])


@routes.get("/v2/load_balancers/{load_balancer}", "load_balancer:read")
def get(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"load_balancer": show(api, _need(api, call))})


@routes.put("/v2/load_balancers/{load_balancer}", "load_balancer:update")
def update(api: DigitalOcean, call: Call) -> Reply:
    load_balancer = _need(api, call)
    wanted = _read(api, call)
    if wanted["region"] != load_balancer["region"]:
        raise unprocessable("the region of a load balancer can not be changed")
    load_balancer |= wanted
    api.apply_load_balancer(load_balancer["id"])
    return Reply(200, {"load_balancer": show(api, load_balancer)})


@routes.delete("/v2/load_balancers/{load_balancer}", "load_balancer:delete")
def delete(api: DigitalOcean, call: Call) -> Reply:
    identifier = _need(api, call)["id"]
    del api.state.load_balancers[identifier]
    api.state.doomed.append(["load_balancer", identifier])
    api.spawn(_erase(api, identifier))
    return Reply(204)


async def _erase(api: DigitalOcean, identifier: str) -> None:
    async def erase() -> None:
        # behind an application that may still run, so that it can not bring it back
        async with api.turn(identifier).lock:
            await api.in_cloud(api.cloud.delete_load_balancer, identifier)

    what = f"delete of load balancer {identifier}"
    await api.insist(what, erase, lambda: api.forget("load_balancer", identifier))


@routes.delete("/v2/load_balancers/{load_balancer}/cache", "load_balancer:delete")
def purge_cache(api: DigitalOcean, call: Call) -> Reply:
    _need(api, call)
    raise unprocessable("only a global load balancer has a cache")


@routes.post("/v2/load_balancers/{load_balancer}/droplets", "load_balancer:update")
def add_droplets(api: DigitalOcean, call: Call) -> Reply:
    load_balancer, identifiers = _targets(api, call)
    _must_exist(api, identifiers)
    load_balancer["droplet_ids"] += [i for i in identifiers if i not in load_balancer["droplet_ids"]]
    api.apply_load_balancer(load_balancer["id"])
    return Reply(204)


@routes.delete("/v2/load_balancers/{load_balancer}/droplets", "load_balancer:update")
def remove_droplets(api: DigitalOcean, call: Call) -> Reply:
    load_balancer, identifiers = _targets(api, call)
    load_balancer["droplet_ids"] = [i for i in load_balancer["droplet_ids"] if i not in identifiers]
    api.apply_load_balancer(load_balancer["id"])
    return Reply(204)


def _targets(api: DigitalOcean, call: Call) -> tuple[JsonObject, list[int]]:
    load_balancer = _need(api, call)
    if load_balancer["tag"]:
        raise unprocessable("Cannot add or remove Droplets while the load balancer uses a tag")
    identifiers = call.json(droplet_ids=[int]).get("droplet_ids")
    if not identifiers:
        raise unprocessable("droplet_ids has to be a list of Droplet IDs")
    return load_balancer, identifiers


@routes.post("/v2/load_balancers/{load_balancer}/forwarding_rules", "load_balancer:update")
def add_rules(api: DigitalOcean, call: Call) -> Reply:
    load_balancer = _need(api, call)
    wanted = load_balancer["forwarding_rules"] + (
        call.json(forwarding_rules=[dict]).get("forwarding_rules") or []
    )
    load_balancer["forwarding_rules"] = _rules(api, wanted)
    api.apply_load_balancer(load_balancer["id"])
    return Reply(204)


@routes.delete("/v2/load_balancers/{load_balancer}/forwarding_rules", "load_balancer:update")
def remove_rules(api: DigitalOcean, call: Call) -> Reply:
    load_balancer = _need(api, call)
    gone = [
        rule.get("entry_port") for rule in call.json(forwarding_rules=[dict]).get("forwarding_rules") or []
    ]
    left = [rule for rule in load_balancer["forwarding_rules"] if rule["entry_port"] not in gone]
    if not left:
        raise unprocessable("forwarding_rules: must have at least one rule")
    load_balancer["forwarding_rules"] = left
    api.apply_load_balancer(load_balancer["id"])
    return Reply(204)


def resume(api: DigitalOcean) -> None:
    """Apply every load balancer once more: what was under way is unknown, and applying is idempotent."""
    for identifier in api.state.load_balancers:
        api.apply_load_balancer(identifier)
    for kind, identifier in list(api.state.doomed):
        if kind == "load_balancer":
            api.spawn(_erase(api, identifier))

"""VPCs and cloud firewalls."""

from __future__ import annotations

import ipaddress
import re
import uuid
from typing import Any

from lab.emulators.common import Call, JsonObject, Problem, Reply, Routes, now
from lab.emulators.digitalocean.api import DigitalOcean, unprocessable

routes = Routes()

_VPC_NAME = re.compile(r"[a-zA-Z0-9\-.]+")
_FIREWALL_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.\-]+")
_PORTS = re.compile(r"\d{1,5}(-\d{1,5})?|all")
_PRIVATE = [ipaddress.IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


@routes.get("/v2/vpcs", "vpc:read")
def list_vpcs(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "vpcs", list(api.state.vpcs.values()))


@routes.post("/v2/vpcs", "vpc:create")
def create_vpc(api: DigitalOcean, call: Call) -> Reply:
    body = call.json(region=str, ip_range=str, description=str)
    name, region = body.get("name"), body.get("region")
    if not isinstance(name, str) or not _VPC_NAME.fullmatch(name):
        raise unprocessable("name may only hold letters, numbers, dashes and periods")
    if any(vpc["name"] == name for vpc in api.state.vpcs.values()):
        raise unprocessable("a VPC with this name already exists in your account")
    api.region(region, "the VPC")
    # the region's default VPC has the first pick of the addresses, as everything in the lab is in it
    api.default_vpc(str(region))
    identifier = str(uuid.uuid4())
    api.state.vpcs[identifier] = {
        "id": identifier,
        "urn": f"do:vpc:{identifier}",
        "name": name,
        "description": body.get("description", ""),
        "region": region,
        "ip_range": _range(api, body.get("ip_range")),
        "default": False,
        "created_at": now(),
    }
    return Reply(201, {"vpc": api.state.vpcs[identifier]})


def _range(api: DigitalOcean, wanted: Any) -> str:
    """An address range that no other VPC has. Raises Problem 422."""
    used = [ipaddress.IPv4Network(vpc["ip_range"]) for vpc in api.state.vpcs.values()]
    if not wanted:
        free = ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=20)
        return str(next(n for n in free if not any(n.overlaps(other) for other in used)))
    try:
        network = ipaddress.IPv4Network(wanted)
    except ValueError:
        raise unprocessable(f"ip_range {wanted!r} is not a valid CIDR") from None
    if not 16 <= network.prefixlen <= 28 or not any(network.subnet_of(n) for n in _PRIVATE):
        raise unprocessable("ip_range has to be a private range from /28 to /16")
    if any(network.overlaps(other) for other in used):
        raise unprocessable("This range/size overlaps with another VPC network in your account")
    return str(network)


def _vpc(api: DigitalOcean, call: Call) -> JsonObject:
    return api.need(api.state.vpcs, call.params["vpc"])


@routes.get("/v2/vpcs/{vpc}", "vpc:read")
def get_vpc(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"vpc": _vpc(api, call)})


@routes.put("/v2/vpcs/{vpc}", "vpc:update")
def replace_vpc(api: DigitalOcean, call: Call) -> Reply:
    if not call.json().get("name"):
        raise unprocessable("name is required")
    return update_vpc(api, call)


@routes.patch("/v2/vpcs/{vpc}", "vpc:update")
def update_vpc(api: DigitalOcean, call: Call) -> Reply:
    vpc, body = _vpc(api, call), call.json(name=str, description=str, default=bool)
    if "name" in body and (not isinstance(body["name"], str) or not _VPC_NAME.fullmatch(body["name"])):
        raise unprocessable("name may only hold letters, numbers, dashes and periods")
    if body.get("default") is False and vpc["default"]:
        raise unprocessable("make another VPC the default one instead")
    if body.get("default"):
        for other in api.state.vpcs.values():
            if other["region"] == vpc["region"]:
                other["default"] = False
        vpc["default"] = True
    vpc |= {key: body[key] for key in ("name", "description") if key in body}
    return Reply(200, {"vpc": vpc})


def _members(api: DigitalOcean, vpc: JsonObject) -> list[JsonObject]:
    tables = {
        "droplet": (api.state.droplets, "vpc_uuid"),
        "loadbalancer": (api.state.load_balancers, "vpc_uuid"),
        "dbaas": (api.state.databases, "private_network_uuid"),
    }
    return [
        {"name": resource["name"], "urn": f"do:{kind}:{identifier}", "created_at": resource["created_at"]}
        for kind, (table, key) in tables.items()
        for identifier, resource in table.items()
        if resource[key] == vpc["id"]
    ]


@routes.delete("/v2/vpcs/{vpc}", "vpc:delete")
def delete_vpc(api: DigitalOcean, call: Call) -> Reply:
    vpc = _vpc(api, call)
    if vpc["default"]:
        raise Problem(403, "forbidden", "Can not delete default VPCs")
    if _members(api, vpc):
        raise Problem(403, "forbidden", "Can not delete VPC with members")
    del api.state.vpcs[vpc["id"]]
    return Reply(204)


@routes.get("/v2/vpcs/{vpc}/members", "vpc:read")
def list_members(api: DigitalOcean, call: Call) -> Reply:
    members = _members(api, _vpc(api, call))
    kind = call.query.get("resource_type")
    return api.page(call, "members", [m for m in members if kind in (None, m["urn"].split(":")[1])])


# firewalls: kept and shown, not enforced; nothing in the collection may lean on them being so


def _read(api: DigitalOcean, call: Call) -> JsonObject:
    """What a create or update call wants; what it leaves out is empty. Raises Problem 422."""
    body = call.json(droplet_ids=[int], tags=[str], inbound_rules=[dict], outbound_rules=[dict])
    name = body.get("name")
    if not isinstance(name, str) or not _FIREWALL_NAME.fullmatch(name):
        raise unprocessable("name may only hold letters, numbers, periods and dashes")
    rules = {
        "inbound_rules": _rules(body.get("inbound_rules") or [], "sources"),
        "outbound_rules": _rules(body.get("outbound_rules") or [], "destinations"),
    }
    if not rules["inbound_rules"] and not rules["outbound_rules"]:
        raise unprocessable("at least one inbound or outbound rule is required")
    droplet_ids, tags = body.get("droplet_ids") or [], body.get("tags") or []
    _must_exist(api, droplet_ids, tags)
    return {"name": name, "droplet_ids": droplet_ids, "tags": tags, **rules}


def _must_exist(api: DigitalOcean, droplet_ids: list[int], tags: list[str]) -> None:
    for identifier in droplet_ids:
        if str(identifier) not in api.state.droplets:
            raise unprocessable(f"droplet {identifier} does not exist")
    for tag in tags:
        if tag not in api.state.tags:
            raise unprocessable(f"tag {tag} does not exist")


def _rules(rules: list[JsonObject], peers: str) -> list[JsonObject]:
    """Rules as the vendor answers them: all ports are \"0\". Raises Problem 422."""
    checked = []
    for rule in rules:
        protocol, ports = rule.get("protocol"), str(rule.get("ports", "0"))
        if protocol not in ("tcp", "udp", "icmp"):
            raise unprocessable(f"protocol {protocol!r} is none of tcp, udp, icmp")
        if not _PORTS.fullmatch(ports):
            raise unprocessable(f"ports {ports!r} is neither a port nor a range nor all")
        if not rule.get(peers):
            raise unprocessable(f"a rule needs {peers}")
        checked.append({"protocol": protocol, "ports": "0" if ports == "all" else ports, peers: rule[peers]})
    return checked


@routes.get("/v2/firewalls", "firewall:read")
def list_firewalls(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "firewalls", list(api.state.firewalls.values()))


@routes.post("/v2/firewalls", "firewall:create")
def create_firewall(api: DigitalOcean, call: Call) -> Reply:
    wanted = _read(api, call)
    if any(firewall["name"] == wanted["name"] for firewall in api.state.firewalls.values()):
        raise Problem(409, "conflict", "duplicate name")
    identifier = str(uuid.uuid4())
    firewall = {"id": identifier, "status": "waiting", "created_at": now(), "pending_changes": [], **wanted}
    api.state.firewalls[identifier] = firewall
    _spread(api, firewall, set())
    return Reply(202, {"firewall": firewall})


def _reach(api: DigitalOcean, firewall: JsonObject) -> set[int]:
    """The droplets a firewall is on."""
    tagged = {d["id"] for tag in firewall["tags"] for d in api.tagged(tag)}
    return tagged | set(firewall["droplet_ids"])


def _spread(api: DigitalOcean, firewall: JsonObject, before: set[int]) -> None:
    """Take the time the vendor takes to bring a change to the droplets, visible in `pending_changes`."""
    after = _reach(api, firewall)
    firewall["status"] = "waiting"
    firewall["pending_changes"] = [
        {"droplet_id": droplet, "removing": droplet not in after, "status": "waiting"}
        for droplet in sorted(before | after)
    ]
    api.spawn(_settle(api, firewall))


async def _settle(api: DigitalOcean, firewall: JsonObject) -> None:
    async def nothing() -> None:
        return None

    await api.take_time(nothing())
    firewall |= {"status": "succeeded", "pending_changes": []}
    api.save()


def _firewall(api: DigitalOcean, call: Call) -> JsonObject:
    return api.need(api.state.firewalls, call.params["firewall"])


@routes.get("/v2/firewalls/{firewall}", "firewall:read")
def get_firewall(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"firewall": _firewall(api, call)})


@routes.put("/v2/firewalls/{firewall}", "firewall:update")
def replace_firewall(api: DigitalOcean, call: Call) -> Reply:
    firewall = _firewall(api, call)
    before = _reach(api, firewall)
    firewall |= _read(api, call)
    _spread(api, firewall, before)
    return Reply(200, {"firewall": firewall})


@routes.delete("/v2/firewalls/{firewall}", "firewall:delete")
def delete_firewall(api: DigitalOcean, call: Call) -> Reply:
    del api.state.firewalls[_firewall(api, call)["id"]]
    return Reply(204)


def _change(api: DigitalOcean, call: Call, key: str, *, add: bool) -> Reply:
    firewall, wanted = _firewall(api, call), call.json(droplet_ids=[int], tags=[str]).get(key)
    if not wanted:
        raise unprocessable(f"{key} has to be a list")
    if add:
        _must_exist(api, *((wanted, []) if key == "droplet_ids" else ([], wanted)))
    before = _reach(api, firewall)
    rest = [item for item in firewall[key] if item not in wanted]
    firewall[key] = rest + wanted if add else rest
    _spread(api, firewall, before)
    return Reply(204)


@routes.post("/v2/firewalls/{firewall}/droplets", "firewall:update")
def add_droplets(api: DigitalOcean, call: Call) -> Reply:
    return _change(api, call, "droplet_ids", add=True)


@routes.delete("/v2/firewalls/{firewall}/droplets", "firewall:update")
def remove_droplets(api: DigitalOcean, call: Call) -> Reply:
    return _change(api, call, "droplet_ids", add=False)


@routes.post("/v2/firewalls/{firewall}/tags", "firewall:update")
def add_tags(api: DigitalOcean, call: Call) -> Reply:
    return _change(api, call, "tags", add=True)


@routes.delete("/v2/firewalls/{firewall}/tags", "firewall:update")
def remove_tags(api: DigitalOcean, call: Call) -> Reply:
    return _change(api, call, "tags", add=False)


def _change_rules(api: DigitalOcean, call: Call, *, add: bool) -> Reply:
    firewall, body = _firewall(api, call), call.json(inbound_rules=[dict], outbound_rules=[dict])
    before = _reach(api, firewall)
    changed = {}
    for key, peers in (("inbound_rules", "sources"), ("outbound_rules", "destinations")):
        wanted = _rules(body.get(key) or [], peers)
        rest = [rule for rule in firewall[key] if rule not in wanted]
        changed[key] = rest + wanted if add else rest
    firewall |= changed
    _spread(api, firewall, before)
    return Reply(204)


@routes.post("/v2/firewalls/{firewall}/rules", "firewall:update")
def add_rules(api: DigitalOcean, call: Call) -> Reply:
    return _change_rules(api, call, add=True)


@routes.delete("/v2/firewalls/{firewall}/rules", "firewall:update")
def remove_rules(api: DigitalOcean, call: Call) -> Reply:
    return _change_rules(api, call, add=False)


def resume(api: DigitalOcean) -> None:
    """Let the changes arrive that were on their way."""
    for firewall in api.state.firewalls.values():
        if firewall["status"] == "waiting":
            api.spawn(_settle(api, firewall))

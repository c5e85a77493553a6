"""Droplets and their actions."""

from __future__ import annotations

import json
import re
from typing import Any

from lab.cloud import Addresses, CloudError, DropletSpec
from lab.emulators.common import Call, JsonObject, Reply, Routes, now
from lab.emulators.digitalocean import catalog
from lab.emulators.digitalocean.api import DigitalOcean, log, unprocessable

routes = Routes()

PENDING = "Droplet already has a pending event."

_NAME = re.compile(r"[a-zA-Z0-9]?[a-z0-9A-Z.\-]*[a-z0-9A-Z]")
_MAX_NAMES = 10
_MAX_USER_DATA = 64 * 1024

BY_TAG = (
    "power_cycle",
    "power_on",
    "power_off",
    "shutdown",
    "enable_ipv6",
    "enable_backups",
    "disable_backups",
)
"""Actions that POST /v2/droplets/actions takes: rebuild, reboot and resize are not among them."""

_UNREAL = ("snapshot", "restore", "password_reset", "change_kernel", "enable_ipv6", "change_backup_policy")
"""Actions the vendor has and the lab has not: refused, so that nobody takes a no-op for success."""


def show(api: DigitalOcean, droplet: JsonObject, call: Call | None = None) -> JsonObject:
    """The API's object. Fields the token may not read are left out, as the vendor does."""
    size = catalog.SIZES[droplet["size"]]
    v4 = []
    if droplet["addresses"]:
        private = {
            "ip_address": droplet["addresses"]["private"],
            "netmask": str(api.private.netmask),
            # so in the vendor's own example: there is no gateway to a private network
            "gateway": "nil",
            "type": "private",
        }
        v4.append(private)
        if droplet["addresses"]["public"]:
            public = {
                "ip_address": droplet["addresses"]["public"],
                "netmask": str(api.public.netmask),
                "gateway": str(api.public[1]),
                "type": "public",
            }
            v4.append(public)
    shown = {
        "id": droplet["id"],
        "name": droplet["name"],
        "memory": size["memory"],
        "vcpus": size["vcpus"],
        "disk": size["disk"],
        "disk_info": size["disk_info"],
        "locked": droplet["locked"],
        "status": droplet["status"],
        "kernel": None,
        "created_at": droplet["created_at"],
        "features": droplet["features"],
        "backup_ids": [],
        "next_backup_window": None,
        "snapshot_ids": [],
        "image": catalog.IMAGES[droplet["image"]],
        "volume_ids": [],
        "size": size,
        "size_slug": droplet["size"],
        "networks": {"v4": v4, "v6": []},
        "region": catalog.REGIONS[droplet["region"]],
        "tags": droplet["tags"],
        "vpc_uuid": droplet["vpc_uuid"],
    }
    if call is not None:
        if not api.can(call, "tag:read"):
            shown["tags"] = []
        if not api.can(call, "image:read"):
            shown["image"] = {}
        if not api.can(call, "vpc:read"):
            del shown["vpc_uuid"]
    return shown


@routes.get("/v2/droplets", "droplet:read")
def list_droplets(api: DigitalOcean, call: Call) -> Reply:
    tag, name, kind = (call.query.get(key) for key in ("tag_name", "name", "type"))
    if tag and (name or kind):
        raise unprocessable("tag_name can not be combined with name or type.")
    if tag:
        api.need_scope(call, "tag:read")
        droplets = api.tagged(tag)
    elif kind == "gpus":
        droplets = []
    else:
        droplets = list(api.all_droplets())
        if name:
            droplets = [d for d in droplets if d["name"].lower() == name.lower()]
    return api.page(call, "droplets", droplets, lambda droplet: show(api, droplet, call))


@routes.post("/v2/droplets", "droplet:create")
def create_droplets(api: DigitalOcean, call: Call) -> Reply:
    body = call.json(
        region=str,
        size=str,
        image=(str, int),
        tags=[str],
        ssh_keys=[(str, int)],
        user_data=str,
        vpc_uuid=str,
        monitoring=bool,
        with_droplet_agent=bool,
        public_networking=bool,
    )
    names = body.get("names", [body.get("name")])
    if not isinstance(names, list) or not names or len(names) > _MAX_NAMES:
        raise unprocessable(f"names has to be a list of 1 to {_MAX_NAMES} names.")
    for name in names:
        if not isinstance(name, str) or len(name) > 255 or not _NAME.fullmatch(name):
            raise unprocessable(
                "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)"
                if name
                else "Name can't be blank"
            )
    draft = _draft(api, body)
    actions = []
    droplets = []
    for name in names:
        droplet = {"id": api.state.next_droplet, "name": name, **json.loads(json.dumps(draft))}
        api.state.next_droplet += 1
        api.state.droplets[str(droplet["id"])] = droplet
        droplets.append(droplet)
        actions.append(start(api, "create", droplet, {}))
    shown = [show(api, droplet, call) for droplet in droplets]
    links = [
        {"id": action["id"], "rel": "create", "href": f"{call.base_url}/v2/actions/{action['id']}"}
        for action in actions
    ]
    resource = {"droplets": shown} if "names" in body else {"droplet": shown[0]}
    return Reply(202, {**resource, "links": {"actions": links}})


def _draft(api: DigitalOcean, body: JsonObject) -> JsonObject:
    """What all droplets of a create call have in common. Raises Problem 422."""
    what = "Droplet creation"
    region = body.get("region") or catalog.DEFAULT_REGION
    api.region(region, what)
    if body.get("size") not in catalog.SIZES:
        raise unprocessable(f"You specified an invalid size for {what}.")
    image = _image(body.get("image"), what)
    tags = body.get("tags") or []
    for tag in tags:
        if not re.fullmatch(r"[a-zA-Z0-9_\-:]{1,255}", tag):
            raise unprocessable(f"tags: {tag!r} is an invalid tag.")
    user_data = body.get("user_data") or None
    if user_data is not None and len(user_data.encode()) > _MAX_USER_DATA:
        raise unprocessable("User data is too large (maximum is 64 KiB)")
    vpc = api.state.vpcs.get(body["vpc_uuid"]) if body.get("vpc_uuid") else api.default_vpc(region)
    if vpc is None or vpc["region"] != region:
        raise unprocessable(f"Failed to resolve VPC {body['vpc_uuid']} in region {region}.")
    for tag in tags:
        api.add_tag(tag)
    features = ["private_networking"]
    features += ["monitoring"] if body.get("monitoring") else []
    features += ["droplet_agent"] if body.get("with_droplet_agent") else []
    return {
        "region": region,
        "size": body["size"],
        "image": image["id"],
        "status": "new",
        "locked": False,
        "created_at": now(),
        "features": features,
        "tags": list(dict.fromkeys(tags)),
        "vpc_uuid": vpc["id"],
        "addresses": None,
        "public_networking": body.get("public_networking", True),
        "ssh_keys": [_key(api, reference) for reference in body.get("ssh_keys") or []],
        "user_data": user_data,
    }


def _image(reference: Any, what: str) -> JsonObject:
    image = catalog.image(reference) if isinstance(reference, (str, int)) else None
    if image is None:
        raise unprocessable(f"You specified an invalid image for {what}.")
    return image


def _key(api: DigitalOcean, reference: Any) -> str:
    for key in api.state.keys.values():
        if str(reference) in (str(key["id"]), key["fingerprint"]):
            return str(key["public_key"])
    raise unprocessable(f"ssh_keys: {reference} is an invalid key identifier for Droplet creation.")


@routes.delete("/v2/droplets", "droplet:delete", "tag:read")
def delete_by_tag(api: DigitalOcean, call: Call) -> Reply:
    tag = call.query.get("tag_name")
    if not tag:
        raise unprocessable("tag_name is required.")
    droplets = [droplet for droplet in api.state.droplets.values() if tag in droplet["tags"]]
    if not droplets:
        raise api.not_found()
    if any(api.pending(droplet) for droplet in droplets):
        raise unprocessable(PENDING)
    for droplet in droplets:
        _destroy(api, droplet)
    return Reply(204)


@routes.get("/v2/droplets/{droplet_id}", "droplet:read")
def get_droplet(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"droplet": show(api, need(api, call), call)})


def need(api: DigitalOcean, call: Call) -> JsonObject:
    """The droplet that the call is about. Raises Problem 404."""
    identifier = call.params["droplet_id"]
    return api.need(api.synthetic if identifier in api.synthetic else api.state.droplets, identifier)


@routes.delete("/v2/droplets/{droplet_id}", "droplet:delete")
def delete_droplet(api: DigitalOcean, call: Call) -> Reply:
    droplet = need(api, call)
    if api.pending(droplet):
        raise unprocessable(PENDING)
    _destroy(api, droplet)
    return Reply(204)


def _destroy(api: DigitalOcean, droplet: JsonObject) -> None:
    identifier = str(droplet["id"])
    if api.synthetic.pop(identifier, None):
        return
    del api.state.droplets[identifier]
    api.state.doomed.append(["droplet", identifier])
    for load_balancer in api.state.load_balancers.values():
        if droplet["id"] in load_balancer["droplet_ids"]:
            load_balancer["droplet_ids"].remove(droplet["id"])
    for firewall in api.state.firewalls.values():
        if droplet["id"] in firewall["droplet_ids"]:
            firewall["droplet_ids"].remove(droplet["id"])
    api.members_changed()
    api.spawn(_erase(api, identifier))


async def _erase(api: DigitalOcean, identifier: str) -> None:
    async def erase() -> None:
        await api.in_cloud(api.cloud.delete_droplet, int(identifier))

    what = f"delete of droplet {identifier}"
    await api.insist(what, erase, lambda: api.forget("droplet", identifier))


@routes.get("/v2/droplets/{droplet_id}/actions", "droplet:read")
def list_droplet_actions(api: DigitalOcean, call: Call) -> Reply:
    droplet = need(api, call)
    actions = [a for a in api.state.actions.values() if a["resource_id"] == droplet["id"]]
    return api.page(call, "actions", actions[::-1], api.show_action)


@routes.get("/v2/droplets/{droplet_id}/actions/{action_id}", "droplet:read")
def get_droplet_action(api: DigitalOcean, call: Call) -> Reply:
    action = api.need(api.state.actions, call.params["action_id"])
    if action["resource_id"] != need(api, call)["id"]:
        raise api.not_found()
    return Reply(200, {"action": api.show_action(action)})


@routes.get("/v2/droplets/{droplet_id}/firewalls", "firewall:read")
def list_droplet_firewalls(api: DigitalOcean, call: Call) -> Reply:
    droplet = need(api, call)
    found = [
        firewall
        for firewall in api.state.firewalls.values()
        if droplet["id"] in firewall["droplet_ids"] or set(droplet["tags"]) & set(firewall["tags"])
    ]
    return api.page(call, "firewalls", found)


@routes.get("/v2/droplets/{droplet_id}/snapshots", "droplet:read")
def list_droplet_snapshots(api: DigitalOcean, call: Call) -> Reply:
    need(api, call)
    return api.page(call, "snapshots", [])


@routes.post("/v2/droplets/{droplet_id}/actions", "droplet:update")
def act(api: DigitalOcean, call: Call) -> Reply:
    droplet = need(api, call)
    body = call.json(type=str, image=(str, int), name=str, size=str)
    work = _plan(api, call, droplet, body)
    if api.pending(droplet):
        raise unprocessable(PENDING)
    return Reply(201, {"action": api.show_action(start(api, body["type"], droplet, work))})


@routes.post("/v2/droplets/actions", "droplet:update", "tag:read")
def act_by_tag(api: DigitalOcean, call: Call) -> Reply:
    body = call.json(type=str)
    if body.get("type") not in BY_TAG:
        raise unprocessable(f"{body.get('type')} is not an action for Droplets by tag.")
    droplets = [d for d in api.state.droplets.values() if call.query.get("tag_name") in d["tags"]]
    plans = [(droplet, _plan(api, call, droplet, body)) for droplet in droplets]
    if any(api.pending(droplet) for droplet in droplets):
        raise unprocessable(PENDING)
    actions = [start(api, body["type"], droplet, work) for droplet, work in plans]
    return Reply(201, {"actions": [api.show_action(action) for action in actions]})


def _plan(api: DigitalOcean, call: Call, droplet: JsonObject, body: JsonObject) -> JsonObject:
    """What an action has to do. Raises Problem 422 where the droplet or the body does not allow it."""
    kind = body.get("type")
    if kind in _UNREAL:
        raise unprocessable(f"The lab has no action {kind}.")
    if kind == "rebuild":
        api.need_scope(call, "droplet:admin")
        return {"image": _image(body.get("image"), "Droplet rebuild")["id"]}
    if kind == "rename":
        name = body.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise unprocessable("Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)")
        return {"name": name}
    if kind == "resize":
        if body.get("size") not in catalog.SIZES:
            raise unprocessable("You specified an invalid size for Droplet resize.")
        if droplet["status"] != "off":
            raise unprocessable("Droplet must be powered off to resize.")
        return {"size": body["size"]}
    if kind == "power_on" and droplet["status"] == "active":
        raise unprocessable("Droplet is already powered on.")
    if kind in ("reboot", "shutdown", "power_off") and droplet["status"] == "off":
        raise unprocessable("Droplet is currently powered off.")
    if kind not in _EFFECTS:
        raise unprocessable(f"{kind!r} is not a valid action type.")
    return {}


def start(api: DigitalOcean, kind: str, droplet: JsonObject, work: JsonObject) -> JsonObject:
    """Begin an action and the job that carries it out."""
    action = api.begin(kind, droplet, work)
    api.spawn(_carry_out(api, action))
    return action


async def _carry_out(api: DigitalOcean, action: JsonObject) -> None:
    droplet = api.state.droplets.get(str(action["resource_id"]))
    try:
        if droplet is not None:
            await api.take_time(_EFFECTS[action["type"]](api, droplet, action["work"]))
    except CloudError as error:
        log.error("%s of droplet %s: %s", action["type"], action["resource_id"], error)
        action["status"] = "errored"
    else:
        log.info("%s of droplet %s: completed", action["type"], action["resource_id"])
        action["status"] = "completed"
    action["completed_at"] = now()
    api.members_changed()
    api.save()


def spec(droplet: JsonObject, image: int | None = None) -> DropletSpec:
    """What the Cloud has to run."""
    size = catalog.SIZES[droplet["size"]]
    return DropletSpec(
        id=droplet["id"],
        name=droplet["name"],
        image=catalog.IMAGES[image or droplet["image"]]["slug"],
        size=droplet["size"],
        memory_mib=size["memory"],
        vcpus=size["vcpus"],
        ssh_keys=tuple(droplet["ssh_keys"]),
        user_data=droplet["user_data"],
    )


def _found_at(droplet: JsonObject, addresses: Addresses) -> None:
    public = addresses.public if droplet["public_networking"] else None
    droplet["addresses"] = {"public": public, "private": addresses.private}
    droplet["status"] = "active"


async def _create(api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    _found_at(droplet, await api.in_cloud(api.cloud.create_droplet, spec(droplet)))


async def _rebuild(api: DigitalOcean, droplet: JsonObject, work: JsonObject) -> None:
    # the creation's SSH keys come back with the fresh disk; real images may not do that
    addresses = await api.in_cloud(api.cloud.rebuild_droplet, spec(droplet, work["image"]))
    droplet["image"] = work["image"]
    _found_at(droplet, addresses)


async def _power_on(api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    await api.in_cloud(api.cloud.power_droplet, droplet["id"], on=True, graceful=True)
    droplet["status"] = "active"


async def _power_off(api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    await api.in_cloud(api.cloud.power_droplet, droplet["id"], on=False, graceful=False)
    droplet["status"] = "off"


async def _shutdown(api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    await api.in_cloud(api.cloud.power_droplet, droplet["id"], on=False, graceful=True)
    droplet["status"] = "off"


async def _power_cycle(api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    await api.in_cloud(api.cloud.power_droplet, droplet["id"], on=False, graceful=False)
    await api.in_cloud(api.cloud.power_droplet, droplet["id"], on=True, graceful=False)
    droplet["status"] = "active"


async def _reboot(api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    await api.in_cloud(api.cloud.reboot_droplet, droplet["id"])
    droplet["status"] = "active"


async def _rename(_api: DigitalOcean, droplet: JsonObject, work: JsonObject) -> None:
    droplet["name"] = work["name"]


async def _resize(_api: DigitalOcean, droplet: JsonObject, work: JsonObject) -> None:
    droplet["size"] = work["size"]


async def _enable_backups(_api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    droplet["features"] = [*(f for f in droplet["features"] if f != "backups"), "backups"]


async def _disable_backups(_api: DigitalOcean, droplet: JsonObject, _work: JsonObject) -> None:
    droplet["features"] = [f for f in droplet["features"] if f != "backups"]


_EFFECTS = {
    "create": _create,
    "rebuild": _rebuild,
    "power_on": _power_on,
    "power_off": _power_off,
    "shutdown": _shutdown,
    "power_cycle": _power_cycle,
    "reboot": _reboot,
    "rename": _rename,
    "resize": _resize,
    "enable_backups": _enable_backups,
    "disable_backups": _disable_backups,
}


@routes.get("/v2/actions", "actions:read")
def list_actions(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "actions", list(api.state.actions.values())[::-1], api.show_action)


@routes.get("/v2/actions/{action_id}", "actions:read")
def get_action(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"action": api.show_action(api.need(api.state.actions, call.params["action_id"]))})


def resume(api: DigitalOcean) -> None:
    """Take up what was under way when the emulator ended. The Cloud is idempotent."""
    for action in api.state.actions.values():
        if action["status"] == "in-progress":
            api.spawn(_carry_out(api, action))
    for kind, identifier in list(api.state.doomed):
        if kind == "droplet":
            api.spawn(_erase(api, identifier))


def add_synthetic(api: DigitalOcean, count: int, instance: str) -> None:
    """`count` droplets that only the API knows: one exec, the rest workers. For measurements."""
    vpc = api.default_vpc(catalog.DEFAULT_REGION)
    sizes, images = list(catalog.SIZES), list(catalog.IMAGES)
    for index in range(count):
        group = "worker" if index else "exec"
        api.synthetic[str(400_000_000 + index)] = {
            "id": 400_000_000 + index,
            "name": f"{instance}-{group}-{index}",
            "region": catalog.DEFAULT_REGION,
            "size": sizes[index % len(sizes)],
            "image": images[index % len(images)],
            "status": "active",
            "locked": False,
            "created_at": "2026-01-15T09:30:00Z",
            "features": ["monitoring", "private_networking", "droplet_agent"],
            "tags": [f"{instance}-{group}", f"shard:{index % 16}", "env:bench"],
            "vpc_uuid": vpc["id"],
            "addresses": {
                "public": f"203.{index >> 16 & 255}.{index >> 8 & 255}.{index & 255}",
                "private": str(api.private[index % (api.private.num_addresses - 2) + 1]),
            },
            "public_networking": True,
            "ssh_keys": [],
            "user_data": None,
        }
    for droplet in api.synthetic.values():
        for tag in droplet["tags"]:
            api.add_tag(tag)

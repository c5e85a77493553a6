"""Account, SSH keys, regions, sizes, images, tags and projects."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid

from lab.emulators.common import Call, JsonObject, Reply, Routes, now
from lab.emulators.digitalocean import catalog
from lab.emulators.digitalocean.api import DigitalOcean, unprocessable

routes = Routes()

_TAG = re.compile(r"[a-zA-Z0-9_\-:]{1,255}")


@routes.get("/v2/account", "account:read")
def account(api: DigitalOcean, _call: Call) -> Reply:
    return Reply(
        200,
        {
            "account": {
                "droplet_limit": 25,
                "floating_ip_limit": 3,
                "reserved_ip_limit": 3,
                "volume_limit": 100,
                "name": "Lab",
                "email": "admin@social.test",
                "uuid": api.state.account_uuid,
                "email_verified": True,
                "status": "active",
                "status_message": "",
                "team": {"uuid": api.state.account_uuid, "name": "Lab"},
            }
        },
    )


@routes.get("/v2/account/keys", "ssh_key:read")
def list_keys(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "ssh_keys", list(api.state.keys.values()))


@routes.post("/v2/account/keys", "ssh_key:create")
def create_key(api: DigitalOcean, call: Call) -> Reply:
    body = call.json()
    name, text = body.get("name"), body.get("public_key")
    if not isinstance(name, str) or not name:
        raise unprocessable("Name can't be blank")
    try:
        blob = base64.b64decode(str(text).split()[1], validate=True)
    except (IndexError, binascii.Error):
        raise unprocessable("Key invalid, key should be of the format `type key [comment]`") from None
    digest = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    fingerprint = ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))
    if any(key["fingerprint"] == fingerprint for key in api.state.keys.values()):
        raise unprocessable("SSH Key is already in use on your account")
    identifier = api.state.next_key
    api.state.next_key += 1
    key = {"id": identifier, "fingerprint": fingerprint, "public_key": str(text).strip(), "name": name}
    api.state.keys[str(identifier)] = key
    return Reply(201, {"ssh_key": key})


def _key(api: DigitalOcean, call: Call) -> JsonObject:
    wanted = call.params["identifier"]
    for key in api.state.keys.values():
        if wanted in (str(key["id"]), key["fingerprint"]):
            return key
    raise api.not_found()


@routes.get("/v2/account/keys/{identifier}", "ssh_key:read")
def get_key(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"ssh_key": _key(api, call)})


@routes.delete("/v2/account/keys/{identifier}", "ssh_key:delete")
def delete_key(api: DigitalOcean, call: Call) -> Reply:
    del api.state.keys[str(_key(api, call)["id"])]
    return Reply(204)


@routes.get("/v2/regions", "regions:read")
def list_regions(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "regions", list(catalog.REGIONS.values()))


@routes.get("/v2/sizes", "sizes:read", "regions:read")
def list_sizes(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "sizes", list(catalog.SIZES.values()))


@routes.get("/v2/images", "image:read")
def list_images(api: DigitalOcean, call: Call) -> Reply:
    images = list(catalog.IMAGES.values())
    # neither applications nor own images exist in the lab, so none is private or tagged
    if call.query.get("type", "distribution") != "distribution":
        images = []
    if call.query.get("private", "false").lower() == "true" or call.query.get("tag_name"):
        images = []
    return api.page(call, "images", images)


@routes.get("/v2/images/{image}", "image:read")
def get_image(api: DigitalOcean, call: Call) -> Reply:
    image = catalog.image(call.params["image"])
    if image is None:
        raise api.not_found()
    return Reply(200, {"image": image})


@routes.get("/v2/snapshots", "snapshot:read")
def list_snapshots(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "snapshots", [])


# tags


def _show_tag(api: DigitalOcean, tag: JsonObject) -> JsonObject:
    def resources(items: list[str]) -> JsonObject:
        return {"count": len(items)} | ({"last_tagged_uri": items[-1]} if items else {})

    droplets = [f"https://api.digitalocean.com/v2/droplets/{d['id']}" for d in api.tagged(tag["name"])]
    databases = [
        f"https://api.digitalocean.com/v2/databases/{database['id']}"
        for database in api.state.databases.values()
        if tag["name"] in database["tags"]
    ]
    return {
        "name": tag["name"],
        "resources": {
            **resources(databases + droplets),
            "droplets": resources(droplets),
            "images": resources([]),
            "volumes": resources([]),
            "volume_snapshots": resources([]),
            "databases": resources(databases),
        },
    }


@routes.get("/v2/tags", "tag:read")
def list_tags(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "tags", list(api.state.tags.values()), lambda tag: _show_tag(api, tag))


@routes.post("/v2/tags", "tag:create")
def create_tag(api: DigitalOcean, call: Call) -> Reply:
    name = call.json().get("name")
    if not isinstance(name, str) or not _TAG.fullmatch(name):
        raise unprocessable(f"Error validating resource tag: tag-name {name!r} contains invalid characters")
    api.add_tag(name)
    return Reply(201, {"tag": _show_tag(api, api.state.tags[name])})


@routes.get("/v2/tags/{tag}", "tag:read")
def get_tag(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"tag": _show_tag(api, api.need(api.state.tags, call.params["tag"]))})


@routes.delete("/v2/tags/{tag}", "tag:delete")
def delete_tag(api: DigitalOcean, call: Call) -> Reply:
    name = call.params["tag"]
    api.need(api.state.tags, name)
    del api.state.tags[name]
    for resource in [*api.all_droplets(), *api.state.databases.values(), *api.state.firewalls.values()]:
        if name in resource["tags"]:
            resource["tags"].remove(name)
    api.members_changed()
    return Reply(204)


@routes.post("/v2/tags/{tag}/resources", "tag:create")
def tag_resources(api: DigitalOcean, call: Call) -> Reply:
    tag = api.need(api.state.tags, call.params["tag"])["name"]
    for resource in _resources(api, call):
        if tag not in resource["tags"]:
            resource["tags"].append(tag)
    api.members_changed()
    return Reply(204)


@routes.delete("/v2/tags/{tag}/resources", "tag:delete")
def untag_resources(api: DigitalOcean, call: Call) -> Reply:
    tag = api.need(api.state.tags, call.params["tag"])["name"]
    for resource in _resources(api, call):
        if tag in resource["tags"]:
            resource["tags"].remove(tag)
    api.members_changed()
    return Reply(204)


def _resources(api: DigitalOcean, call: Call) -> list[JsonObject]:
    """The resources a call names, all of them or Problem: a list with one stranger changes nothing."""
    entries = call.json(resources=[dict]).get("resources")
    if not entries:
        raise unprocessable("resources has to be a list of resource_id and resource_type")
    found = []
    for entry in entries:
        kind, identifier = entry.get("resource_type"), str(entry.get("resource_id"))
        if kind == "droplet":
            table = api.synthetic if identifier in api.synthetic else api.state.droplets
        elif kind == "database":
            table = api.state.databases
        else:
            raise unprocessable(f"the lab can not tag a resource of the type {kind}")
        # beside tag:create or tag:delete
        api.need_scope(call, f"{kind}:update")
        found.append(api.need(table, identifier))
    return found


# projects: every account has one, and everything is in it


def default_project(api: DigitalOcean) -> JsonObject:
    if not api.state.projects:
        identifier = str(uuid.uuid4())
        api.state.projects[identifier] = {
            "id": identifier,
            "owner_uuid": api.state.account_uuid,
            "owner_id": 258992,
            "name": "lab",
            "description": "Everything in the lab",
            "purpose": "Just trying out DigitalOcean",
            "environment": "Development",
            "created_at": now(),
            "updated_at": now(),
            "is_default": True,
        }
    return next(iter(api.state.projects.values()))


@routes.get("/v2/projects", "project:read")
def list_projects(api: DigitalOcean, call: Call) -> Reply:
    return api.page(call, "projects", [default_project(api)])


@routes.get("/v2/projects/default", "project:read")
def get_default_project(api: DigitalOcean, _call: Call) -> Reply:
    return Reply(200, {"project": default_project(api)})


def _urns(api: DigitalOcean) -> dict[str, str]:
    """URN and creation time of every resource."""
    tables = {
        "droplet": api.state.droplets,
        "loadbalancer": api.state.load_balancers,
        "dbaas": api.state.databases,
    }
    return {
        f"do:{kind}:{identifier}": resource["created_at"]
        for kind, table in tables.items()
        for identifier, resource in table.items()
    }


def _project(api: DigitalOcean, call: Call) -> JsonObject:
    default_project(api)
    return api.need(api.state.projects, call.params["project"])


@routes.get("/v2/projects/{project}/resources", "project:read")
def list_project_resources(api: DigitalOcean, call: Call) -> Reply:
    _project(api, call)
    entries = [
        {"urn": urn, "assigned_at": at, "links": {"self": call.base_url}, "status": "ok"}
        for urn, at in _urns(api).items()
    ]
    return api.page(call, "resources", entries)


@routes.post("/v2/projects/{project}/resources", "project:assign_resource")
def assign_project_resources(api: DigitalOcean, call: Call) -> Reply:
    _project(api, call)
    known = _urns(api)
    entries = [
        {
            "urn": urn,
            "assigned_at": now(),
            "links": {"self": call.base_url},
            "status": "already_assigned" if urn in known else "not_found",
        }
        for urn in call.json(resources=[str]).get("resources") or []
    ]
    return Reply(200, {"resources": entries})

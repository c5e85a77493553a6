"""Managed database clusters: PostgreSQL with pools, Valkey."""

from __future__ import annotations

import base64
import copy
import functools
import re
import secrets
import urllib.parse
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from lab.cloud import CloudError, DatabaseState
from lab.emulators.common import Call, JsonObject, Problem, Reply, Routes, now
from lab.emulators.digitalocean import catalog
from lab.emulators.digitalocean.account import default_project
from lab.emulators.digitalocean.api import DigitalOcean, log, unprocessable

routes = Routes()

Change = Callable[[DigitalOcean, Call], Awaitable[Reply]]

_CLUSTER = "/v2/databases/{cluster}"
_NAME = re.compile(r"[a-z][a-z0-9-]{2,62}")
_ITEM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]{0,62}")
_POOL = re.compile(r"[A-Za-z0-9_\-]{3,60}")
_RULES = ("droplet", "k8s", "ip_addr", "tag", "app")
_EVICTION = (
    "noeviction",
    "allkeys_lru",
    "allkeys_random",
    "volatile_lru",
    "volatile_random",
    "volatile_ttl",
)

_REDIS_GONE = "Caching cluster creates are no longer supported. Please create a Valkey cluster instead."

# Defaults of the vendor's document. A PATCH outside of these keys is refused: a misspelt one would pass
# the document, which allows any.
_CONFIG: dict[str, JsonObject] = {
    "pg": {
        "backup_hour": 3,
        "backup_minute": 30,
        "idle_in_transaction_session_timeout": 0,
        "log_min_duration_statement": -1,
        "max_parallel_workers": 8,
        "shared_buffers_percentage": 20,
        "synchronous_replication": "off",
        "timezone": "UTC",
        "work_mem": 4,
    },
    "valkey": {
        "valkey_acl_channels_default": "allchannels",
        "valkey_io_threads": 1,
        "valkey_lfu_decay_time": 1,
        "valkey_lfu_log_factor": 10,
        "valkey_maxmemory_policy": "noeviction",
        "valkey_notify_keyspace_events": "",
        "valkey_persistence": "rdb",
        "valkey_pubsub_client_output_buffer_limit": 64,
        "valkey_ssl": True,
        "valkey_timeout": 300,
    },
}


def _connection(
    cluster: JsonObject,
    *,
    private: bool,
    database: str | None = None,
    port: int | None = None,
    user: str | None = None,
    hide: bool = False,
) -> JsonObject:
    """A connection object. `hide` leaves the password out, for a token without `view_credentials`."""
    endpoint = cluster["endpoint"]
    host = endpoint["private_host" if private else "host"]
    port = port or endpoint["port"]
    user = user or endpoint["user"]
    password = "" if hide else _password(cluster, user)
    database = endpoint["database"] if database is None else database
    credentials = f"{user}:{urllib.parse.quote(password, safe='')}" if password else user
    uri = (
        f"postgresql://{credentials}@{host}:{port}/{database}?sslmode=require"
        if cluster["engine"] == "pg"
        else f"rediss://{credentials}@{host}:{port}"
    )
    return {
        "protocol": "postgresql" if cluster["engine"] == "pg" else "rediss",
        "uri": uri,
        "database": database,
        "host": host,
        "port": port,
        "user": user,
        "password": password,
        "ssl": True,
    }


def _password(cluster: JsonObject, user: str) -> str:
    if user == cluster["endpoint"]["user"]:
        return str(cluster["endpoint"]["password"])
    return str(cluster["users"].get(user, ""))


def show(api: DigitalOcean, call: Call, cluster: JsonObject) -> JsonObject:
    hide = not api.can(call, "database:view_credentials")
    shown = {
        key: cluster[key]
        for key in (
            "id",
            "name",
            "engine",
            "version",
            "num_nodes",
            "size",
            "region",
            "status",
            "created_at",
            "private_network_uuid",
            "tags",
            "project_id",
            "storage_size_mib",
        )
    }
    shown |= {
        "semantic_version": cluster["version"] + (".0" if cluster["engine"] == "pg" else ".1.0"),
        "maintenance_window": cluster["maintenance"],
        "rules": cluster["rules"],
    }
    if cluster["endpoint"]:
        shown |= {
            "connection": _connection(cluster, private=False, hide=hide),
            "private_connection": _connection(cluster, private=True, hide=hide),
            "users": _users(cluster, hide),
        }
        if cluster["engine"] == "pg":
            shown["db_names"] = [cluster["endpoint"]["database"], *cluster["dbs"]]
    return shown


@routes.get("/v2/databases/options", "database:read")
def options(_api: DigitalOcean, _call: Call) -> Reply:
    availability = {
        engine: [
            {
                "end_of_life": None,
                "end_of_availability": None,
                "version": version,
                "default": version == about["default_version"],
            }
            for version in about["versions"]
        ]
        for engine, about in catalog.DATABASES.items()
    }
    return Reply(200, {"options": catalog.DATABASES, "version_availability": availability})


@routes.get("/v2/databases", "database:read")
def list_clusters(api: DigitalOcean, call: Call) -> Reply:
    tag = call.query.get("tag_name")
    found = [c for c in api.state.databases.values() if tag in (None, *c["tags"])]
    # the vendor has no paging here
    return Reply(200, {"databases": [show(api, call, cluster) for cluster in found]})


@routes.post("/v2/databases", "database:create")
def create(api: DigitalOcean, call: Call) -> Reply:
    body = call.json(
        engine=str,
        version=(str, int),
        region=str,
        size=str,
        num_nodes=int,
        private_network_uuid=str,
        project_id=str,
        storage_size_mib=int,
        tags=[str],
        rules=[dict],
    )
    engine, name = body.get("engine"), body.get("name")
    if engine == "redis":
        raise unprocessable(_REDIS_GONE)
    if engine in catalog.REFUSED_ENGINES:
        raise unprocessable(f"The lab has no {engine} clusters.")
    if engine not in catalog.DATABASES:
        raise unprocessable("invalid engine")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise unprocessable("invalid cluster name: 3 to 63 lower case letters, digits and dashes")
    if any(cluster["name"] == name for cluster in api.state.databases.values()):
        raise unprocessable("cluster name is not available")
    about = catalog.DATABASES[engine]
    version = str(body.get("version") or about["default_version"])
    if version not in about["versions"]:
        raise unprocessable("invalid cluster engine version")
    region, size, nodes = body.get("region"), body.get("size"), body.get("num_nodes")
    api.region(region, "the database cluster")
    _layout(engine, size, nodes)
    network = body.get("private_network_uuid")
    vpc = api.state.vpcs.get(network) if network else api.default_vpc(str(region))
    if vpc is None or vpc["region"] != region:
        raise unprocessable(f"private_network_uuid {network} is no VPC in {region}")
    for tag in body.get("tags") or []:
        api.add_tag(tag)
    identifier = str(uuid.uuid4())
    cluster = {
        "id": identifier,
        "name": name,
        "engine": engine,
        "version": version,
        "num_nodes": nodes,
        "size": size,
        "region": region,
        "status": "creating",
        "created_at": now(),
        "private_network_uuid": vpc["id"],
        "tags": list(body.get("tags") or []),
        "project_id": body.get("project_id") or default_project(api)["id"],
        "storage_size_mib": body.get("storage_size_mib") or 10240 * catalog.database_memory_gib(str(size)),
        "maintenance": {"day": "tuesday", "hour": "14:00", "pending": False, "description": []},
        "rules": [_rule(identifier, rule) for rule in body.get("rules") or []],
        "config": dict(_CONFIG[engine]),
        "endpoint": None,
        "dbs": [],
        "users": {},
        "pools": [],
        "events": [_event(name, "cluster_create")],
    }
    api.state.databases[identifier] = cluster
    api.spawn(_build(api, cluster))
    return Reply(201, {"database": show(api, call, cluster)})


def _layout(engine: str, size: Any, nodes: Any) -> None:
    layouts = {layout["num_nodes"]: layout["sizes"] for layout in catalog.DATABASES[engine]["layouts"]}
    if nodes not in layouts:
        raise unprocessable("invalid number of nodes")
    if size not in layouts[nodes]:
        raise unprocessable("invalid size for this number of nodes")


def _event(name: str, kind: str) -> JsonObject:
    return {
        "id": secrets.token_hex(4),
        "cluster_name": name,
        "event_type": kind,
        "create_time": now(),
    }


async def _build(api: DigitalOcean, cluster: JsonObject) -> None:
    """Make the cluster real. The API has no word for one that fails: it stays `creating`."""
    identifier = cluster["id"]

    async def build() -> None:
        async with api.turn(identifier).lock:
            if identifier not in api.state.databases:
                return
            create = api.in_cloud(
                api.cloud.create_database,
                identifier,
                cluster["name"],
                cluster["engine"],
                cluster["version"],
            )
            cluster["endpoint"] = vars(await api.take_time(create))
            await api.in_cloud(api.cloud.apply_database, identifier, _wanted(cluster))
            cluster["status"] = "online"
            api.save()

    await api.insist(f"database cluster {cluster['name']}", build)


def _wanted(cluster: JsonObject) -> DatabaseState:
    return DatabaseState(
        dbs=tuple(cluster["dbs"]), users=dict(cluster["users"]), pools=tuple(cluster["pools"])
    )


def _cluster(api: DigitalOcean, call: Call) -> JsonObject:
    return api.need(api.state.databases, call.params["cluster"])


def _online(api: DigitalOcean, call: Call, *engines: str) -> JsonObject:
    """The call's cluster, ready to be changed. Raises Problem 404, or 412/422 where it is not."""
    cluster = _cluster(api, call)
    if not cluster["endpoint"]:
        raise Problem(412, "precondition_failed", "cluster is not ready: it is being created")
    if engines and cluster["engine"] not in engines:
        raise Problem(412, "precondition_failed", f"not supported for {cluster['engine']} clusters")
    return cluster


def _in_turn(handler: Change) -> Change:
    """Let changes of a cluster follow each other: each sees, and may undo, only its own."""

    @functools.wraps(handler)
    async def wrapped(api: DigitalOcean, call: Call) -> Reply:
        _online(api, call)  # a cluster in the making is refused at once, not waited for
        async with api.turn(call.params["cluster"]).lock:
            return await handler(api, call)

    return wrapped


async def _change(api: DigitalOcean, cluster: JsonObject, change: Callable[[], None]) -> None:
    """Change a cluster's dbs, users or pools, and the real thing before the call is answered.

    When the Cloud refuses, nothing has changed and the answer is 500 with its sentence.
    """
    before = {key: copy.deepcopy(cluster[key]) for key in ("dbs", "users", "pools")}
    change()
    try:
        await api.in_cloud(api.cloud.apply_database, cluster["id"], _wanted(cluster))
    except CloudError as error:
        log.error("database cluster %s: %s", cluster["name"], error)
        cluster |= before
        raise Problem(500, "server_error", str(error)) from error


@routes.get(_CLUSTER, "database:read")
def get(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"database": show(api, call, _cluster(api, call))})


@routes.delete(_CLUSTER, "database:delete")
def delete(api: DigitalOcean, call: Call) -> Reply:
    identifier = _cluster(api, call)["id"]
    del api.state.databases[identifier]
    api.state.doomed.append(["database", identifier])
    api.spawn(_erase(api, identifier))
    return Reply(204)


async def _erase(api: DigitalOcean, identifier: str) -> None:
    async def erase() -> None:
        async with api.turn(identifier).lock:
            await api.in_cloud(api.cloud.delete_database, identifier)

    what = f"delete of database cluster {identifier}"
    await api.insist(what, erase, lambda: api.forget("database", identifier))


@routes.put(_CLUSTER + "/resize", "database:update")
def resize(api: DigitalOcean, call: Call) -> Reply:
    cluster, body = _online(api, call), call.json(size=str, num_nodes=int, storage_size_mib=int)
    _layout(cluster["engine"], body.get("size"), body.get("num_nodes"))
    cluster |= {"size": body["size"], "num_nodes": body["num_nodes"], "status": "resizing"}
    if body.get("storage_size_mib"):
        cluster["storage_size_mib"] = body["storage_size_mib"]
    cluster["events"].append(_event(cluster["name"], "cluster_update"))
    api.spawn(_back_online(api, cluster))
    return Reply(202)


async def _back_online(api: DigitalOcean, cluster: JsonObject) -> None:
    async def nothing() -> None:
        return None

    await api.take_time(nothing())
    cluster["status"] = "online"
    api.save()


@routes.put(_CLUSTER + "/maintenance", "database:update")
def maintenance(api: DigitalOcean, call: Call) -> Reply:
    cluster, body = _cluster(api, call), call.json(day=str, hour=str)
    if not body.get("day") or not body.get("hour"):
        raise unprocessable("day and hour are required")
    cluster["maintenance"] |= {"day": body["day"], "hour": body["hour"]}
    return Reply(204)


@routes.get(_CLUSTER + "/ca", "database:read")
def authority(api: DigitalOcean, call: Call) -> Reply:
    pem = _online(api, call)["endpoint"]["ca"]
    return Reply(200, {"ca": {"certificate": base64.b64encode(pem.encode()).decode()}})


@routes.get(_CLUSTER + "/backups", "database:read")
def backups(api: DigitalOcean, call: Call) -> Reply:
    _online(api, call, "pg")
    return Reply(200, {"backups": []})


@routes.get(_CLUSTER + "/events", "database:read")
def events(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"events": _cluster(api, call)["events"]})


@routes.get(_CLUSTER + "/replicas", "database:read")
def replicas(api: DigitalOcean, call: Call) -> Reply:
    _cluster(api, call)
    return Reply(200, {"replicas": []})


# configuration


@routes.get(_CLUSTER + "/config", "database:read")
def get_config(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"config": _cluster(api, call)["config"]})


@routes.patch(_CLUSTER + "/config", "database:update")
def patch_config(api: DigitalOcean, call: Call) -> Reply:
    cluster, wanted = _online(api, call), call.json().get("config")
    if not isinstance(wanted, dict):
        raise unprocessable("config has to be an object")
    unknown = set(wanted) - set(_CONFIG[cluster["engine"]])
    if unknown:
        raise unprocessable(f"config of a {cluster['engine']} cluster knows no {', '.join(sorted(unknown))}")
    cluster["config"] |= wanted
    return Reply(200, {"config": cluster["config"]})


@routes.get(_CLUSTER + "/eviction_policy", "database:read")
def get_eviction_policy(api: DigitalOcean, call: Call) -> Reply:
    cluster = _online(api, call, "valkey")
    return Reply(200, {"eviction_policy": cluster["config"]["valkey_maxmemory_policy"]})


@routes.put(_CLUSTER + "/eviction_policy", "database:update")
def put_eviction_policy(api: DigitalOcean, call: Call) -> Reply:
    cluster, policy = _online(api, call, "valkey"), call.json(eviction_policy=str).get("eviction_policy")
    if policy not in _EVICTION:
        raise unprocessable(f"eviction_policy {policy!r} is none of {', '.join(_EVICTION)}")
    cluster["config"]["valkey_maxmemory_policy"] = policy
    return Reply(204)


# trusted sources: kept and shown, not enforced


@routes.get(_CLUSTER + "/firewall", "database:read")
def get_firewall(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"rules": _cluster(api, call)["rules"]})


@routes.put(_CLUSTER + "/firewall", "database:update")
def put_firewall(api: DigitalOcean, call: Call) -> Reply:
    cluster, rules = _cluster(api, call), call.json(rules=[dict]).get("rules")
    if rules is None:
        raise unprocessable("rules has to be a list")
    cluster["rules"] = [_rule(cluster["id"], rule) for rule in rules]
    return Reply(204)


def _rule(cluster: str, rule: JsonObject) -> JsonObject:
    if rule.get("type") not in _RULES or not rule.get("value"):
        raise unprocessable(f"a rule has a type ({', '.join(_RULES)}) and a value, not {rule!r}")
    kept: JsonObject = {key: rule[key] for key in ("type", "value", "description") if key in rule}
    return {
        "uuid": rule.get("uuid") or str(uuid.uuid4()),
        "cluster_uuid": cluster,
        "created_at": now(),
        **kept,
    }


# dbs


@routes.get(_CLUSTER + "/dbs", "database:read")
def list_dbs(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"dbs": [{"name": name} for name in _dbs(_online(api, call, "pg"))]})


def _dbs(cluster: JsonObject) -> list[str]:
    return [cluster["endpoint"]["database"], *cluster["dbs"]]


@routes.post(_CLUSTER + "/dbs", "database:create")
@_in_turn
async def create_db(api: DigitalOcean, call: Call) -> Reply:
    cluster, name = _online(api, call, "pg"), call.json().get("name")
    if not isinstance(name, str) or not _ITEM.fullmatch(name):
        raise unprocessable("invalid database name")
    if name in _dbs(cluster):
        raise unprocessable("database name is not available")
    await _change(api, cluster, lambda: cluster["dbs"].append(name))
    return Reply(201, {"db": {"name": name}})


@routes.get(_CLUSTER + "/dbs/{db}", "database:read")
def get_db(api: DigitalOcean, call: Call) -> Reply:
    if call.params["db"] not in _dbs(_online(api, call, "pg")):
        raise api.not_found()
    return Reply(200, {"db": {"name": call.params["db"]}})


@routes.delete(_CLUSTER + "/dbs/{db}", "database:delete")
@_in_turn
async def delete_db(api: DigitalOcean, call: Call) -> Reply:
    cluster, name = _online(api, call, "pg"), call.params["db"]
    if name not in cluster["dbs"]:
        raise api.not_found()
    if any(pool["db"] == name for pool in cluster["pools"]):
        raise unprocessable("database is used by a connection pool")
    await _change(api, cluster, lambda: cluster["dbs"].remove(name))
    return Reply(204)


# users


def _users(cluster: JsonObject, hide: bool) -> list[JsonObject]:
    primary = cluster["endpoint"]["user"]
    users = [{"name": primary, "role": "primary"}]
    users += [{"name": name, "role": "normal"} for name in cluster["users"]]
    if not hide:
        for user in users:
            user["password"] = _password(cluster, user["name"])
    return users


def _user(api: DigitalOcean, call: Call, cluster: JsonObject, name: str) -> JsonObject:
    hide = not api.can(call, "database:view_credentials")
    for user in _users(cluster, hide):
        if user["name"] == name:
            return user
    raise api.not_found()


@routes.get(_CLUSTER + "/users", "database:read")
def list_users(api: DigitalOcean, call: Call) -> Reply:
    hide = not api.can(call, "database:view_credentials")
    return Reply(200, {"users": _users(_online(api, call, "pg"), hide)})


@routes.post(_CLUSTER + "/users", "database:create")
@_in_turn
async def create_user(api: DigitalOcean, call: Call) -> Reply:
    cluster, name = _online(api, call, "pg"), call.json().get("name")
    if not isinstance(name, str) or not _ITEM.fullmatch(name):
        raise unprocessable("invalid user name")
    if name in cluster["users"] or name == cluster["endpoint"]["user"]:
        raise unprocessable("user name is not available")
    password = _new_password()
    await _change(api, cluster, lambda: cluster["users"].update({name: password}))
    return Reply(201, {"user": _user(api, call, cluster, name)})


def _new_password() -> str:
    return "AVNS_" + secrets.token_urlsafe(14)


@routes.get(_CLUSTER + "/users/{user}", "database:read")
def get_user(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"user": _user(api, call, _online(api, call, "pg"), call.params["user"])})


@routes.delete(_CLUSTER + "/users/{user}", "database:delete")
@_in_turn
async def delete_user(api: DigitalOcean, call: Call) -> Reply:
    cluster, name = _online(api, call, "pg"), call.params["user"]
    if name not in cluster["users"]:
        raise api.not_found()
    if any(pool["user"] == name for pool in cluster["pools"]):
        raise unprocessable("user is used by a connection pool")
    await _change(api, cluster, lambda: cluster["users"].pop(name))
    return Reply(204)


@routes.post(_CLUSTER + "/users/{user}/reset_auth", "database:update")
@_in_turn
async def reset_password(api: DigitalOcean, call: Call) -> Reply:
    cluster, name = _online(api, call, "pg"), call.params["user"]
    if name == cluster["endpoint"]["user"]:
        raise unprocessable("The lab can not reset the password of the primary user.")
    if name not in cluster["users"]:
        raise api.not_found()
    password = _new_password()
    await _change(api, cluster, lambda: cluster["users"].update({name: password}))
    return Reply(200, {"user": _user(api, call, cluster, name)})


# pools


def _show_pool(api: DigitalOcean, call: Call, cluster: JsonObject, pool: JsonObject) -> JsonObject:
    hide = not api.can(call, "database:view_credentials")
    where: dict[str, Any] = {
        "database": pool["name"],
        "port": cluster["endpoint"]["pool_port"],
        "user": pool["user"],
        "hide": hide,
    }
    return pool | {
        "connection": _connection(cluster, private=False, **where),
        "private_connection": _connection(cluster, private=True, **where),
    }


_POOL_KEYS: dict[str, type] = {"mode": str, "size": int, "db": str, "user": str}


def _read_pool(cluster: JsonObject, body: JsonObject, name: Any) -> JsonObject:
    """What a create or update call wants. Raises Problem 422."""
    if not isinstance(name, str) or not _POOL.fullmatch(name):
        raise unprocessable("invalid pool name: 3 to 60 letters, digits, dashes and underscores")
    if body.get("mode") not in ("session", "transaction", "statement"):
        raise unprocessable("mode has to be session, transaction or statement")
    if body.get("db") not in _dbs(cluster):
        raise unprocessable(f"database {body.get('db')} does not exist")
    user = body.get("user") or cluster["endpoint"]["user"]
    if user not in cluster["users"] and user != cluster["endpoint"]["user"]:
        raise unprocessable(f"user {user} does not exist")
    size = body.get("size")
    # 25 connections per GB of memory, three of them kept for the vendor, shared by all pools
    most = 25 * catalog.database_memory_gib(cluster["size"]) - 3
    others = sum(pool["size"] for pool in cluster["pools"] if pool["name"] != name)
    if not isinstance(size, int) or size < 1 or others + size > most:
        raise unprocessable(f"size has to be from 1 to {most - others}, the connections that are left")
    return {"name": name, "mode": body["mode"], "size": size, "db": body["db"], "user": user}


def _pool(api: DigitalOcean, call: Call, cluster: JsonObject) -> JsonObject:
    for pool in cluster["pools"]:
        if pool["name"] == call.params["pool"]:
            return dict(pool)
    raise api.not_found()


@routes.get(_CLUSTER + "/pools", "database:read")
def list_pools(api: DigitalOcean, call: Call) -> Reply:
    cluster = _online(api, call, "pg")
    return Reply(200, {"pools": [_show_pool(api, call, cluster, pool) for pool in cluster["pools"]]})


@routes.post(_CLUSTER + "/pools", "database:create")
@_in_turn
async def create_pool(api: DigitalOcean, call: Call) -> Reply:
    cluster, body = _online(api, call, "pg"), call.json(**_POOL_KEYS)
    pool = _read_pool(cluster, body, body.get("name"))
    if any(other["name"] == pool["name"] for other in cluster["pools"]):
        raise unprocessable("pool name is not available")
    await _change(api, cluster, lambda: cluster["pools"].append(pool))
    return Reply(201, {"pool": _show_pool(api, call, cluster, pool)})


@routes.get(_CLUSTER + "/pools/{pool}", "database:read")
def get_pool(api: DigitalOcean, call: Call) -> Reply:
    cluster = _online(api, call, "pg")
    return Reply(200, {"pool": _show_pool(api, call, cluster, _pool(api, call, cluster))})


@routes.put(_CLUSTER + "/pools/{pool}", "database:update")
@_in_turn
async def update_pool(api: DigitalOcean, call: Call) -> Reply:
    cluster = _online(api, call, "pg")
    before = _pool(api, call, cluster)
    wanted = _read_pool(cluster, call.json(**_POOL_KEYS), before["name"])

    def change() -> None:
        cluster["pools"] = [wanted if p["name"] == wanted["name"] else p for p in cluster["pools"]]

    await _change(api, cluster, change)
    return Reply(204)


@routes.delete(_CLUSTER + "/pools/{pool}", "database:delete")
@_in_turn
async def delete_pool(api: DigitalOcean, call: Call) -> Reply:
    cluster = _online(api, call, "pg")
    gone = _pool(api, call, cluster)["name"]

    def change() -> None:
        cluster["pools"] = [pool for pool in cluster["pools"] if pool["name"] != gone]

    await _change(api, cluster, change)
    return Reply(204)


def resume(api: DigitalOcean) -> None:
    """Take up what was under way, and bring every cluster to the state it shall have."""
    for cluster in api.state.databases.values():
        # also those that were online: their machine may have gone with the lab's last run
        api.spawn(_build(api, cluster))
    for kind, identifier in list(api.state.doomed):
        if kind == "database":
            api.spawn(_erase(api, identifier))

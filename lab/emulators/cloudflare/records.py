"""DNS records: one by one and as a batch."""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Callable
from typing import Any

from lab.emulators.cloudflare.api import PREFIX, Cloudflare, new_id, refuse, timestamp
from lab.emulators.common import Call, JsonObject, Reply, Routes

routes = Routes()

_ZONE = PREFIX + "/zones/{zone}"
_RECORDS = _ZONE + "/dns_records"

_PROXIABLE = ("A", "AAAA", "CNAME")
_WITH_CONTENT = ("A", "AAAA", "CNAME", "MX", "NS", "OPENPGPKEY", "PTR", "TXT")
_WITH_DATA: dict[str, Callable[[JsonObject], str]] = {
    "CAA": lambda d: f'{d["flags"]} {d["tag"]} "{d["value"]}"',
    "SRV": lambda d: f"{d['weight']} {d['port']} {d['target']}",
    "HTTPS": lambda d: f"{d['priority']} {d['target']} {d.get('value', '')}".rstrip(),
    "SVCB": lambda d: f"{d['priority']} {d['target']} {d.get('value', '')}".rstrip(),
    "TLSA": lambda d: f"{d['usage']} {d['selector']} {d['matching_type']} {d['certificate']}",
    "SSHFP": lambda d: f"{d['algorithm']} {d['type']} {d['fingerprint']}",
    "DS": lambda d: f"{d['key_tag']} {d['algorithm']} {d['digest_type']} {d['digest']}",
}
"""Record types that are written as `data`, and how their `content` is made of it."""

_LABEL = re.compile(r"(\*|[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)")
_STRING = 255
"""Longest character string of a TXT record (RFC 1035); Cloudflare splits longer ones."""

_OWN = ("name", "type", "content", "data", "priority", "ttl", "proxied", "comment", "tags", "settings")


def normalise(zone: str, body: JsonObject) -> JsonObject:
    """A record as Cloudflare keeps it, from what was sent. Raises Problem 400.

    Names become lower case and full; a proxied record's TTL is 1; TXT content is quoted; addresses are
    written canonically; host names lose the final dot.
    """
    for key, wanted in (("tags", list), ("settings", dict), ("comment", str), ("proxied", bool)):
        if body.get(key) is not None and not isinstance(body[key], wanted):
            raise refuse(9207, f"{key} can not be {body[key]!r}")
    kind = str(body.get("type", "")).upper()
    if kind not in _WITH_CONTENT and kind not in _WITH_DATA:
        raise refuse(9002, f"Invalid record type: {body.get('type')!r}")
    record: JsonObject = {"name": _name(zone, body.get("name")), "type": kind}
    if kind in _WITH_DATA:
        data = body.get("data")
        try:
            record |= {"data": data, "content": _WITH_DATA[kind](data if isinstance(data, dict) else {})}
        except KeyError as error:
            raise refuse(9101, f"{error.args[0]} is a required data field.") from None
    else:
        record["content"] = _content(kind, body.get("content"))
    if kind == "CNAME" and record["content"] == record["name"]:
        raise refuse(9039, "CNAME content cannot reference itself.")
    priority = record["data"].get("priority") if kind == "SRV" else body.get("priority")
    if kind in ("MX", "SRV"):
        if not isinstance(priority, int) or not 0 <= priority <= 65535:
            raise refuse(9100, f"priority is a required field of a {kind} record, from 0 to 65535.")
        record["priority"] = priority
    proxied = body.get("proxied", False)
    if proxied and kind not in _PROXIABLE:
        raise refuse(9004, "This record type cannot be proxied.")
    ttl = body.get("ttl", 1)
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or (ttl != 1 and not 60 <= ttl <= 86400):
        raise refuse(9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
    return record | {
        "proxiable": kind in _PROXIABLE,
        "proxied": bool(proxied),
        "ttl": 1 if proxied else int(ttl),
        "settings": dict(body.get("settings") or {}),
        "comment": body.get("comment") or None,
        "tags": list(body.get("tags") or []),
    }


def _name(zone: str, given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise refuse(9000, "DNS name is invalid.")
    name = given.lower().rstrip(".")
    if name in ("@", zone):
        return zone
    if not name.endswith("." + zone):
        name = f"{name}.{zone}"
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise refuse(9000, "DNS name is invalid.")
    return name


def _content(kind: str, content: Any) -> str:
    if not isinstance(content, str) or not content:
        raise refuse(9000 if kind != "TXT" else 9020, f"Content for {kind} record is invalid.")
    if kind == "A":
        try:
            return str(ipaddress.IPv4Address(content))
        except ValueError:
            raise refuse(9005, "Content for A record must be a valid IPv4 address.") from None
    if kind == "AAAA":
        try:
            return str(ipaddress.IPv6Address(content))
        except ValueError:
            raise refuse(9006, "Content for AAAA record must be a valid IPv6 address.") from None
    if kind == "TXT":
        return _quoted(content)
    if kind in ("CNAME", "MX", "NS", "PTR"):
        host = content.rstrip(".")
        if not all(_LABEL.fullmatch(label) for label in host.lower().split(".")):
            raise refuse(9007, f"Content for {kind} record is invalid.")
        return host
    return content


def _quoted(content: str) -> str:
    """TXT content as quoted character strings of at most 255 bytes."""
    if content.startswith('"') and content.endswith('"') and len(content) > 1:
        return content
    text = content.replace("\\", "\\\\").replace('"', '\\"')
    pieces = [text[start : start + _STRING] for start in range(0, len(text), _STRING)]
    return " ".join(f'"{piece}"' for piece in pieces)


def _check(records: dict[str, JsonObject], record: JsonObject, itself: str | None = None) -> None:
    """Refuse a record that can not stand beside the others, in Cloudflare's words."""
    for identifier, other in records.items():
        if identifier == itself or other["name"] != record["name"]:
            continue
        if other["type"] == record["type"] and other["content"] == record["content"]:
            raise refuse(81058, "An identical record already exists.")
        if record["type"] == "CNAME" and other["type"] in _PROXIABLE:
            raise refuse(81053, "An A, AAAA, or CNAME record with that host already exists.")
        if other["type"] == "CNAME" and record["type"] in _PROXIABLE:
            raise refuse(81054, "A CNAME record with that host already exists.")


def _find(records: dict[str, JsonObject], identifier: Any) -> JsonObject:
    if not isinstance(identifier, str) or identifier not in records:
        raise refuse(81044, "Record does not exist.", 404)
    return records[identifier]


Records = dict[str, JsonObject]


def _post(zone: str, records: Records, body: JsonObject) -> JsonObject:
    record = normalise(zone, body)
    _check(records, record)
    at = timestamp()
    identifier = new_id()
    records[identifier] = {"id": identifier, **record, "meta": {}, "created_on": at, "modified_on": at}
    return records[identifier]


def _put(zone: str, records: Records, identifier: Any, body: JsonObject) -> JsonObject:
    before = _find(records, identifier)
    record = normalise(zone, body)
    _check(records, record, identifier)
    kept = {"id": identifier, "meta": before["meta"], "created_on": before["created_on"]}
    records[identifier] = kept | record | {"modified_on": timestamp()}
    return records[identifier]


def _patch(zone: str, records: Records, identifier: Any, body: JsonObject) -> JsonObject:
    before = _find(records, identifier)
    merged = {key: before[key] for key in _OWN if key in before}
    merged |= {key: value for key, value in body.items() if key in _OWN}
    if "proxied" in body and not body["proxied"] and "ttl" not in body and before["proxied"]:
        merged["ttl"] = 1
    return _put(zone, records, identifier, merged)


def _delete(records: Records, identifier: Any) -> JsonObject:
    _find(records, identifier)
    return records.pop(identifier)


@routes.get(_RECORDS, "dns:read")
def list_records(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)
    found = [record for record in api.state.records[zone["id"]].values() if _wanted(call, record)]
    order = call.query.get("order", "type")
    if order in ("name", "type", "content", "ttl", "proxied"):
        found.sort(key=lambda r: (str(r[order]), r["name"]), reverse=call.query.get("direction") == "desc")
    return api.page(call, found, default=100, most=5_000_000)


def _wanted(call: Call, record: JsonObject) -> bool:
    """Whether a record passes the filters of a list call."""
    tests = []
    for key, value in call.query.multi_items():
        name, _, predicate = key.partition(".")
        if name not in ("name", "type", "content", "comment", "proxied"):
            continue
        actual, wanted = str(record[name] if record[name] is not None else "").lower(), value.lower()
        if name == "content" and record["type"] == "TXT" and not wanted.startswith('"'):
            actual = actual.strip('"')
        tests.append(
            {
                "": actual == wanted,
                "exact": actual == wanted,
                "contains": wanted in actual,
                "startswith": actual.startswith(wanted),
                "endswith": actual.endswith(wanted),
                "present": actual != "",
                "absent": actual == "",
            }.get(predicate, True)
        )
    if call.query.get("match") == "any":
        return not tests or any(tests)
    return all(tests)


@routes.post(_RECORDS, "dns:edit")
def create_record(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)
    return api.ok(_post(zone["name"], api.state.records[zone["id"]], call.json()))


@routes.post(_RECORDS + "/batch", "dns:edit")
def batch(api: Cloudflare, call: Call) -> Reply:
    """Deletes, patches, puts, posts, in this order, all or nothing."""
    zone, body = api.zone(call), call.json(deletes=[dict], patches=[dict], puts=[dict], posts=[dict])
    unknown = set(body) - {"deletes", "patches", "puts", "posts"}
    if unknown:
        raise refuse(9207, f"Unknown operations: {', '.join(sorted(unknown))}")
    name = zone["name"]
    records = copy.deepcopy(api.state.records[zone["id"]])
    result = {
        "deletes": [_delete(records, item.get("id")) for item in body.get("deletes") or []],
        "patches": [_patch(name, records, item.get("id"), item) for item in body.get("patches") or []],
        "puts": [_put(name, records, item.get("id"), item) for item in body.get("puts") or []],
        "posts": [_post(name, records, item) for item in body.get("posts") or []],
    }
    api.state.records[zone["id"]] = records
    return api.ok(result)


@routes.get(_RECORDS + "/{record}", "dns:read")
def get_record(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)
    return api.ok(_find(api.state.records[zone["id"]], call.params["record"]))


@routes.put(_RECORDS + "/{record}", "dns:edit")
def put_record(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)
    return api.ok(_put(zone["name"], api.state.records[zone["id"]], call.params["record"], call.json()))


@routes.patch(_RECORDS + "/{record}", "dns:edit")
def patch_record(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)
    return api.ok(_patch(zone["name"], api.state.records[zone["id"]], call.params["record"], call.json()))


@routes.delete(_RECORDS + "/{record}", "dns:edit")
def delete_record(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)
    return api.ok({"id": _delete(api.state.records[zone["id"]], call.params["record"])["id"]})

"""Rulesets of a zone: enough for cache rules (phase entry points and their rules)."""

from __future__ import annotations

import re
from typing import Any

from lab.emulators.cloudflare.api import PREFIX, Cloudflare, new_id, refuse, timestamp
from lab.emulators.common import Call, JsonObject, Problem, Reply, Routes

routes = Routes()

_ZONE = PREFIX + "/zones/{zone}"
_ENTRY = _ZONE + "/rulesets/phases/{phase}/entrypoint"
_PHASE = re.compile(r"http_[a-z_]+")


def _gone() -> Problem:
    return refuse(10003, "could not find the ruleset", 404)


def _rules(wanted: Any, before: list[JsonObject]) -> list[JsonObject]:
    """Rules as kept: a rule that is sent with the `ref` of one that was there keeps its id."""
    if not isinstance(wanted, list) or not all(isinstance(rule, dict) for rule in wanted):
        raise refuse(20217, "rules has to be a list of rules")
    known = {rule["ref"]: rule for rule in before}
    return [_rule(rule, known.get(rule.get("ref"))) for rule in wanted]


def _rule(wanted: JsonObject, before: JsonObject | None) -> JsonObject:
    for key in ("action", "expression"):
        if not isinstance(wanted.get(key), str) or not wanted[key]:
            raise refuse(20217, f"a rule needs {key}")
    identifier = before["id"] if before else new_id()
    return {
        "id": identifier,
        "version": str(int(before["version"]) + 1 if before else 1),
        "action": wanted["action"],
        "action_parameters": wanted.get("action_parameters") or {},
        "expression": wanted["expression"],
        "description": wanted.get("description", ""),
        "enabled": wanted.get("enabled", True),
        "ref": wanted.get("ref") or identifier,
        "last_updated": timestamp(),
    }


def _put(api: Cloudflare, zone: str, phase: str, body: JsonObject, before: JsonObject | None) -> JsonObject:
    identifier = before["id"] if before else new_id()
    ruleset = {
        "id": identifier,
        "name": body.get("name") or (before or {}).get("name") or "default",
        "description": body.get("description", (before or {}).get("description", "")),
        "kind": "zone",
        "phase": phase,
        "version": str(int(before["version"]) + 1 if before else 1),
        "last_updated": timestamp(),
        "rules": _rules(body.get("rules") or [], before["rules"] if before else []),
    }
    api.state.rulesets[zone][identifier] = ruleset
    return ruleset


def _entry(api: Cloudflare, zone: str, phase: str) -> JsonObject | None:
    return next((r for r in api.state.rulesets[zone].values() if r["phase"] == phase), None)


def _need(api: Cloudflare, call: Call) -> JsonObject:
    found = api.state.rulesets[api.zone(call)["id"]].get(call.params["ruleset"])
    if found is None:
        raise _gone()
    return found


@routes.get(_ZONE + "/rulesets", "rulesets:read")
def list_rulesets(api: Cloudflare, call: Call) -> Reply:
    rulesets = api.state.rulesets[api.zone(call)["id"]].values()
    return api.ok([{k: v for k, v in ruleset.items() if k != "rules"} for ruleset in rulesets])


@routes.get(_ENTRY, "rulesets:read")
def get_entry(api: Cloudflare, call: Call) -> Reply:
    """404 until somebody has put rules there."""
    ruleset = _entry(api, api.zone(call)["id"], call.params["phase"])
    if ruleset is None:
        raise _gone()
    return api.ok(ruleset)


@routes.put(_ENTRY, "rulesets:edit")
def put_entry(api: Cloudflare, call: Call) -> Reply:
    zone, phase = api.zone(call)["id"], call.params["phase"]
    if not _PHASE.fullmatch(phase):
        raise refuse(20013, f"unknown phase {phase}")
    return api.ok(_put(api, zone, phase, call.json(), _entry(api, zone, phase)))


@routes.get(_ZONE + "/rulesets/{ruleset}", "rulesets:read")
def get_ruleset(api: Cloudflare, call: Call) -> Reply:
    return api.ok(_need(api, call))


@routes.put(_ZONE + "/rulesets/{ruleset}", "rulesets:edit")
def put_ruleset(api: Cloudflare, call: Call) -> Reply:
    before = _need(api, call)
    return api.ok(_put(api, call.params["zone"], before["phase"], call.json(), before))


@routes.delete(_ZONE + "/rulesets/{ruleset}", "rulesets:edit")
def delete_ruleset(api: Cloudflare, call: Call) -> Reply:
    del api.state.rulesets[call.params["zone"]][_need(api, call)["id"]]
    return Reply(204)


def _touch(ruleset: JsonObject) -> JsonObject:
    return ruleset | {"version": str(int(ruleset["version"]) + 1), "last_updated": timestamp()}


@routes.post(_ZONE + "/rulesets/{ruleset}/rules", "rulesets:edit")
def add_rule(api: Cloudflare, call: Call) -> Reply:
    ruleset = _need(api, call)
    ruleset["rules"].append(_rule(call.json(), None))
    ruleset |= _touch(ruleset)
    return api.ok(ruleset)


def _position(ruleset: JsonObject, call: Call) -> int:
    for position, rule in enumerate(ruleset["rules"]):
        if rule["id"] == call.params["rule"]:
            return position
    raise refuse(10013, "could not find the rule", 404)


@routes.patch(_ZONE + "/rulesets/{ruleset}/rules/{rule}", "rulesets:edit")
def patch_rule(api: Cloudflare, call: Call) -> Reply:
    ruleset = _need(api, call)
    position = _position(ruleset, call)
    before = ruleset["rules"][position]
    ruleset["rules"][position] = _rule(before | call.json(), before)
    ruleset |= _touch(ruleset)
    return api.ok(ruleset)


@routes.delete(_ZONE + "/rulesets/{ruleset}/rules/{rule}", "rulesets:edit")
def delete_rule(api: Cloudflare, call: Call) -> Reply:
    ruleset = _need(api, call)
    del ruleset["rules"][_position(ruleset, call)]
    ruleset |= _touch(ruleset)
    return api.ok(ruleset)

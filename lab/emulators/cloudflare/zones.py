"""Zones, their settings, the cache, the addresses of the network and the token."""

from __future__ import annotations

import hashlib
from typing import Any

from lab.emulators.cloudflare.api import PREFIX, Cloudflare, refuse, timestamp
from lab.emulators.common import Call, JsonObject, Reply, Routes

routes = Routes()

_ZONE = PREFIX + "/zones/{zone}"

_ON_OFF = ("on", "off")

# id: (value of a fresh zone, allowed values). From the value schemas of the vendor's document
# (zones_*_value); a tuple lists the values, a range bounds them, a type is all that is known.
SETTINGS: dict[str, tuple[Any, Any]] = {
    "0rtt": ("off", _ON_OFF),
    "always_online": ("on", _ON_OFF),
    "always_use_https": ("off", _ON_OFF),
    "automatic_https_rewrites": ("on", _ON_OFF),
    "brotli": ("on", _ON_OFF),
    "browser_cache_ttl": (14400, range(0, 31536001)),
    "browser_check": ("on", _ON_OFF),
    "cache_level": ("aggressive", ("aggressive", "basic", "simplified")),
    "challenge_ttl": (
        1800,
        (300, 900, 1800, 2700, 3600, 7200, 10800, 14400, 28800, 57600, 86400, 604800, 2592000, 31536000),
    ),
    "ciphers": ([], list),
    "cname_flattening": ("flatten_at_root", ("flatten_at_root", "flatten_all")),
    "development_mode": ("off", _ON_OFF),
    "early_hints": ("off", _ON_OFF),
    "email_obfuscation": ("on", _ON_OFF),
    "hotlink_protection": ("off", _ON_OFF),
    "http3": ("on", _ON_OFF),
    "ip_geolocation": ("on", _ON_OFF),
    "ipv6": ("on", _ON_OFF),
    "min_tls_version": ("1.0", ("1.0", "1.1", "1.2", "1.3")),
    "opportunistic_encryption": ("on", _ON_OFF),
    "opportunistic_onion": ("on", _ON_OFF),
    "privacy_pass": ("on", _ON_OFF),
    "pseudo_ipv4": ("off", ("off", "add_header", "overwrite_header")),
    "replace_insecure_js": ("on", _ON_OFF),
    "rocket_loader": ("off", _ON_OFF),
    "security_header": (
        {
            "strict_transport_security": {
                "enabled": False,
                "max_age": 0,
                "include_subdomains": False,
                "preload": False,
                "nosniff": False,
            }
        },
        dict,
    ),
    "security_level": ("medium", ("off", "essentially_off", "low", "medium", "high", "under_attack")),
    "server_side_exclude": ("on", _ON_OFF),
    "ssl": ("full", ("off", "flexible", "full", "strict")),
    "tls_1_3": ("on", ("on", "off", "zrt")),
    "tls_client_auth": ("off", _ON_OFF),
    "websockets": ("on", _ON_OFF),
}

# What a zone without a paid plan shows and may not change.
READ_ONLY: dict[str, Any] = {
    "advanced_ddos": "on",
    "http2": "on",
    "image_resizing": "off",
    "max_upload": 100,
    "mirage": "off",
    "origin_error_page_pass_thru": "off",
    "polish": "off",
    "prefetch_preload": "off",
    "proxy_read_timeout": 100,
    "response_buffering": "off",
    "sort_query_string_for_cache": "off",
    "true_client_ip_header": "off",
    "waf": "off",
    "webp": "off",
}


@routes.get(PREFIX + "/zones", "zone:read")
def list_zones(api: Cloudflare, call: Call) -> Reply:
    found = list(api.state.zones.values())
    for key in ("name", "status", "type"):
        if call.query.get(key):
            found = [zone for zone in found if zone[key] == call.query[key].lower()]
    if call.query.get("account.id"):
        found = [zone for zone in found if zone["account"]["id"] == call.query["account.id"]]
    size = api.number(call, "per_page", 20)
    if not 5 <= size <= 50:
        raise refuse(1068, "per_page must be between 5 and 50")
    return api.page(call, found, default=20, most=50)


@routes.get(_ZONE, "zone:read")
def get_zone(api: Cloudflare, call: Call) -> Reply:
    return api.ok(api.zone(call))


# settings


def _setting(api: Cloudflare, zone: str, identifier: str) -> JsonObject:
    if identifier in READ_ONLY:
        fresh: JsonObject = {"value": READ_ONLY[identifier], "editable": False}
    elif identifier in SETTINGS:
        fresh = {"value": SETTINGS[identifier][0], "editable": True}
    else:
        raise refuse(1006, f"Unrecognized zone setting name: {identifier}")
    return {"id": identifier, "modified_on": None, **fresh, **api.state.settings[zone].get(identifier, {})}


def _check(identifier: str, value: Any) -> None:
    """Refuse a value that the setting does not take."""
    if identifier in READ_ONLY:
        raise refuse(1057, f"{identifier} cannot be modified for this zone")
    if identifier not in SETTINGS:
        raise refuse(1006, f"Unrecognized zone setting name: {identifier}")
    allowed = SETTINGS[identifier][1]
    if isinstance(allowed, type):
        fits = isinstance(value, allowed)
    else:
        # by type, too: True == 1 in Python, not for the vendor
        fits = type(value) is type(allowed[0]) and value in allowed
    if not fits:
        raise refuse(1007, f"Invalid value for zone setting {identifier}")


def _set(api: Cloudflare, zone: str, identifier: str, value: Any) -> None:
    if _setting(api, zone, identifier)["value"] != value:
        api.state.settings[zone][identifier] = {"value": value, "modified_on": timestamp()}


# No PATCH of several at once: the document wants a bare list there, older clients send {"items": [...]}.
@routes.get(_ZONE + "/settings", "zone_settings:read")
def list_settings(api: Cloudflare, call: Call) -> Reply:
    zone = api.zone(call)["id"]
    return api.ok([_setting(api, zone, identifier) for identifier in sorted([*SETTINGS, *READ_ONLY])])


@routes.get(_ZONE + "/settings/{setting}", "zone_settings:read")
def get_setting(api: Cloudflare, call: Call) -> Reply:
    return api.ok(_setting(api, api.zone(call)["id"], call.params["setting"]))


@routes.patch(_ZONE + "/settings/{setting}", "zone_settings:edit")
def patch_setting(api: Cloudflare, call: Call) -> Reply:
    zone, body, identifier = api.zone(call)["id"], call.json(), call.params["setting"]
    if "value" not in body:
        raise refuse(1004, "Missing 'value'")
    _check(identifier, body["value"])
    _set(api, zone, identifier, body["value"])
    return api.ok(_setting(api, zone, identifier))


# the rest

_PURGE = ("files", "tags", "hosts", "prefixes", "purge_everything")
_MAX_PURGE = 30


@routes.post(_ZONE + "/purge_cache", "cache:purge")
def purge_cache(api: Cloudflare, call: Call) -> Reply:
    zone, body = api.zone(call)["id"], call.json()
    given = [key for key in _PURGE if body.get(key)]
    if len(given) != 1 or set(body) - set(_PURGE):
        raise refuse(1012, f"Request must contain exactly one of {', '.join(_PURGE)}")
    if isinstance(body[given[0]], list) and len(body[given[0]]) > _MAX_PURGE:
        raise refuse(1094, f"You may only purge up to {_MAX_PURGE} items per call")
    api.state.purges[zone].append({"at": timestamp(), **body})
    return api.ok({"id": zone})


@routes.get(_ZONE + "/dnssec", "dns:read")
def get_dnssec(api: Cloudflare, call: Call) -> Reply:
    api.zone(call)
    return api.ok({"status": "disabled", "flags": None, "algorithm": None, "key_tag": None, "ds": None})


@routes.get(PREFIX + "/ips")
def addresses(api: Cloudflare, _call: Call) -> Reply:
    ranges = api.cdn_addresses
    etag = hashlib.md5(repr(ranges).encode(), usedforsecurity=False).hexdigest()
    return api.ok({"ipv4_cidrs": ranges["ipv4"], "ipv6_cidrs": ranges["ipv6"], "etag": etag})


@routes.get(PREFIX + "/user/tokens/verify")
def verify_token(api: Cloudflare, call: Call) -> Reply:
    assert call.token is not None
    identifier = hashlib.sha256(call.token.value.encode()).hexdigest()[:32]
    reply = api.ok({"id": identifier, "status": "active"})
    message = "This API Token is valid and active"
    reply.body["messages"] = [{"code": 10000, "message": message}]
    return reply

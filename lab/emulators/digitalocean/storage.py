"""Certificates, CDN endpoints and Spaces keys."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from lab.emulators.common import Call, JsonObject, Problem, Reply, Routes, now
from lab.emulators.digitalocean.api import DigitalOcean, unprocessable

routes = Routes()

_TTL = (60, 600, 3600, 86400, 604800)
_MAX_PURGE = 50


@routes.get("/v2/certificates", "certificate:read")
def list_certificates(api: DigitalOcean, call: Call) -> Reply:
    name = call.query.get("name")
    found = [c for c in api.state.certificates.values() if not name or c["name"] == name]
    return api.page(call, "certificates", found)


@routes.post("/v2/certificates", "certificate:create")
def create_certificate(api: DigitalOcean, call: Call) -> Reply:
    body = call.json()
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise unprocessable("name is required")
    if any(c["name"] == name for c in api.state.certificates.values()):
        raise unprocessable("Certificate name is already in use")
    kind = body.get("type") or ("lets_encrypt" if "dns_names" in body else "custom")
    certificate = _lets_encrypt(body) if kind == "lets_encrypt" else _custom(body)
    identifier = str(uuid.uuid4())
    certificate = {"id": identifier, "name": name, "type": kind, "created_at": now(), **certificate}
    api.state.certificates[identifier] = certificate
    return Reply(201, {"certificate": certificate})


def _custom(body: JsonObject) -> JsonObject:
    """What the certificate says of itself. The key is checked and not kept. Raises Problem 422."""
    try:
        leaf = x509.load_pem_x509_certificate(str(body.get("leaf_certificate")).encode())
        key = serialization.load_pem_private_key(str(body.get("private_key")).encode(), password=None)
    except ValueError:
        raise unprocessable("leaf_certificate and private_key have to be PEM") from None
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(*pem) != key.public_key().public_bytes(*pem):
        raise unprocessable("private_key does not belong to leaf_certificate")
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        dns_names = names.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        dns_names = []
    return {
        "not_after": leaf.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        # the API's own fingerprint is SHA-1
        "sha1_fingerprint": leaf.fingerprint(hashes.SHA1()).hex(),  # noqa: S303
        "dns_names": dns_names,
        "state": "verified",
    }


def _lets_encrypt(body: JsonObject) -> JsonObject:
    names = body.get("dns_names")
    if not isinstance(names, list) or not names:
        raise unprocessable("dns_names is required for a Let's Encrypt certificate")
    later = datetime.now(UTC) + timedelta(days=90)
    return {
        "not_after": later.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sha1_fingerprint": hashlib.sha1(repr(names).encode(), usedforsecurity=False).hexdigest(),
        "dns_names": names,
        # it would need the domain's DNS at DigitalOcean, where the lab's is not
        "state": "pending",
    }


@routes.get("/v2/certificates/{certificate}", "certificate:read")
def get_certificate(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"certificate": api.need(api.state.certificates, call.params["certificate"])})


@routes.delete("/v2/certificates/{certificate}", "certificate:delete")
def delete_certificate(api: DigitalOcean, call: Call) -> Reply:
    identifier = api.need(api.state.certificates, call.params["certificate"])["id"]
    for load_balancer in api.state.load_balancers.values():
        if any(rule["certificate_id"] == identifier for rule in load_balancer["forwarding_rules"]):
            raise Problem(403, "forbidden", "Make sure the certificate is not in use before deleting it")
    del api.state.certificates[identifier]
    return Reply(204)


# CDN endpoints


def _limit_cdn(api: DigitalOcean) -> None:
    if not api.cdn_window.take():
        raise Problem(429, "too_many_requests", "API rate limit exceeded.")


def _read_cdn(api: DigitalOcean, body: JsonObject) -> JsonObject:
    ttl = body.get("ttl", 3600)
    if ttl not in _TTL:
        raise unprocessable(f"ttl has to be one of {', '.join(map(str, _TTL))}")
    settings = {"ttl": ttl}
    certificate = body.get("certificate_id")
    if certificate:
        if certificate not in api.state.certificates:
            raise unprocessable("certificate_id: no such certificate")
        if not body.get("custom_domain"):
            raise unprocessable("custom_domain is required with a certificate_id")
        settings |= {"certificate_id": certificate}
    if body.get("custom_domain"):
        settings |= {"custom_domain": body["custom_domain"]}
    return settings


@routes.get("/v2/cdn/endpoints", "cdn:read")
def list_endpoints(api: DigitalOcean, call: Call) -> Reply:
    _limit_cdn(api)
    return api.page(call, "endpoints", list(api.state.cdn_endpoints.values()))


@routes.post("/v2/cdn/endpoints", "cdn:create")
def create_endpoint(api: DigitalOcean, call: Call) -> Reply:
    _limit_cdn(api)
    body = call.json()
    origin = body.get("origin")
    if not isinstance(origin, str) or origin.count(".") < 3:
        raise unprocessable("origin has to be the name of a Space: BUCKET.REGION.digitaloceanspaces.com")
    if any(endpoint["origin"] == origin for endpoint in api.state.cdn_endpoints.values()):
        raise Problem(409, "conflict", "origin is already in use by another CDN endpoint")
    identifier = str(uuid.uuid4())
    bucket, region, domain = origin.split(".", 2)
    api.state.cdn_endpoints[identifier] = {
        "id": identifier,
        "origin": origin,
        "endpoint": f"{bucket}.{region}.cdn.{domain}",
        "created_at": now(),
        **_read_cdn(api, body),
    }
    return Reply(201, {"endpoint": api.state.cdn_endpoints[identifier]})


def _endpoint(api: DigitalOcean, call: Call) -> JsonObject:
    _limit_cdn(api)
    return api.need(api.state.cdn_endpoints, call.params["endpoint"])


@routes.get("/v2/cdn/endpoints/{endpoint}", "cdn:read")
def get_endpoint(api: DigitalOcean, call: Call) -> Reply:
    return Reply(200, {"endpoint": _endpoint(api, call)})


@routes.put("/v2/cdn/endpoints/{endpoint}", "cdn:update")
def update_endpoint(api: DigitalOcean, call: Call) -> Reply:
    endpoint = _endpoint(api, call)
    body = {key: endpoint[key] for key in ("ttl", "certificate_id", "custom_domain") if key in endpoint}
    settings = _read_cdn(api, body | call.json())
    for key in ("certificate_id", "custom_domain"):
        endpoint.pop(key, None)
    endpoint |= settings
    return Reply(200, {"endpoint": endpoint})


@routes.delete("/v2/cdn/endpoints/{endpoint}", "cdn:delete")
def delete_endpoint(api: DigitalOcean, call: Call) -> Reply:
    del api.state.cdn_endpoints[_endpoint(api, call)["id"]]
    return Reply(204)


@routes.delete("/v2/cdn/endpoints/{endpoint}/cache", "cdn:delete")
def purge_endpoint(api: DigitalOcean, call: Call) -> Reply:
    _endpoint(api, call)
    files = call.json().get("files")
    if not isinstance(files, list) or not 1 <= len(files) <= _MAX_PURGE:
        raise unprocessable(f"files has to be a list of 1 to {_MAX_PURGE} paths")
    return Reply(204)


# Spaces keys

_PERMISSIONS = ("", "read", "readwrite", "fullaccess")


def _grants(grants: list[JsonObject]) -> list[JsonObject]:
    for grant in grants:
        if grant.get("permission") not in _PERMISSIONS or "bucket" not in grant:
            raise Problem(400, "bad_request", f"a grant has a bucket and a permission, not {grant!r}")
        if grant["permission"] == "fullaccess" and grant["bucket"]:
            raise Problem(400, "bad_request", "fullaccess is for all buckets: leave bucket empty")
    return grants


@routes.get("/v2/spaces/keys", "spaces_key:read")
def list_spaces_keys(api: DigitalOcean, call: Call) -> Reply:
    name, bucket, permission = (call.query.get(key) for key in ("name", "bucket", "permission"))
    found = [
        key
        for key in api.state.spaces_keys.values()
        if (not name or key["name"] == name)
        and (not bucket or any(grant["bucket"] == bucket for grant in key["grants"]))
        and (not permission or any(grant["permission"] == permission for grant in key["grants"]))
    ]
    return api.page(call, "keys", found)


@routes.post("/v2/spaces/keys", "spaces_key:create_credentials")
def create_spaces_key(api: DigitalOcean, call: Call) -> Reply:
    body = call.json(name=str, grants=[dict])
    if not body.get("name"):
        raise Problem(400, "bad_request", "name is required")
    key = {
        "name": body["name"],
        "access_key": "DO00" + secrets.token_hex(8).upper(),
        "grants": _grants(body.get("grants") or []),
        "created_at": now(),
    }
    api.state.spaces_keys[str(key["access_key"])] = key
    # the only time that the secret is shown; the lab's S3 server has keys of its own, so it is not kept
    return Reply(201, {"key": {**key, "secret_key": secrets.token_urlsafe(32)}})


def _spaces_key(api: DigitalOcean, call: Call) -> JsonObject:
    return api.need(api.state.spaces_keys, call.params["key"])


@routes.get("/v2/spaces/keys/{key}", "spaces_key:read")
def get_spaces_key(api: DigitalOcean, call: Call) -> Reply:
    # the vendor answers a list under `keys` here, too
    return Reply(200, {"keys": [_spaces_key(api, call)]})


@routes.put("/v2/spaces/keys/{key}", "spaces_key:update")
@routes.patch("/v2/spaces/keys/{key}", "spaces_key:update")
def update_spaces_key(api: DigitalOcean, call: Call) -> Reply:
    key, body = _spaces_key(api, call), call.json(name=str, grants=[dict])
    if call.method == "PUT" and not body.get("name"):
        raise Problem(400, "bad_request", "name is required")
    key |= {"name": body.get("name") or key["name"]}
    if "grants" in body:
        key["grants"] = _grants(body["grants"] or [])
    return Reply(200, {"key": key})


@routes.delete("/v2/spaces/keys/{key}", "spaces_key:delete")
def delete_spaces_key(api: DigitalOcean, call: Call) -> Reply:
    del api.state.spaces_keys[_spaces_key(api, call)["access_key"]]
    return Reply(204)

"""An emulated SendGrid API: tracking settings, domain authentication, link branding, scopes.

Run it with `python3 -m lab.emulators.sendgrid --help`. It answers for `api.sendgrid.com` and
`api.eu.sendgrid.com` alike. The parent account and every subuser (header `on-behalf-of`) have settings and
domains of their own. Whether a domain is valid is seen in the DNS: at the name server of `--dns`, without
one in the records that `PUT /_lab/dns` gives ({"HOST": "TARGET"}).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dnslib import QTYPE, RCODE, DNSError, DNSRecord
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.emulators import server
from lab.emulators.common import (
    Call,
    JsonObject,
    Problem,
    Reply,
    Routes,
    Store,
    Token,
    Tokens,
    Vendor,
    Window,
    build,
)
from lab.emulators.contract import Contract, Mode

routes = Routes()

_FRESH_SETTINGS: dict[str, JsonObject] = {
    # on, as in a new account: what the collection is there to switch off
    "click": {"enabled": True, "enable_text": True},
    "open": {"enabled": True},
    "subscription": {
        "enabled": False,
        "html_content": "",
        "landing": "",
        "plain_content": "",
        "replace": "",
        "url": "https://unsubscribe.sendgrid.test/",
    },
    "google_analytics": {
        "enabled": False,
        "utm_source": "",
        "utm_medium": "",
        "utm_term": "",
        "utm_content": "",
        "utm_campaign": "",
    },
}

_TITLES = {
    "google_analytics": ("Google Analytics", "Track your conversion rates and ROI with Google Analytics."),
    "open": (
        "Open Tracking",
        "Appends an invisible image to HTML emails to track emails that have been opened.",
    ),
    "click": (
        "Click Tracking",
        "Overrides every link and URL in your emails to point to SendGrid's servers.",
    ),
    "subscription": ("Subscription Tracking", "Adds unsubscribe links to the bottom of your emails."),
}

_FIXED = {"click": {"enable_text"}}
"""Keys that are answered and can not be set."""

SCOPES = frozenset(
    [
        "mail.send",
        "tracking_settings.read",
        *(f"tracking_settings.{name}.{verb}" for name in _FRESH_SETTINGS for verb in ("read", "update")),
        *(f"whitelabel.{verb}" for verb in ("create", "read", "update", "delete")),
    ]
)
"""What a key with full access may do here. SendGrid has many more."""

Resolver = Callable[[str], "str | None"]
"""The target of a name's CNAME in lower case, None where there is none. LookupError: it can not tell."""


@dataclass
class State:
    """Accounts by name; the parent account's is empty."""

    next_id: int = 1001
    users: dict[str, JsonObject] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    """CNAMEs of `/_lab/dns`."""


def refuse(status: int, message: str, fieldname: str | None = None) -> Problem:
    return Problem(status, fieldname or "", message)


class SendGrid(Vendor):
    name = "sendgrid"
    document = "sendgrid.json"

    def __init__(
        self,
        tokens: Tokens,
        *,
        store: Store,
        subusers: Iterable[str],
        limit: int | None,
        resolver: Resolver | None,
    ) -> None:
        super().__init__([routes], tokens)
        self.store = store
        saved = store.load()
        self.state = State(**saved) if saved else State()
        self.limit = limit
        self.resolver = resolver or self._known
        self._windows: dict[tuple[str, str], Window] = {}
        for user in ("", *subusers):
            number = 7_000_000 + len(self.state.users)
            fresh = {
                "user_id": number,
                "username": user or "lab",
                "tracking": json.loads(json.dumps(_FRESH_SETTINGS)),
                "domains": {},
                "links": {},
            }
            self.state.users.setdefault(user, fresh)
        self.save()

    def _known(self, host: str) -> str | None:
        return self.state.records.get(host.lower())

    def save(self) -> None:
        self.store.save(vars(self.state))

    def error(self, problem: Problem) -> JsonObject:
        # a fault or a body that is no JSON brings a code in words; SendGrid names a field or nothing
        words = ("bad_request", "too_many_requests", "server_error", "service_unavailable")
        named = problem.code if isinstance(problem.code, str) and problem.code not in words else None
        message = "too many requests" if problem.status == 429 else problem.message
        return {"errors": [{"field": named or None, "message": message}]}

    def unauthenticated(self) -> Problem:
        return refuse(401, "The provided authorization grant is invalid, expired, or revoked")

    def forbidden(self, _scope: str) -> Problem:
        return refuse(403, "access forbidden")

    def not_found(self) -> Problem:
        return refuse(404, "Not Found")

    def authenticate(self, call: Call) -> Token:
        if "authorization" not in call.headers:
            raise refuse(401, "authorization required")
        return super().authenticate(call)

    def before(self, call: Call) -> None:
        if not self._window(call).take():
            raise refuse(429, "too many requests")

    def headers(self, call: Call) -> dict[str, str]:
        window = self._window(call)
        if window.limit is None:
            return {}
        return {
            "x-ratelimit-limit": str(window.limit),
            "x-ratelimit-remaining": str(max(0, window.limit - window.used)),
            "x-ratelimit-reset": str(int(window.reset)),
        }

    def _window(self, call: Call) -> Window:
        """Limits are per endpoint."""
        key = call.headers.get("authorization", ""), call.path
        if key not in self._windows:
            self._windows[key] = Window(self.limit, 60)
        return self._windows[key]

    def user(self, call: Call) -> JsonObject:
        """The account that the call acts for. Raises Problem 403 for a subuser there is not."""
        name = call.headers.get("on-behalf-of", "").removeprefix("account-id").strip()
        if name not in self.state.users:
            raise refuse(403, "access forbidden")
        return self.state.users[name]


def _only(body: JsonObject, **types: type | tuple[type, ...]) -> None:
    """Refuse keys and types that are not the endpoint's. SendGrid ignores some; a test must not."""
    for key, value in body.items():
        if key not in types:
            raise refuse(400, "unknown parameter", key)
        if not isinstance(value, types[key]):
            raise refuse(400, "invalid value", key)


# tracking settings


@routes.get("/v3/tracking_settings", "tracking_settings.read")
def list_settings(api: SendGrid, call: Call) -> Reply:
    tracking = api.user(call)["tracking"]
    result = [
        {"name": name, "title": title, "description": text, "enabled": tracking[name]["enabled"]}
        for name, (title, text) in _TITLES.items()
    ]
    return Reply(200, {"result": result})


def _add_setting(name: str) -> None:
    path = f"/v3/tracking_settings/{name}"

    @routes.get(path, f"tracking_settings.{name}.read")
    def get_setting(api: SendGrid, call: Call) -> Reply:
        return Reply(200, api.user(call)["tracking"][name])

    @routes.patch(path, f"tracking_settings.{name}.update")
    def patch_setting(api: SendGrid, call: Call) -> Reply:
        setting, body = api.user(call)["tracking"][name], call.json()
        fixed = _FIXED.get(name, set())
        _only(body, **{key: type(value) for key, value in setting.items() if key not in fixed})
        setting |= body
        return Reply(200, setting)


for _name in _FRESH_SETTINGS:
    _add_setting(_name)


@routes.get("/v3/scopes")
def scopes(_api: SendGrid, call: Call) -> Reply:
    assert call.token is not None
    return Reply(200, {"scopes": sorted(SCOPES if call.token.scopes is None else call.token.scopes)})


# domain authentication and link branding: two lists of things that DNS records prove

_DOMAINS = "/v3/whitelabel/domains"
_LINKS = "/v3/whitelabel/links"


def _cname(host: str, data: str) -> JsonObject:
    return {"valid": False, "type": "cname", "host": host, "data": data}


def _next(api: SendGrid) -> int:
    api.state.next_id += 1
    return api.state.next_id


def _add(table: dict[str, JsonObject], entry: JsonObject) -> None:
    """Put an entry into its table; a new default takes the place of the old one."""
    for other in table.values():
        if (other["domain"], other["subdomain"]) == (entry["domain"], entry["subdomain"]):
            raise refuse(400, f"{entry['subdomain']}.{entry['domain']} is already there", "domain")
    if entry["default"]:
        _no_default(table)
    table[str(entry["id"])] = entry


def _no_default(table: dict[str, JsonObject]) -> None:
    for other in table.values():
        other["default"] = False


def _domain_name(body: JsonObject) -> str:
    name = body.get("domain")
    if not isinstance(name, str) or "." not in name.strip("."):
        raise refuse(400, "domain is required and has to be a domain name", "domain")
    return name.lower().strip(".")


@routes.post(_DOMAINS, "whitelabel.create")
def create_domain(api: SendGrid, call: Call) -> Reply:
    user, body = api.user(call), call.json()
    _only(
        body,
        domain=str,
        subdomain=str,
        username=str,
        ips=list,
        custom_spf=bool,
        default=bool,
        automatic_security=bool,
        custom_dkim_selector=str,
        region=str,
    )
    if not body.get("automatic_security", True):
        raise refuse(400, "the lab only has automatic security", "automatic_security")
    if body.get("region", "global") not in ("global", "eu"):
        raise refuse(400, "region has to be global or eu", "region")
    domain, identifier = _domain_name(body), _next(api)
    subdomain = body.get("subdomain") or f"em{identifier}"
    selector = body.get("custom_dkim_selector")
    first, second = (selector, f"{selector}2") if selector else ("s1", "s2")
    zone = f"u{user['user_id']}.wl{identifier}.sendgrid.net"
    entry = {
        "id": identifier,
        "user_id": user["user_id"],
        "subdomain": subdomain,
        "domain": domain,
        "username": user["username"],
        "ips": body.get("ips") or [],
        "custom_spf": body.get("custom_spf", False),
        "default": body.get("default", False),
        "legacy": False,
        "automatic_security": True,
        "valid": False,
        "dns": {
            "mail_cname": _cname(f"{subdomain}.{domain}", zone),
            "dkim1": _cname(f"{first}._domainkey.{domain}", f"{first}.domainkey.{zone}"),
            "dkim2": _cname(f"{second}._domainkey.{domain}", f"{second}.domainkey.{zone}"),
        },
    }
    _add(user["domains"], entry)
    return Reply(201, entry)


@routes.get(_DOMAINS, "whitelabel.read")
def list_domains(api: SendGrid, call: Call) -> Reply:
    return Reply(200, _listed(call, api.user(call)["domains"]))


def _listed(call: Call, table: dict[str, JsonObject]) -> list[JsonObject]:
    found: Iterable[JsonObject] = table.values()
    for key in ("domain", "username"):
        if call.query.get(key):
            found = [entry for entry in found if call.query[key].lower() in entry[key]]
    try:
        offset, limit = int(call.query.get("offset", "0")), int(call.query.get("limit", "50"))
    except ValueError:
        raise refuse(400, "limit and offset have to be numbers", "limit") from None
    return list(itertools.islice(found, offset, offset + limit))


@routes.get(_DOMAINS + "/default", "whitelabel.read")
def default_domain(api: SendGrid, call: Call) -> Reply:
    return Reply(200, [entry for entry in api.user(call)["domains"].values() if entry["default"]])


def _need(table: dict[str, JsonObject], call: Call) -> JsonObject:
    try:
        return table[call.params["id"]]
    except KeyError:
        raise refuse(404, "resource not found") from None


@routes.get(_DOMAINS + "/{id}", "whitelabel.read")
def get_domain(api: SendGrid, call: Call) -> Reply:
    return Reply(200, _need(api.user(call)["domains"], call))


@routes.patch(_DOMAINS + "/{id}", "whitelabel.update")
def patch_domain(api: SendGrid, call: Call) -> Reply:
    table, body = api.user(call)["domains"], call.json()
    entry = _need(table, call)
    _only(body, default=bool, custom_spf=bool)
    if body.get("default"):
        _no_default(table)
    entry |= body
    # the document has a list here
    return Reply(200, [entry])


@routes.delete(_DOMAINS + "/{id}", "whitelabel.delete")
def delete_domain(api: SendGrid, call: Call) -> Reply:
    table = api.user(call)["domains"]
    del table[str(_need(table, call)["id"])]
    return Reply(204)


@routes.post(_DOMAINS + "/{id}/validate", "whitelabel.update")
async def validate_domain(api: SendGrid, call: Call) -> Reply:
    return await _validate(api, _need(api.user(call)["domains"], call))


async def _validate(api: SendGrid, entry: JsonObject) -> Reply:
    """Look the records up, and keep what was found with the entry."""
    results = {}
    for key, record in entry["dns"].items():
        try:
            found = await asyncio.to_thread(api.resolver, record["host"])
        except LookupError:
            return Reply(500, {"errors": [{"message": "internal error getting CNAME"}]})
        record["valid"] = found == record["data"].lower()
        reason = None
        if not record["valid"]:
            reason = (
                f'Expected CNAME for "{record["host"]}" to match "{record["data"]}", found "{found or ""}".'
            )
        results[key] = {"valid": record["valid"], "reason": reason}
    entry["valid"] = all(record["valid"] for record in entry["dns"].values())
    entry["last_validation_attempt_at"] = int(time.time())
    return Reply(200, {"id": entry["id"], "valid": entry["valid"], "validation_results": results})


@routes.post(_LINKS, "whitelabel.create")
def create_link(api: SendGrid, call: Call) -> Reply:
    user, body = api.user(call), call.json()
    _only(body, domain=str, subdomain=str, default=bool, region=str)
    domain, identifier = _domain_name(body), _next(api)
    subdomain = body.get("subdomain") or f"url{identifier}"
    entry = {
        "id": identifier,
        "domain": domain,
        "subdomain": subdomain,
        "username": user["username"],
        "user_id": user["user_id"],
        "default": body.get("default", False),
        "valid": False,
        "legacy": False,
        "dns": {
            "domain_cname": _cname(f"{subdomain}.{domain}", "sendgrid.net"),
            "owner_cname": _cname(f"{user['user_id']}.{domain}", "sendgrid.net"),
        },
    }
    _add(user["links"], entry)
    return Reply(201, entry)


@routes.get(_LINKS, "whitelabel.read")
def list_links(api: SendGrid, call: Call) -> Reply:
    return Reply(200, _listed(call, api.user(call)["links"]))


@routes.get(_LINKS + "/default", "whitelabel.read")
def default_link(api: SendGrid, call: Call) -> Reply:
    for entry in api.user(call)["links"].values():
        if entry["default"]:
            return Reply(200, entry)
    raise refuse(404, "resource not found")


@routes.get(_LINKS + "/{id}", "whitelabel.read")
def get_link(api: SendGrid, call: Call) -> Reply:
    return Reply(200, _need(api.user(call)["links"], call))


@routes.patch(_LINKS + "/{id}", "whitelabel.update")
def patch_link(api: SendGrid, call: Call) -> Reply:
    table, body = api.user(call)["links"], call.json()
    entry = _need(table, call)
    _only(body, default=bool)
    if body.get("default"):
        _no_default(table)
    entry |= body
    return Reply(200, entry)


@routes.delete(_LINKS + "/{id}", "whitelabel.delete")
def delete_link(api: SendGrid, call: Call) -> Reply:
    table = api.user(call)["links"]
    del table[str(_need(table, call)["id"])]
    return Reply(204)


@routes.post(_LINKS + "/{id}/validate", "whitelabel.update")
async def validate_link(api: SendGrid, call: Call) -> Reply:
    return await _validate(api, _need(api.user(call)["links"], call))


def resolver(address: str, timeout: float = 2.0) -> Resolver:
    """Asks the name server at `HOST` or `HOST:PORT` for CNAMEs."""
    host, _, port = address.partition(":")

    def resolve(name: str) -> str | None:
        question = DNSRecord.question(name, "CNAME")
        try:
            answer = DNSRecord.parse(question.send(host, int(port or 53), timeout=timeout))
        except (OSError, DNSError) as error:
            raise LookupError(f"name server {address}: {error}") from error
        if answer.header.rcode not in (RCODE.NOERROR, RCODE.NXDOMAIN):
            raise LookupError(f"name server {address}: {RCODE[answer.header.rcode]} for {name}")
        targets: list[Any] = [rr.rdata for rr in answer.rr if rr.rtype == QTYPE.CNAME]
        return str(targets[0]).rstrip(".").lower() if targets else None

    return resolve


def create_app(
    *,
    tokens: Tokens,
    subusers: Iterable[str] = (),
    state: Path | None = None,
    dns: str | None = None,
    limit: int | None = None,
    contract: Mode = "log",
    latency: float = 0.0,
) -> Starlette:
    """The ASGI application.

    `subusers`: names that `on-behalf-of` may have. `dns`: name server that proves domains (`HOST[:PORT]`);
    without one `PUT /_lab/dns` sets the CNAMEs. `limit`: calls per minute, token and endpoint (default:
    none). `state`: directory that keeps the account over a restart. `GET /_lab/tracking` tells the lab's
    mail server the account's settings, without a token.
    """
    vendor = SendGrid(
        tokens,
        store=Store(state / "sendgrid.json" if state else None),
        subusers=subusers,
        limit=limit,
        resolver=resolver(dns) if dns else None,
    )

    async def records(request: Request) -> Response:
        if request.method == "PUT":
            wanted = json.loads(await request.body())
            vendor.state.records = {host.lower(): target.lower() for host, target in wanted.items()}
            vendor.save()
        return JSONResponse(vendor.state.records)

    async def tracking(_request: Request) -> Response:
        return JSONResponse(vendor.state.users[""]["tracking"])

    return build(
        vendor,
        contract=Contract(vendor.document, contract, errors_declared=False),
        latency=latency,
        control=[
            Route("/_lab/dns", records, methods=["GET", "PUT"]),
            Route("/_lab/tracking", tracking),
        ],
    )


def main() -> None:
    parser = server.options("sendgrid", (__doc__ or "").splitlines()[0])
    parser.add_argument("--subuser", action="append", default=[], help="a subuser; repeatable")
    parser.add_argument("--dns", metavar="HOST[:PORT]", help="name server that proves domains")
    parser.add_argument("--rate-limit", type=int, metavar="N", help="calls per minute, token and endpoint")
    arguments = parser.parse_args()
    app = create_app(
        tokens=server.read_tokens(arguments.token_file),
        subusers=arguments.subuser,
        state=arguments.state,
        dns=arguments.dns,
        limit=arguments.rate_limit,
        contract=arguments.contract,
        latency=arguments.latency / 1000,
    )
    server.serve(app, arguments)


if __name__ == "__main__":
    main()

"""The lab's name server: what the emulated Cloudflare publishes, else what this machine's resolver says.

A record that Cloudflare would proxy is answered with its own content: the lab has no edge of a CDN.
`python3 -m lab.dns --cloudflare https://ADDRESS` serves UDP and TCP on port 53.
"""

from __future__ import annotations

import argparse
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from dnslib import AAAA, CAA, CNAME, MX, NS, QTYPE, RCODE, RR, SOA, SRV, TXT, A, DNSRecord
from dnslib.server import BaseResolver, DNSServer

log = logging.getLogger("lab.dns")

TTL = 5
"""Seconds that an answer may be kept: a lab changes its records while somebody watches."""

Record = Mapping[str, Any]
Zone = Callable[[str], "list[Record] | None"]
"""The records of the zone of this name, None where there is no such zone."""


def rdata(record: Record) -> Any | None:
    """The record as dnslib has it; None for a type that the lab does not serve."""
    kind, content = record["type"], str(record.get("content") or "")
    data: Mapping[str, Any] = record.get("data") or {}
    if kind == "A":
        return A(content)
    if kind == "AAAA":
        return AAAA(content)
    if kind == "CNAME":
        return CNAME(content)
    if kind == "NS":
        return NS(content)
    if kind == "MX":
        return MX(content, int(record.get("priority") or 0))
    if kind == "TXT":
        return TXT([part.encode() for part in txt_strings(content)])
    if kind == "SRV":
        return SRV(*(int(data[key]) for key in ("priority", "weight", "port")), data["target"])
    if kind == "CAA":
        return CAA(int(data["flags"]), data["tag"], data["value"])
    return None


def txt_strings(content: str) -> list[str]:
    """The strings of a TXT record: Cloudflare writes them quoted; one holds at most 255 bytes."""
    text = content.strip()
    parts = text[1:-1].split('" "') if len(text) > 1 and text[0] == text[-1] == '"' else [text]
    whole = "".join(part.replace('\\"', '"') for part in parts)
    return [whole[start : start + 255] for start in range(0, max(len(whole), 1), 255)]


def zone_of(name: str, zone: Zone) -> tuple[str, list[Record]] | None:
    """The closest zone above `name` with its records."""
    labels = name.split(".")
    for start in range(len(labels) - 1):
        candidate = ".".join(labels[start:])
        records = zone(candidate)
        if records is not None:
            return candidate, records
    return None


def answer(request: DNSRecord, zone: Zone) -> DNSRecord | None:
    """The reply to a query for a name in one of the zones; None for any other name."""
    name = str(request.q.qname).rstrip(".").lower()
    kind = QTYPE[request.q.qtype]
    found = zone_of(name, zone)
    if found is None:
        return None
    apex, records = found
    reply = request.reply()
    reply.header.aa = 1
    seen: set[str] = set()
    exists = _fill(reply, records, name, kind, seen)
    if not exists:
        reply.header.rcode = RCODE.NXDOMAIN
    if not reply.rr:
        soa = SOA(f"ns.{apex}", f"hostmaster.{apex}", (1, 60, 60, 3600, TTL))
        reply.add_auth(RR(apex, QTYPE.SOA, ttl=TTL, rdata=soa))
    return reply


def _fill(reply: DNSRecord, records: list[Record], name: str, kind: str, seen: set[str]) -> bool:
    """Add what answers; follows aliases inside the zone. Whether the name exists."""
    if name in seen:
        return True
    seen.add(name)
    here = [record for record in records if str(record["name"]).lower() == name]
    if not here:
        wildcard = "*." + name.partition(".")[2]
        here = [record for record in records if str(record["name"]).lower() == wildcard]
    for record in here:
        if record["type"] not in (kind, "CNAME") and kind != "ANY":
            continue
        data = rdata(record)
        if data is None:
            continue
        reply.add_answer(RR(name, getattr(QTYPE, record["type"]), ttl=TTL, rdata=data))
        if record["type"] == "CNAME" and kind != "CNAME":
            _fill(reply, records, str(record["content"]).rstrip(".").lower(), kind, seen)
    below = f".{name}"
    return bool(here) or any(str(record["name"]).lower().endswith(below) for record in records)


class CloudflareZones:
    """Zones as the emulator publishes them, kept for a second."""

    def __init__(self, url: str, ca: Path | None, seconds: float = 1) -> None:
        context = ssl.create_default_context(cafile=ca) if ca else ssl.create_default_context()
        self._client = httpx.Client(base_url=url, verify=context, timeout=2, trust_env=False)
        self._seconds = seconds
        self._kept: dict[str, tuple[float, list[Record] | None]] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str) -> list[Record] | None:
        with self._lock:
            kept = self._kept.get(name)
        if kept and kept[0] > time.monotonic():
            return kept[1]
        try:
            response = self._client.get(f"/_lab/zone/{name}")
            records = response.json() if response.status_code == 200 else None
        except httpx.HTTPError as error:
            log.warning("the Cloudflare emulator does not answer (%s): the last known records stay", error)
            records = kept[1] if kept else None
        with self._lock:
            self._kept[name] = (time.monotonic() + self._seconds, records)
        return records


class Resolver(BaseResolver):  # type: ignore[misc]  # dnslib has no types
    def __init__(self, zone: Zone, upstream: str) -> None:
        self.zone = zone
        self.upstream = upstream

    def resolve(self, request: DNSRecord, handler: Any) -> DNSRecord:
        try:
            reply = answer(request, self.zone)
            return reply if reply is not None else self._forward(request, handler.protocol)
        except (OSError, ValueError) as error:
            log.warning("%s: %s", request.q.qname, error)
            reply = request.reply()
            reply.header.rcode = RCODE.SERVFAIL
            return reply

    def _forward(self, request: DNSRecord, protocol: str) -> DNSRecord:
        raw = request.send(self.upstream, 53, tcp=protocol == "tcp", timeout=5)
        return DNSRecord.parse(raw)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m lab.dns", description=__doc__)
    parser.add_argument("--listen", default="0.0.0.0", metavar="ADDRESS")  # noqa: S104 (in a container)
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--cloudflare", required=True, metavar="URL")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="authority of the emulator's certificate")
    parser.add_argument(
        "--upstream", default="127.0.0.11", metavar="ADDRESS", help="asked for all other names"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    resolver = Resolver(CloudflareZones(arguments.cloudflare, arguments.ca), arguments.upstream)
    socket.setdefaulttimeout(10)
    servers = [
        DNSServer(resolver, address=arguments.listen, port=arguments.port, tcp=tcp, logger=_Quiet())
        for tcp in (False, True)
    ]
    for server in servers:
        server.start_thread()
    log.info("serving on %s:%d", arguments.listen, arguments.port)
    while all(server.isAlive() for server in servers):
        time.sleep(1)
    raise SystemExit("a listener ended")


class _Quiet:
    """dnslib's logger, for failures only."""

    def log_pass(self, *_: Any) -> None:
        return

    log_prefix = log_recv = log_send = log_request = log_reply = log_truncated = log_data = log_pass

    def log_error(self, _handler: Any, error: Any) -> None:
        log.warning("a query that cannot be read: %s", error)


if __name__ == "__main__":
    main()

# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: DNS records brought to one form, compared, and the changes planned. Pure
functions.

A record's *identity* is its name, type and value; `ttl`, `proxied`, `priority` (MX) and `comment` are its
attributes. Two writings of one record (case, trailing dot, quotes of a TXT, an address written long, an IDN
in letters) have one identity.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

TYPES = ("A", "AAAA", "CAA", "CNAME", "MX", "NS", "SRV", "TXT")
PROXIABLE = ("A", "AAAA", "CNAME")
AUTO = 1
"""The ttl that stands for automatic."""

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TXT = re.compile(r'\s*(?:"(?:[^"\\]|\\.)*"\s*)+\Z', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:([0-9]{3})|(.))", re.DOTALL)
_CAA = re.compile(r'(\d+)\s+([A-Za-z0-9]+)\s+(?:"([^"]*)"|(\S+))\Z')
_LABEL = re.compile(r"(?:\*|[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)\Z")


class DnsError(ValueError):
    """The wanted records cannot be. `str()` names the record and says what to change."""


@dataclass(frozen=True)
class Record:
    """A record in normal form.

    `name` is full, lower case, Punycode, without a trailing dot. `value` is the presentation form without
    what `priority` holds: for TXT the bare text, for CAA `FLAGS TAG "VALUE"`, for SRV `PRIORITY WEIGHT PORT
    TARGET`. Attributes that were not given are None: they are not compared, and the API's default is used for
    a new record.
    """

    name: str
    type: str
    value: str
    ttl: int | None = None
    proxied: bool | None = None
    priority: int | None = None
    comment: str | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.name, self.type, self.value

    def body(self) -> dict[str, Any]:
        """The record as Cloudflare's API takes it."""
        body: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.type == "CAA":
            flags, tag, value = _caa(self.value)
            body["data"] = {"flags": flags, "tag": tag, "value": value}
        elif self.type == "SRV":
            priority, weight, port, target = self.value.split(" ")
            body["data"] = {
                "priority": int(priority),
                "weight": int(weight),
                "port": int(port),
                "target": target,
            }
        else:
            body["content"] = quoted(self.value) if self.type == "TXT" else self.value
        body["ttl"] = AUTO if self.ttl is None else self.ttl
        if self.type in PROXIABLE:
            body["proxied"] = bool(self.proxied)
        if self.type == "MX":
            body["priority"] = self.priority
        if self.comment:
            body["comment"] = self.comment
        return body

    def plain(self) -> dict[str, Any]:
        """The record as plain data, for return values; the value under `content`."""
        return {
            "name": self.name,
            "type": self.type,
            "content": self.value,
            "ttl": self.ttl,
            "proxied": self.proxied,
            "priority": self.priority,
            "comment": self.comment,
        }

    def line(self) -> str:
        """One line for a diff, in the style of a zone file."""
        ttl = "auto" if self.ttl in (None, AUTO) else str(self.ttl)
        value = quoted(self.value) if self.type == "TXT" else self.value
        priority = f"{self.priority} " if self.type == "MX" else ""
        proxied = " ; proxied" if self.proxied else ""
        comment = f" ; {self.comment}" if self.comment else ""
        return f"{self.name} {ttl} {self.type} {priority}{value}{proxied}{comment}"


@dataclass(frozen=True)
class Stored:
    """A record that the zone has, with the API's id."""

    id: str
    record: Record


def ascii_name(name: str) -> str:
    """A host name in lower case and Punycode, without a trailing dot. Raises DnsError for what is no name."""
    text = name.strip().rstrip(".")
    if not text.isascii():
        text = ".".join(label if label.isascii() else _punycode(label) for label in text.split("."))
    text = text.lower()
    if not text or len(text) > 253 or not all(_LABEL.match(label) for label in text.split(".")):
        raise DnsError(f"{name!r}: is not a valid name.")
    return text


def _punycode(label: str) -> str:
    # Not the codec of the standard library: that is IDNA 2003, which makes another name of "straße".
    try:
        import idna  # noqa: PLC0415  (only names that need it pay for it)
    except ImportError:
        raise DnsError(
            f"{label}: needs the Python package idna; install it, or write the name in Punycode (xn--...)."
        ) from None
    try:
        return idna.encode(label, uts46=True).decode()
    except idna.IDNAError as error:
        raise DnsError(f"{label}: is not a valid part of a name ({error}).") from None


def full_name(name: str, zone: str) -> str:
    """`name` as a full name in `zone`: `@` or empty is the zone, a name that does not end in the zone is in
    it.

    A trailing dot says that the name is full. Raises DnsError for a full name outside the zone.
    """
    text = name.strip()
    if text in ("", "@"):
        return zone
    found = ascii_name(text)
    if found == zone or found.endswith(f".{zone}"):
        return found
    if text.endswith("."):
        raise DnsError(f"{name}: is not in the zone {zone}.")
    return f"{found}.{zone}"


def unquoted(text: str) -> str:
    """The text of a TXT record written bare or as one or more quoted strings."""
    if not _TXT.match(text):
        return text
    return "".join(_ESCAPE.sub(_unescaped, part) for part in _QUOTED.findall(text))


def _unescaped(match: re.Match[str]) -> str:
    """`\\"` and `\\\\` stand for the character, `\\065` for the ASCII character of that number."""
    if match[2] is not None:
        return match[2]
    return chr(int(match[1])) if int(match[1]) < 128 else match[0]


def quoted(text: str) -> str:
    """The text of a TXT record as quoted strings of at most 255 octets each, as DNS has them."""
    parts, part, size = [], "", 0
    for character in text:
        octets = len(character.encode())
        if size + octets > 255:
            parts.append(part)
            part, size = "", 0
        part += character
        size += octets
    parts.append(part)
    return " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts)


def _caa(value: str) -> tuple[int, str, str]:
    match = _CAA.match(value.strip())
    if not match:
        raise DnsError(f'CAA {value!r}: must be FLAGS TAG "VALUE", for example 0 issue "letsencrypt.org".')
    flags, tag, in_quotes, bare = match.groups()
    if int(flags) > 255:
        raise DnsError(f"CAA {value!r}: flags are 0 to 255.")
    return int(flags), tag.lower(), in_quotes if in_quotes is not None else bare


def _srv(value: str) -> str:
    parts = value.split()
    if len(parts) != 4 or not all(part.isdigit() and int(part) <= 65535 for part in parts[:3]):
        raise DnsError(f"SRV {value!r}: must be PRIORITY WEIGHT PORT TARGET, for example 0 5 443 a.example.")
    target = "." if parts[3] == "." else ascii_name(parts[3])
    return " ".join([*(str(int(part)) for part in parts[:3]), target])


def normal_value(kind: str, value: str) -> str:
    """The value of a record of this type in normal form. Raises DnsError."""
    if kind in ("A", "AAAA"):
        try:
            address = ipaddress.ip_address(value.strip())
        except ValueError:
            raise DnsError(f"{kind} {value!r}: is not an IP address.") from None
        if address.version != (4 if kind == "A" else 6):
            raise DnsError(f"{kind} {value!r}: is not an IPv{4 if kind == 'A' else 6} address.")
        return str(address)
    if kind == "TXT":
        return unquoted(value)
    if kind == "CAA":
        flags, tag, text = _caa(value)
        return f'{flags} {tag} "{text}"'
    if kind == "SRV":
        return _srv(value)
    return ascii_name(value)


def wanted_record(options: Mapping[str, Any], zone: str) -> Record:
    """A record of the module's option `records` in normal form. Raises DnsError for what cannot be."""
    kind = str(options["type"]).upper()
    name = full_name(str(options.get("name") or "@"), zone)
    where = f"{name} {kind}"
    try:
        value = normal_value(kind, str(options.get("content") or ""))
    except DnsError as error:
        raise DnsError(f"{name}: {error}") from None
    ttl, proxied, priority = options.get("ttl"), options.get("proxied"), options.get("priority")
    if proxied and kind not in PROXIABLE:
        raise DnsError(f"{where}: only {', '.join(PROXIABLE)} can be proxied; remove `proxied`.")
    if ttl is not None and ttl != AUTO and not 30 <= ttl <= 86400:
        raise DnsError(f"{where}: ttl {ttl} is neither 1 (automatic) nor 30 to 86400 seconds.")
    if proxied and ttl not in (None, AUTO):
        raise DnsError(f"{where}: a proxied record has the ttl 1 (automatic); remove `ttl`.")
    if kind == "MX" and (priority is None or not 0 <= priority <= 65535):
        raise DnsError(f"{where}: needs a `priority` from 0 to 65535.")
    if kind != "MX" and priority is not None:
        raise DnsError(f"{where}: only MX takes `priority` (SRV has it in its content).")
    return Record(
        name=name,
        type=kind,
        value=value,
        ttl=ttl,
        proxied=proxied if kind in PROXIABLE else None,
        priority=priority,
        comment=options.get("comment"),
    )


def stored_record(api: Mapping[str, Any]) -> Stored:
    """A record of the API. What this file does not know keeps its content as it is, and is never touched."""
    kind = str(api["type"])
    content = str(api.get("content") or "")
    data = api.get("data") or {}
    if kind == "CAA" and "tag" in data:
        content = f'{int(data.get("flags") or 0)} {data["tag"]} "{data.get("value", "")}"'
    elif kind == "SRV" and "target" in data:
        content = (
            " ".join(str(data.get(key, 0)) for key in ("priority", "weight", "port")) + f" {data['target']}"
        )
    try:
        value = normal_value(kind, content) if kind in TYPES else content
        name = ascii_name(str(api["name"]))
    except DnsError:
        value, name = content, str(api["name"])
    priority = api.get("priority")
    return Stored(
        id=str(api["id"]),
        record=Record(
            name=name,
            type=kind,
            value=value,
            ttl=int(api.get("ttl") or AUTO),
            proxied=bool(api.get("proxied")) if kind in PROXIABLE else None,
            priority=int(priority) if kind == "MX" and priority is not None else None,
            comment=api.get("comment") or "",
        ),
    )


def settled(wanted: Record, stored: Record) -> Record:
    """`stored` as it is once it is what `wanted` says: attributes that were not given stay."""
    changed = {
        key: value
        for key in ("ttl", "proxied", "priority", "comment")
        if (value := getattr(wanted, key)) is not None
    }
    record = replace(stored, value=wanted.value, **changed)
    # The API gives every proxied record the automatic ttl, whatever it is asked for.
    return replace(record, ttl=AUTO) if record.proxied else record


def created(wanted: Record) -> Record:
    """A record made anew, with the API's defaults in place of what was not given."""
    return replace(
        wanted,
        ttl=AUTO if wanted.ttl is None else wanted.ttl,
        proxied=bool(wanted.proxied) if wanted.type in PROXIABLE else None,
        comment=wanted.comment or "",
    )


@dataclass(frozen=True)
class Removal:
    """What shall not exist: a name and type, all of them or (with `value`) one."""

    name: str
    type: str
    value: str | None

    def matches(self, record: Record) -> bool:
        return (self.name, self.type) == (record.name, record.type) and self.value in (None, record.value)


@dataclass(frozen=True)
class Plan:
    """The changes that bring a zone to the wanted state. Empty lists: it is there."""

    create: list[Record]
    update: list[tuple[Stored, Record]]
    delete: list[Stored]
    before: list[Record]
    """Of what changes: the records as they are, and (`after`) as they will be."""
    after: list[Record]
    final: list[Record]
    """The wanted records as they will be."""

    def __bool__(self) -> bool:
        return bool(self.create or self.update or self.delete)

    def changes(self) -> dict[str, list[dict[str, Any]]]:
        """For the API's batch. A record whose value changes is patched, so that it is never away."""
        return {
            "deletes": [{"id": stored.id} for stored in self.delete],
            "patches": [
                {"id": stored.id, **record.body(), "comment": record.comment}
                for stored, record in self.update
            ],
            "posts": [record.body() for record in self.create],
        }


def clash(one: Record, other: Record, zone: str) -> bool:
    """Whether two records of one name cannot both be.

    A CNAME goes with no address and no other CNAME. Beside other types it may stand where Cloudflare answers
    with what it points to: at the zone's own name, and where it is proxied.
    """
    if one.name != other.name or "CNAME" not in (one.type, other.type):
        return False
    if one.type in PROXIABLE and other.type in PROXIABLE:
        return True
    cname = one if one.type == "CNAME" else other
    return cname.name != zone and not cname.proxied


def check_wanted(wanted: Sequence[Record], removals: Sequence[Removal], zone: str) -> None:
    """Raises DnsError for wanted records that contradict each other: the same one in whatever order."""
    wanted = _in_order(wanted)
    for index, record in enumerate(wanted):
        for other in wanted[:index]:
            if record.identity == other.identity:
                raise DnsError(f"{record.name} {record.type}: is listed twice with different attributes.")
            if clash(record, other, zone):
                raise DnsError(
                    f"{record.name}: {record.type} {record.value} cannot stand beside {other.type} "
                    f"{other.value}; keep one of them."
                )
        if any(removal.matches(record) for removal in removals):
            raise DnsError(f"{record.name} {record.type}: is both wanted and to be absent.")


def plan(
    wanted: Iterable[Record],
    removals: Iterable[Removal],
    stored: Iterable[Stored],
    *,
    zone: str,
    exclusive: bool,
) -> Plan:
    """What to change in a zone that has `stored`, in the least number of writes.

    Only records of a wanted name and type, and those that a removal names, are ever touched. `exclusive`:
    other records of the wanted names and types are removed; else they stay (but a name has one CNAME, which
    is changed). Raises DnsError when the outcome could not be, with nothing written. The order of what is
    given makes no difference.
    """
    wanted = _in_order(set(wanted))
    removals = list(removals)
    check_wanted(wanted, removals, zone)
    delete: list[Stored] = []
    free: list[Stored] = []
    for item in sorted(stored, key=lambda item: (item.record.line(), item.id)):
        (delete if any(removal.matches(item.record) for removal in removals) else free).append(item)
    create: list[Record] = []
    update: list[tuple[Stored, Record]] = []
    final: list[Record] = []
    missing: list[Record] = []
    for record in wanted:
        match = _take(free, record.identity)
        if match is None:
            missing.append(record)
            continue
        final.append(settled(record, match.record))
        if final[-1] != match.record:
            update.append((match, final[-1]))
    for record in missing:
        spare = None
        if exclusive or record.type == "CNAME":
            spare = _take(free, record.identity[:2])
        if spare is None:
            create.append(created(record))
            final.append(create[-1])
        else:
            final.append(settled(record, spare.record))
            update.append((spare, final[-1]))
    if exclusive:
        groups = {record.identity[:2] for record in wanted}
        delete += [item for item in free if item.record.identity[:2] in groups]
        free = [item for item in free if item.record.identity[:2] not in groups]
    for record in final:
        for item in free:
            if clash(record, item.record, zone):
                raise DnsError(
                    f"{record.name}: {record.type} {record.value} cannot stand beside the {item.record.type} "
                    f"{item.record.value} that the zone has; list that with `state: absent`, "
                    "or take another name."
                )
    return Plan(
        create=create,
        update=update,
        delete=delete,
        before=[item.record for item, _record in update] + [item.record for item in delete],
        after=[record for _item, record in update] + create,
        final=final,
    )


def _in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.identity, str(record)))


def _take(items: list[Stored], identity: tuple[str, ...]) -> Stored | None:
    """The first item whose identity starts like this, taken out of the list."""
    for index, item in enumerate(items):
        if item.record.identity[: len(identity)] == identity:
            return items.pop(index)
    return None

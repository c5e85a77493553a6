#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudflare_dns
short_description: A set of DNS records of a Cloudflare zone
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Brings a set of records of a zone to the wanted state in one run. The zone is read once, and everything
    that differs is written in one batch, which Cloudflare carries out as one transaction (200 changes at
    most; more are several batches).
  - Only records of a name and type that O(records) lists are ever touched.
  - Names and values are compared as DNS does, so case, a trailing dot, the quotes of a TXT, a long way to
    write an IPv6 address, or letters instead of Punycode are no difference. Only the attributes that are
    given are compared.
  - A set that cannot be (a CNAME beside an address, one record listed twice) is refused before anything is
    written.
extends_documentation_fragment:
  - vmstio.mastodon._cloudflare
  - vmstio.mastodon._cloudflare.connection
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
options:
  records:
    description: The records. Their order makes no difference.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description:
          - Name in the zone. V(@) is the zone itself.
          - A name that ends in the zone, or in a dot, is a full one.
        type: str
        default: "@"
      type:
        description: Type of the record.
        type: str
        required: true
        choices: [A, AAAA, CAA, CNAME, MX, NS, SRV, TXT]
      content:
        description:
          - The value, as in a zone file but for the priority of MX.
          - A TXT may be given bare or in quotes; long ones are split as DNS needs it.
          - For CAA it is C(FLAGS TAG "VALUE"), for SRV C(PRIORITY WEIGHT PORT TARGET).
          - May be left out with O(records[].state=absent), which then means all records of the name and type.
        type: str
        aliases: [value]
      ttl:
        description: Time to live in seconds, 30 to 86400; V(1) is automatic, which proxied records always
          have.
        type: int
      proxied:
        description: Whether Cloudflare answers in place of the record's target. Only A, AAAA and CNAME.
        type: bool
      priority:
        description: Priority of an MX record; needed for it.
        type: int
      comment:
        description: Comment on the record; empty removes it.
        type: str
      state:
        description: Whether the record shall exist.
        type: str
        choices: [present, absent]
        default: present
  exclusive:
    description:
      - Whether O(records) lists all records of its names and types, so that others of the same name and type
        are removed.
      - Without it, they stay. An address that changed then stands beside the old one.
      - A name has one CNAME, which is replaced in both cases.
    type: bool
    default: false
seealso:
  - module: vmstio.mastodon.cloudflare_zone_settings
  - module: vmstio.mastodon.sendgrid_domain
"""

EXAMPLES = r"""
- name: Have the instance's records
  vmstio.mastodon.cloudflare_dns:
    zone: example.com
    exclusive: true
    records:
      - {name: "@", type: A, content: "{{ load_balancer_address }}", proxied: false}
      - {name: files, type: CNAME, content: example.ams3.cdn.digitaloceanspaces.com}
      - {name: "@", type: CAA, content: 0 issue "letsencrypt.org"}
      - {name: "@", type: MX, content: mx.example.net, priority: 10}
      - {name: _dmarc, type: TXT, content: v=DMARC1; p=quarantine}
      - {name: old, type: A, state: absent}

- name: Have the records that SendGrid asks for
  vmstio.mastodon.cloudflare_dns:
    zone: example.com
    records: "{{ sendgrid.records }}"
"""

RETURN = r"""
zone_id:
  description: The zone's id.
  returned: success
  type: str
  sample: 023e105f4ecef8ad9ca31a8372d0c353
records:
  description: The wanted records as they are now (in check mode, would be).
  returned: success
  type: list
  elements: dict
  sample:
    - {name: example.com, type: A, content: 203.0.113.10, ttl: 1, proxied: false, priority: null, comment: ""}
created:
  description: Records that did not exist.
  returned: success
  type: list
  elements: dict
  sample: []
updated:
  description: Records that were changed, as they are now.
  returned: success
  type: list
  elements: dict
  sample: []
deleted:
  description: Records that were removed.
  returned: success
  type: list
  elements: dict
  sample: []
failure:
  description: The call that failed.
  returned: failure of a call
  type: dict
  sample:
    call: GET https://api.cloudflare.com/client/v4/zones
    problem: 403 Unauthorized to access requested resource (code 9109)
    status: 403
    code: 9109
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError, UnclearError
from ..module_utils._cloudflare import Cloudflare, arguments, client
from ..module_utils._dns import (
    TYPES,
    DnsError,
    Plan,
    Record,
    Removal,
    ascii_name,
    check_wanted,
    full_name,
    normal_value,
    plan,
    stored_record,
    wanted_record,
)
from ..module_utils._module import fail

TRIES = 3
"""Batches sent when their outcome is unclear; the zone is read before each."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments(),
            "records": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "default": "@"},
                    "type": {"type": "str", "required": True, "choices": list(TYPES)},
                    "content": {"type": "str", "aliases": ["value"]},
                    "ttl": {"type": "int"},
                    "proxied": {"type": "bool"},
                    "priority": {"type": "int"},
                    "comment": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                },
                "required_if": [("state", "present", ["content"])],
            },
            "exclusive": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        zone = ascii_name(module.params["zone"])
        wanted, removals = asked_for(module.params["records"], zone)
        api = client(module)
        zone_id = module.params["zone_id"] or api.zone_id(zone)
        found = converge(
            api,
            zone_id,
            zone,
            wanted,
            removals,
            exclusive=module.params["exclusive"],
            write=not module.check_mode,
        )
    except DnsError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    except ApiError as error:
        fail(module, error)
    module.exit_json(
        changed=bool(found),
        zone_id=zone_id,
        records=[record.plain() for record in found.final],
        created=[record.plain() for record in found.create],
        updated=[record.plain() for _stored, record in found.update],
        deleted=[stored.record.plain() for stored in found.delete],
        diff={"before": lines(found.before), "after": lines(found.after)},
    )


def asked_for(records: list[dict[str, object]], zone: str) -> tuple[list[Record], list[Removal]]:
    """The option `records` as records to have and records to remove. Raises DnsError."""
    wanted: dict[Record, None] = {}
    removals = []
    for options in records:
        if options["state"] == "present":
            wanted[wanted_record(options, zone)] = None
        else:
            kind, content = str(options["type"]), options["content"]
            value = None if content is None else normal_value(kind, str(content))
            removals.append(Removal(full_name(str(options["name"]), zone), kind, value))
    check_wanted(list(wanted), removals, zone)
    return list(wanted), removals


def converge(
    api: Cloudflare,
    zone_id: str,
    zone: str,
    wanted: list[Record],
    removals: list[Removal],
    *,
    exclusive: bool,
    write: bool,
) -> Plan:
    """Reads the zone, writes what differs, returns what was to do.

    After a batch that may or may not have been carried out, the zone is read again and the rest is written.
    """
    first: Plan | None = None
    attempt = 0
    while True:
        attempt += 1
        stored = [stored_record(record) for record in api.records(zone_id)]
        todo = plan(wanted, removals, stored, zone=zone, exclusive=exclusive)
        first = first or todo
        if not (todo and write):
            return first
        try:
            api.batch(zone_id, todo.changes())
        except UnclearError:
            if attempt == TRIES:
                raise
            api.rest(attempt)
        else:
            return first


def lines(records: list[Record]) -> str:
    return "".join(sorted(f"{record.line()}\n" for record in records))


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sendgrid_domain
short_description: SendGrid's authentication of a sending domain
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Has SendGrid authenticate mail from a domain (SPF and DKIM), and returns the DNS records that this needs
    in the form that M(vmstio.mastodon.cloudflare_dns) takes.
  - With O(validate), asks SendGrid to look for the records, and waits until it has seen them.
  - A domain that exists is never made a second time, also after an answer that was lost.
extends_documentation_fragment:
  - vmstio.mastodon._sendgrid
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
options:
  domain:
    description: The domain that mail is sent from.
    type: str
    required: true
  subdomain:
    description:
      - The part of the domain that bounces go to. SendGrid makes one up if not set.
      - An authenticated domain that exists is found by it, if set. It cannot be changed later.
    type: str
  automatic_security:
    description: Whether SendGrid manages the keys (three CNAME records). Only for a new domain.
    type: bool
    default: true
  custom_dkim_selector:
    description: Selector of the keys, three letters or digits. Only for a new domain.
    type: str
  default:
    description: Whether to use it for mail from domains that are not authenticated. Left as it is if not set.
    type: bool
  custom_spf:
    description: Whether the domain's own SPF record counts. Left as it is if not set.
    type: bool
  validate:
    description:
      - Whether SendGrid shall look for the records, if it has not seen them yet.
      - This does not count as a change. It is not done in check mode.
    type: bool
    default: false
  wait_timeout:
    description: Seconds to go on asking until the records are seen. V(0) asks once.
    type: int
    default: 300
  wait_interval:
    description: Seconds between two questions.
    type: int
    default: 10
seealso:
  - module: vmstio.mastodon.cloudflare_dns
"""

EXAMPLES = r"""
- name: Have the domain authenticated
  vmstio.mastodon.sendgrid_domain:
    domain: example.com
  register: sendgrid

- name: Have the records it needs
  vmstio.mastodon.cloudflare_dns:
    zone: example.com
    records: "{{ sendgrid.records }}"
  when: not (ansible_check_mode and sendgrid is changed)

- name: Wait until SendGrid has seen them
  vmstio.mastodon.sendgrid_domain:
    domain: example.com
    validate: true
"""

RETURN = r"""
domain:
  description: The authenticated domain. Empty in check mode if it does not exist yet.
  returned: success
  type: dict
  sample: {id: 302183, domain: example.com, subdomain: em1234, default: true, custom_spf: false, valid: false}
records:
  description: The DNS records that it needs, as O(vmstio.mastodon.cloudflare_dns#module:records) takes them.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: em1234.example.com., type: CNAME, content: u1.wl.sendgrid.net, proxied: false}
    - {name: s1._domainkey.example.com., type: CNAME, content: s1.domainkey.u1.wl.sendgrid.net, proxied:
      false}
valid:
  description: Whether SendGrid has seen the records.
  returned: success
  type: bool
  sample: true
reasons:
  description: Why SendGrid does not accept a record yet, by the name of the record.
  returned: O(validate=true) and failure
  type: dict
  sample: {mail_cname: Expected CNAME for "em1234.example.com" to match "u1.wl.sendgrid.net".}
failure:
  description: The call that failed.
  returned: failure of a call
  type: dict
  sample:
    call: GET https://api.sendgrid.com/v3/whitelabel/domains
    problem: 401 authorization required
    status: 401
    code: null
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError, UnclearError
from ..module_utils._module import fail
from ..module_utils._sendgrid import SendGrid, arguments, client

SHOWN = ("id", "domain", "subdomain", "default", "custom_spf", "automatic_security", "valid")
CHANGEABLE = ("default", "custom_spf")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments(),
            "domain": {"type": "str", "required": True},
            "subdomain": {"type": "str"},
            "automatic_security": {"type": "bool", "default": True},
            "custom_dkim_selector": {"type": "str", "no_log": False},
            "default": {"type": "bool"},
            "custom_spf": {"type": "bool"},
            "validate": {"type": "bool", "default": False},
            "wait_timeout": {"type": "int", "default": 300},
            "wait_interval": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    params = {**module.params, "domain": module.params["domain"].rstrip(".").lower()}
    try:
        api = client(module)
        before = existing(api, params)
        after = before
        wanted = {key: params[key] for key in CHANGEABLE if params[key] is not None}
        stale = before is not None and any(before.get(key) != value for key, value in wanted.items())
        if not module.check_mode:
            if before is None:
                after = create(api, params)
            elif stale:
                after = api.update_domain(before["id"], wanted)
        elif stale and before is not None:
            after = {**before, **wanted}
        reasons: dict[str, Any] = {}
        valid = bool(after and after.get("valid"))
        if params["validate"] and after is not None and not valid and not module.check_mode:
            valid, reasons = validated(api, after["id"], params["wait_timeout"], params["wait_interval"])
            after["valid"] = valid
    except ApiError as error:
        fail(module, error)
    result = {
        "changed": before is None or stale,
        "domain": shown(after),
        "records": records(after),
        "valid": valid,
        "diff": {
            "before": shown(before),
            "after": shown(after) or {"domain": params["domain"], **wanted},
        },
    }
    if reasons:
        text = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
        module.fail_json(
            msg=f"SendGrid does not see the records of {params['domain']} after {params['wait_timeout']} s "
            f"({text}). Have the returned records in the domain's DNS, then run again; DNS may need time.",
            reasons=reasons,
            **result,
        )
    module.exit_json(**result)


def existing(api: SendGrid, params: dict[str, Any]) -> dict[str, Any] | None:
    """The authenticated domain that the options mean: the oldest that fits, or None."""
    for domain in api.domains(params["domain"]):
        if params["subdomain"] in (None, domain.get("subdomain")):
            return domain
    return None


def create(api: SendGrid, params: dict[str, Any]) -> dict[str, Any]:
    """Creates the domain. After a lost answer, looks whether it exists before it tries once more."""
    options = ("domain", "subdomain", "automatic_security", "custom_dkim_selector", *CHANGEABLE)
    body = {key: params[key] for key in options if params[key] is not None}
    try:
        return api.create_domain(body)
    except UnclearError:
        api.rest(1)
        return existing(api, params) or api.create_domain(body)


def validated(api: SendGrid, domain_id: int, patience: int, interval: int) -> tuple[bool, dict[str, str]]:
    """Asks SendGrid to look until it sees all records or `patience` seconds are over; why not, by record."""
    deadline = time.monotonic() + patience
    while True:
        answer = api.validate_domain(domain_id)
        if answer.get("valid"):
            return True, {}
        if time.monotonic() + interval > deadline:
            results = answer.get("validation_results") or {}
            reasons = {
                name: str(result.get("reason") or "not valid")
                for name, result in results.items()
                if not result.get("valid")
            }
            return False, reasons or {"dns": "SendGrid could not look the records up"}
        time.sleep(interval)


def shown(domain: dict[str, Any] | None) -> dict[str, Any]:
    return {key: domain.get(key) for key in SHOWN} if domain else {}


def records(domain: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The records of `domain.dns` as cloudflare_dns takes them; hosts end in a dot: they are full names."""
    found: list[dict[str, Any]] = []
    for entry in ((domain or {}).get("dns") or {}).values():
        record = {
            "name": f"{entry['host'].rstrip('.')}.",
            "type": entry["type"].upper(),
            "content": entry["data"],
        }
        if record["type"] == "CNAME":
            record["proxied"] = False  # SendGrid has to find its own name behind it
        if record["type"] == "MX":
            record["priority"] = 10
        found.append(record)
    return found


if __name__ == "__main__":
    main()

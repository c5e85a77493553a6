#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudflare_zone_settings
short_description: The settings of a Cloudflare zone that a Mastodon instance needs
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Sets the zone settings that matter to a Mastodon instance whose records are proxied by Cloudflare. Reads
    them in one request, and writes those that differ.
  - Values that break Mastodon are refused, with the reason.
extends_documentation_fragment:
  - vmstio.mastodon._cloudflare
  - vmstio.mastodon._cloudflare.connection
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
options:
  ssl:
    description:
      - How Cloudflare connects to the instance. V(strict) verifies its certificate.
      - V(off) and V(flexible) are refused. Mastodon redirects plain HTTP to HTTPS, so visitors would go in
        circles.
    type: str
    choices: ["off", flexible, full, strict]
    default: strict
  always_use_https:
    description: Whether plain HTTP is redirected by Cloudflare.
    type: bool
    default: true
  min_tls_version:
    description: The oldest TLS version that visitors may use.
    type: str
    choices: ["1.0", "1.1", "1.2", "1.3"]
    default: "1.2"
  websockets:
    description: Whether WebSockets pass. V(false) is refused. Mastodon's streaming needs them.
    type: bool
    default: true
  rocket_loader:
    description: Whether scripts are loaded late. V(true) is refused. Mastodon's content security policy
      forbids it.
    type: bool
    default: false
  email_obfuscation:
    description:
      - Whether addresses in pages are obfuscated. V(true) is refused. It changes posts and handles such as
        C(@name@example.com).
    type: bool
    default: false
  tls_1_3:
    description: Whether TLS 1.3 is offered. Left as it is if not set.
    type: bool
  http3:
    description: Whether HTTP/3 is offered. Left as it is if not set.
    type: bool
seealso:
  - module: vmstio.mastodon.cloudflare_dns
"""

EXAMPLES = r"""
- name: Have the zone settings that Mastodon needs
  vmstio.mastodon.cloudflare_zone_settings:
    zone: example.com
    http3: true
"""

RETURN = r"""
zone_id:
  description: The zone's id.
  returned: success
  type: str
  sample: 023e105f4ecef8ad9ca31a8372d0c353
settings:
  description: The settings of this module as they are now (in check mode, would be).
  returned: success
  type: dict
  sample: {ssl: strict, always_use_https: "on", min_tls_version: "1.2", websockets: "on"}
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

from ..module_utils._api import ApiError
from ..module_utils._cloudflare import arguments, client
from ..module_utils._dns import DnsError, ascii_name
from ..module_utils._module import fail

REFUSED = {
    ("ssl", "off"): "Mastodon redirects plain HTTP to HTTPS, so visitors would go in circles; use strict.",
    (
        "ssl",
        "flexible",
    ): "Mastodon redirects plain HTTP to HTTPS, so visitors would go in circles; use strict.",
    ("websockets", False): "Mastodon's streaming needs WebSockets; leave them on.",
    ("rocket_loader", True): "Mastodon's content security policy forbids it; leave it off.",
    ("email_obfuscation", True): "it changes posts and handles such as @name@example.com; leave it off.",
}
SETTINGS: dict[str, dict[str, object]] = {
    "ssl": {"type": "str", "choices": ["off", "flexible", "full", "strict"], "default": "strict"},
    "always_use_https": {"type": "bool", "default": True},
    "min_tls_version": {"type": "str", "choices": ["1.0", "1.1", "1.2", "1.3"], "default": "1.2"},
    "websockets": {"type": "bool", "default": True},
    "rocket_loader": {"type": "bool", "default": False},
    "email_obfuscation": {"type": "bool", "default": False},
    "tls_1_3": {"type": "bool"},
    "http3": {"type": "bool"},
}


def main() -> None:
    module = AnsibleModule(argument_spec={**arguments(), **SETTINGS}, supports_check_mode=True)
    given = {key: module.params[key] for key in SETTINGS if module.params[key] is not None}
    for key, value in given.items():
        if (key, value) in REFUSED:
            module.fail_json(msg=f"Nothing was changed. {key}={value}: {REFUSED[key, value]}")
    wanted = {key: api_value(value) for key, value in given.items()}
    try:
        zone = ascii_name(module.params["zone"])
        api = client(module)
        zone_id = module.params["zone_id"] or api.zone_id(zone)
        found = api.settings(zone_id)
        before = {key: found.get(key) for key in wanted}
        for key, value in wanted.items():
            if before[key] != value and not module.check_mode:
                api.set_setting(zone_id, key, value)
    except DnsError as error:
        module.fail_json(msg=f"Nothing was changed. {error}")
    except ApiError as error:
        fail(module, error)
    module.exit_json(
        changed=before != wanted,
        zone_id=zone_id,
        settings=wanted,
        diff={"before": before, "after": wanted},
    )


def api_value(value: object) -> object:
    """A setting as the API has it: on and off for a bool."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return value


if __name__ == "__main__":
    main()

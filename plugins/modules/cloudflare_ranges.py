#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudflare_ranges
short_description: Keep the list of Cloudflare's address ranges on a host
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Asks Cloudflare which address ranges its proxies have, and keeps the answer in a file, so that there is
    a list also when Cloudflare cannot be asked.
  - Runs on the host that needs the list, with nothing but Python. No token is needed.
  - An answer is not believed if it lacks IPv4 or IPv6 ranges, or if an entry is no network, private,
    loopback, or wider than /10 (IPv4) or /24 (IPv6). Cloudflare's widest ranges are a /13 and a /29.
  - A failure to ask is a warning, not an error. The list in O(path) is used then. Where there is none, the
    list that came with this collection is used, and O(path) is not written.
extends_documentation_fragment:
  - vmstio.mastodon._cloudflare.connection
  - vmstio.mastodon._attributes
options:
  path:
    description:
      - The file that keeps the last good list (JSON, mode 0644). Its directory has to be there.
    type: path
    required: true
  timeout:
    description:
      - Seconds to wait for a connection and for each part of an answer.
      - Shorter than for the other modules, since there is a list without an answer too. It is asked five
        times at most.
    type: float
    default: 10.0
seealso:
  - module: vmstio.mastodon.cloudflare_zone_settings
  - name: Cloudflare's IP ranges
    description: The same list for people.
    link: https://www.cloudflare.com/ips/
"""

EXAMPLES = r"""
- name: Have the current list of Cloudflare's ranges
  vmstio.mastodon.cloudflare_ranges:
    path: /var/lib/mastodon/cloudflare-ranges.json
  register: cloudflare

- name: Show it
  ansible.builtin.debug:
    var: cloudflare.ranges
"""

RETURN = r"""
ranges:
  description: The ranges, IPv4 first, in the order of addresses.
  returned: success
  type: list
  elements: str
  sample: [103.21.244.0/22, 173.245.48.0/20, "2400:cb00::/32"]
source:
  description:
    - V(cloudflare) for an answer of this run, V(kept) for the list in O(path), V(published) for the list
      that came with this collection.
  returned: success
  type: str
  sample: cloudflare
failure:
  description: The call that could not be made with these options.
  returned: failure
  type: dict
  sample:
    call: http://api.cloudflare.com/client/v4
    problem: the endpoint is not an https:// URL
    status: null
    code: null
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError
from ..module_utils._cloudflare import ENDPOINT, Cloudflare
from ..module_utils._module import client_arguments, client_settings, fail
from ..module_utils._ranges import PUBLISHED, PUBLISHED_ON, Kept, RangesError, answered, read, write


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **client_arguments(None, [], "CLOUDFLARE", ENDPOINT),
            "timeout": {"type": "float", "default": 10.0},
            "path": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    try:
        api = Cloudflare(None, endpoint=module.params["endpoint"], **client_settings(module))
    except ApiError as error:
        fail(module, error)
    kept, damage, problem = None, "", ""
    try:
        kept = read(path)
    except RangesError as error:
        damage = f"{path} cannot be used ({error})"
    try:
        ranges = answered(api.ips())
    except ApiError as error:
        problem = str(error)
    except RangesError as error:
        problem = (
            f"GET {api.endpoint}/ips: the answer is not believed: {error}. Check that the endpoint is "
            "Cloudflare's API and that no proxy answers in its place."
        )
    if problem and kept:
        module.warn(f"Cloudflare's ranges are those that {path} keeps since {kept.since}. {problem}")
        module.exit_json(changed=False, ranges=kept.ranges, source="kept")
    if problem:
        why = damage or f"there is no {path} yet"
        module.warn(f"Cloudflare's ranges are those of {PUBLISHED_ON}, since {why}. {problem}")
        module.exit_json(changed=False, ranges=list(PUBLISHED), source="published")
    if damage:
        module.warn(f"{damage}: the answer of Cloudflare takes its place.")
    before = kept.ranges if kept else []
    if before != ranges and not module.check_mode:
        try:
            write(path, Kept(ranges, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())))
        except OSError as error:
            module.fail_json(
                msg=f"{path} cannot be written: {error.strerror}. Check the directory, then run again."
            )
    module.exit_json(
        changed=before != ranges,
        ranges=ranges,
        source="cloudflare",
        diff={"before": {"ranges": before}, "after": {"ranges": ranges}},
    )


if __name__ == "__main__":
    main()

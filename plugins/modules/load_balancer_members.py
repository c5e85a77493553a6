#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: load_balancer_members
short_description: Put a droplet behind a DigitalOcean load balancer, or take it out
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Adds a droplet to the members of a load balancer or removes it, and waits until the API agrees.
  - Works on load balancers that know their members by a tag (the droplet gets or loses the tag), and on
    those that list them by id.
  - Without O(droplet_id), only tells which droplets are members.
  - DigitalOcean does not promise that connections end well when a member is removed. Let the droplet fail
    its health check first, and wait until no requests come in.
extends_documentation_fragment:
  - vmstio.mastodon._digitalocean
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
notes:
  - Give the load balancer a tag of its own, for example C(<instance>-lb). A tag that is also the inventory's
    or a firewall's would be lost to them when the droplet is removed.
  - The token needs the scopes C(load_balancer:read), C(droplet:read), C(tag:read), and C(tag:create) and
    C(tag:delete), or C(load_balancer:update) if the members are listed by id.
options:
  load_balancer:
    description: Name or id of the load balancer.
    type: str
    required: true
  droplet_id:
    description: The droplet's id, C(do_id) of the inventory.
    type: int
  state:
    description: Whether the droplet shall be a member.
    type: str
    choices: [present, absent]
    default: present
  keep:
    description:
      - How many members must be left when the droplet is removed. With fewer, nothing is changed and the
        module fails.
    type: int
    default: 1
  wait_timeout:
    description: Seconds to wait until the API agrees.
    type: int
    default: 120
  wait_interval:
    description: Seconds between two looks.
    type: float
    default: 2
seealso:
  - module: vmstio.mastodon.droplet_rebuild
"""

EXAMPLES = r"""
- name: Take the worker out of the load balancer, if two others are left
  vmstio.mastodon.load_balancer_members:
    load_balancer: vmst
    droplet_id: "{{ do_id }}"
    state: absent
    keep: 2
  delegate_to: localhost

- name: Put it back
  vmstio.mastodon.load_balancer_members:
    load_balancer: vmst
    droplet_id: "{{ do_id }}"
  delegate_to: localhost

- name: Ask who is a member
  vmstio.mastodon.load_balancer_members:
    load_balancer: vmst
  delegate_to: localhost
  register: load_balancer
"""

RETURN = r"""
load_balancer:
  description: The load balancer.
  returned: success
  type: dict
  sample:
    id: 4de7ac8b-495b-4884-9a69-1050c6793cd6
    name: vmst
    ip: 203.0.113.10
    status: active
    tag: vmst-lb
members:
  description: The ids of its members (in check mode, as they would be).
  returned: success
  type: list
  elements: int
  sample: [3164444, 3164445]
failure:
  description: The call that failed.
  returned: failure of a call
  type: dict
  sample:
    call: GET https://api.digitalocean.com/v2/load_balancers
    problem: 403 You are not authorized to perform this operation
    status: 403
    code: forbidden
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError
from ..module_utils._digitalocean import DigitalOcean, arguments, client
from ..module_utils._module import fail


class MembersError(Exception):
    """The members cannot be what was asked for; `str()` says why and what to do."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments(),
            "load_balancer": {"type": "str", "required": True},
            "droplet_id": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "keep": {"type": "int", "default": 1},
            "wait_timeout": {"type": "int", "default": 120},
            "wait_interval": {"type": "float", "default": 2.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    droplet, present = params["droplet_id"], params["state"] == "present"
    try:
        api = client(module)
        found = load_balancer(api, params["load_balancer"])
        before = members(found)
        changed = droplet is not None and (droplet in before) != present
        after = before
        if changed:
            after = sorted({*before, droplet} if present else {*before} - {droplet})
            if not present and len(after) < params["keep"]:
                raise MembersError(
                    f"Droplet {droplet} stays behind {found['name']}: without it {len(after)} members would "
                    f"be left, and keep is {params['keep']}. Put others back first."
                )
            if not module.check_mode:
                change(api, found, droplet, present=present)
                found = agreed(
                    api,
                    found,
                    droplet,
                    present=present,
                    timeout=params["wait_timeout"],
                    interval=params["wait_interval"],
                )
                after = members(found)
    except MembersError as error:
        module.fail_json(msg=str(error))
    except ApiError as error:
        fail(module, error)
    module.exit_json(
        changed=changed,
        load_balancer={key: found.get(key) for key in ("id", "name", "ip", "status", "tag")},
        members=after,
        diff={"before": {"members": before}, "after": {"members": after}},
    )


def load_balancer(api: DigitalOcean, wanted: str) -> dict[str, Any]:
    """The load balancer of this name or id. Raises MembersError if there is none, or two of the name."""
    every = api.pages(
        "GET /v2/load_balancers",
        api.api.load_balancers.list,
        "load_balancers",
        scopes="load_balancer:read",
    )
    found = [item for item in every if wanted in (item["id"], item["name"])]
    if len(found) != 1:
        names = ", ".join(sorted(item["name"] for item in every)) or "none"
        raise MembersError(
            f"{len(found) or 'No'} load balancers are called {wanted} (the account has: {names}): "
            f"give one's name or id."
        )
    return found[0]


def members(found: dict[str, Any]) -> list[int]:
    return sorted(found.get("droplet_ids") or [])


def change(api: DigitalOcean, found: dict[str, Any], droplet: int, *, present: bool) -> None:
    """Adds or removes the droplet, by the load balancer's tag or its list. Both can be repeated."""
    tag = found.get("tag")
    if tag:
        method = "POST" if present else "DELETE"
        tags = api.api.tags
        api.call(
            f"{method} /v2/tags/{tag}/resources",
            tags.assign_resources if present else tags.unassign_resources,
            tag,
            {"resources": [{"resource_id": str(droplet), "resource_type": "droplet"}]},
            scopes="tag:create" if present else "tag:delete",
        )
        return
    method = "POST" if present else "DELETE"
    balancers = api.api.load_balancers
    api.call(
        f"{method} /v2/load_balancers/{found['id']}/droplets",
        balancers.add_droplets if present else balancers.remove_droplets,
        found["id"],
        {"droplet_ids": [droplet]},
        scopes="load_balancer:update",
    )


def agreed(
    api: DigitalOcean,
    found: dict[str, Any],
    droplet: int,
    *,
    present: bool,
    timeout: float,
    interval: float,
) -> dict[str, Any]:
    """The load balancer, once the API lists the droplet as wanted. Raises MembersError after `timeout`."""
    deadline = time.monotonic() + timeout
    while True:
        found = api.call(
            f"GET /v2/load_balancers/{found['id']}",
            api.api.load_balancers.get,
            found["id"],
            scopes="load_balancer:read",
        )["load_balancer"]
        if (droplet in members(found)) == present:
            return found
        if time.monotonic() + interval > deadline:
            raise MembersError(
                f"{found['name']} still {'lacks' if present else 'lists'} droplet {droplet} "
                f"after {timeout:.0f} s: look at it in the control panel, then run again."
            )
        time.sleep(interval)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: droplet_rebuild
short_description: Rebuild a droplet's disk from an image
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Rebuilds one droplet from an image and waits until that is done. Its addresses, tags and size stay.
    Everything on its disk is lost, and it gets new SSH host keys.
  - With C(-v), what happens is shown while it happens. Where the output goes into a pipe or a file, set
    C(PYTHONUNBUFFERED=1), or Python keeps it back.
  - A rebuild that runs already is waited for, not started again. So this can be run again after a lost
    connection.
  - While another action of the droplet runs (a pending event), it is waited for first.
  - The image must be of the same distribution as the droplet's, and fit its region and disk.
extends_documentation_fragment:
  - vmstio.mastodon._digitalocean
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
attributes:
  action:
    description: Has an action plugin, which waits and shows the progress. The module takes single steps.
    support: full
  async:
    description: Cannot be used with the C(async) keyword.
    support: none
  idempotent:
    description: Every run rebuilds, unless O(since) says which rebuild counts as done.
    support: partial
    details:
      - Idempotent with O(since).
notes:
  - The token needs the scopes C(droplet:read), C(droplet:update), C(droplet:admin) and C(image:read).
options:
  id:
    description: The droplet's id, C(do_id) of the inventory.
    type: int
  name:
    description: The droplet's name, if it is the only one with it.
    type: str
  image:
    description: Slug or id of the image, for example V(debian-13-x64).
    type: str
    required: true
  since:
    description:
      - A rebuild that was started at or after this time counts as done, so that a run that was interrupted
        goes on where it stopped.
      - As in C(2026-07-21T18:37:44Z).
    type: str
  wait_timeout:
    description:
      - Seconds that the whole run may take, with other actions that are waited for before the rebuild. Calls
        count, and so do the pauses before they are repeated.
      - A call that is under way then is not broken off. It can take up to O(timeout) longer.
    type: int
    default: 900
  wait_interval:
    description: Seconds between two looks.
    type: float
    default: 5
  _step:
    description:
      - Where a run goes on. The action plugin gives it, do not set it.
      - C(state) is what the step before returned, C(left) the seconds that are left.
    type: dict
seealso:
  - module: vmstio.mastodon.load_balancer_members
"""

EXAMPLES = r"""
- name: Rebuild the worker from a clean image
  vmstio.mastodon.droplet_rebuild:
    id: "{{ do_id }}"
    image: debian-13-x64
  delegate_to: localhost
"""

RETURN = r"""
droplet:
  description: The droplet as it is now.
  returned: success
  type: dict
  sample: {id: 3164444, name: vmst-worker-1, status: active, image: debian-13-x64}
action:
  description: The rebuild. Empty in check mode, if none runs.
  returned: success
  type: dict
  sample:
    id: 36804636
    status: completed
    started_at: "2026-07-21T18:37:44Z"
    completed_at: "2026-07-21T18:38:40Z"
progress:
  description: What was seen, and after how many seconds.
  returned: always
  type: list
  elements: str
  sample: ["0 s: rebuild 36804636 is in-progress", "41 s: rebuild 36804636 is completed"]
failure:
  description: The call that failed.
  returned: failure of a call
  type: dict
  sample:
    call: GET https://api.digitalocean.com/v2/droplets/3164444
    problem: 404 The resource you were accessing could not be found
    status: 404
    code: not_found
"""

import re
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError, Retry
from ..module_utils._digitalocean import arguments, client
from ..module_utils._module import fail
from ..module_utils._rebuild import Rebuild, RebuildError, Step


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **arguments(),
            "id": {"type": "int"},
            "name": {"type": "str"},
            "image": {"type": "str", "required": True},
            "since": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 900},
            "wait_interval": {"type": "float", "default": 5.0},
            "_step": {"type": "dict"},
        },
        required_one_of=[("id", "name")],
        mutually_exclusive=[("id", "name")],
        supports_check_mode=True,
    )
    params = module.params
    since = params["since"]
    if since is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", since):
        module.fail_json(msg=f"since: {since} is no time in the form 2026-07-21T18:37:44Z (UTC).")
    given = params["_step"] or {"state": None, "left": params["wait_timeout"]}
    step = Step(timeout=params["wait_timeout"], interval=params["wait_interval"])
    try:
        api = client(module, Retry(deadline=time.monotonic() + given["left"]))
        rebuild = Rebuild(api, params["image"], step)
        if given["state"] is None:
            result = rebuild.begin(params["id"], params["name"], since, check=module.check_mode)
        else:
            result = rebuild.go_on(given["state"])
    except RebuildError as error:
        module.fail_json(msg=str(error), step=step.plain())
    except ApiError as error:
        fail(module, error, step=step.plain())
    module.exit_json(**result, step=step.plain())


if __name__ == "__main__":
    main()

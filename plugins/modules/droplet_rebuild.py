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
  - A rebuild that runs already is waited for, not started again. So this can be run again after a lost
    connection.
  - While another action of the droplet runs (a pending event), it is waited for first.
  - The image must be of the same distribution as the droplet's, and fit its region and disk.
extends_documentation_fragment:
  - vmstio.mastodon._digitalocean
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
attributes:
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
    description: Seconds to wait for the rebuild, and for other actions before it.
    type: int
    default: 900
  wait_interval:
    description: Seconds between two looks.
    type: float
    default: 5
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
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError, UnclearError
from ..module_utils._digitalocean import DigitalOcean, arguments, client
from ..module_utils._module import fail

TRIES = 3
"""Rebuilds asked for when the outcome is unclear; the droplet's actions are read before each."""


class RebuildError(Exception):
    """The rebuild cannot be, or did not come to its end; `str()` says what to do."""


class Rebuild:
    """One rebuild of one droplet. `progress` tells what was seen."""

    def __init__(self, api: DigitalOcean, *, timeout: float, interval: float) -> None:
        self.api = api
        self.progress: list[str] = []
        self._start = time.monotonic()
        self._timeout = timeout
        self._interval = interval

    def droplet(self, identifier: int | None, name: str | None) -> dict[str, Any]:
        if identifier is not None:
            answer = self.api.call(
                f"GET /v2/droplets/{identifier}",
                self.api.api.droplets.get,
                identifier,
                scopes="droplet:read",
            )
            return dict(answer["droplet"])
        found = self.api.pages(
            "GET /v2/droplets", self.api.api.droplets.list, "droplets", scopes="droplet:read", name=name
        )
        if len(found) != 1:
            ids = ", ".join(str(droplet["id"]) for droplet in found)
            raise RebuildError(
                f"{len(found)} droplets are called {name}{f' ({ids})' if ids else ''}: give the id."
            )
        return found[0]

    def check_image(self, droplet: dict[str, Any], image: int | str) -> None:
        """Raises RebuildError if the droplet cannot be rebuilt from the image."""
        found = self.api.call(f"GET /v2/images/{image}", self.api.api.images.get, image, scopes="image:read")[
            "image"
        ]
        before = (droplet.get("image") or {}).get("distribution")
        name = droplet["name"]
        if before and found.get("distribution") and before != found["distribution"]:
            raise RebuildError(
                f"{name} runs {before} and the image {image} is {found['distribution']}: DigitalOcean "
                f"rebuilds within one family only. Choose an image of {before}, or make a new droplet."
            )
        region = (droplet.get("region") or {}).get("slug")
        if region and found.get("regions") and region not in found["regions"]:
            raise RebuildError(
                f"The image {image} is not in the region {region} of {name}: transfer it there."
            )
        if (found.get("min_disk_size") or 0) > (droplet.get("disk") or 0):
            raise RebuildError(
                f"The image {image} needs a disk of {found['min_disk_size']} GiB; "
                f"{name} has {droplet.get('disk')}."
            )

    def actions(self, droplet_id: int) -> list[dict[str, Any]]:
        """The droplet's rebuilds, newest first."""
        found = self.api.pages(
            f"GET /v2/droplets/{droplet_id}/actions",
            self.api.api.droplet_actions.list,
            "actions",
            scopes="droplet:read",
            droplet_id=droplet_id,
        )
        rebuilds = [action for action in found if action["type"] == "rebuild"]
        return sorted(rebuilds, key=lambda action: action["id"], reverse=True)

    def start(self, droplet_id: int, image: int | str) -> dict[str, Any]:
        """Starts a rebuild once the droplet has no other action, or finds one that was started unheard."""
        known = {action["id"] for action in self.actions(droplet_id)}
        unclear = 0
        while True:
            try:
                answer = self.api.call(
                    f"POST /v2/droplets/{droplet_id}/actions",
                    self.api.api.droplet_actions.post,
                    droplet_id,
                    {"type": "rebuild", "image": image},
                    scopes="droplet:update and droplet:admin",
                    creates=True,
                )
                return dict(answer["action"])
            except UnclearError as error:
                unclear += 1
                if unclear == TRIES:
                    raise
                self.note(f"no clear answer ({error.problem}); looking whether it was started")
                self.api.rest(unclear)
            except ApiError as error:
                if error.status not in (422, 423) or "pending event" not in error.problem:
                    raise
                self.note("another action of the droplet runs; waiting for it")
                self.sleep("another action of the droplet")
            for action in self.actions(droplet_id):
                if action["id"] not in known:
                    return action

    def wait(self, droplet_id: int, action: dict[str, Any]) -> dict[str, Any]:
        """Polls until the action is over. Raises RebuildError if it fails or takes too long."""
        what = f"rebuild {action['id']}"
        while True:
            self.note(f"{what} is {action['status']}")
            if action["status"] == "completed":
                return action
            if action["status"] == "errored":
                raise RebuildError(
                    f"{what} of droplet {droplet_id} failed at DigitalOcean: look at the droplet's console, "
                    "then run again."
                )
            self.sleep(what)
            try:
                action = self.api.call(
                    f"GET /v2/droplets/{droplet_id}/actions/{action['id']}",
                    self.api.api.droplet_actions.get,
                    droplet_id,
                    action["id"],
                    scopes="droplet:read",
                )["action"]
            except ApiError as error:
                # The rebuild goes on without us: only patience decides.
                if error.status is not None and error.status < 500:
                    raise
                self.note(f"no answer ({error.problem}); asking again")

    def note(self, text: str) -> None:
        line = f"{time.monotonic() - self._start:.0f} s: {text}"
        if not self.progress or self.progress[-1].split(": ", 1)[1] != text:
            self.progress.append(line)

    def sleep(self, what: str) -> None:
        if time.monotonic() - self._start + self._interval > self._timeout:
            raise RebuildError(
                f"{what} is not over after {self._timeout:.0f} s. It may still end well: run again, "
                "which waits for it, or raise wait_timeout."
            )
        time.sleep(self._interval)


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
        },
        required_one_of=[("id", "name")],
        mutually_exclusive=[("id", "name")],
        supports_check_mode=True,
    )
    params = module.params
    since = params["since"]
    if since is not None and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", since):
        module.fail_json(
            msg=f"since: {since} is no time in the form 2026-07-21T18:37:44Z (UTC).", progress=[]
        )
    image: int | str = int(params["image"]) if params["image"].isdecimal() else params["image"]
    progress: list[str] = []
    try:
        rebuild = Rebuild(client(module), timeout=params["wait_timeout"], interval=params["wait_interval"])
        progress = rebuild.progress
        droplet = rebuild.droplet(params["id"], params["name"])
        rebuilds = rebuild.actions(droplet["id"])
        running = next((action for action in rebuilds if action["status"] == "in-progress"), None)
        done = next(
            (a for a in rebuilds if since and a["status"] == "completed" and a["started_at"] >= since), None
        )
        action = running or done
        if action is None:
            rebuild.check_image(droplet, image)
        before, changed = shown(droplet), running is not None or done is None
        if changed and not module.check_mode:
            action = rebuild.wait(droplet["id"], running or rebuild.start(droplet["id"], image))
            droplet = rebuild.droplet(droplet["id"], None)
    except RebuildError as error:
        module.fail_json(msg=str(error), progress=progress)
    except ApiError as error:
        fail(module, error, progress=progress)
    after = {**shown(droplet), "image": str(image)} if changed and module.check_mode else shown(droplet)
    times = ("id", "status", "started_at", "completed_at")
    module.exit_json(
        changed=changed,
        droplet=after,
        action={key: action.get(key) for key in times} if action else {},
        progress=progress,
        diff={"before": {**before, "disk": "as it was"}, "after": {**after, "disk": "new"}}
        if changed
        else {},
    )


def shown(droplet: dict[str, Any]) -> dict[str, Any]:
    image = droplet.get("image") or {}
    return {
        "id": droplet["id"],
        "name": droplet["name"],
        "status": droplet.get("status"),
        "image": image.get("slug") or str(image.get("id") or ""),
    }


if __name__ == "__main__":
    main()

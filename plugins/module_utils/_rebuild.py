# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: the rebuild of a droplet, a step at a time.

A step ends where waiting begins, so that the action plugin, which waits, can show what was seen. It takes
one step after the other: the module's option `_step` leads in, its return value `step` (a Step) leads out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ._api import ApiError, UnclearError
from ._digitalocean import DigitalOcean

TRIES = 3
"""Rebuilds asked for when the outcome is unclear; the droplet's actions are read before each."""


class RebuildError(Exception):
    """The rebuild cannot be, or did not come to its end; `str()` says what to do."""


@dataclass
class Step:
    """What a step leaves to the action plugin: `notes` to show, and how to go on.

    `state` is for the next step, plain data; None: the run is over. `pause` is the time to wait before it,
    for `waiting_for`. `timeout` and `interval` are the module's options wait_timeout and wait_interval. All
    times are seconds.
    """

    timeout: float
    interval: float
    notes: list[str] = field(default_factory=list)
    state: dict[str, Any] | None = None
    pause: float = 0.0
    waiting_for: str = ""

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def wait_for(self, what: str, state: dict[str, Any]) -> dict[str, Any]:
        """Ends the step, and gives the module's result: nothing yet."""
        self.waiting_for, self.pause, self.state = what, self.interval, state
        return {}


class Rebuild:
    """One rebuild of one droplet from `image` (slug or id).

    Every method that takes a step returns the module's result, and leaves in `step` how to go on. Raises
    RebuildError, and ApiError for a call that failed for good.
    """

    def __init__(self, api: DigitalOcean, image: str, step: Step) -> None:
        self.api = api
        self.step = step
        self._image: int | str = int(image) if image.isdecimal() else image

    def begin(
        self, identifier: int | None, name: str | None, since: str | None, *, check: bool
    ) -> dict[str, Any]:
        """The first step only reads: whether there is something to do, and whether it can be done."""
        droplet = self._droplet(identifier, name)
        rebuilds = self._rebuilds(droplet["id"])
        running = next((action for action in rebuilds if action["status"] == "in-progress"), None)
        done = next(
            (a for a in rebuilds if since and a["status"] == "completed" and a["started_at"] >= since), None
        )
        if not running and not done:
            self._check_image(droplet)
        before = shown(droplet)
        if done and not running:
            return result(before, before, done)
        if check:
            return result(before, {**before, "image": str(self._image)}, running, changed=True)
        state = {
            "droplet": droplet["id"],
            "before": before,
            # A rebuild that is not among them was started by this run, or beside it.
            "known": [action["id"] for action in rebuilds],
            "unclear": 0,
            "action": None,
        }
        if running:
            return self._judge(state, running)
        self.step.state = state
        return {}

    def go_on(self, state: dict[str, Any]) -> dict[str, Any]:
        """A later step: starts the rebuild, or looks how it goes."""
        if state["action"] is None:
            return self._start(state)
        try:
            action = self.api.call(
                f"GET /v2/droplets/{state['droplet']}/actions/{state['action']}",
                self.api.api.droplet_actions.get,
                state["droplet"],
                state["action"],
                scopes="droplet:read",
            )["action"]
            return self._judge(state, action)
        except ApiError as error:
            # The rebuild goes on without us: only patience decides.
            if error.status is not None and error.status < 500:
                raise
            self.step.notes.append(f"no answer ({error.problem}); asking again")
            return self.step.wait_for(f"rebuild {state['action']}", state)

    def _start(self, state: dict[str, Any]) -> dict[str, Any]:
        """Starts a rebuild, unless there is one that was started unheard or another action runs."""
        for action in self._rebuilds(state["droplet"]):
            if action["id"] not in state["known"]:
                return self._judge(state, action)
        try:
            answer = self.api.call(
                f"POST /v2/droplets/{state['droplet']}/actions",
                self.api.api.droplet_actions.post,
                state["droplet"],
                {"type": "rebuild", "image": self._image},
                scopes="droplet:update and droplet:admin",
                creates=True,
            )
        except UnclearError as error:
            state["unclear"] += 1
            if state["unclear"] == TRIES:
                raise
            self.step.notes.append(f"no clear answer ({error.problem}); looking whether it was started")
            return self.step.wait_for("the rebuild", state)
        except ApiError as error:
            if error.status not in (422, 423) or "pending event" not in error.problem:
                raise
            self.step.notes.append("another action of the droplet runs; waiting for it")
            return self.step.wait_for("another action of the droplet", state)
        return self._judge(state, answer["action"])

    def _judge(self, state: dict[str, Any], action: dict[str, Any]) -> dict[str, Any]:
        """The end of the run, or its next step, by the rebuild's status."""
        what, status = f"rebuild {action['id']}", action["status"]
        self.step.notes.append(f"{what} is {status}")
        if status == "errored":
            raise RebuildError(
                f"{what} of droplet {state['droplet']} failed at DigitalOcean: look at the droplet's "
                "console, then run again."
            )
        if status == "completed":
            after = shown(self._droplet(state["droplet"], None))
            return result(state["before"], after, action, changed=True)
        return self.step.wait_for(what, {**state, "action": action["id"]})

    def _droplet(self, identifier: int | None, name: str | None) -> dict[str, Any]:
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

    def _check_image(self, droplet: dict[str, Any]) -> None:
        """Raises RebuildError if the droplet cannot be rebuilt from the image."""
        image = self._image
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

    def _rebuilds(self, droplet_id: int) -> list[dict[str, Any]]:
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


def shown(droplet: dict[str, Any]) -> dict[str, Any]:
    """A droplet as the module returns it."""
    image = droplet.get("image") or {}
    return {
        "id": droplet["id"],
        "name": droplet["name"],
        "status": droplet.get("status"),
        "image": image.get("slug") or str(image.get("id") or ""),
    }


def result(
    before: dict[str, Any], after: dict[str, Any], action: dict[str, Any] | None, *, changed: bool = False
) -> dict[str, Any]:
    """What the module returns at the end."""
    times = ("id", "status", "started_at", "completed_at")
    return {
        "changed": changed,
        "droplet": after,
        "action": {key: action.get(key) for key in times} if action else {},
        "diff": {"before": {**before, "disk": "as it was"}, "after": {**after, "disk": "new"}}
        if changed
        else {},
    }

"""Checks every exchange with an emulator against the vendor's OpenAPI document.

The documents are the vendors' data and no part of this project: they are read from `$VENDOR_OPENAPI`
(default `../shared/openapi`, relative to the repository). Where a document is not present nothing is
checked, and `/_lab/health` says so. `digitalocean-fixed.json` and `cloudflare-fixed.json` are the vendors'
texts with the corrections without which no real answer passes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lab.config import REPOSITORY

if TYPE_CHECKING:
    from lab.emulators.common import Call, Reply

Mode = Literal["off", "log", "raise"]


def documents() -> Path:
    """Where the vendors' documents are, if they are."""
    return REPOSITORY / os.environ.get("VENDOR_OPENAPI", "../shared/openapi")


@dataclass(frozen=True)
class Violation:
    """`where` is `request` or `answer`; `what` says what is wrong with it."""

    where: str
    what: str

    def show(self) -> dict[str, str]:
        return {"where": self.where, "what": self.what}


class Contract:
    """Validation against one document.

    `mode`: `off`, `log` (keep a list) or `raise` (answer 500 instead, for tests). `errors_declared` False
    is for a document that leaves refusals out: they are not checked then.
    """

    def __init__(self, document: str, mode: Mode, *, server: str = "", errors_declared: bool = True) -> None:
        self.mode = mode
        path = documents() / document
        self.present = path.is_file()
        self.active = self.present and mode != "off"
        if self.active:
            # Only here: it takes a second and 40 MiB, for nothing where there is no document.
            from lab.emulators import validation  # noqa: PLC0415

            self._check = validation.checker(path, server, errors_declared=errors_declared)

    @property
    def state(self) -> str:
        """The mode, or `no document`."""
        return self.mode if self.present or self.mode == "off" else "no document"

    def check_request(self, call: Call) -> Violation | None:
        return self._look("request", call, None)

    def check_reply(self, call: Call, reply: Reply) -> Violation | None:
        return self._look("answer", call, reply)

    def _look(self, where: str, call: Call, reply: Reply | None) -> Violation | None:
        what = self._check(call, reply)
        return Violation(where, what) if what else None

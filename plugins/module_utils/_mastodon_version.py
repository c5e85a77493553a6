# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# PRIVATE to this collection.
"""Versions of Mastodon and of its forks: how they are written, their order, the image tag of each.

    v4.7.3            a release
    v4.7.0-rc.1       before it; also alpha.N and beta.N
    v4.7.3+glitch.2   a fork's, or a patched, v4.7.3; also v4.7.3-acme.2

This is the only place that knows. Plugins import it; role exec also puts it beside its programs on the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STAGES = ("alpha", "beta", "rc")
_GRAMMAR = re.compile(
    r"v(?P<major>0|[1-9]\d*)\.(?P<minor>0|[1-9]\d*)\.(?P<patch>0|[1-9]\d*)"
    rf"(?:-(?P<stage>{'|'.join(_STAGES)})\.?(?P<number>\d*)(?![0-9A-Za-z]))?"
    r"(?:[+-](?P<suffix>[0-9A-Za-z]+(?:[.-][0-9A-Za-z]+)*))?"
)
LONGEST = 100
"""Characters. A container image's tag has at most 128."""
EXAMPLES = "v4.7.3, v4.7.0-rc.1 or, of a fork, v4.7.3+glitch.2"


class VersionError(ValueError):
    """A text is not a version; the message says how one is written."""


@dataclass(frozen=True)
class Version:
    """A git tag that names a release. `text` is the tag itself."""

    text: str
    series: tuple[int, int]
    """Major and minor."""
    base: tuple[int, int, int, int, int]
    """Of Mastodon's own release: major, minor, patch, stage (3: released), number within the stage."""
    suffix: str
    """What a fork added, or nothing."""

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises VersionError."""
        found = _GRAMMAR.fullmatch(text)
        if not found or len(text) > LONGEST:
            raise VersionError(f"{text!r} is not a release's git tag; it should look like {EXAMPLES}")
        major, minor, patch = (int(found[name]) for name in ("major", "minor", "patch"))
        stage = _STAGES.index(found["stage"]) if found["stage"] else len(_STAGES)
        base = (major, minor, patch, stage, int(found["number"] or 0))
        return cls(text, (major, minor), base, found["suffix"] or "")

    @property
    def is_prerelease(self) -> bool:
        return self.base[3] < len(_STAGES)

    @property
    def family(self) -> str:
        """What names the fork: its suffix without numbers."""
        return re.sub(r"[\d.]+$", "", self.suffix)

    @property
    def image_tag(self) -> str:
        """The tag with what a container image's may not hold replaced; no two versions have the same."""
        return self.text.replace("+", "_")

    @property
    def order(self) -> tuple[tuple[int, ...], str, tuple[int, ...], str]:
        """For sorting: by Mastodon's release, then by fork, then by the fork's own numbers."""
        return self.base, self.family, tuple(map(int, re.findall(r"\d+", self.suffix))), self.text

    def is_older_than(self, other: Version) -> bool:
        """Whether going from `other` to this is a step back. Between two forks of one release none is."""
        if self.base != other.base:
            return self.base < other.base
        return self.family == other.family and self.order < other.order

    def skips_from(self, other: Version) -> tuple[int, int] | None:
        """The series that must be deployed between `other` and this; None where none must.

        After the last minor of a major comes the next major's .0; which one is the last, the admin knows.
        """
        (major, minor), (old_major, old_minor) = self.series, other.series
        if major == old_major:
            return (major, old_minor + 1) if minor > old_minor + 1 else None
        return (old_major + 1, 0) if major > old_major + 1 or minor > 0 else None

# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `image_tag`; its documentation is in image_tag.yml."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._mastodon_version import Version, VersionError


def image_tag(version: str) -> str:
    """The container images' tag of a release. AnsibleFilterError for what is no release's git tag."""
    try:
        return Version.parse(str(version)).image_tag
    except VersionError as error:
        raise AnsibleFilterError(f"image_tag: {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"image_tag": image_tag}

# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `instance_records`; its documentation is in instance_records.yml."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError


def _address(text: str, version: int) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise AnsibleFilterError(f"instance_records: {text!r} is not an IP address") from None
    if address.version != version:
        raise AnsibleFilterError(f"instance_records: {text} is not an IPv{version} address")
    return str(address)


def instance_records(
    names: Sequence[str],
    ipv4: str,
    ipv6: str = "",
    aliases: Mapping[str, str] | None = None,
    authorities: Sequence[str] = (),
    *,
    proxied: bool = False,
) -> list[dict[str, Any]]:
    """Records as `cloudflare_dns` takes them. AnsibleFilterError for what is no list or no address."""
    for what, value in (("the names", names), ("authorities", authorities)):
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise AnsibleFilterError(f"instance_records: {what} must be a list, not {type(value).__name__}")
    if not isinstance(aliases or {}, Mapping):
        raise AnsibleFilterError("instance_records: aliases must be a mapping of names to targets")
    records: list[dict[str, Any]] = []
    for name in names:
        full = f"{name.rstrip('.')}."
        records.append({"name": full, "type": "A", "content": _address(ipv4, 4), "proxied": proxied})
        if ipv6:
            records.append({"name": full, "type": "AAAA", "content": _address(ipv6, 6), "proxied": proxied})
        else:
            # One left over would lead half of the visitors elsewhere.
            records.append({"name": full, "type": "AAAA", "state": "absent"})
        records += [{"name": full, "type": "CAA", "content": f'0 issue "{issuer}"'} for issuer in authorities]
    # What an alias points to (a CDN) has a certificate of its own: Cloudflare must not stand before it.
    records += [
        {"name": name, "type": "CNAME", "content": target, "proxied": False}
        for name, target in (aliases or {}).items()
    ]
    return records


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"instance_records": instance_records}

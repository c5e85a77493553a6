#!/usr/bin/python
# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_source
short_description: A vendor's source of packages, with a key that is checked by its fingerprint
version_added: 1.0.0
author: The vmstio.mastodon authors (@vmstio)
description:
  - Adds a source of packages in deb822 form, with the key that signs it and nothing else.
  - The key is fetched where the host does not have it, and refused unless it is the one that is wanted. A key
    that is there is not fetched again, so that a converge does not need the vendor's server.
  - unattended-upgrades takes updates from the source, as it does from Debian's security archive.
attributes:
  check_mode:
    support: full
    description: >-
      Does not fetch a key that is missing, since a fresh host may not trust the vendor's server yet.
  diff_mode:
    support: full
    description: Shows the files but the key.
options:
  name:
    description: Name of the files that belong to the source.
    type: str
    required: true
  state:
    description: Whether the host has the source. V(absent) removes its files, not the packages.
    type: str
    choices: [present, absent]
    default: present
  uri:
    description: Where the source is. Required for O(state=present).
    type: str
  suite:
    description: Suite of the source. Required for O(state=present).
    type: str
  component:
    description: Component of the suite. Required for O(state=present).
    type: str
  key_url:
    description: Where the key can be fetched, armored or not. Required for O(state=present).
    type: str
  fingerprint:
    description:
      - Fingerprint of the key, 40 hexadecimal digits; spaces do not count. Required for O(state=present).
      - Where the file has more keys than this one, it is refused, since each of them could sign packages.
    type: str
  timeout:
    description: Seconds that the key's server may take.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Add Docker's packages
  vmstio.mastodon.apt_source:
    name: docker
    uri: https://download.docker.com/linux/debian
    suite: trixie
    component: stable
    key_url: https://download.docker.com/linux/debian/gpg
    fingerprint: 9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

from ..module_utils._files import FilesError, Outcome, apply_entry, replace
from ..module_utils._openpgp import KeyFileError, dearmored, fingerprints

APT = Path("/etc/apt")
OWNER = (0, 0)
"""Numbers of the files' user and group."""
LARGEST = 1 << 20
"""Bytes. Docker's key has 4 kB, Debian's three have 18 kB."""

SOURCE = """\
Types: deb
URIs: {uri}
Suites: {suite}
Components: {component}
Signed-By: {key}
"""
UPGRADES = """\
Unattended-Upgrade::Origins-Pattern:: "site={site}";
"""


def is_there(key: Path, wanted: str) -> bool:
    try:
        return fingerprints(key.read_bytes()) == [wanted]
    except (FileNotFoundError, KeyFileError):
        return False


def fetched(module: AnsibleModule, wanted: str) -> bytes:
    """The key, as packets, from its server; fails the module where it is not the one that is wanted."""
    url = module.params["key_url"]
    response, info = fetch_url(module, url, timeout=module.params["timeout"])
    if info["status"] != 200:
        module.fail_json(msg=f"{url}: the key cannot be fetched: {info['msg']}", changed_paths=[])
    content = response.read(LARGEST)
    try:
        found = fingerprints(content)
    except KeyFileError as error:
        module.fail_json(msg=f"{url}: this is not the file of a key: {error}", changed_paths=[])
    if found != [wanted]:
        module.fail_json(
            msg=f"{url}: the key there is {' and '.join(found)}, and {wanted} is wanted. Find out with the "
            "vendor which one is right before you change the fingerprint; nothing was written.",
            changed_paths=[],
        )
    return dearmored(content)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "uri": {"type": "str"},
            "suite": {"type": "str"},
            "component": {"type": "str"},
            "key_url": {"type": "str", "no_log": False},
            "fingerprint": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "present", ["uri", "suite", "component", "key_url", "fingerprint"])],
        supports_check_mode=True,
    )
    name, state = module.params["name"], module.params["state"]
    key = APT / "keyrings" / f"{name}.gpg"
    contents = {APT / "sources.list.d" / f"{name}.sources": "", APT / "apt.conf.d" / f"60vmstio-{name}": ""}
    missing, packets = False, b""
    if state == "present":
        wanted = "".join(module.params["fingerprint"].split()).upper()
        missing = not is_there(key, wanted)
        if missing and not module.check_mode:
            packets = fetched(module, wanted)
        source = SOURCE.format(key=key, **module.params)
        upgrades = UPGRADES.format(site=urlsplit(module.params["uri"]).hostname)
        contents = dict(zip(contents, (source, upgrades), strict=True))

    outcome = Outcome()
    owner, group = map(str, OWNER)
    common = {
        "state": "file" if state == "present" else "absent",
        "mode": None,
        "owner": owner,
        "group": group,
        "validate": None,
    }
    try:
        if packets:
            key.parent.mkdir(mode=0o755, exist_ok=True)
            replace(key, packets, 0o644, OWNER, None)
        if missing:
            outcome.changed_paths.append(str(key))
        elif state == "absent":
            apply_entry({**common, "path": str(key)}, outcome, check=module.check_mode)
        for path, content in contents.items():
            apply_entry({**common, "path": str(path), "content": content}, outcome, check=module.check_mode)
    except (FilesError, OSError) as error:
        module.fail_json(
            msg=str(error), changed=bool(outcome.changed_paths), changed_paths=outcome.changed_paths
        )
    module.exit_json(
        changed=bool(outcome.changed_paths), changed_paths=outcome.changed_paths, diff=outcome.diffs
    )


if __name__ == "__main__":
    main()

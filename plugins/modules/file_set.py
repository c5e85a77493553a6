#!/usr/bin/python
# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: file_set
short_description: Files, directories and links of a host, all in one run
version_added: 1.0.0
author: The vmstio.mastodon authors (@vmstio)
description:
  - Brings a list of files, directories and links into their wanted state, in the order given.
  - A role that needs a dozen files spends one module run on them instead of a dozen.
  - A file is written beside its place and renamed, so that a reader sees the old one or the new one.
attributes:
  check_mode:
    support: full
    description: Predicts the change. Owners that do not exist yet are no error in check mode.
  diff_mode:
    support: full
    description: Shows content. Give the task C(no_log) where a file holds a secret.
options:
  files:
    description: What shall exist.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      state:
        description: What it shall be.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: Text of a file.
        type: str
      target:
        description: Where a link points.
        type: str
      mode:
        description: Octal mode of a file (V(0644) where not given) or a directory (V(0755)).
        type: str
      owner:
        description: User, by name or number.
        type: str
        default: root
      group:
        description: Group, by name or number.
        type: str
        default: root
      validate:
        description: Command that checks a new file before it takes its place; the word C(%s) stands for it.
        type: str
  purge:
    description: Patterns of absolute paths. Files that match but are not in O(files) are removed, last.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Write the units of a service
  vmstio.mastodon.file_set:
    files:
      - path: /etc/example
        state: directory
      - path: /etc/example/example.conf
        content: "{{ lookup('ansible.builtin.template', 'example.conf.j2') }}"
        mode: "0640"
        group: example
"""

RETURN = r"""
changed_paths:
  description: Paths that were changed, in the order given.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._files import FilesError, Outcome, apply_entry, purge


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {"choices": ["file", "directory", "link", "absent"], "default": "file"},
                    "content": {"type": "str"},
                    "target": {"type": "str"},
                    "mode": {"type": "str"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "validate": {"type": "str"},
                },
                "required_if": [("state", "file", ["content"]), ("state", "link", ["target"])],
            },
            "purge": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    outcome = Outcome()
    try:
        for entry in module.params["files"]:
            apply_entry(entry, outcome, check=module.check_mode)
        purge(
            module.params["purge"],
            [entry["path"] for entry in module.params["files"]],
            outcome,
            check=module.check_mode,
        )
    except (FilesError, OSError) as error:
        module.fail_json(
            msg=str(error), changed=bool(outcome.changed_paths), changed_paths=outcome.changed_paths
        )
    module.exit_json(
        changed=bool(outcome.changed_paths), changed_paths=outcome.changed_paths, diff=outcome.diffs
    )


if __name__ == "__main__":
    main()

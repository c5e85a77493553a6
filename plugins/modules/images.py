#!/usr/bin/python
# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: images
short_description: Container images by tag and recorded digest
version_added: 1.0.0
author: The vmstio.mastodon authors (@vmstio)
description:
  - Pulls images by tag and records the digest that each tag had when it was first used on this host.
  - From then on the image is wanted with that digest; a tag that means something else now is refused.
  - Asks the registry only for what is not on the host.
  - After a pull it removes other images of the same repositories that no container uses.
  - Images that were made elsewhere come from a directory in the OCI image layout instead of a registry.
requirements:
  - the C(docker) command on the host
  - the C(skopeo) command on the host, for O(layout)
attributes:
  check_mode:
    support: full
    description: Pulls nothing; predicts the change from what is on the host.
  diff_mode:
    support: full
    description: Shows the record.
options:
  images:
    description: Images to have, each C(repository:tag). An empty list only reads the record.
    type: list
    elements: str
    required: true
  record:
    description: File (JSON) with the digests.
    type: path
    required: true
  expected:
    description: Digests that the images shall have, whatever this host recorded.
    type: dict
    default: {}
  made:
    description: Those of O(images) that are in O(layout) and are never pulled.
    type: list
    elements: str
    default: []
  layout:
    description:
      - Directory in the OCI image layout. Each image is in it by the last part of its repository.
      - Without it nothing can be loaded; a run that finds all of O(made) on the host does not need it.
    type: path
  accept_changed:
    description: Take the digests that the tags have now, and record them.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Have the image of this version
  vmstio.mastodon.images:
    images: ["ghcr.io/mastodon/mastodon:v4.7.3"]
    record: /etc/mastodon/images.json

- name: Have an image that was made elsewhere
  vmstio.mastodon.images:
    images: ["exec.internal/mastodon:v4.7.3_acme.1"]
    made: ["exec.internal/mastodon:v4.7.3_acme.1"]
    layout: /var/lib/images/v4.7.3_acme.1
    record: /etc/mastodon/images.json
"""

RETURN = r"""
digests:
  description: Digest of each image. In check mode an image that is neither recorded nor expected is missing.
  returned: success
  type: dict
  sample: {"ghcr.io/mastodon/mastodon:v4.7.3": "sha256:1d6c…"}
pins:
  description: What to run for each image, by its digest. In check mode a plain name where that is not known.
  returned: success
  type: dict
  sample: {"ghcr.io/mastodon/mastodon:v4.7.3": "ghcr.io/mastodon/mastodon:v4.7.3@sha256:1d6c…"}
record:
  description: The whole record.
  returned: success
  type: dict
pulled:
  description: Images that were pulled or loaded.
  returned: success
  type: list
  elements: str
removed:
  description: Images that were removed, by the engine's names.
  returned: success
  type: list
  elements: str
"""

import json
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._images import ImagesError, Layout, ensure, prune, read_record, write_record


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "str", "required": True},
            "record": {"type": "path", "required": True},
            "expected": {"type": "dict", "default": {}},
            "made": {"type": "list", "elements": "str", "default": []},
            "layout": {"type": "path"},
            "accept_changed": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    path, images = module.params["record"], module.params["images"]
    # Without the command nothing is on the host yet: a real run installs it before it comes here.
    missing = module.get_bin_path("docker") is None
    if missing and images and not module.check_mode:
        module.fail_json(msg="There is no docker command on this host; install the engine first.")

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (127, "", "no docker command") if missing else module.run_command(list(argv))

    try:
        before = read_record(path)
        result = ensure(
            run,
            images,
            before,
            expected=module.params["expected"],
            accept_changed=module.params["accept_changed"],
            check=module.check_mode,
            layout=Layout(module.params["layout"], module.params["made"]) if module.params["made"] else None,
        )
        changed_record = result.record != before
        if changed_record and not module.check_mode:
            write_record(path, result.record)
        removed = [] if module.check_mode or not result.pulled else prune(run, images, result.digests)
    except (ImagesError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=bool(result.pulled) or changed_record,
        digests=result.digests,
        pins=result.pins,
        pulled=result.pulled,
        removed=removed,
        record=result.record,
        diff={
            "before_header": path,
            "after_header": path,
            "before": json.dumps(before, indent=2, sort_keys=True) + "\n",
            "after": json.dumps(result.record, indent=2, sort_keys=True) + "\n",
        },
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: sendgrid_tracking
short_description: SendGrid's tracking of mail, off unless wanted
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Sets the four kinds of tracking of a SendGrid account, or of a subuser, in one run. All are off by
    default.
  - Reads them in one request, and writes only those that differ.
  - The account's setting is what counts for mail sent over SMTP, as Mastodon does. With click tracking,
    SendGrid rewrites every link in a mail, also those that confirm an address or reset a password.
extends_documentation_fragment:
  - vmstio.mastodon._sendgrid
  - vmstio.mastodon._attributes
  - vmstio.mastodon._attributes.action_group
options:
  click:
    description: Whether links are rewritten, to count clicks.
    type: bool
    default: false
  open:
    description: Whether a pixel is added, to count who reads a mail.
    type: bool
    default: false
  subscription:
    description: Whether an unsubscribe link is added below every mail.
    type: bool
    default: false
  google_analytics:
    description: Whether links get Google Analytics parameters.
    type: bool
    default: false
seealso:
  - module: vmstio.mastodon.sendgrid_domain
"""

EXAMPLES = r"""
- name: Switch all tracking off
  vmstio.mastodon.sendgrid_tracking:
    api_key: "{{ vault_sendgrid_api_key }}"

- name: The same for a subuser in the EU
  vmstio.mastodon.sendgrid_tracking:
    api_key: "{{ vault_sendgrid_api_key }}"
    region: eu
    subuser: social
"""

RETURN = r"""
tracking:
  description: The four settings as they are now (in check mode, would be).
  returned: success
  type: dict
  sample: {click: false, open: false, subscription: false, google_analytics: false}
failure:
  description: The call that failed.
  returned: failure of a call
  type: dict
  sample:
    call: GET https://api.sendgrid.com/v3/tracking_settings
    problem: 401 authorization required
    status: 401
    code: null
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._api import ApiError
from ..module_utils._module import fail
from ..module_utils._sendgrid import TRACKING, arguments, client


def main() -> None:
    module = AnsibleModule(
        argument_spec={**arguments(), **{kind: {"type": "bool", "default": False} for kind in TRACKING}},
        supports_check_mode=True,
    )
    wanted = {kind: module.params[kind] for kind in TRACKING}
    try:
        api = client(module)
        before = api.tracking()
        for kind, enabled in wanted.items():
            if before[kind] != enabled and not module.check_mode:
                api.set_tracking(kind, enabled)
    except ApiError as error:
        fail(module, error)
    module.exit_json(changed=before != wanted, tracking=wanted, diff={"before": before, "after": wanted})


if __name__ == "__main__":
    main()

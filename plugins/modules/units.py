#!/usr/bin/python
# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: units
short_description: Systemd units of a host, all in one run
version_added: 1.0.0
author: The vmstio.mastodon authors (@vmstio)
description:
  - Enables, starts, restarts and stops a list of units, in the order given.
  - Whether a unit must be restarted is read from the host, not remembered. A file that is newer than the
    start of the unit's process makes it necessary, so a run that was interrupted loses no restart.
  - Reloads systemd's configuration where a unit says that it is out of date.
  - A unit that shall run, and that systemd restarts again and again, is a failure, whatever its state at the
    moment. One that is on its way up, or was just restarted, is waited for.
attributes:
  check_mode:
    support: full
    description: Predicts the change. Units that do not exist yet are no error in check mode.
  diff_mode:
    support: none
    description: The return value RV(actions) says what was done.
options:
  units:
    description: The units.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name with its suffix, as in C(nginx.service).
        type: str
        required: true
      enabled:
        description: Whether it starts at boot. Left as it is where not given.
        type: bool
      state:
        description: Whether it runs now. Left as it is where not given.
        type: str
        choices: [started, stopped]
      restart_on:
        description:
          - Paths whose change wants a restart. The unit's own files belong to them without being named.
          - A running unit is restarted only where the option is given; an empty list means the unit's files.
        type: list
        elements: path
      reload_on:
        description: Paths whose change wants a reload.
        type: list
        elements: path
  stop_others:
    description: Patterns of unit names. Units that match but are not in O(units) are stopped and disabled.
    type: list
    elements: str
    default: []
  daemon_reload:
    description: Reload systemd's configuration first, also where no listed unit asks for it.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Run nginx with what is written down
  vmstio.mastodon.units:
    units:
      - name: nginx.service
        enabled: true
        state: started
        restart_on: []
        reload_on: [/etc/nginx/nginx.conf]
"""

RETURN = r"""
actions:
  description: What was done, as arguments of systemctl.
  returned: success
  type: list
  elements: str
restarted:
  description: Units that ran and were restarted.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._units import UnitsError, apply


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "enabled": {"type": "bool"},
                    "state": {"choices": ["started", "stopped"]},
                    "restart_on": {"type": "list", "elements": "path"},
                    "reload_on": {"type": "list", "elements": "path"},
                },
            },
            "stop_others": {"type": "list", "elements": "str", "default": []},
            "daemon_reload": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )

    def run(argv: list[str]) -> tuple[int, str, str]:
        code, out, error = module.run_command(argv)
        return code, out, error

    try:
        outcome = apply(
            module.params["units"],
            run,
            daemon_reload=module.params["daemon_reload"],
            check=module.check_mode,
            stop_others=module.params["stop_others"],
        )
    except UnitsError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(outcome.actions), actions=outcome.actions, restarted=outcome.restarted)


if __name__ == "__main__":
    main()

# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The attributes of the API modules. A module that differs in one writes it out."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode and say whether it would change anything, without changing it.
    support: full
  diff_mode:
    description: Says what it changed, or would change, in diff mode.
    support: full
  idempotent:
    description: Run twice, the second run changes nothing and sends no request that writes.
    support: full
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/vmstio.mastodon.all) in C(module_defaults) to set options for this module.
    support: full
    membership:
      - vmstio.mastodon.all
"""

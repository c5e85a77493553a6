# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
notes:
  - Runs on the controller, in a play for C(localhost) or with C(delegate_to), so that the key stays there.
  - A rate limit (429) is waited for up to a minute at a time.
options:
  api_key:
    description:
      - The API key.
      - Taken from the environment variable E(SENDGRID_API_KEY) if not set.
    type: str
    required: true
  region:
    description: Where the account or subuser is. V(eu) is for regional (EU) subusers.
    type: str
    choices: [eu, global]
    default: global
  endpoint:
    description:
      - Where the API is. By default what O(region) says.
      - Taken from the environment variable E(SENDGRID_ENDPOINT) if not set.
    type: str
  ca_file:
    description:
      - PEM file with the authorities to verify the endpoint with, in place of the usual ones.
      - Taken from the environment variable E(SENDGRID_CA_FILE) if not set.
    type: path
  timeout:
    description: Seconds to wait for a connection and for each part of an answer.
    type: float
    default: 30.0
  subuser:
    description: Act on behalf of this subuser, with the key of its parent account.
    type: str
"""

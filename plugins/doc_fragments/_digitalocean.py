# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
requirements:
  - pydo >= 0.44
notes:
  - Runs on the controller, in a play for C(localhost) or with C(delegate_to), so that the token stays there.
  - A rate limit (429) is waited for up to a minute at a time.
options:
  api_token:
    description:
      - The API token.
      - Taken from the environment variables E(DIGITALOCEAN_TOKEN), E(DIGITALOCEAN_ACCESS_TOKEN),
        E(DO_API_TOKEN) or E(DO_API_KEY) if not set.
    type: str
    required: true
  endpoint:
    description:
      - Where the API is; an C(https://) URL.
      - Taken from the environment variable E(DIGITALOCEAN_ENDPOINT) if not set.
    type: str
    default: https://api.digitalocean.com
  ca_file:
    description:
      - PEM file with the authorities to verify the endpoint with, in place of the usual ones.
      - Taken from the environment variable E(DIGITALOCEAN_CA_FILE) if not set. Wins over
        E(REQUESTS_CA_BUNDLE).
    type: path
  timeout:
    description: Seconds to wait for a connection and for each part of an answer.
    type: float
    default: 30.0
"""

# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
notes:
  - Runs on the controller, in a play for C(localhost) or with C(delegate_to), so that the token stays there.
  - A rate limit (429) is waited for up to a minute at a time. What may have been carried out is not repeated
    before the zone was read again.
options:
  api_token:
    description:
      - The API token.
      - Taken from the environment variables E(CLOUDFLARE_API_TOKEN) or E(CLOUDFLARE_TOKEN) if not set.
    type: str
    required: true
  timeout:
    description: Seconds to wait for a connection and for each part of an answer.
    type: float
    default: 30.0
  zone:
    description: The zone, for example V(example.com).
    type: str
    required: true
  zone_id:
    description: The zone's id. Spares one request, and the permission Zone Read.
    type: str
"""

    CONNECTION = r"""
options:
  endpoint:
    description:
      - Where the API is.
      - Taken from the environment variable E(CLOUDFLARE_ENDPOINT) if not set.
    type: str
    default: https://api.cloudflare.com/client/v4
  ca_file:
    description:
      - PEM file with the authorities to verify the endpoint with, in place of the usual ones.
      - Taken from the environment variable E(CLOUDFLARE_CA_FILE) if not set.
    type: path
"""

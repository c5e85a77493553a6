# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: its version, as in galaxy.yml (a test compares them)."""

from __future__ import annotations

VERSION = "1.0.0"
USER_AGENT = f"vmstio.mastodon/{VERSION}"

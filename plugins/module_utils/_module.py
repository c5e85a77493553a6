# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: what its API modules share: the arguments of a client, and how they fail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

    from ._api import ApiError


def client_arguments(
    token: str | None, variables: Sequence[str], prefix: str, endpoint: str | None
) -> dict[str, Any]:
    """Argument spec of a client, with the environment variables of its token, endpoint and authorities.

    `token` is the name of the token's option; None: the API is asked without one.
    """
    # Not at the top: the inventory imports the clients too, and has no use for AnsibleModule's file.
    from ansible.module_utils.basic import env_fallback  # noqa: PLC0415

    arguments: dict[str, Any] = {
        "endpoint": {"type": "str", "fallback": (env_fallback, [f"{prefix}_ENDPOINT"])},
        "ca_file": {"type": "path", "fallback": (env_fallback, [f"{prefix}_CA_FILE"])},
        "timeout": {"type": "float", "default": 30.0},
    }
    if endpoint:
        arguments["endpoint"]["default"] = endpoint
    if token:
        arguments[token] = {
            "type": "str",
            "required": True,
            "no_log": True,
            "fallback": (env_fallback, list(variables)),
        }
    return arguments


def client_settings(module: AnsibleModule) -> dict[str, Any]:
    return {"ca_file": module.params["ca_file"], "timeout": module.params["timeout"]}


def fail(module: AnsibleModule, error: ApiError, **result: Any) -> NoReturn:
    """Ends the module with the error as one sentence, and as data under `failure`."""
    module.fail_json(msg=str(error), failure=error.failure(), **result)
    raise AssertionError("fail_json returned") from error

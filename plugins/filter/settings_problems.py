# Copyright: the vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter `settings_problems`; its documentation is in settings_problems.yml."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._mastodon_version import Version, VersionError
from ..plugin_utils._environment import line_problem, text
from ..plugin_utils._sidekiq import Budget

QUEUES = ("default", "push", "ingress", "mailers", "pull", "scheduler", "fasp")
"""Queues of Mastodon's config/sidekiq.yml since 4.4."""

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))+")
_QUEUE = re.compile(r"([a-z]+)(,[1-9][0-9]*)?")
_KEY = re.compile(r"[A-Za-z0-9]{32,}")
_SECRETS = {
    "secret_key_base": (
        re.compile(r"[0-9a-f]{128}"),
        "128 hexadecimal digits; `openssl rand -hex 64` makes them",
    ),
    "active_record_encryption_primary_key": (_KEY, "32 or more letters and digits"),
    "active_record_encryption_deterministic_key": (_KEY, "32 or more letters and digits"),
    "active_record_encryption_key_derivation_salt": (_KEY, "32 or more letters and digits"),
    "vapid_private_key": (re.compile(r"[A-Za-z0-9_-]{43}=?"), "32 bytes in URL-safe base64"),
    "vapid_public_key": (re.compile(r"[A-Za-z0-9_-]{87}=?"), "65 bytes in URL-safe base64"),
}

_REFUSED = {
    "DATABASE_URL": "it outranks mastodon_db_*, also where migrations go past PgBouncer",
    "REDIS_URL": "it outranks mastodon_redis_*; choose with mastodon_redis_transport",
    "REDIS_HOST": "it is not read beside the URL that mastodon_redis_* become",
    "REDIS_NAMESPACE": "Mastodon does not start with it any more",
    "SKIP_POST_DEPLOYMENT_MIGRATIONS": (
        "it counts by being there, and the roles set it in the one step that skips"
    ),
    "SECRET_KEY_BASE_DUMMY": "it counts by being there, and replaces the encryption keys at every start",
    "SOCKET": "nginx looks for web and streaming at their ports",
}
"""Variables that the roles cannot leave to the admin, and why."""


def _version(text: str) -> Iterator[str]:
    try:
        version = Version.parse(text)
    except VersionError as error:
        yield f"mastodon_version: {error}."
        return
    if version.series < (4, 3):
        yield f"mastodon_version is {text}: Mastodon before 4.3 is not supported, choose a newer release."


def _network(settings: Mapping[str, Any]) -> Iterator[str]:
    for domain in settings["domains"]:
        if not _DOMAIN.fullmatch(domain):
            yield f"{domain!r} is not a domain name: write it in lower case, without scheme, port or path."
    try:
        network = ipaddress.ip_network(settings["private_network"])
    except ValueError as error:
        yield f"mastodon_private_network: {error}. Give the range of the VPC, for example 10.118.0.0/20."
    else:
        if not network.is_private:
            yield f"mastodon_private_network: {network} is public. Give the range of the VPC."


def _pem(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings["certificates"].items():
        if value and "-----BEGIN CERTIFICATE-----" not in value:
            yield f"{name} is not a certificate in PEM form (it begins with -----BEGIN CERTIFICATE-----)."
    if not re.search(r"-----BEGIN (RSA |EC )?PRIVATE KEY-----", settings["private_key"]):
        yield "mastodon_tls_private_key is not an unencrypted private key in PEM form."


def _secrets(secrets: Mapping[str, str]) -> Iterator[str]:
    for name, value in secrets.items():
        if name not in _SECRETS:
            yield f"mastodon_secrets.{name} is unknown; the names are {', '.join(_SECRETS)}."
        elif not value:
            yield (
                f"mastodon_secrets.{name} is empty: give the value that the instance runs with, or leave the "
                "name out for a new instance, which makes its own."
            )
        elif not _SECRETS[name][0].fullmatch(value):
            yield f"mastodon_secrets.{name} has not the right shape: {_SECRETS[name][1]}."
    if bool(secrets.get("vapid_private_key")) != bool(secrets.get("vapid_public_key")):
        yield "mastodon_secrets: vapid_private_key and vapid_public_key are a pair; give both or neither."


def _environment(settings: Mapping[str, Any]) -> Iterator[str]:
    managed = {name for part in settings["environment"].values() for name in part} | set(
        settings["secret_names"]
    )
    for part in settings["environment"].values():
        for name, value in part.items():
            if problem := line_problem(name, text(value)):
                yield f"{problem}."
    for name, value in settings["extra_environment"].items():
        if name in managed:
            yield f"mastodon_extra_environment: {name} is rendered from another setting; change that one."
        elif name in _REFUSED:
            yield f"mastodon_extra_environment: {name} must not be set: {_REFUSED[name]}."
        elif text(value) not in ("true", "false") and text(value).lower() in ("true", "false"):
            yield f"mastodon_extra_environment: {name} must be in lower case: Mastodon compares with 'true'."
        elif problem := line_problem(name, text(value)):
            yield f"mastodon_extra_environment: {problem}."


def _sidekiq(settings: Mapping[str, Any]) -> Iterator[str]:
    heard: Counter[str] = Counter()
    for group in ("exec", "worker"):
        processes: Sequence[Mapping[str, Any]] = settings[f"{group}_sidekiq"]
        variable = f"mastodon_{group}_sidekiq_processes"
        names = Counter(process["name"] for process in processes)
        for name, count in names.items():
            if count > 1:
                yield f"{variable}: two processes are called {name!r}; give each its own name."
            if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
                yield f"{variable}: {name!r} must be lower-case letters, digits and dashes: it names a unit."
        for process in processes:
            for queue in process["queues"]:
                match = _QUEUE.fullmatch(queue)
                if not match or match[1] not in QUEUES:
                    yield (
                        f"{variable}: {process['name']} listens on {queue!r}; queues are "
                        f"{', '.join(QUEUES)}, "
                        "with a weight as in 'default,8'."
                    )
                else:
                    heard[match[1]] += len(settings[f"{group}_hosts"])
    if heard["scheduler"] != 1:
        yield (
            f"The queue scheduler is heard by {heard['scheduler']} processes of the instance. It must "
            "be exactly "
            "one: list it in one process of mastodon_exec_sidekiq_processes and nowhere else."
        )
    if missing := [queue for queue in QUEUES if queue != "scheduler" and not heard[queue]]:
        yield (
            f"No process of the instance listens on {', '.join(missing)}: add it to "
            "mastodon_worker_sidekiq_processes or mastodon_exec_sidekiq_processes."
        )


def _hosts(settings: Mapping[str, Any]) -> Iterator[str]:
    hosts = settings["exec_hosts"]
    if len(hosts) != 1:
        yield (
            f"The inventory has {len(hosts)} hosts in group exec ({', '.join(hosts) or 'none'}); the "
            "instance needs "
            "exactly one: tag one droplet <instance>-exec."
        )


def _connections(settings: Mapping[str, Any]) -> Iterator[str]:
    limit = settings["max_connections"]
    budget = Budget.of(
        workers=len(settings["worker_hosts"]),
        web=settings["web_connections"],
        streaming=settings["streaming_connections"],
        worker_sidekiq=settings["worker_sidekiq"],
        exec_sidekiq=settings["exec_sidekiq"],
    )
    if limit and budget.total > limit:
        yield (
            f"The processes want {budget.total} database connections ({budget.workers} workers x "
            f"{budget.worker}, exec {budget.exec_sidekiq}) and mastodon_db_max_connections is {limit}: lower "
            "their threads, or enlarge the pool."
        )


def settings_problems(settings: Mapping[str, Any]) -> list[str]:
    """Sentences, one per problem. Raises AnsibleFilterError where `settings` lacks what it needs."""
    try:
        return [
            *(f"{name} is empty; set it." for name, value in settings["required"].items() if not value),
            *_version(settings["version"]),
            *_network(settings),
            *_pem(settings),
            *_secrets(settings["secrets"]),
            *_environment(settings),
            *_hosts(settings),
            *_sidekiq(settings),
            *_connections(settings),
        ]
    except KeyError as error:
        raise AnsibleFilterError(f"settings_problems: the settings lack {error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"settings_problems": settings_problems}

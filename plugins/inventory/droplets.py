# Copyright: (c) 2026, The vmstio.mastodon authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: droplets
short_description: DigitalOcean droplets, grouped by their tags
version_added: "1.0.0"
author:
  - The vmstio.mastodon authors (@vmstio)
description:
  - Lists the droplets of a DigitalOcean account, or of one Mastodon instance in it, with the addresses to
    reach
    them by.
  - With O(instance), the tags C(<instance>-<group>) put a droplet in the groups C(exec), C(worker), ... (see
    O(instance_groups)), and every droplet of the instance is in a group named after it.
  - Reads a YAML file whose name ends in C(digitalocean.yml), C(digitalocean.yaml), C(droplets.yml) or
    C(droplets.yaml).
  - Asks for 200 droplets a page, and for all pages after the first at once. Rate limits (429) and errors
    of the
    server are waited for, up to a minute at a time.
  - O(compose), O(groups) and O(keyed_groups) are Jinja and cost about a millisecond for each host and
    expression.
    O(connect_with), O(instance) and O(tag_groups) do the usual work without.
notes:
  - GPU droplets are not listed by the API unless asked for, and not asked for here.
  - The token needs the scopes C(droplet:read) and C(tag:read); with C(image:read) and C(vpc:read) those
    variables
    are filled too.
  - A failing source is only a warning for Ansible by default. Set C(any_unparsed_is_failed = true) in the
    section
    C([inventory]) of C(ansible.cfg), so that no play runs on an empty inventory.
requirements:
  - pydo >= 0.44
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Marks the file as one for this plugin.
    type: str
    required: true
    choices: [vmstio.mastodon.droplets]
  api_token:
    description:
      - The API token. May be a template, for example of a vaulted variable given with C(-e @file).
      - Of the environment variables, the last one listed that is set wins.
    type: str
    env:
      - name: DO_API_KEY
      - name: DO_API_TOKEN
      - name: DIGITALOCEAN_ACCESS_TOKEN
      - name: DIGITALOCEAN_TOKEN
  endpoint:
    description: Where the API is; an C(https://) URL. May be a template.
    type: str
    default: https://api.digitalocean.com
    env:
      - name: DIGITALOCEAN_ENDPOINT
  ca_file:
    description:
      - PEM file with the authorities to verify the endpoint with, in place of the usual ones. May be a
        template.
      - A relative path in the file starts at the file's folder. It wins over E(REQUESTS_CA_BUNDLE).
    type: str
    env:
      - name: DIGITALOCEAN_CA_FILE
  timeout:
    description: Seconds to wait for a connection and for each part of an answer.
    type: float
    default: 30
  instance:
    description:
      - The tag prefix of the Mastodon instance, for example V(vmst). May be a template.
      - Droplets without a tag C(<instance>) or C(<instance>-...) are left out.
      - A droplet that has such a tag, but none for a known group, lands in C(<instance>_ungrouped), with a
        warning.
      - Two droplets in the group C(exec) are an error.
      - Without it, all droplets are listed, in no group but those of O(tag_groups) and the constructed ones.
    type: str
  instance_groups:
    description: The groups that a tag C(<instance>-<group>) can name.
    type: list
    elements: str
    default: [exec, worker, search, metrics]
  tag_groups:
    description: Also make a group C(tag_<tag>) of every tag, with characters that a group may not have as
      C(_).
    type: bool
    default: false
  tag:
    description:
      - Only droplets with this tag. The API filters, so that a large account is read in fewer calls.
      - Not together with O(name).
    type: str
  name:
    description: Only the droplets of exactly this name. The API filters. Not together with O(tag).
    type: str
  status:
    description: Only droplets in one of these states; an empty list takes all. V(off) needs quotes in YAML.
    type: list
    elements: str
    choices: [new, active, "off", archive]
    default: [active]
  filters:
    description:
      - Jinja conditions on the host variables; a droplet is listed if all hold.
      - One that cannot be evaluated leaves the droplet out, or is an error with O(strict).
    type: list
    elements: str
    default: []
  connect_with:
    description:
      - What C(ansible_host) is set to.
      - V(private) and V(public) are the first IPv4 address of that kind, V(name) is the droplet's name.
      - A droplet that lacks the address gets no C(ansible_host), with a warning unless O(compose) sets one.
    type: str
    default: public
    choices: [private, public, public_ipv6, name]
  hostname:
    description:
      - What the host is called in the inventory.
      - DigitalOcean lets two droplets have the same name; that is an error with V(name).
    type: str
    default: name
    choices: [name, id, private, public]
  hostvars_prefix:
    description: What the names of the host variables start with.
    type: str
    default: do_
"""

EXAMPLES = r"""
# inventory/digitalocean.yml: the droplets of the instance whose tags start with vmst-.
# The token is in DIGITALOCEAN_TOKEN.
plugin: vmstio.mastodon.droplets
instance: vmst

---
# Over the private network, from a bastion in the same VPC; the token from a vaulted variable
# (ansible-playbook -e @secrets.yml); kept for five minutes.
plugin: vmstio.mastodon.droplets
instance: vmst
api_token: "{{ vault_digitalocean_token }}"
connect_with: private
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible/droplets
cache_timeout: 300

---
# Every droplet of the account, without an instance: groups by tag, region and image.
plugin: vmstio.mastodon.droplets
tag_groups: true
keyed_groups:
  - key: do_region
    prefix: region
  - key: do_image
    prefix: image
filters:
  - do_memory >= 2048

# The variables of a host, with the default prefix:
#   do_id: 3164444
#   do_name: vmst-worker-1
#   do_status: active
#   do_tags: [vmst-lb, vmst-worker]
#   do_region: ams3
#   do_size: s-2vcpu-4gb
#   do_image: debian-13-x64           (the id of an image that has no slug)
#   do_image_distribution: Debian
#   do_vpc_uuid: 760e09ef-dc84-11e8-981e-3cfdfeaae000
#   do_public_ipv4: 198.51.100.20     (empty without)
#   do_private_ipv4: 10.118.0.3
#   do_public_ipv6: ""
#   do_vcpus: 2
#   do_memory: 4096                   (MiB)
#   do_disk: 80                       (GiB)
#   do_locked: false
#   do_created_at: "2026-07-21T18:37:44Z"
"""

import difflib
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ..module_utils._api import ApiError
from ..module_utils._digitalocean import DigitalOcean
from ..plugin_utils._droplets import (
    Droplet,
    belongs,
    duplicates,
    groups_of,
    natural,
    plain,
    reduced,
)

FILE_NAMES = ("digitalocean.yml", "digitalocean.yaml", "droplets.yml", "droplets.yaml")
ADDRESSES = {
    "private": "private_ipv4",
    "public": "public_ipv4",
    "public_ipv6": "public_ipv6",
    "name": "name",
    "id": "id",
}
"""Values of connect_with and hostname, and the variable that each takes."""


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]
    NAME = "vmstio.mastodon.droplets"

    def verify_file(self, path: str) -> bool:
        if not super().verify_file(path):
            return False
        if path.endswith(FILE_NAMES):
            return True
        self.display.vv(
            f"{self.NAME} leaves {path} alone: its name does not end in one of {', '.join(FILE_NAMES)}."
        )
        return False

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._path = path
        # Templates in the file see the extra variables (-e), nothing else: there are no hosts yet.
        self.templar.available_variables = self._vars
        self._read_options(path)
        try:
            droplets = self._droplets(cache)
        except ApiError as error:
            raise AnsibleError(f"{error}{self._cache_advice(cache)}") from None
        self._populate(droplets)

    # --- options

    def _read_options(self, path: str) -> None:
        try:
            config = self._read_config_data(path)
        except AttributeError:
            raise AnsibleParserError(
                f"{path} must be a mapping that starts with `plugin: {self.NAME}`."
            ) from None
        known = set(self.option_definitions)
        for key in config:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {near[0]!r}" if near else f"see `ansible-doc -t inventory {self.NAME}`"
                raise AnsibleParserError(f"{path}: there is no option {str(key)!r}: {hint}?")
        if self.get_option("tag") and self.get_option("name"):
            raise AnsibleParserError(
                f"{path}: the API filters by `tag` or by `name`, not by both: remove one."
            )
        prefix = self.get_option("hostvars_prefix")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", prefix):
            raise AnsibleParserError(
                f"{path}: hostvars_prefix {prefix!r} cannot start the name of a variable."
            )
        self._instance = self._templated("instance")
        self._known = list(self.get_option("instance_groups"))
        if self._instance in ("all", "ungrouped", *self._known):
            raise AnsibleParserError(
                f"{path}: instance {self._instance!r} is also the name of a group: choose another prefix."
            )

    def _templated(self, option: str) -> str:
        value = self.get_option(option)
        return str(self.templar.template(value)) if value else ""

    # --- droplets

    def _droplets(self, cache: bool) -> list[Droplet]:
        """From the cache when it may be used and has them, else from the API (and into the cache)."""
        if not self.get_option("cache"):
            return self._fetch()
        key = self._cache_key()
        if cache:
            try:
                cached: list[Droplet] = self._cache[key]
            except KeyError:
                pass  # never cached, or expired
            else:
                return cached
        droplets = self._fetch()
        self._cache[key] = droplets
        return droplets

    def _cache_key(self) -> str:
        """One entry for each file and question: another endpoint or server-side filter is another list."""
        question = json.dumps([self.get_option(option) for option in ("endpoint", "tag", "name")])
        digest = hashlib.sha256(question.encode(), usedforsecurity=False).hexdigest()[:8]
        return f"{self.get_cache_key(self._path)}_{digest}"

    def _cache_advice(self, cache: bool) -> str:
        if cache and self.get_option("cache"):
            return " (The cache has no list that is still valid.)"
        return ""

    def _ca_file(self) -> str | None:
        path = self._templated("ca_file")
        if not path:
            return None
        from_file = self.get_option_and_origin("ca_file")[1] == "Direct"
        return str((Path(self._path).resolve().parent if from_file else Path()) / Path(path).expanduser())

    def _fetch(self) -> list[Droplet]:
        try:
            client = DigitalOcean(
                self._templated("api_token"),
                endpoint=self._templated("endpoint"),
                ca_file=self._ca_file(),
                timeout=self.get_option("timeout"),
            )
        except ImportError as error:
            raise AnsibleError(
                f"This Python cannot import pydo ({error}): run `pip install 'pydo>=0.44,<0.45'`."
            ) from None
        filters = {"tag_name": self.get_option("tag"), "name": self.get_option("name")}
        found = client.pages(
            "GET /v2/droplets",
            client.api.droplets.list,
            "droplets",
            scopes="droplet:read and tag:read",
            **{key: value for key, value in filters.items() if value},
        )
        # A token without tag:read gets droplets whose tags are left out or empty.
        if found and not any(d.get("tags") if self._instance else "tags" in d for d in found):
            raise ApiError(
                f"GET {client.endpoint}/v2/droplets",
                "no droplet shows a tag",
                "The token lacks a scope: give it tag:read beside droplet:read. "
                "If it has that, tag the droplets.",
            )
        return sorted(map(reduced, found), key=lambda droplet: (natural(droplet["name"]), droplet["id"]))

    # --- inventory

    def _populate(self, droplets: list[Droplet]) -> None:
        status = self.get_option("status")
        droplets = [
            droplet
            for droplet in droplets
            if (not status or droplet["status"] in status)
            and (not self._instance or belongs(droplet, self._instance))
        ]
        if self._instance:
            self._instance_group = self.inventory.add_group(self._sanitize_group_name(self._instance))
            for group in self._known:
                self.inventory.add_group(group)
            if not droplets:
                self.display.warning(
                    f"No droplet in state {' or '.join(status) or 'any'} has a tag {self._instance}-...: "
                    f"check `instance` in {self._path} and the tags of the droplets."
                )
        chosen = [
            (droplet, variables) for droplet in droplets if (variables := self._kept(droplet)) is not None
        ]
        self._check([droplet for droplet, _unused in chosen])
        for droplet, variables in chosen:
            self._add(droplet, variables)

    def _variables(self, droplet: Droplet) -> dict[str, Any]:
        prefix = self.get_option("hostvars_prefix")
        return {f"{prefix}{key}": plain(value) for key, value in droplet.items()}

    def _kept(self, droplet: Droplet) -> dict[str, Any] | None:
        """The droplet's host variables, or None if `filters` leave it out."""
        variables = self._variables(droplet)
        for condition in self.get_option("filters"):
            self.templar.available_variables = variables
            try:
                kept = self.templar.evaluate_conditional(condition)
            except AnsibleError as error:
                if self.get_option("strict"):
                    raise AnsibleParserError(
                        f"{self._path}: the filter `{condition}` fails for droplet {droplet['name']}: {error}"
                    ) from None
                self.display.vvv(
                    f"The filter `{condition}` leaves {droplet['name']} out, as it fails: {error}"
                )
                return None
            if not kept:
                return None
        return variables

    def _check(self, droplets: list[Droplet]) -> None:
        if self.get_option("hostname") == "name":
            for name, ids in duplicates(droplets).items():
                raise AnsibleError(
                    f"The droplets {' and '.join(map(str, ids))} are all named {name}: rename all but one, "
                    f"or set `hostname: id` in {self._path}."
                )
        if not self._instance or "exec" not in self._known:
            return
        several = [d for d in droplets if "exec" in groups_of(d, self._instance, self._known)]
        if len(several) > 1:
            names = " and ".join(f"{droplet['name']} ({droplet['id']})" for droplet in several)
            raise AnsibleError(
                f"An instance has one exec droplet, but {names} have the tag {self._instance}-exec: "
                f"remove the tag from all but one."
            )

    def _add(self, droplet: Droplet, variables: dict[str, Any]) -> None:
        name = str(droplet[ADDRESSES[self.get_option("hostname")]])  # type: ignore[literal-required]
        compose = self.get_option("compose")
        if not name:
            raise AnsibleError(
                f"Droplet {droplet['name']} ({droplet['id']}) has no {self.get_option('hostname')} address "
                f"to be named after: set another `hostname` in {self._path}."
            )
        address = droplet[ADDRESSES[self.get_option("connect_with")]]  # type: ignore[literal-required]
        if address:
            variables["ansible_host"] = plain(address)
        elif "ansible_host" not in compose:
            self.display.warning(
                f"Droplet {droplet['name']} has no {self.get_option('connect_with')} address, so it has "
                f"no ansible_host: choose another `connect_with`, or set it with `compose`."
            )
        self.inventory.add_host(name)
        host = self.inventory.get_host(name)
        for key, value in variables.items():
            host.set_variable(key, value)
        self._group(droplet, name)

        # Jinja only when asked for: it costs more than everything else here.
        strict = self.get_option("strict")
        if compose:
            self._set_composite_vars(compose, variables, name, strict)
        if self.get_option("groups"):
            self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict)
        if self.get_option("keyed_groups"):
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict)

    def _group(self, droplet: Droplet, name: str) -> None:
        groups = []
        if self._instance:
            mine = groups_of(droplet, self._instance, self._known)
            if not mine:
                group = f"{self._instance_group}_ungrouped"
                self.display.warning(
                    f"Droplet {droplet['name']} has no tag {self._instance}-<group> for a group of "
                    f"{', '.join(self._known)}: it is in {group} only."
                )
                mine = [group]
            groups = [self._instance_group, *mine]
        if self.get_option("tag_groups"):
            groups += [self._sanitize_group_name(f"tag_{tag}") for tag in droplet["tags"]]
        for group in groups:
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)

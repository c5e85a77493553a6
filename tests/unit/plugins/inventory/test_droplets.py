"""The inventory plugin, call by call: groups, variables, cache, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import is_trusted_as_template
from ansible_collections.vmstio.mastodon.plugins.module_utils import _digitalocean
from ansible_collections.vmstio.mastodon.plugins.plugin_utils import _droplets
from hypothesis import given
from hypothesis import strategies as st

SECRET = "s3cr3t-t0k3n"
PAGE = {"per_page": "200", "page": "1"}
Parse = Callable[..., InventoryData]


def droplet(number: int, *tags: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"vmst-{number}",
        "status": "active",
        "tags": list(tags),
        "region": {"slug": "ams3", "sizes": ["s-1vcpu-1gb"]},
        "size_slug": "s-2vcpu-4gb",
        "image": {"id": 5, "slug": "debian-13-x64", "distribution": "Debian"},
        "vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
        "networks": {
            "v4": [
                {"ip_address": f"10.118.0.{number}", "type": "private"},
                {"ip_address": f"198.51.100.{number}", "type": "public"},
                {"ip_address": "198.51.100.250", "type": "public"},
            ],
            "v6": [{"ip_address": "2001:db8::1", "type": "public"}],
        },
        "vcpus": 2,
        "memory": 4096,
        "disk": 80,
        "locked": False,
        "created_at": "2026-07-21T18:37:44Z",
        **more,
    }


def page(*droplets: dict[str, Any], total: int | None = None) -> dict[str, Any]:
    return {
        "droplets": list(droplets),
        "links": {},
        "meta": {"total": len(droplets) if total is None else total},
    }


def lists(script: Any, *droplets: dict[str, Any], **query: str) -> None:
    script.expect("GET", "/v2/droplets", query={**PAGE, **query}, answer=page(*droplets))


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(
        "ansible.utils.display.Display.warning", lambda self, msg, *args, **settings: found.append(msg)
    )
    return found


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Reads an inventory file with the lines given; the token is in the environment."""
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", SECRET)

    def read(*lines: str, cache: bool = True, extra: dict[str, Any] | None = None) -> InventoryData:
        path = tmp_path / "digitalocean.yml"
        path.write_text("\n".join(["plugin: vmstio.mastodon.droplets", *lines, ""]))
        plugin = inventory_loader.get("vmstio.mastodon.droplets")
        if extra:
            monkeypatch.setattr("ansible.plugins.inventory.load_extra_vars", lambda loader: extra)
        inventory = InventoryData()
        assert plugin.verify_file(str(path))
        plugin.parse(inventory, DataLoader(), str(path), cache=cache)
        if getattr(plugin, "_cache", None):
            plugin.update_cache_if_changed()
        return inventory

    return read


def members(inventory: InventoryData) -> dict[str, list[str]]:
    groups = {name: [host.name for host in group.hosts] for name, group in inventory.groups.items()}
    return {name: hosts for name, hosts in groups.items() if hosts}


def test_groups_of_the_instance(script: Any, parse: Parse, warnings: list[str]) -> None:
    lists(
        script,
        droplet(10, "vmst-worker", "vmst-lb"),
        droplet(9, "vmst-worker", "vmst-search"),
        droplet(2, "vmst-exec"),
        droplet(3, "other-worker", "vmstx-exec"),
        droplet(4, "vmst-lb"),
        droplet(5, "vmst"),
        droplet(6, "vmst-worker", status="off"),
        droplet(7),
    )
    inventory = parse("instance: vmst")
    assert members(inventory) == {
        "vmst": ["vmst-2", "vmst-4", "vmst-5", "vmst-9", "vmst-10"],
        "exec": ["vmst-2"],
        "worker": ["vmst-9", "vmst-10"],
        "search": ["vmst-9"],
        "vmst_ungrouped": ["vmst-4", "vmst-5"],
    }
    assert [text.split(":")[0] for text in warnings] == [
        f"Droplet vmst-{n} has no tag vmst-<group> for a group of exec, worker, search, metrics"
        for n in (4, 5)
    ]


def test_variables(script: Any, parse: Parse) -> None:
    lists(script, droplet(9, "vmst-worker", "b", "a"))
    variables = parse("instance: vmst").hosts["vmst-9"].vars
    assert {k: v for k, v in variables.items() if not k.startswith("inventory_")} == {
        "ansible_host": "198.51.100.9",
        "do_id": 9,
        "do_name": "vmst-9",
        "do_status": "active",
        "do_tags": ["a", "b", "vmst-worker"],
        "do_region": "ams3",
        "do_size": "s-2vcpu-4gb",
        "do_image": "debian-13-x64",
        "do_image_distribution": "Debian",
        "do_vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
        "do_public_ipv4": "198.51.100.9",
        "do_private_ipv4": "10.118.0.9",
        "do_public_ipv6": "2001:db8::1",
        "do_vcpus": 2,
        "do_memory": 4096,
        "do_disk": 80,
        "do_locked": False,
        "do_created_at": "2026-07-21T18:37:44Z",
    }
    json.dumps(variables)


@pytest.mark.parametrize(
    ("choice", "address"),
    [
        ("public", "198.51.100.9"),
        ("private", "10.118.0.9"),
        ("public_ipv6", "2001:db8::1"),
        ("name", "vmst-9"),
    ],
)
def test_connect_with(script: Any, parse: Parse, choice: str, address: str) -> None:
    lists(script, droplet(9, "vmst-worker"))
    host = parse("instance: vmst", f"connect_with: {choice}").hosts["vmst-9"]
    assert host.vars["ansible_host"] == address


def test_an_address_that_is_not_there(script: Any, parse: Parse, warnings: list[str]) -> None:
    bare = droplet(9, "vmst-worker", networks={}, region=None, image=None)
    lists(script, bare)
    variables = parse("instance: vmst").hosts["vmst-9"].vars
    assert "ansible_host" not in variables
    assert (variables["do_public_ipv4"], variables["do_region"], variables["do_image"]) == ("", "", "")
    assert warnings[0].startswith("Droplet vmst-9 has no public address")
    warnings.clear()
    lists(script, bare)
    inventory = parse("instance: vmst", "compose: {ansible_host: \"'h' ~ do_id\"}")
    assert inventory.hosts["vmst-9"].vars["ansible_host"] == "h9"
    assert warnings == []


@pytest.mark.parametrize(
    ("choice", "name"), [("id", "9"), ("private", "10.118.0.9"), ("public", "198.51.100.9")]
)
def test_hostname(script: Any, parse: Parse, choice: str, name: str) -> None:
    lists(script, droplet(9, "vmst-worker"))
    assert list(parse("instance: vmst", f"hostname: {choice}").hosts) == [name]


def test_hostname_that_is_not_there(script: Any, parse: Parse) -> None:
    lists(script, droplet(9, "vmst-worker", networks={}))
    with pytest.raises(AnsibleError, match="has no public address to be named after"):
        parse("instance: vmst", "hostname: public")


def test_two_droplets_of_one_name(script: Any, parse: Parse) -> None:
    twins = [droplet(9, "vmst-worker", name="twin"), droplet(8, "vmst-worker", name="twin")]
    lists(script, *twins)
    with pytest.raises(AnsibleError, match="The droplets 8 and 9 are all named twin: rename all but one, or"):
        parse("instance: vmst")
    lists(script, *twins)
    assert list(parse("instance: vmst", "hostname: id").hosts) == ["8", "9"]


def test_two_exec_droplets(script: Any, parse: Parse) -> None:
    lists(script, droplet(1, "vmst-exec"), droplet(2, "vmst-exec"))
    with pytest.raises(AnsibleError, match=r"but vmst-1 \(1\) and vmst-2 \(2\) have the tag vmst-exec"):
        parse("instance: vmst")


def test_without_an_instance(script: Any, parse: Parse) -> None:
    lists(script, droplet(1, "a:b", "vmst-exec"), droplet(2, "vmst-exec"))
    assert members(parse("tag_groups: true")) == {
        "tag_a_b": ["vmst-1"],
        "tag_vmst_exec": ["vmst-1", "vmst-2"],
    }


def test_groups_of_ones_own(script: Any, parse: Parse) -> None:
    lists(script, droplet(1, "vmst-exec"), droplet(2, "vmst-exec"), droplet(3, "vmst-relay"))
    inventory = parse("instance: vmst", "instance_groups: [relay]")
    assert members(inventory)["relay"] == ["vmst-3"]


def test_nothing_found_is_a_warning(script: Any, parse: Parse, warnings: list[str]) -> None:
    lists(script)
    assert members(parse("instance: vmst", "status: []")) == {}
    assert warnings[0].startswith("No droplet in state any has a tag vmst-...")


def test_filters_of_the_server(script: Any, parse: Parse) -> None:
    lists(script, droplet(1, "x"), tag_name="x")
    assert list(parse("tag: x").hosts) == ["vmst-1"]
    lists(script, droplet(1, "x"), name="vmst-1")
    assert list(parse("name: vmst-1").hosts) == ["vmst-1"]
    with pytest.raises(AnsibleParserError, match="by `tag` or by `name`, not by both"):
        parse("tag: x", "name: y")


def test_filters_of_the_client(script: Any, parse: Parse) -> None:
    for _unused in range(3):
        lists(script, droplet(1), droplet(2))
    assert list(parse("filters: ['do_id > 1', 'do_region == \"ams3\"']").hosts) == ["vmst-2"]
    assert list(parse("filters: [nonsense]").hosts) == []
    with pytest.raises(AnsibleParserError, match="the filter `nonsense` fails for droplet vmst-1"):
        parse("filters: [nonsense]", "strict: true")


def test_constructed(script: Any, parse: Parse) -> None:
    lists(script, droplet(1), droplet(2, memory=1024))
    inventory = parse(
        "compose: {size_class: \"do_size.split('-')[0]\"}",
        "groups: {big: do_memory > 2048}",
        "keyed_groups: [{key: do_region, prefix: region}]",
    )
    assert members(inventory) == {"big": ["vmst-1"], "region_ams3": ["vmst-1", "vmst-2"]}
    assert inventory.hosts["vmst-1"].vars["size_class"] == "s"


def test_another_prefix(script: Any, parse: Parse) -> None:
    lists(script, droplet(1))
    assert parse("hostvars_prefix: ocean_").hosts["vmst-1"].vars["ocean_id"] == 1
    with pytest.raises(AnsibleParserError, match="hostvars_prefix '1' cannot start the name of a variable"):
        parse("hostvars_prefix: '1'")


def test_templates(script: Any, parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITALOCEAN_TOKEN")
    seen = {}
    real = _digitalocean.DigitalOcean.__init__

    def init(self: Any, token: str, **settings: Any) -> None:
        seen.update(settings)
        real(self, token, **settings)

    monkeypatch.setattr(_digitalocean.DigitalOcean, "__init__", init)
    (tmp_path / "ca.pem").write_text("x")
    lists(script, droplet(1, "vmst-exec"))
    inventory = parse(
        'api_token: "{{ secret }}"',
        'instance: "{{ prefix }}"',
        'endpoint: "https://{{ where }}/"',
        'ca_file: "{{ file }}"',
        extra={"secret": SECRET, "prefix": "vmst", "where": "api.example", "file": "ca.pem"},
    )
    assert members(inventory)["exec"] == ["vmst-1"]
    assert seen["endpoint"] == "https://api.example/"
    assert seen["ca_file"] == str(tmp_path / "ca.pem")


def test_a_ca_file_of_the_environment_starts_here(
    script: Any, parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "ca.pem").write_text("x")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DIGITALOCEAN_CA_FILE", "ca.pem")
    lists(script)
    parse()
    monkeypatch.setenv("DIGITALOCEAN_CA_FILE", "none.pem")
    with pytest.raises(AnsibleError, match=r"there is no file none.pem. Set ca_file to a PEM file"):
        parse()


def test_values_of_the_api_are_never_templates(script: Any, parse: Parse) -> None:
    lists(script, droplet(1, "{{ lookup('pipe', 'id') }}", name="{% raw %}"), droplet(2, "plain"))
    hosts = parse("instance: ''").hosts
    evil, good = hosts["{% raw %}"].vars, hosts["vmst-2"].vars
    assert not is_trusted_as_template(evil["do_name"])
    assert not is_trusted_as_template(evil["do_tags"][0])
    assert is_trusted_as_template(good["do_name"])


@given(st.text())
def test_only_inert_text_is_called_trusted(text: str) -> None:
    value = _droplets.plain(text)
    assert value == text
    if is_trusted_as_template(value):
        assert not set(text) & set("{}%#\n\r'\"()[]|~ ")


# --- pages


def test_pages(script: Any, parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_digitalocean, "PAGE_THREADS", 1)
    every = [droplet(number) for number in range(1, 402)]
    for number in (1, 2, 3):
        script.expect(
            "GET",
            "/v2/droplets",
            query={**PAGE, "page": str(number)},
            answer=page(*every[(number - 1) * 200 : number * 200], total=401),
        )
    assert len(parse().hosts) == 401


def test_reads_again_a_list_that_moved(script: Any, parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_digitalocean, "PAGE_THREADS", 1)
    every = [droplet(number) for number in range(1, 202)]
    for first, second, total in ((every[:200], [every[199]], 201), (every[:200], every[200:], 201)):
        script.expect("GET", "/v2/droplets", query=PAGE, answer=page(*first, total=201))
        script.expect("GET", "/v2/droplets", query={**PAGE, "page": "2"}, answer=page(*second, total=total))
    assert len(parse().hosts) == 201


# --- cache


def cached(tmp_path: Path) -> tuple[str, ...]:
    return (
        "cache: true",
        "cache_plugin: ansible.builtin.jsonfile",
        f"cache_connection: {tmp_path}/cache",
    )


def test_cache(script: Any, parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists(script, droplet(1, "vmst-exec"), droplet(2, "{{ 7 * 6 }}"))
    first = parse("instance: vmst", *cached(tmp_path))
    again = parse("instance: vmst", *cached(tmp_path))
    assert members(again) == members(first)
    assert again.hosts["vmst-1"].vars == first.hosts["vmst-1"].vars
    # Client-side options are no part of the question; server-side ones are.
    assert list(parse(*cached(tmp_path)).hosts) == ["vmst-1", "vmst-2"]
    lists(script, droplet(3, "x"), tag_name="x")
    assert list(parse("tag: x", *cached(tmp_path)).hosts) == ["vmst-3"]
    # --flush-cache asks again, and keeps the answer
    lists(script, droplet(4))
    assert list(parse(*cached(tmp_path), cache=False).hosts) == ["vmst-4"]
    assert list(parse(*cached(tmp_path)).hosts) == ["vmst-4"]


def test_a_hit_needs_no_pydo(script: Any, parse: Parse, tmp_path: Path, monkeypatch: Any) -> None:
    lists(script, droplet(1))
    parse(*cached(tmp_path))
    monkeypatch.setitem(sys.modules, "pydo", None)
    assert list(parse(*cached(tmp_path)).hosts) == ["vmst-1"]


# --- errors


def test_without_pydo(script: Any, parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydo", None)
    with pytest.raises(AnsibleError, match=r"cannot import pydo .* run `pip install"):
        parse()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["conect_with: public"], "there is no option 'conect_with': did you mean 'connect_with'"),
        (["zzz: 1"], "there is no option 'zzz': see `ansible-doc -t inventory vmstio.mastodon.droplets`"),
        (["instance: worker"], "instance 'worker' is also the name of a group: choose another prefix"),
        (["instance: all"], "instance 'all' is also the name of a group"),
        (
            ["endpoint: http://api.example"],
            "the endpoint is not an https:// URL. A token is never sent in clear",
        ),
        (["connect_with: telepathy"], "connect_with"),
        (["a: [b"], "digitalocean.yml|parse|YAML"),
    ],
)
def test_wrong_options(script: Any, parse: Parse, lines: list[str], message: str) -> None:
    with pytest.raises(AnsibleError, match=message):
        parse(*lines)


def test_a_file_that_is_no_mapping(script: Any, tmp_path: Path) -> None:
    path = tmp_path / "droplets.yml"
    path.write_text("- a\n")
    plugin = inventory_loader.get("vmstio.mastodon.droplets")
    with pytest.raises(AnsibleParserError, match="must be a mapping that starts with `plugin: vmstio"):
        plugin.parse(InventoryData(), DataLoader(), str(path))


def test_files_that_are_not_its_own(tmp_path: Path) -> None:
    plugin = inventory_loader.get("vmstio.mastodon.droplets")
    (tmp_path / "hosts.yml").write_text("all: {}\n")
    assert not plugin.verify_file(str(tmp_path / "hosts.yml"))
    assert not plugin.verify_file(str(tmp_path / "none.digitalocean.yml"))


def test_without_a_token(script: Any, parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITALOCEAN_TOKEN")
    with pytest.raises(
        AnsibleError, match=r"no API token is set\. Set api_token, or DIGITALOCEAN_TOKEN in the"
    ):
        parse()


def test_a_token_without_tag_read(script: Any, parse: Parse) -> None:
    hidden, empty = droplet(1), droplet(1)
    del hidden["tags"]
    for shown, lines in ((hidden, []), (empty, ["instance: vmst"])):
        lists(script, shown)
        with pytest.raises(
            AnsibleError, match=r"no droplet shows a tag\. The token lacks a scope: give it tag:read"
        ):
            parse(*lines)
    lists(script, empty)
    assert parse().hosts


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (
            {"status": 401, "answer": {"id": "unauthorized", "message": "Unable to authenticate you"}},
            "401 Unable to authenticate you. Set a valid token in api_token or DIGITALOCEAN_TOKEN.",
        ),
        (
            {"status": 403, "answer": {"id": "forbidden", "message": f"no {SECRET}"}},
            r"403 no \*\*\*\*\*\*\*\*. The token lacks a scope: this call needs droplet:read and tag:read.",
        ),
        ({"status": 400, "answer": b"<html>no</html>"}, "400 <html>no</html>. Change what was asked for"),
        ({"status": 400, "answer": b""}, "400 None. Change what was asked for"),
        (
            {"status": 429, "answer": {"message": "slow"}, "answer_headers": {"retry-after": "900"}},
            "429 slow. The rate limit is used up: run again in 900 s.",
        ),
        ({"status": 404, "answer": {"id": "not_found", "message": "gone"}}, "404 gone"),
        ({"answer": {"other": []}}, "the answer has no list 'droplets'"),
        ({"answer": []}, "the answer has no list 'droplets'"),
        (
            {"answer": requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED")},
            "the server's certificate is not trusted .* Set ca_file to the authority that signed it.",
        ),
    ],
)
def test_refusals_say_what_to_do(script: Any, parse: Parse, details: Any, message: str) -> None:
    script.expect("GET", "/v2/droplets", query=PAGE, **details)
    with pytest.raises(AnsibleError, match=message) as caught:
        parse()
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith("GET https://api.digitalocean.com/v2/droplets: ")
    assert script.sleeps == []


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"status": 500, "answer": {"message": "oops"}}, "500 oops. The API has a problem"),
        (
            {"status": 429, "answer": {"message": "slow"}},
            "run again later .5,000 requests an hour, 250 a minute.",
        ),
        ({"answer": b'{"droplets": ['}, "the answer broke off or is no JSON"),
        ({"answer": b"<html>"}, "the answer broke off or is no JSON"),
        (
            {"answer": requests.exceptions.ConnectionError("no route")},
            "no answer .no route.. Check the network",
        ),
        ({"answer": requests.exceptions.ReadTimeout("timed out")}, "no answer .timed out."),
        ({"answer": OSError("disk")}, "no answer .disk."),
    ],
)
def test_tries_five_times(script: Any, parse: Parse, tmp_path: Path, details: Any, message: str) -> None:
    for _unused in range(5):
        script.expect("GET", "/v2/droplets", query=PAGE, **details)
    with pytest.raises(AnsibleError, match=message) as caught:
        parse(*cached(tmp_path))
    assert str(caught.value).endswith(" (The cache has no list that is still valid.)")
    assert script.sleeps == [0.5, 1, 2, 4]


def test_waits_as_long_as_it_is_asked_to(script: Any, parse: Parse) -> None:
    for seconds in ("3", "tomorrow"):
        script.expect(
            "GET", "/v2/droplets", query=PAGE, status=429, answer={}, answer_headers={"retry-after": seconds}
        )
    lists(script, droplet(1))
    assert list(parse().hosts) == ["vmst-1"]
    assert script.sleeps == [3, 1]


# --- as Ansible runs it


def test_ansible_inventory_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "digitalocean.yml"
    path.write_text("plugin: vmstio.mastodon.droplets\nendpoint: http://127.0.0.1:9\n")
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", SECRET)
    program = Path(sys.executable).parent / "ansible-inventory"
    done = subprocess.run([program, "-i", path, "--list"], check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "the endpoint is not an https:// URL" in done.stderr
    assert SECRET not in done.stderr + done.stdout

"""The inventory and the DigitalOcean modules against the emulator: real pydo, TLS, and what goes wrong."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ansible.errors import AnsibleError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import trust_as_template

from lab.emulators import digitalocean
from lab.emulators.common import grant
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import eventually, running
from lab.pki import Authority, Certificate

from .conftest import Module, client_of
from .faults import FAULTS, RATE_LIMITS, Emulated

PACKAGE = "ansible_collections.vmstio.mastodon.plugins"
PLUGIN = "vmstio.mastodon.droplets"
TOKEN = "all-t0k3n"
TOKENS = grant(
    TOKEN,
    **{
        "blind-t0k3n": [],
        "reader-t0k3n": ["droplet:read", "tag:read", "image:read", "load_balancer:read"],
        "tagless-t0k3n": ["droplet:read"],
    },
)
SYNTHETIC = 450
DROPLETS = "^/v2/droplets$"
ACTION = r"/actions/\d+$"


class Clock:
    """Pauses between two tries take no time here, and are noted."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._now = 0.0
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.pauses.append(round(seconds, 1))
            self._now += seconds

    def monotonic(self) -> float:
        return self._now


class Ocean(Emulated):
    """The emulator and the plugins that call it."""

    def __init__(
        self,
        client: httpx.Client,
        url: str,
        *,
        cloud: MemoryCloud,
        module: Module,
        clock: Clock,
        directory: Path,
        ca: Path,
    ) -> None:
        super().__init__(client)
        self.url, self.cloud, self.clock = url, cloud, clock
        self._module, self._directory, self._ca = module, directory, ca

    # the emulator

    def writes(self) -> list[str]:
        return [call for call in self.calls() if not call.startswith("GET")]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.client.post(path, json=body, headers={"authorization": f"Bearer {TOKEN}"})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(path, headers={"authorization": f"Bearer {TOKEN}"}).json()
        return found

    def droplet(self, name: str = "w1", *tags: str) -> int:
        body = {"name": name, "region": "nyc3", "size": "s-2vcpu-4gb", "image": "debian-12-x64"}
        identifier: int = self.post("/v2/droplets", {**body, "tags": list(tags)})["droplet"]["id"]
        eventually(lambda: self.get(f"/v2/droplets/{identifier}")["droplet"]["status"] == "active")
        self.calls()
        return identifier

    def release_after(self, method: str, path: str) -> None:
        """Lets the paused cloud go on once a call was answered."""

        def watch() -> None:
            eventually(lambda: any(call["status"] for call in self.log(method, path)), 60)
            self.cloud.release()

        threading.Thread(target=watch, daemon=True).start()

    # the plugins

    def source(self, text: str = "", token: str = TOKEN, url: str | None = None) -> Path:
        path = self._directory / "digitalocean.yml"
        path.write_text(
            f"plugin: {PLUGIN}\napi_token: {token}\nendpoint: {url or self.url}\nca_file: {self._ca}\n{text}"
        )
        return path

    def inventory(
        self, text: str = "", token: str = TOKEN, url: str | None = None, *, cache: bool = True
    ) -> InventoryData:
        path = str(self.source(text, token, url))
        plugin = inventory_loader.get(PLUGIN)
        found = InventoryData()
        plugin.parse(found, DataLoader(), path, cache=cache)
        if hasattr(plugin, "_cache"):
            plugin.update_cache_if_changed()
        return found

    def refused(self, text: str = "", token: str = TOKEN, url: str | None = None) -> str:
        with pytest.raises(AnsibleError) as caught:
            self.inventory(text, token, url)
        message = str(caught.value)
        assert token not in message
        return message

    def rebuild(
        self, droplet: int, token: str = TOKEN, *, check: bool = False, **more: Any
    ) -> dict[str, Any]:
        options = {
            "id": droplet,
            "image": "debian-13-x64",
            "wait_interval": 0.02,
            "wait_timeout": 100,
            **more,
        }
        return self._module("droplet_rebuild", self.url, token, options, check=check)

    def members(self, token: str = TOKEN, *, check: bool = False, **more: Any) -> dict[str, Any]:
        options = {"load_balancer": "vmst", "wait_interval": 0.02, "wait_timeout": 100, **more}
        return self._module("load_balancer_members", self.url, token, options, check=check)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(importlib.import_module(f"{PACKAGE}.module_utils._digitalocean"), "time", made)
    return made


@pytest.fixture
def sea(  # noqa: PLR0917  (fixtures)
    certificate: Certificate,
    authority: Authority,
    cloud: MemoryCloud,
    clock: Clock,
    vendor_documents: Path,
    module: Module,
    tmp_path: Path,
) -> Iterator[Ocean]:
    app = digitalocean.create_app(cloud, tokens=TOKENS, contract="raise", synthetic_droplets=SYNTHETIC)
    with running(app, certificate) as url, client_of(url, authority) as client:
        yield Ocean(
            client, url, cloud=cloud, module=module, clock=clock, directory=tmp_path, ca=authority.file
        )
        # A job that still waits for the cloud would keep the server.
        cloud.release()
        assert client.get("/_lab/violations").json()["violations"] == []


# --- inventory


def test_every_page_once(sea: Ocean) -> None:
    found = sea.inventory("instance: vmst\n")
    assert len(found.hosts) == SYNTHETIC
    assert [host.name for host in found.groups["exec"].hosts] == ["vmst-exec-0"]
    assert len(found.groups["worker"].hosts) == SYNTHETIC - 1
    assert sea.calls() == ["GET /v2/droplets"] * 3
    few = sea.inventory("tag: vmst-exec\n")
    assert list(few.hosts) == ["vmst-exec-0"]
    assert len(sea.calls()) == 1


SURVIVED = [*RATE_LIMITS, "500", "cut off", "no JSON", "HTML error", "time-out"]


@pytest.mark.parametrize("skip", [0, 1], ids=["first page", "later page"])
@pytest.mark.parametrize("name", SURVIVED)
def test_the_inventory_survives(sea: Ocean, name: str, skip: int) -> None:
    sea.fault(DROPLETS, times=1, skip=skip, **FAULTS[name])
    assert len(sea.inventory("timeout: 5\n" if name == "time-out" else "").hosts) == SYNTHETIC
    calls = len(sea.calls())
    # A machine that is slower than the time-out asks once more.
    assert calls >= 4 if name == "time-out" else calls == 4
    if "Retry-After" in name:
        assert 7 in sea.clock.pauses


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("429", "429 API rate limit exceeded. The rate limit is used up: run again later"),
        ("500", "500 Unexpected server-side error. The API has a problem: see status.digitalocean.com, then"),
        ("cut off", "Check the"),
        ("no JSON", "the answer broke off or is no JSON"),
        ("HTML error", "502 <html>Bad Gateway</html>. The API has a problem"),
        ("time-out", "no answer"),
    ],
)
def test_the_inventory_gives_up(sea: Ocean, name: str, problem: str) -> None:
    sea.fault(DROPLETS, times=None, **FAULTS[name])
    message = sea.refused("timeout: 0.2\n" if name == "time-out" else "")
    assert message.startswith(f"GET {sea.url}/v2/droplets: ")
    assert problem in message
    assert sea.calls() == ["GET /v2/droplets"] * 5


def test_an_hour_is_not_waited_for(sea: Ocean) -> None:
    sea.fault(DROPLETS, status=429, retry_after=3600)
    assert sea.refused().endswith("The rate limit is used up: run again in 3600 s.")
    assert sea.clock.pauses == []


def test_a_later_page_that_never_comes_is_an_error(sea: Ocean) -> None:
    sea.fault(DROPLETS, times=None, skip=1, status=503)
    assert "503 Service Unavailable" in sea.refused()


@pytest.mark.parametrize(
    ("token", "advice"),
    [
        ("wrong-t0k3n", "Set a valid token in api_token or DIGITALOCEAN_TOKEN."),
        ("blind-t0k3n", "The token lacks a scope: this call needs droplet:read and tag:read."),
    ],
)
def test_a_token_that_is_not_enough(sea: Ocean, token: str, advice: str) -> None:
    assert sea.refused(token=token).endswith(advice)
    assert len(sea.calls()) == 1


def test_a_token_that_may_not_see_tags(sea: Ocean) -> None:
    assert (
        "no droplet shows a tag. The token lacks a scope: give it tag:read beside droplet:read"
        in sea.refused("instance: vmst\n", "tagless-t0k3n")
    )
    assert sea.refused("tag: vmst-exec\n", "tagless-t0k3n").endswith("needs droplet:read and tag:read.")


def test_nobody_there_and_nobody_trusted(sea: Ocean, monkeypatch: pytest.MonkeyPatch) -> None:
    message = sea.refused(url="https://127.0.0.1:9")
    assert message.startswith("GET https://127.0.0.1:9/v2/droplets: no answer")
    assert message.endswith("Check the network, proxy and endpoint, then run again.")
    path = sea.source()
    other = path.with_name("other.pem")
    other.write_bytes(Path(Authority.open(path.with_name("pki"), "other").file).read_bytes())
    message = sea.refused(f"ca_file: {other}\n")
    assert "the server's certificate is not trusted" in message
    assert message.endswith("Set ca_file to the authority that signed it.")


def test_the_cache_while_the_api_is_down(sea: Ocean, tmp_path: Path) -> None:
    text = f"cache: true\ncache_plugin: ansible.builtin.jsonfile\ncache_connection: {tmp_path}/cache\n"
    first = sea.inventory(text)
    sea.calls()
    sea.fault(DROPLETS, times=None, status=503)
    assert list(sea.inventory(text).hosts) == list(first.hosts)
    assert sea.calls() == []
    for path in (tmp_path / "cache").iterdir():
        assert TOKEN not in path.read_text()
        path.unlink()
    assert sea.refused(text).endswith("(The cache has no list that is still valid.)")


def test_the_groups_and_addresses_of_digitalocean_cloud(sea: Ocean) -> None:
    """The table of docs/inventory.md: what digitalocean.cloud 1.9.0 makes of the same droplets.

    It gives the API's attributes as they are to Ansible's own constructed groups.
    """
    ours = sea.inventory("tag_groups: true\nkeyed_groups: [{key: do_region, prefix: region}]\n")
    plugin = inventory_loader.get(PLUGIN)
    plugin.parse(InventoryData(), DataLoader(), str(sea.source("status: []\n")))
    plugin.inventory = theirs = InventoryData()
    keys = [{"key": "do_tags", "prefix": "tag"}, {"key": "region.slug", "prefix": "region"}]
    address = "networks.v4 | selectattr('type', 'eq', 'public') | map(attribute='ip_address') | first"
    for number in (1, 2, 3):
        for droplet in sea.get(f"/v2/droplets?per_page=200&page={number}")["droplets"]:
            name = droplet["name"]
            variables = {**droplet, "do_tags": droplet["tags"]}
            theirs.add_host(name)
            plugin._set_composite_vars({"ansible_host": trust_as_template(address)}, variables, name, True)
            trusted = [{key: trust_as_template(value) for key, value in entry.items()} for entry in keys]
            plugin._add_host_to_keyed_groups(trusted, variables, name, strict=True)
    assert {name: host.vars["ansible_host"] for name, host in ours.hosts.items()} == {
        name: host.vars["ansible_host"] for name, host in theirs.hosts.items()
    }

    def members(inventory: InventoryData) -> dict[str, list[str]]:
        return {name: sorted(h.name for h in group.hosts) for name, group in inventory.groups.items()}

    assert members(ours) == members(theirs)
    assert len(members(ours)) > 15


def ansible_inventory(source: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "ansible-inventory"
    return subprocess.run([program, "-i", source, "--list"], check=False, capture_output=True, text=True)


def test_ansible_inventory_prints_plain_strings(sea: Ocean) -> None:
    done = ansible_inventory(
        sea.source("instance: vmst\nconnect_with: private\nfilters: [do_id < 400000003]\n")
    )
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert listed["worker"]["hosts"] == ["vmst-worker-1", "vmst-worker-2"]
    variables = listed["_meta"]["hostvars"]["vmst-exec-0"]
    assert variables["ansible_host"] == variables["do_private_ipv4"] == "10.118.0.1"
    assert variables["do_tags"] == ["env:bench", "shard:0", "vmst-exec"]
    assert "__ansible_unsafe" not in done.stdout


def test_ansible_inventory_fails_without_the_token(sea: Ocean) -> None:
    done = ansible_inventory(sea.source(token="wrong-t0k3n"))
    assert done.returncode != 0
    assert "Set a valid token in api_token or DIGITALOCEAN_TOKEN." in done.stderr
    assert "wrong-t0k3n" not in done.stdout + done.stderr


# --- rebuild


def rebuilds(sea: Ocean) -> int:
    return sum(call[0] == "rebuild_droplet" for call in sea.cloud.calls)


def test_a_rebuild(sea: Ocean) -> None:
    droplet = sea.droplet()
    planned = sea.rebuild(droplet, check=True)
    assert (planned["changed"], planned["droplet"]["image"]) == (True, "debian-13-x64")
    assert sea.writes() == []
    done = sea.rebuild(droplet)
    assert (done["changed"], done["droplet"]["image"]) == (True, "debian-13-x64")
    assert done["action"]["status"] == "completed"
    assert sea.writes() == [f"POST /v2/droplets/{droplet}/actions"]
    again = sea.rebuild(droplet, since=done["action"]["started_at"])
    assert (again["changed"], again["action"]["id"]) == (False, done["action"]["id"])
    assert sea.writes() == []
    assert rebuilds(sea) == 1
    assert sea.rebuild(droplet)["changed"] is True, "without `since`, every run is a rebuild"


def test_a_rebuild_after_a_pending_event(sea: Ocean) -> None:
    droplet = sea.droplet()
    sea.cloud.pause()
    sea.post(f"/v2/droplets/{droplet}/actions", {"type": "reboot"})
    sea.calls()
    sea.release_after("POST", "/actions$")
    done = sea.rebuild(droplet)
    assert done["changed"] is True
    assert any("another action of the droplet runs; waiting" in line for line in done["progress"])
    assert rebuilds(sea) == 1


@pytest.mark.parametrize("name", [name for name in SURVIVED if name != "time-out"])
def test_a_connection_lost_while_polling(sea: Ocean, name: str) -> None:
    droplet = sea.droplet()
    sea.fault(ACTION, times=7, **FAULTS[name])
    done = sea.rebuild(droplet)
    if name.startswith("429"):
        # An answer, and a refusal: the run ends and says so, the rebuild goes on.
        assert "The rate limit is used up: run again" in done["msg"]
        eventually(lambda: rebuilds(sea) == 1)
        sea.client.delete("/_lab/faults")
        done = sea.rebuild(droplet, since="2026-01-01T00:00:00Z")
        assert done["action"]["status"] == "completed"
    else:
        assert done["action"]["status"] == "completed"
        assert any("asking again" in line for line in done["progress"])
    assert rebuilds(sea) == 1


@pytest.mark.parametrize("lost", [{"after": True, "status": 500}, {"cut": True}])
def test_a_rebuild_whose_start_is_not_heard_of_is_not_started_twice(sea: Ocean, lost: dict[str, Any]) -> None:
    droplet = sea.droplet()
    sea.fault("/actions$", method="POST", **lost)
    done = sea.rebuild(droplet)
    assert done["action"]["status"] == "completed"
    assert any("no clear answer" in line for line in done["progress"])
    assert rebuilds(sea) == 1


@pytest.mark.parametrize("refusal", [{"status": 503}, {"status": 429, "retry_after": 3}, {"status": 429}])
def test_a_rebuild_that_was_not_started_is_started_again(sea: Ocean, refusal: dict[str, Any]) -> None:
    droplet = sea.droplet()
    sea.fault("/actions$", method="POST", times=2, **refusal)
    assert sea.rebuild(droplet)["changed"] is True
    assert rebuilds(sea) == 1
    assert len(sea.writes()) == 3


def test_run_again_while_the_rebuild_runs(sea: Ocean) -> None:
    droplet = sea.droplet()
    sea.cloud.pause()
    first = sea.rebuild(droplet, wait_timeout=0)
    assert sea.writes() == [f"POST /v2/droplets/{droplet}/actions"]
    assert first["msg"].endswith(
        "It may still end well: run again, which waits for it, or raise wait_timeout."
    )
    planned = sea.rebuild(droplet, check=True)
    assert (planned["changed"], planned["action"]["status"]) == (True, "in-progress")
    sea.calls()
    sea.release_after("GET", ACTION)
    second = sea.rebuild(droplet)
    assert (second["changed"], second["action"]["status"]) == (True, "completed")
    assert sea.writes() == []
    assert rebuilds(sea) == 1


def test_a_rebuild_that_fails(sea: Ocean) -> None:
    droplet = sea.droplet()
    sea.cloud.fail["rebuild_droplet"] = "no space left"
    assert (
        "failed at DigitalOcean: look at the droplet's console, then run again."
        in sea.rebuild(droplet)["msg"]
    )
    assert sea.rebuild(droplet)["changed"] is True


def test_rebuilds_that_are_refused(sea: Ocean) -> None:
    droplet = sea.droplet()
    for token, advice in (
        ("wrong-t0k3n", "Set a valid token in api_token or DIGITALOCEAN_TOKEN."),
        ("blind-t0k3n", "The token lacks a scope: this call needs droplet:read."),
        ("reader-t0k3n", "The token lacks a scope: this call needs droplet:update and droplet:admin."),
    ):
        result = sea.rebuild(droplet, token)
        assert result["msg"].endswith(advice)
        assert result["failure"]["status"] == (401 if token.startswith("wrong") else 403)
    assert "404" in sea.rebuild(12345)["msg"]
    assert "404" in sea.rebuild(droplet, image="no-such-image")["msg"]
    assert rebuilds(sea) == 0


# --- load balancer


@pytest.fixture
def balanced(sea: Ocean) -> tuple[str, int, int]:
    """A load balancer that knows its two members by a tag: its id, and theirs."""
    first, second = sea.droplet("w1", "vmst-lb"), sea.droplet("w2", "vmst-lb")
    rule = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
    body = {"name": "vmst", "region": "nyc3", "tag": "vmst-lb", "forwarding_rules": [rule]}
    identifier = str(sea.post("/v2/load_balancers", body)["load_balancer"]["id"])
    sea.calls()
    return identifier, first, second


def test_a_member_leaves_and_comes_back(sea: Ocean, balanced: tuple[str, int, int]) -> None:
    identifier, first, second = balanced
    assert sea.members()["members"] == [first, second]
    planned = sea.members(droplet_id=first, state="absent", check=True)
    assert (planned["changed"], planned["members"]) == (True, [second])
    assert sea.writes() == []
    for _unused in range(2):
        done = sea.members(droplet_id=first, state="absent")
    assert (done["changed"], done["members"]) == (False, [second])
    assert sea.writes() == ["DELETE /v2/tags/vmst-lb/resources"]
    last = sea.members(droplet_id=second, state="absent")
    assert "keep is 1. Put others back first." in last["msg"]
    assert sea.writes() == []
    back = sea.members(load_balancer=identifier, droplet_id=first)
    assert (back["changed"], back["members"]) == (True, [first, second])
    assert sea.writes() == ["POST /v2/tags/vmst-lb/resources"]


def test_members_by_id(sea: Ocean) -> None:
    first, second = sea.droplet("w1"), sea.droplet("w2")
    rule = {"entry_protocol": "tcp", "entry_port": 443, "target_protocol": "tcp", "target_port": 443}
    body = {"name": "vmst", "region": "nyc3", "droplet_ids": [first], "forwarding_rules": [rule]}
    sea.post("/v2/load_balancers", body)
    assert sea.members(droplet_id=second)["members"] == [first, second]
    assert sea.members(droplet_id=first, state="absent")["members"] == [second]
    assert sea.members(droplet_id=first, state="absent")["changed"] is False


@pytest.mark.parametrize("name", [name for name in SURVIVED if name != "no JSON"])
@pytest.mark.parametrize("path", ["/resources$", "/load_balancers"])
def test_members_survive(sea: Ocean, balanced: tuple[str, int, int], name: str, path: str) -> None:
    _unused, first, second = balanced
    sea.fault(path, times=1, **FAULTS[name])
    done = sea.members(droplet_id=first, state="absent", timeout=3 if name == "time-out" else 30)
    assert (done["changed"], done["members"]) == (True, [second])


def test_members_that_are_refused(sea: Ocean, balanced: tuple[str, int, int]) -> None:
    _unused, first, second = balanced
    for token, advice in (
        ("wrong-t0k3n", "Set a valid token in api_token or DIGITALOCEAN_TOKEN."),
        ("blind-t0k3n", "The token lacks a scope: this call needs load_balancer:read."),
        ("reader-t0k3n", "The token lacks a scope: this call needs tag:delete."),
    ):
        assert sea.members(token, droplet_id=first, state="absent")["msg"].endswith(advice)
    assert sea.members()["members"] == [first, second]

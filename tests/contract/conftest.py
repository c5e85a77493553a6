"""Emulators that answer 500 to every exchange which breaks the vendor's document, behind real servers."""

from __future__ import annotations

import importlib
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pydo
import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.loader import init_plugin_loader
from starlette.applications import Starlette

from lab.emulators import cloudflare, digitalocean, sendgrid
from lab.emulators.common import grant
from lab.emulators.contract import documents
from lab.emulators.memory_cloud import MemoryCloud
from lab.emulators.testing import running
from lab.pki import Authority, Certificate
from tests.unit.plugins.tasks import PACKAGE, run_task

# Before anything of the collection is imported: plugins that are loaded as Ansible does need its loader.
init_plugin_loader()


@pytest.fixture(scope="session", autouse=True)
def vendor_documents() -> Path:
    """Where the vendors' documents are.

    They are the vendors' data and not part of this project, so a checkout alone has nothing to compare
    with: without them this directory is skipped, and the run says so.
    """
    where = documents()
    names = ("digitalocean-fixed.json", "cloudflare-fixed.json", "sendgrid.json")
    missing = [name for name in names if not (where / name).is_file()]
    if missing:
        pytest.skip(f"the vendors' API documents are not here: {where} ($VENDOR_OPENAPI) lacks {missing}")
    return where


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("pki"), "contract")


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("api", ["localhost"], ["127.0.0.1"])


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


def _ocean(cloud: MemoryCloud) -> Starlette:
    tokens = grant("all", reader=["droplet:read", "tag:read"])
    return digitalocean.create_app(cloud, tokens=tokens, contract="raise", synthetic_droplets=250)


def _flare() -> Starlette:
    return cloudflare.create_app(tokens=grant("all"), zones=["social.test"], contract="raise")


def _grid() -> Starlette:
    return sendgrid.create_app(tokens=grant("all"), subusers=["social"], contract="raise")


def client_of(url: str, authority: Authority, path: str = "") -> httpx.Client:
    trust = ssl.create_default_context(cafile=str(authority.file))
    return httpx.Client(base_url=url + path, verify=trust, headers={"authorization": "Bearer all"})


@pytest.fixture
def ocean_url(cloud: MemoryCloud, certificate: Certificate, vendor_documents: Path) -> Iterator[str]:
    with running(_ocean(cloud), certificate) as url:
        yield url


@pytest.fixture
def ocean(ocean_url: str, authority: Authority) -> Callable[..., Any]:
    """Make a pydo client of the emulator, as the collection does: TLS verified, no retries."""

    def client(token: str = "all") -> Any:
        return pydo.Client(token, endpoint=ocean_url, connection_verify=str(authority.file), retry_total=0)

    return client


@pytest.fixture
def raw_ocean(ocean_url: str, authority: Authority) -> Iterator[httpx.Client]:
    with client_of(ocean_url, authority) as client:
        yield client


@pytest.fixture
def flare(certificate: Certificate, authority: Authority, vendor_documents: Path) -> Iterator[httpx.Client]:
    with running(_flare(), certificate) as url, client_of(url, authority, cloudflare.PREFIX) as client:
        yield client


@pytest.fixture
def grid(certificate: Certificate, authority: Authority, vendor_documents: Path) -> Iterator[httpx.Client]:
    with running(_grid(), certificate) as url, client_of(url, authority) as client:
        yield client


# For calls that do not come through, and so leave nothing behind: one server for all of them.


@pytest.fixture(scope="session")
def closed_ocean(
    certificate: Certificate, authority: Authority, vendor_documents: Path
) -> Iterator[httpx.Client]:
    with running(_ocean(MemoryCloud()), certificate) as url, client_of(url, authority) as client:
        yield client


@pytest.fixture(scope="session")
def closed_flare(
    certificate: Certificate, authority: Authority, vendor_documents: Path
) -> Iterator[httpx.Client]:
    with running(_flare(), certificate) as url, client_of(url, authority, cloudflare.PREFIX) as client:
        yield client


@pytest.fixture(scope="session")
def closed_grid(
    certificate: Certificate, authority: Authority, vendor_documents: Path
) -> Iterator[httpx.Client]:
    with running(_grid(), certificate) as url, client_of(url, authority) as client:
        yield client


Module = Callable[..., dict[str, Any]]


@pytest.fixture
def module(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, authority: Authority
) -> Module:
    """Runs a module of this collection in this process, against a real server.

    `module("cloudflare_dns", url, token, {...}, check=True)` gives its result, in which the token must not
    appear (None: the module takes none). Pauses between two calls take no time.
    """
    for variable in ("CLOUDFLARE", "SENDGRID", "DIGITALOCEAN"):
        for name in ("TOKEN", "API_TOKEN", "API_KEY", "ENDPOINT", "CA_FILE"):
            monkeypatch.delenv(f"{variable}_{name}", raising=False)

    http = importlib.import_module(f"{PACKAGE}.module_utils._http")
    monkeypatch.setattr(http, "time", _NoWaiting)

    def run(
        name: str, url: str, token: str | None, arguments: dict[str, Any], *, check: bool = False
    ) -> dict[str, Any]:
        program = importlib.import_module(f"{PACKAGE}.modules.{name}")
        given = {
            "endpoint": url,
            "ca_file": str(authority.file),
            **({"api_key" if name.startswith("sendgrid") else "api_token": token} if token else {}),
            **arguments,
        }

        def run_once(given: dict[str, Any]) -> dict[str, Any]:
            with (
                patch_module_args({**given, "_ansible_check_mode": check}),
                pytest.raises(SystemExit),
            ):
                program.main()
            text = capsys.readouterr().out
            assert token is None or token not in text
            answered: dict[str, Any] = json.loads(text)
            return answered

        return run_task(name, given, run_once, check=check)

    return run


class _NoWaiting:
    @staticmethod
    def sleep(seconds: float) -> None:
        pass

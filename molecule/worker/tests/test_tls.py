"""What an independent scanner (testssl.sh) finds at the load balancer, which passes TLS on to the worker."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from lab.config import Lab
from lab.instance import Instance

TLS_1_2 = {
    # The lab's certificate has an elliptic key: those in nginx's settings that need RSA cannot be.
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}
CURVES = {"X25519", "X448", "prime256v1", "secp384r1", "secp521r1"}
"""nginx leaves the curves to OpenSSL: Mozilla's intermediate ones, and two strong ones more."""
NO_FAULT = {
    "engine_problem": "GOST is wanted by nobody here",
    "cipher_order": "as Mozilla's intermediate configuration: all are strong, the client chooses",
    "cert_revocation": "the lab's authority has no address to ask",
    "secure_renego": "asked without a name, which is refused; asked with it below",
    "BREACH": "Rails masks the token in a page anew each time",
}
"""Findings of testssl.sh that stay, and why."""


@pytest.fixture(name="found", scope="module")
def _found(
    instance: Instance, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, str]]:
    """What testssl.sh says, by the name of the question: `severity` and `finding`."""
    directory = tmp_path_factory.mktemp("testssl")
    found: dict[str, dict[str, str]] = {}
    # A connection that failed is no answer: the load balancer may just have seen nginx restart.
    for attempt in range(3):
        found = scan(instance, lab, directory / f"{attempt}.json")
        if not any(
            "connect" in entry["finding"] or "doesn't seem" in entry["finding"] for entry in found.values()
        ):
            break
    return found


def scan(instance: Instance, lab: Lab, report: Path) -> dict[str, dict[str, str]]:
    command = [
        *("testssl", "--quiet", "--warnings", "off", "--color", "0", "--nodns", "none"),
        # A slow machine is no refusal.
        *("--connect-timeout", "30", "--openssl-timeout", "30"),
        *("--add-ca", str(lab.ca), "--ip", instance.address, "--jsonfile", str(report)),
        *("--protocols", "--server-preference", "--cipher-per-proto", "--server-defaults", "--fs"),
        *("--vulnerable", instance.domain),
    ]
    said = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=540
    )
    assert report.exists(), said.stdout + said.stderr
    return {entry["id"]: entry for entry in json.loads(report.read_text())}


@pytest.mark.parametrize("version", ["SSLv2", "SSLv3", "TLS1", "TLS1_1"])
def test_old_protocols(found: dict[str, dict[str, str]], version: str) -> None:
    assert found[version]["finding"].startswith("not offered")


@pytest.mark.parametrize(("version", "suites"), [("tls1_2", TLS_1_2), ("tls1_3", TLS_1_3)])
def test_cipher_suites(found: dict[str, dict[str, str]], version: str, suites: set[str]) -> None:
    accepted = {
        entry["finding"].split()[-1] for name, entry in found.items() if name.startswith(f"cipher-{version}_")
    }
    assert accepted == suites


def test_no_other_cipher_suite(found: dict[str, dict[str, str]]) -> None:
    assert {name.split("_x")[0] for name in found if name.startswith("cipher-")} == {
        "cipher-tls1_2",
        "cipher-tls1_3",
    }


def test_curves(found: dict[str, dict[str, str]]) -> None:
    (curves,) = (
        entry["finding"].split() for name, entry in found.items() if name.endswith("FS_ECDHE_curves")
    )
    assert set(curves) == CURVES


def test_nothing_that_the_scanner_calls_a_fault(found: dict[str, dict[str, str]]) -> None:
    """Renegotiation, compression, Heartbleed, CCS, ROBOT and the rest are among the questions."""
    assert {
        "secure_renego",
        "secure_client_renego",
        "CRIME_TLS",
        "heartbleed",
        "CCS",
        "ROBOT",
    } <= found.keys()
    faults = {
        name: entry["finding"] for name, entry in found.items() if entry["severity"] not in {"OK", "INFO"}
    }
    assert {name: faults[name] for name in faults.keys() - NO_FAULT.keys()} == {}


def handshake(instance: Instance, authorities: Path | None) -> None:
    """Raises what Python has to say of the certificate when it trusts `authorities`, or the system's."""
    context = ssl.create_default_context(cafile=authorities)
    with (
        socket.create_connection((instance.address, 443), timeout=30) as connection,
        context.wrap_socket(connection, server_hostname=instance.domain),
    ):
        pass


def test_certificate(found: dict[str, dict[str, str]], instance: Instance, lab: Lab) -> None:
    """It is the instance's and leads to the lab's authority; to nobody else does it mean anything."""
    handshake(instance, lab.ca)
    assert found["cert_chain_of_trust"]["finding"].startswith("passed")
    assert found["certs_list_ordering_problem"]["finding"] == "no"
    with pytest.raises(ssl.SSLCertVerificationError, match=r"unable to get local issuer|self-signed"):
        handshake(instance, None)


def asked(instance: Instance, version: str, said: str) -> str:
    """What OpenSSL's client tells of a connection on which `said` is sent."""
    command = ["openssl", "s_client", f"-{version}", "-ign_eof", "-servername", instance.domain]
    return subprocess.run(
        [*command, "-connect", f"{instance.address}:443"],
        input=said, capture_output=True, text=True, check=False, timeout=60, errors="replace",
    ).stdout  # fmt: skip


def test_renegotiation(instance: Instance, found: dict[str, dict[str, str]]) -> None:
    """Secure, and never begun by a client."""
    request = f"GET /health HTTP/1.0\r\nHost: {instance.domain}\r\n\r\n"
    assert "Secure Renegotiation IS supported" in asked(instance, "tls1_2", request)
    assert found["secure_client_renego"]["finding"] == "not vulnerable"


def test_early_data(instance: Instance) -> None:
    """A request in TLS 1.3's early data can be sent again by whoever saw it: no session offers to take it."""
    answer = asked(instance, "tls1_3", f"GET /health HTTP/1.0\r\nHost: {instance.domain}\r\n\r\n")
    assert "HTTP/1.1 200" in answer, answer
    offers = [line.split()[-1] for line in answer.splitlines() if "Max Early Data:" in line]
    assert set(offers) <= {"0"}

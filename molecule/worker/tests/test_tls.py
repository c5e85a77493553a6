"""What an independent scanner (SSLyze) finds at the load balancer, which passes TLS through to the worker."""

from __future__ import annotations

from typing import Any

import pytest
from sslyze import (
    AllScanCommandsAttempts,
    CertificateInfoExtraArgument,
    RobotScanResultEnum,
    ScanCommandsExtraArguments,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
    ServerScanResult,
)
from sslyze.mozilla_tls_profile.tls_config_checker import (
    SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER,
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from sslyze.plugins.scan_commands import ScanCommand

from lab.config import Lab
from lab.instance import Instance

OURS = {
    # The lab's certificate has an elliptic key: those in nginx's settings that need RSA cannot be.
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
TLS_1_3 = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}


@pytest.fixture(name="scan", scope="module")
def _scan(instance: Instance, lab: Lab) -> ServerScanResult:
    location = ServerNetworkLocation(instance.domain, ip_address=instance.address)
    scanner = Scanner()
    scanner.queue_scans([
        ServerScanRequest(
            location,
            # A slow machine is no refusal.
            ServerNetworkConfiguration(instance.domain, network_timeout=30),
            SCAN_COMMANDS_NEEDED_BY_MOZILLA_CHECKER | {ScanCommand.TLS_1_3_EARLY_DATA},
            ScanCommandsExtraArguments(CertificateInfoExtraArgument(lab.ca)),
        )
    ])  # fmt: skip
    (result,) = scanner.get_results()
    trace = result.connectivity_error_trace
    assert result.scan_result, "".join(trace.format()) if trace else result
    return result


@pytest.fixture(name="found", scope="module")
def _found(scan: ServerScanResult) -> AllScanCommandsAttempts:
    assert scan.scan_result
    return scan.scan_result


def accepted(found: AllScanCommandsAttempts, version: str) -> set[str]:
    """Names (IANA's) of the cipher suites that are accepted with a protocol version, as `tls_1_2`."""
    attempt: Any = getattr(found, f"{version}_cipher_suites")
    assert attempt.result, attempt.error_trace
    return {suite.cipher_suite.name for suite in attempt.result.accepted_cipher_suites}


@pytest.mark.parametrize(
    ("version", "suites"),
    [
        ("ssl_2_0", set()),
        ("ssl_3_0", set()),
        ("tls_1_0", set()),
        ("tls_1_1", set()),
        ("tls_1_2", OURS),
        ("tls_1_3", TLS_1_3),
    ],
)
def test_cipher_suites(found: AllScanCommandsAttempts, version: str, suites: set[str]) -> None:
    assert accepted(found, version) == suites


def test_certificate(found: AllScanCommandsAttempts, lab: Lab) -> None:
    """It is the instance's, and the chain leads to the lab's authority."""
    assert found.certificate_info.result, found.certificate_info.error_trace
    (deployed,) = found.certificate_info.result.certificate_deployments
    by_file = {result.trust_store.path: result for result in deployed.path_validation_results}
    assert by_file[lab.ca].was_validation_successful, by_file[lab.ca].validation_error
    assert deployed.received_chain_has_valid_order
    # To nobody else does it mean anything.
    assert [path for path, result in by_file.items() if result.was_validation_successful] == [lab.ca]


def test_known_attacks(found: AllScanCommandsAttempts) -> None:
    """Each answer is compared with True or False: None, where a scan failed, is neither."""
    renegotiation: Any = found.session_renegotiation.result
    assert renegotiation.supports_secure_renegotiation is True
    assert renegotiation.is_vulnerable_to_client_renegotiation_dos is False
    assert renegotiation.client_renegotiations_success_count == 0
    results: Any = found
    assert results.tls_compression.result.supports_compression is False
    assert results.tls_1_3_early_data.result.supports_early_data is False
    assert results.tls_fallback_scsv.result.supports_fallback_scsv is True
    assert results.heartbleed.result.is_vulnerable_to_heartbleed is False
    assert results.openssl_ccs_injection.result.is_vulnerable_to_ccs_injection is False
    assert results.robot.result.robot_result is RobotScanResultEnum.NOT_VULNERABLE_RSA_NOT_SUPPORTED


def test_mozillas_intermediate_configuration(scan: ServerScanResult) -> None:
    wanted = MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
    try:
        check_server_against_tls_configuration(scan, wanted)
        issues = {}
    except ServerNotCompliantWithTlsConfiguration as error:
        issues = error.issues
    # The lab's authority signs for the 397 days that browsers accept; Mozilla asks for 366.
    # nginx leaves the curves to OpenSSL, whose own list has two strong ones more than Mozilla's.
    assert issues.keys() <= {"maximum_certificate_lifespan", "tls_curves"}, issues
    curves: Any = scan.scan_result and scan.scan_result.elliptic_curves.result
    assert {curve.name for curve in curves.supported_curves} <= wanted.tls_curves | {"secp521r1", "X448"}

"""The lab's certificates: an authority of its own, and server certificates that it signs.

Everything is made once and kept: a second call with the same names gives the same files. Private keys are
readable by their owner only.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_DAYS = 3650
_SERVER_DAYS = 397
"""The longest that browsers accept."""
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificate:
    """PEM files of a server: its certificate and its private key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a directory: `ca.crt` and `ca.key`."""

    def __init__(
        self, directory: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.directory = directory
        self._certificate = certificate
        self._key = key

    @property
    def file(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def pem(self) -> str:
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def open(cls, directory: Path, name: str) -> Authority:
        """The authority in `directory`, made with common name `name` when there is none yet."""
        certificate_file, key_file = directory / "ca.crt", directory / "ca.key"
        if certificate_file.exists() and key_file.exists():
            key = _load_key(key_file)
            certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            if certificate.public_key() == key.public_key():
                return cls(directory, certificate, key)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, subject, key.public_key(), _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(key_file, _pem(key))
        _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return cls(directory, certificate, key)

    def issue(
        self, name: str, names: Iterable[str], addresses: Iterable[str] = (), directory: Path | None = None
    ) -> Certificate:
        """`NAME.crt` and `NAME.key` valid for these DNS names and IP addresses.

        They lie beside the authority, or in `directory`. What is there stays while it holds exactly these
        and is not about to expire.
        """
        directory = directory or self.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pair = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
        alternatives: list[x509.GeneralName] = [x509.DNSName(each) for each in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(each)) for each in addresses]
        if self._is_current(pair, alternatives):
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(subject, self._certificate.subject, key.public_key(), _SERVER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        _write(pair.key, _pem(key))
        _write(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return pair

    def _is_current(self, pair: Certificate, alternatives: list[x509.GeneralName]) -> bool:
        if not (pair.certificate.exists() and pair.key.exists()):
            return False
        found = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
        # A cut-off run may have left a new key beside an old certificate.
        if found.public_key() != _load_key(pair.key).public_key():
            return False
        if found.not_valid_after_utc < datetime.now(UTC) + timedelta(days=_RENEW_DAYS):
            return False
        try:
            found.verify_directly_issued_by(self._certificate)
        except Exception:  # any reason not to trust it is a reason to make a new one
            return False
        held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return list(held) == alternatives


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: not a key that the lab made; remove it, or run `lab down`")
    return key


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Whole or not at all, and never readable by others in between."""
    beside = path.with_name(f"{path.name}.new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.chmod(mode)
    beside.replace(path)

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from lab.pki import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "pki", "Test CA")


def test_a_client_that_trusts_the_authority_accepts_the_server(authority: Authority) -> None:
    pair = authority.issue("api", ["api.lab.internal"], ["198.51.100.2"])
    server, client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(cafile=authority.file),
    )
    server.load_cert_chain(pair.certificate, pair.key)
    for name in ("api.lab.internal", "198.51.100.2"):
        handshake(server, client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client, "other.lab.internal")


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name)
    two = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (one, two):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.getpeercert()


def test_keys_are_for_their_owner_only(authority: Authority) -> None:
    pair = authority.issue("api", ["a.test"])
    for path in (pair.key, authority.directory / "ca.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_made_once(authority: Authority, tmp_path: Path) -> None:
    first = authority.issue("api", ["a.test"], ["192.0.2.1"]).certificate.read_bytes()
    again = Authority.open(tmp_path / "pki", "Test CA")
    assert again.pem == authority.pem
    assert again.issue("api", ["a.test"], ["192.0.2.1"]).certificate.read_bytes() == first


def test_other_names_give_a_new_certificate(authority: Authority) -> None:
    authority.issue("api", ["a.test"])
    found = x509.load_pem_x509_certificate(authority.issue("api", ["b.test"]).certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["b.test"]


def test_a_key_beside_another_keys_certificate_is_replaced(authority: Authority) -> None:
    pair = authority.issue("api", ["a.test"])
    other = authority.issue("other", ["a.test"])
    pair.key.write_bytes(other.key.read_bytes())
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*astuple(authority.issue("api", ["a.test"])))


def astuple(pair: object) -> tuple[Path, Path]:
    return pair.certificate, pair.key  # type: ignore[attr-defined]


def test_a_new_authority_signs_anew(tmp_path: Path) -> None:
    old = Authority.open(tmp_path / "pki", "Test CA").issue("api", ["a.test"]).certificate.read_bytes()
    (tmp_path / "pki" / "ca.key").unlink()
    assert (
        Authority.open(tmp_path / "pki", "Test CA").issue("api", ["a.test"]).certificate.read_bytes() != old
    )

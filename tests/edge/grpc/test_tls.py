"""Certificates for the server. What clients make of them is tested with grpcio."""

import ssl
from pathlib import Path

import pytest

from stellwerk.edge.grpc.tls import ServerCertificate, self_signed, self_signed_pem


def handshake(server: ssl.SSLContext, roots: bytes | None, protocols: list[str]) -> str | None:
    """Both sides in memory; the protocol they agree on."""
    context = ssl.create_default_context(cadata=roots.decode()) if roots else ssl.create_default_context()
    if roots is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(protocols)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = context.wrap_bio(to_client, to_server, server_hostname="picker.test")
    server_side = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (client_side, server_side, client_side, server_side):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client_side.selected_alpn_protocol()


def test_a_self_signed_context_offers_http2_only() -> None:
    context = self_signed(["picker.test"])
    assert handshake(context, None, ["h2", "http/1.1"]) == "h2"


def test_a_certificate_is_valid_for_the_names_it_was_made_for(tmp_path: Path) -> None:
    chain, key = self_signed_pem(["picker.test"])
    (tmp_path / "chain").write_bytes(chain)
    (tmp_path / "key").write_bytes(key)
    certificate = ServerCertificate(tmp_path / "chain", tmp_path / "key")
    assert handshake(certificate.context, chain, ["h2"]) == "h2"
    other, _ = self_signed_pem(["picker.test"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(certificate.context, other, ["h2"])


def test_files_that_are_no_certificate_are_refused(tmp_path: Path) -> None:
    (tmp_path / "chain").write_text("nothing")
    (tmp_path / "key").write_text("nothing")
    with pytest.raises(OSError, match="PEM"):
        ServerCertificate(tmp_path / "chain", tmp_path / "key")
    with pytest.raises(OSError, match="missing"):
        ServerCertificate(tmp_path / "missing", tmp_path / "key")

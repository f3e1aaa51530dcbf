"""TLS for the gRPC server: a context that offers `h2`, self-signed or from files that may be renewed meanwhile."""

import datetime
import os
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SELF_SIGNED_DAYS: Final = 3650


class ServerCertificate:
    """A certificate chain and its key, in PEM files. Owner: the composition root, which calls `reload_if_changed`."""

    def __init__(
        self,
        chain: Path,
        key: Path,
        client_ca: Path | None = None,
        lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    ) -> None:
        """With `client_ca`, clients must show a certificate it has signed. Raises OSError (`ssl.SSLError` included)
        when the files cannot be used."""
        self._chain = chain
        self._key = key
        self._loaded = self._version()
        self.context = _context(lowest)
        self.context.load_cert_chain(chain, key)
        if client_ca is not None:
            self.context.load_verify_locations(client_ca)
            self.context.verify_mode = ssl.CERT_REQUIRED

    def reload_if_changed(self) -> bool:
        """Use renewed files for new connections; true when there were any. Raises OSError when they cannot be used,
        and the old ones stay in use."""
        version = self._version()
        if version == self._loaded:
            return False
        _context().load_cert_chain(self._chain, self._key)
        self.context.load_cert_chain(self._chain, self._key)
        self._loaded = version
        return True

    def _version(self) -> tuple[tuple[int, int, int], ...]:
        """Changes with the files, also when they are replaced through a link."""
        stats = (os.stat(path) for path in (self._chain, self._key))
        return tuple((stat.st_mtime_ns, stat.st_ino, stat.st_size) for stat in stats)


def self_signed(
    names: Sequence[str] = ("localhost",), lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
) -> ssl.SSLContext:
    """A context with a fresh certificate for `names`; proxies that verify will not accept it."""
    chain, key = self_signed_pem(names)
    context = _context(lowest)
    with tempfile.TemporaryDirectory(prefix="stellwerk-tls-") as directory:
        chain_path = Path(directory, "chain.pem")
        key_path = Path(directory, "key.pem")
        chain_path.write_bytes(chain)
        key_path.write_bytes(key)
        context.load_cert_chain(chain_path, key_path)
    return context


def self_signed_pem(names: Sequence[str]) -> tuple[bytes, bytes]:
    """A fresh certificate for `names` and its key, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stellwerk")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def _context(lowest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = lowest
    context.set_alpn_protocols(["h2"])
    return context

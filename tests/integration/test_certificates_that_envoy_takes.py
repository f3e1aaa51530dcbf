"""A certificate is told to be good exactly if real Envoy takes it: with one that it refuses a listener has none."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from stellwerk.control.envoy.document import typed
from stellwerk.control.gateway.backend import Grants
from stellwerk.control.gateway.certificate import Certificate, resolve
from stellwerk.control.gateway.kinds import SecretRef
from stellwerk.edge.preflight import find_envoy
from tests.kit.gateway_objects import certificate, made, tls_secret

pytestmark = pytest.mark.integration

TLS = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
P256 = ec.generate_private_key(ec.SECP256R1())
FORMS = (Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def envoy_takes(chain: bytes, key: bytes, directory: Path) -> bool:
    parts = {"certificate_chain": chain, "private_key": key}
    inline = {name: {"inline_bytes": base64.b64encode(part).decode()} for name, part in parts.items()}
    context = typed(TLS, common_tls_context={"tls_certificates": [inline]})
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    listener = {
        "name": "tls",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [], "transport_socket": socket}],
    }
    path = directory / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    command = [str(find_envoy()), "--mode", "validate", "--disable-hot-restart", "-l", "off", "-c", str(path)]
    return subprocess.run(command, capture_output=True, timeout=50).returncode == 0


def pairs() -> dict[str, Any]:
    keys: dict[str, Any] = {
        "P-256": P256,
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "P-521": ec.generate_private_key(ec.SECP521R1()),
        "P-224": ec.generate_private_key(ec.SECP224R1()),
        "secp256k1": ec.generate_private_key(ec.SECP256K1()),
        "brainpool": ec.generate_private_key(ec.BrainpoolP256R1()),
        "RSA 2048": rsa.generate_private_key(65537, 2048),
        "RSA 1024": rsa.generate_private_key(65537, 1024),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
        "DSA": dsa.generate_private_key(2048),
    }
    found = {name: certificate("a.example", key) for name, key in keys.items()}
    for name, digital_signature in (("signs", True), ("does not sign", False)):
        for kind in ("P-256", "RSA 2048"):
            usage = x509.KeyUsage(digital_signature, False, not digital_signature, *[False] * 6)
            found[f"{kind} {name}"] = certificate("a.example", keys[kind], usage)
    chain, key = found["RSA 2048"]
    return found | {
        "old form of the key": (chain, keys["RSA 2048"].private_bytes(*FORMS)),
        "another key": (chain, found["P-256"][1]),
        "a chain with what cannot serve": (chain + found["RSA 1024"][0] + found["secp256k1"][0], key),
        "other line ends": (chain.replace(b"\n", b"\r\n"), key.replace(b"\n", b"\r\n")),
        "words around": (b"hello\n" + chain + b"hello\n", key),
        "the key with it": (key + chain, chain + key),
        "another key first": (chain, found["P-256"][1] + key),
        "a broken chain": (chain + b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n", key),
    }


def test_what_is_told_to_be_good_is_what_envoy_takes(tmp_path: Path) -> None:
    for name, (chain, key) in pairs().items():
        world = made(tls_secret("cert", chain, key))
        is_good = isinstance(resolve(SecretRef("cert"), "default", world, Grants(world)), Certificate)
        assert is_good is envoy_takes(chain, key, tmp_path), name

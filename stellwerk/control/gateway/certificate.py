"""Certificates of HTTPS listeners: from a reference to a Secret whose certificate and key belong together, and are of a
kind that Envoy takes."""

import base64
import binascii
from typing import TYPE_CHECKING

from msgspec import Struct

from stellwerk.control.gateway.backend import Grants, Unresolved
from stellwerk.control.gateway.kinds import Secret, SecretRef
from stellwerk.control.gateway.world import World

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as Leaf

CERTIFICATE, KEY = "tls.crt", "tls.key"
INVALID = "InvalidCertificateRef"
MIN_RSA_BITS = 2048
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
"""By the name that `cryptography` has for it. Envoy's TLS library (BoringSSL) knows no others."""


class Certificate(Struct, frozen=True):
    """A chain and its key in PEM. Never printed."""

    secret: str
    """`namespace/name` of the Secret."""
    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Certificate({self.secret})"


class Spoilt(Unresolved, frozen=True):
    """A Secret that the Gateway may use, and that holds no certificate to serve with, or is not there."""

    secret: str
    """`namespace/name`."""


def resolve(reference: SecretRef, namespace: str, world: World, grants: Grants) -> Certificate | Unresolved:
    """What a Gateway in `namespace` refers to."""
    if (reference.group, reference.kind) != ("", "Secret"):
        message = f"{reference.kind} of group {reference.group or 'core'} is no certificate: use a Secret"
        return Unresolved(INVALID, message)
    place = reference.namespace or namespace
    name = f"{place}/{reference.name}"
    if not grants.allow("Gateway", namespace, "", "Secret", place, reference.name):
        message = f"no ReferenceGrant in {place} lets Gateways of {namespace} use Secret {name}"
        return Unresolved("RefNotPermitted", message)
    secret = world.secrets.get(name)
    if secret is None:
        return Spoilt(INVALID, f"there is no Secret {name}", name)
    return _read(secret)


def _read(secret: Secret) -> Certificate | Unresolved:
    parts = []
    for key in (CERTIFICATE, KEY):
        try:
            parts.append(base64.b64decode(secret.data.get(key, ""), validate=True))
        except binascii.Error:
            return _malformed(secret, f"{key} is not base64")
        if not parts[-1]:
            return _malformed(secret, f"it has no {key}")
    problem = _problem(*parts)
    return _malformed(secret, problem) if problem else Certificate(secret.full_name, *parts)


def _problem(chain: bytes, key: bytes) -> str | None:
    """Why Envoy would not take the two; None if it will. Says nothing of what is in the key."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        public = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return f"{CERTIFICATE} is no certificate in PEM, or of a kind that nobody knows"
    try:
        own = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{KEY} is no unencrypted private key in PEM"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != own.public_bytes(*form):
        return f"{KEY} is not the key of {CERTIFICATE}"
    return _unsupported(leaf)


def _unsupported(leaf: "Leaf") -> str | None:
    """Why Envoy would not serve with such a key. Whether a certificate has expired is for clients to say."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = leaf.public_key()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    if isinstance(key, rsa.RSAPublicKey):
        is_long = key.key_size >= MIN_RSA_BITS
        return None if is_long else f"its RSA key has {key.key_size} bits: use {MIN_RSA_BITS} or more"
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return f"its key is of a kind that Envoy does not serve with: use RSA, ECDSA on {_curves()}, or Ed25519"
    if key.curve.name not in CURVES:
        return f"its key is on the curve {key.curve.name}: use {_curves()}"
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension) as error:
        return f"its extensions cannot be read: {error}"
    return None if usage.digital_signature else "its key usage is not for digital signatures: leave it out, or add that"


def _curves() -> str:
    return " or ".join(CURVES.values())


def _malformed(secret: Secret, problem: str) -> Spoilt:
    return Spoilt(INVALID, f"Secret {secret.full_name} cannot be served: {problem}", secret.full_name)

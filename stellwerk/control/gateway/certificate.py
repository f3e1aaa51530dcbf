"""Certificates of HTTPS listeners: from a reference to a Secret whose certificate and key belong together."""

import base64
import binascii

from msgspec import Struct

from stellwerk.control.gateway.backend import Grants, Unresolved
from stellwerk.control.gateway.kinds import Secret, SecretRef
from stellwerk.control.gateway.world import World

CERTIFICATE, KEY = "tls.crt", "tls.key"


class Certificate(Struct, frozen=True):
    """A chain and its key in PEM. Never printed."""

    secret: str
    """`namespace/name` of the Secret."""
    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"Certificate({self.secret})"


def resolve(reference: SecretRef, namespace: str, world: World, grants: Grants) -> Certificate | Unresolved:
    """What a Gateway in `namespace` refers to."""
    if (reference.group, reference.kind) != ("", "Secret"):
        message = f"{reference.kind} of group {reference.group or 'core'} is no certificate: use a Secret"
        return Unresolved("InvalidCertificateRef", message)
    place = reference.namespace or namespace
    name = f"{place}/{reference.name}"
    if not grants.allow("Gateway", namespace, "", "Secret", place, reference.name):
        message = f"no ReferenceGrant in {place} lets Gateways of {namespace} use Secret {name}"
        return Unresolved("RefNotPermitted", message)
    secret = world.secrets.get(name)
    if secret is None:
        return Unresolved("InvalidCertificateRef", f"there is no Secret {name}")
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
    problem = _mismatch(*parts)
    return _malformed(secret, problem) if problem else Certificate(secret.full_name, *parts)


def _mismatch(chain: bytes, key: bytes) -> str | None:
    """Why Envoy would not take the two; None if it will. Says nothing of what is in the key."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(chain)[0].public_key()
    except (ValueError, UnsupportedAlgorithm):
        return f"{CERTIFICATE} is no certificate in PEM"
    try:
        own = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return f"{KEY} is no unencrypted private key in PEM"
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return None if leaf.public_bytes(*form) == own.public_bytes(*form) else f"{KEY} is not the key of {CERTIFICATE}"


def _malformed(secret: Secret, problem: str) -> Unresolved:
    return Unresolved("InvalidCertificateRef", f"Secret {secret.full_name} is no certificate: {problem}")

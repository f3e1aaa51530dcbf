"""Objects of the Gateway API and of Kubernetes, as an API server sends them, with defaults."""

import base64
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from stellwerk.control.gateway.world import World, world

CONTROLLER = "stellwerk.dev/gateway-controller"
GROUP = "gateway.networking.k8s.io"
Object = dict[str, Any]


def made(*objects: Object) -> World:
    """The world of `objects`, all of which can be read."""
    found, problems = world(objects)
    assert not problems, problems
    return found


def entity(api_version: str, kind: str, name: str, namespace: str = "default", **more: Any) -> Object:
    """Any object. `created`: seconds of its time of creation; the rest goes to its top level."""
    metadata: Object = {"name": name, "namespace": namespace, "generation": 1}
    created = more.pop("created", 0)
    metadata["creationTimestamp"] = f"2026-01-01T00:00:{created:02}Z"
    for key in ("labels", "annotations"):
        if key in more:
            metadata[key] = more.pop(key)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def gateway_class(name: str = "stellwerk", controller: str = CONTROLLER) -> Object:
    """A class of ours."""
    return entity(f"{GROUP}/v1", "GatewayClass", name, "", spec={"controllerName": controller})


def listener(name: str = "http", port: int = 80, protocol: str = "HTTP", **more: Any) -> Object:
    """A listener that admits routes of its own namespace."""
    return {"name": name, "port": port, "protocol": protocol, **more}


def gateway(*listeners: Object, name: str = "public", class_name: str = "stellwerk", **more: Any) -> Object:
    """A Gateway; without `listeners` one for HTTP on port 80."""
    spec = {"gatewayClassName": class_name, "listeners": list(listeners) or [listener()]}
    return entity(f"{GROUP}/v1", "Gateway", name, spec=spec, **more)


def route(
    name: str,
    *rules: Object,
    hostnames: Sequence[str] = (),
    parents: Sequence[Object] = ({"name": "public"},),
    **more: Any,
) -> Object:
    """An HTTPRoute of Gateway `public`."""
    spec = {"parentRefs": list(parents), "hostnames": list(hostnames), "rules": list(rules)}
    return entity(f"{GROUP}/v1", "HTTPRoute", name, spec=spec, **more)


def rule(*backends: Object, path: str | None = None, **more: Any) -> Object:
    """A rule; `path` is a prefix."""
    matches = [{"path": {"type": "PathPrefix", "value": path}}] if path is not None else []
    return {"matches": matches, "backendRefs": list(backends), **more}


def to_service(name: str, port: int = 80, **more: Any) -> Object:
    """A reference."""
    return {"name": name, "port": port, **more}


def to_pool(name: str, **more: Any) -> Object:
    """A reference."""
    return {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": name, **more}


def service(name: str, port: int = 80, app_protocol: str | None = None, **more: Any) -> Object:
    """A Service with one port, named `main`."""
    entry: Object = {"name": "main", "port": port}
    if app_protocol is not None:
        entry["appProtocol"] = app_protocol
    return entity("v1", "Service", name, spec={"ports": [entry]}, **more)


def endpoint_slice(service_name: str, *ports: int, host: str = "127.0.0.1", ready: bool = True, **more: Any) -> Object:
    """One slice for each of `ports` would be odd, so: one slice with the first port only, unless made by `slices`."""
    (port,) = ports
    return entity(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{service_name}-{port}",
        labels={"kubernetes.io/service-name": service_name},
        addressType="IPv4",
        endpoints=[{"addresses": [host], "conditions": {"ready": ready}}],
        ports=[{"name": "main", "port": port}],
        **more,
    )


def pool(name: str, picker: Object | None = None, **more: Any) -> Object:
    """An InferencePool whose servers have the label `app: NAME`; `picker` is its endpointPickerRef."""
    spec: Object = {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 8000}]}
    if picker is not None:
        spec["endpointPickerRef"] = picker
    spec |= more.pop("spec", {})
    return entity("inference.networking.k8s.io/v1", "InferencePool", name, spec=spec, **more)


def picker_ref(name: str, port: int = 9002, mode: str = "FailClose") -> Object:
    """A reference to a Service with a picker."""
    return {"name": name, "port": {"number": port}, "failureMode": mode}


def grant(namespace: str, source_kind: str, source: str, kind: str, name: str | None = None, group: str = "") -> Object:
    """A ReferenceGrant in `namespace` for objects of Gateway API kind `source_kind` in namespace `source`."""
    to = {"group": group, "kind": kind, **({"name": name} if name is not None else {})}
    spec = {"from": [{"group": GROUP, "kind": source_kind, "namespace": source}], "to": [to]}
    return entity(f"{GROUP}/v1beta1", "ReferenceGrant", f"for-{source}", namespace, spec=spec)


def certificate(
    hostname: str, key: CertificateIssuerPrivateKeyTypes | None = None, *extensions: x509.ExtensionType
) -> tuple[bytes, bytes]:
    """A self-signed certificate and its key, in PEM."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
    )
    for each in extensions:
        builder = builder.add_extension(each, critical=True)
    made = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


def tls_secret(name: str, chain: bytes, key: bytes, **more: Any) -> Object:
    """A Secret of type kubernetes.io/tls."""
    data: Mapping[str, str] = {
        "tls.crt": base64.b64encode(chain).decode(),
        "tls.key": base64.b64encode(key).decode(),
    }
    return entity("v1", "Secret", name, type="kubernetes.io/tls", data=data, **more)

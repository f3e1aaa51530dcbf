"""References: may they be followed, and what stands at their end - addresses of a Service, a pool and its picker.

What cannot be resolved is a value with the reason that the object's status tells.
"""

from collections import defaultdict
from collections.abc import Iterator
from enum import Enum

from msgspec import Struct

from stellwerk.control.address import is_reachable, literal
from stellwerk.control.fields import POOL_GROUP
from stellwerk.control.gateway.kinds import (
    GATEWAY_GROUP,
    EndpointSlice,
    InferencePool,
    ObjectRef,
    Service,
    ServicePort,
    SliceEndpoint,
)
from stellwerk.control.gateway.world import World
from stellwerk.model.catalog import FailureMode
from stellwerk.model.members import Address, Members

SERVICE_NAME = "kubernetes.io/service-name"
BODY_MODE = "stellwerk.dev/picker-body-mode"
"""Annotation of an InferencePool: how its own picker is shown bodies. A value of `BodyMode`.

Without it, what the parameters of the Gateway or its class say.
"""
H2C = "kubernetes.io/h2c"
_UNSUPPORTED_PROTOCOLS = ("https", "kubernetes.io/wss", "tls")


class BodyMode(Enum):
    """How a foreign picker is shown request and response bodies."""

    DUPLEX = "FullDuplexStreamed"
    """As the endpoint picker protocol prescribes."""
    STREAMED = "Streamed"
    """For pickers that answer pieces of a body before the headers, like upstream's lightweight one; they are shown the
    request body only."""


class Unresolved(Struct, frozen=True):
    """A reference that leads nowhere. `reason` is that of the condition ResolvedRefs."""

    reason: str
    message: str


class Target(Struct, frozen=True):
    """A port of a Service, and who serves it now."""

    service: str
    port: int
    is_http2: bool
    members: Members

    @property
    def cluster(self) -> str:
        """The name of its cluster in Envoy."""
        return f"service/{self.service}:{self.port}"


class ForeignPicker(Struct, frozen=True):
    """The endpoint picker that an InferencePool names. `is_secure`: it speaks TLS, with whatever certificate."""

    service: str
    port: int
    is_secure: bool
    mode: BodyMode
    members: Members

    @property
    def cluster(self) -> str:
        """The name of its cluster in Envoy."""
        return f"picker/{self.service}:{self.port}"

    @property
    def authority(self) -> str:
        """Whom Envoy calls: the Service, as the cluster's DNS names it."""
        namespace, _, name = self.service.partition("/")
        return f"{name}.{namespace}.svc:{self.port}"


class PoolTarget(Struct, frozen=True):
    """A pool. `picker` None: the gateway's own picker serves it; Unresolved: the one it names is not there."""

    pool: str
    picker: ForeignPicker | Unresolved | None
    is_open: bool
    """FailOpen: while its picker is silent, any endpoint serves."""

    @property
    def cluster(self) -> str:
        """The name of its cluster in Envoy: that of the pool."""
        return self.pool

    @property
    def is_missing(self) -> bool:
        """Whether nobody can be asked for an endpoint, and none may be taken unasked."""
        return isinstance(self.picker, Unresolved) and not self.is_open


class Grants:
    """Who may refer to what across namespaces: the ReferenceGrants of a world."""

    def __init__(self, world: World) -> None:
        self._known = {
            (source.group, source.kind, source.namespace, to.group, to.kind, grant.metadata.namespace, to.name)
            for grant in world.grants.values()
            for source in grant.spec.from_
            for to in grant.spec.to
        }

    def allow(self, kind: str, namespace: str, group: str, target_kind: str, target_namespace: str, name: str) -> bool:
        """Whether objects of the Gateway API `kind` in `namespace` may refer to the object named by the rest."""
        if namespace == target_namespace:
            return True
        key = (GATEWAY_GROUP, kind, namespace, group, target_kind, target_namespace)
        return (*key, name) in self._known or (*key, None) in self._known


class Backends:
    """Resolves references of routes in one world."""

    def __init__(self, world: World, grants: Grants, body_mode: BodyMode = BodyMode.DUPLEX) -> None:
        self._world = world
        self._grants = grants
        self._body_mode = body_mode
        self._known: dict[tuple[str, str], Members] = {}
        """By Service and name of the port."""
        self._slices: defaultdict[str, list[EndpointSlice]] = defaultdict(list)
        for each in world.slices.values():
            service = each.metadata.labels.get(SERVICE_NAME)
            if service is not None:
                self._slices[f"{each.metadata.namespace}/{service}"].append(each)

    def resolve(self, reference: ObjectRef, namespace: str) -> Target | PoolTarget | Unresolved:
        """What an HTTPRoute in `namespace` refers to."""
        kind = (reference.group, reference.kind)
        if kind not in (("", "Service"), (POOL_GROUP, "InferencePool")):
            message = (
                f"{reference.kind} of group {reference.group or 'core'} is no backend: use Service or InferencePool"
            )
            return Unresolved("InvalidKind", message)
        place = reference.namespace or namespace
        name = f"{place}/{reference.name}"
        if not self._grants.allow("HTTPRoute", namespace, *kind, place, reference.name):
            message = (
                f"no ReferenceGrant in namespace {place} lets HTTPRoutes of {namespace} use {reference.kind} {name}"
            )
            return Unresolved("RefNotPermitted", message)
        return self._service(reference, name) if reference.kind == "Service" else self._pool(name)

    def _service(self, reference: ObjectRef, name: str) -> Target | Unresolved:
        service = self._world.services.get(name)
        if service is None:
            return Unresolved("BackendNotFound", f"there is no Service {name}")
        if service.spec.type == "ExternalName":
            return Unresolved("UnsupportedProtocol", f"Service {name} is of type ExternalName, which is not supported")
        if reference.port is None:
            return Unresolved("BackendNotFound", f"the reference to Service {name} names no port")
        port = _port(service, reference.port)
        if port is None:
            return Unresolved("BackendNotFound", f"Service {name} has no TCP port {reference.port}")
        if port.app_protocol in _UNSUPPORTED_PROTOCOLS:
            message = f"port {port.port} of Service {name} speaks {port.app_protocol}, which is not supported"
            return Unresolved("UnsupportedProtocol", message)
        return Target(name, port.port, port.app_protocol == H2C, self._members(name, port))

    def _pool(self, name: str) -> PoolTarget | Unresolved:
        pool = self._world.pools.get(name)
        return Unresolved("BackendNotFound", f"there is no InferencePool {name}") if pool is None else self.pool(pool)

    def pool(self, pool: InferencePool) -> PoolTarget:
        """A pool and its picker."""
        reference = pool.spec.endpoint_picker_ref
        if reference is None:
            return PoolTarget(pool.full_name, None, is_open=False)
        is_open = reference.failure_mode is FailureMode.OPEN
        return PoolTarget(pool.full_name, self._picker(pool), is_open)

    def _picker(self, pool: InferencePool) -> ForeignPicker | Unresolved:
        reference = pool.spec.endpoint_picker_ref
        assert reference is not None
        if (reference.group, reference.kind) != ("", "Service"):
            group = reference.group or "core"
            return Unresolved("InvalidExtensionRef", f"{reference.kind} of group {group} is no picker: use a Service")
        name = f"{pool.metadata.namespace}/{reference.name}"
        service = self._world.services.get(name)
        if service is None or service.spec.type == "ExternalName":
            what = "there is no Service" if service is None else "a picker cannot be of type ExternalName: Service"
            return Unresolved("InvalidExtensionRef", f"{what} {name}")
        number = reference.port.number if reference.port is not None else 0
        port = _port(service, number)
        if port is None:
            return Unresolved("InvalidExtensionRef", f"Service {name} has no TCP port {number}")
        mode = body_mode(pool, self._body_mode)
        if isinstance(mode, Unresolved):
            return mode
        return ForeignPicker(name, port.port, port.app_protocol != H2C, mode, self._members(name, port))

    def _members(self, service: str, port: ServicePort) -> Members:
        """Who serves this port: ready Pods, and those that are being deleted and still serve (KEP-1672)."""
        key = (service, port.name)
        if key not in self._known:
            ready, leaving = set[Address](), set[Address]()
            for each, number in self._endpoints(service, port.name):
                hosts = [host for text in each.addresses[:1] if (host := literal(text)) and is_reachable(host)]
                found = ready if each.conditions.ready is not False else leaving
                found |= {(host, number) for host in hosts}
            self._known[key] = Members(tuple(sorted(ready)), tuple(sorted(leaving - ready)))
        return self._known[key]

    def _endpoints(self, service: str, port: str) -> Iterator[tuple[SliceEndpoint, int]]:
        """Those that may get something, with the number that the port has there."""
        for each in self._slices.get(service, ()):
            numbers = [one.port for one in each.ports or () if (one.name or "") == port and one.port is not None]
            for endpoint in each.endpoints or ():
                if endpoint.conditions.ready is not False or endpoint.conditions.serving:
                    yield from ((endpoint, number) for number in numbers)


def body_mode(pool: InferencePool, otherwise: BodyMode = BodyMode.DUPLEX) -> BodyMode | Unresolved:
    """How the pool's own picker is shown bodies; `otherwise` where the pool does not say."""
    value = pool.metadata.annotations.get(BODY_MODE, otherwise.value)
    try:
        return BodyMode(value)
    except ValueError:
        allowed = " or ".join(mode.value for mode in BodyMode)
        return Unresolved("InvalidExtensionRef", f'annotation {BODY_MODE} is "{value}": use {allowed}')


def _port(service: Service, number: int) -> ServicePort | None:
    """A number may stand for a port of UDP as well, which no HTTP comes to."""
    return next((port for port in service.spec.ports if port.port == number and port.protocol == "TCP"), None)

"""The objects, with only the fields that matter here. The API server has validated them; unknown fields are ignored.

Field names and defaults: gateway-api v1.6, apis/v1; Kubernetes core/v1 and discovery/v1.
"""

from typing import Any

from msgspec import Struct, field

from stellwerk.control.kinds import PoolSpec

GATEWAY_GROUP = "gateway.networking.k8s.io"


class Trimmed(Struct, frozen=True, rename="camel"):
    """Any part of an object."""


class Metadata(Trimmed, frozen=True):
    """What every object has."""

    name: str
    namespace: str = ""
    generation: int = 0
    uid: str = ""
    creation_timestamp: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


class Item(Trimmed, frozen=True, kw_only=True):
    """An object."""

    metadata: Metadata

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class Requirement(Trimmed, frozen=True):
    """One of a label selector's expressions."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class LabelSelector(Trimmed, frozen=True):
    """All of it must hold; an empty one selects everything."""

    match_labels: dict[str, str] = field(default_factory=dict)
    match_expressions: tuple[Requirement, ...] = ()

    def selects(self, labels: dict[str, str]) -> bool:
        """Whether an object with `labels` is meant. An operator that is not known selects nothing."""
        if any(labels.get(key) != value for key, value in self.match_labels.items()):
            return False
        return all(_holds(each, labels) for each in self.match_expressions)


def _holds(requirement: Requirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False


class Namespace(Item, frozen=True, kw_only=True):
    """Its labels decide which routes a Gateway admits."""


class ParametersRef(Trimmed, frozen=True):
    """An object with parameters of a class or Gateway."""

    group: str
    kind: str
    name: str
    namespace: str | None = None


class GatewayClassSpec(Trimmed, frozen=True):
    """Who is responsible for Gateways of this class."""

    controller_name: str
    parameters_ref: ParametersRef | None = None


class GatewayClass(Item, frozen=True, kw_only=True):
    """Cluster-wide."""

    spec: GatewayClassSpec


class SecretRef(Trimmed, frozen=True):
    """A certificate."""

    name: str
    group: str = ""
    kind: str = "Secret"
    namespace: str | None = None


class ListenerTls(Trimmed, frozen=True):
    """How a listener ends TLS."""

    mode: str = "Terminate"
    certificate_refs: tuple[SecretRef, ...] = ()
    frontend_validation: dict[str, Any] | None = None
    """Of the Gateway API's experimental definitions; later `Gateway.spec.tls.frontend`."""


class RouteNamespaces(Trimmed, frozen=True, rename={"from_": "from", "selector": "selector"}):
    """Which namespaces' routes may attach."""

    from_: str = "Same"
    selector: LabelSelector | None = None


class RouteKind(Trimmed, frozen=True):
    """A kind of route."""

    kind: str
    group: str = GATEWAY_GROUP


class AllowedRoutes(Trimmed, frozen=True):
    """Which routes may attach."""

    namespaces: RouteNamespaces = RouteNamespaces()
    kinds: tuple[RouteKind, ...] = ()


class Listener(Trimmed, frozen=True):
    """A port, and the hostname that is served on it. No hostname: all."""

    name: str
    port: int
    protocol: str
    hostname: str | None = None
    tls: ListenerTls | None = None
    allowed_routes: AllowedRoutes = AllowedRoutes()


class Address(Trimmed, frozen=True):
    """An address that is asked for, or that holds."""

    type: str = "IPAddress"
    value: str | None = None


class Infrastructure(Trimmed, frozen=True):
    """What the Gateway's own objects carry."""

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    parameters_ref: ParametersRef | None = None


class FrontendTls(Trimmed, frozen=True):
    """What clients must show. It is read only to be refused."""

    validation: dict[str, Any] | None = None


class PortTls(Trimmed, frozen=True):
    """The same for the HTTPS listeners of one port, in place of what holds for all."""

    port: int
    tls: FrontendTls = FrontendTls()


class Frontend(Trimmed, frozen=True):
    """Between clients and the Gateway."""

    default: FrontendTls = FrontendTls()
    per_port: tuple[PortTls, ...] = ()

    def of_port(self, port: int) -> FrontendTls:
        """What holds for HTTPS listeners of `port`."""
        return next((each.tls for each in self.per_port if each.port == port), self.default)


class GatewayTls(Trimmed, frozen=True):
    """For all HTTPS listeners of a Gateway."""

    frontend: Frontend = Frontend()


class GatewaySpec(Trimmed, frozen=True):
    """Listeners of a class."""

    gateway_class_name: str
    listeners: tuple[Listener, ...] = ()
    addresses: tuple[Address, ...] = ()
    infrastructure: Infrastructure = Infrastructure()
    tls: GatewayTls = GatewayTls()


class Gateway(Item, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1`."""

    spec: GatewaySpec


class ParentRef(Trimmed, frozen=True, omit_defaults=False):
    """What a route attaches to."""

    name: str
    group: str = GATEWAY_GROUP
    kind: str = "Gateway"
    namespace: str | None = None
    section_name: str | None = None
    port: int | None = None


class PathMatch(Trimmed, frozen=True):
    """Exact, PathPrefix or RegularExpression."""

    type: str = "PathPrefix"
    value: str = "/"


class NameMatch(Trimmed, frozen=True):
    """A header or query parameter: Exact or RegularExpression."""

    name: str
    value: str
    type: str = "Exact"


class RouteMatch(Trimmed, frozen=True):
    """All of it must hold."""

    path: PathMatch = PathMatch()
    headers: tuple[NameMatch, ...] = ()
    query_params: tuple[NameMatch, ...] = ()
    method: str | None = None


class Header(Trimmed, frozen=True):
    """A name and its value."""

    name: str
    value: str


class HeaderFilter(Trimmed, frozen=True):
    """Changes of headers."""

    set: tuple[Header, ...] = ()
    add: tuple[Header, ...] = ()
    remove: tuple[str, ...] = ()


class PathModifier(Trimmed, frozen=True):
    """ReplaceFullPath or ReplacePrefixMatch."""

    type: str
    replace_full_path: str | None = None
    replace_prefix_match: str | None = None


class Redirect(Trimmed, frozen=True):
    """What is not said stays as the request had it."""

    scheme: str | None = None
    hostname: str | None = None
    path: PathModifier | None = None
    port: int | None = None
    status_code: int = 302


class Rewrite(Trimmed, frozen=True):
    """What the backend sees instead."""

    hostname: str | None = None
    path: PathModifier | None = None


class ObjectRef(Trimmed, frozen=True):
    """A backend. Its port does not matter to an InferencePool."""

    name: str
    group: str = ""
    kind: str = "Service"
    namespace: str | None = None
    port: int | None = None


class Fraction(Trimmed, frozen=True):
    """A share."""

    numerator: int
    denominator: int = 100


class Mirror(Trimmed, frozen=True):
    """Where a copy goes, of how many requests."""

    backend_ref: ObjectRef
    percent: int | None = None
    fraction: Fraction | None = None


class Cors(Trimmed, frozen=True):
    """What web pages from other origins may ask for; `*` stands for anything."""

    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool | None = None
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 5
    """Seconds."""


class Filter(Trimmed, frozen=True):
    """One of a rule's or backend's filters; `type` says which field is set."""

    type: str
    request_header_modifier: HeaderFilter | None = None
    response_header_modifier: HeaderFilter | None = None
    request_mirror: Mirror | None = None
    request_redirect: Redirect | None = None
    url_rewrite: Rewrite | None = None
    cors: Cors | None = None


class BackendRef(ObjectRef, frozen=True):
    """A backend, and its share of the traffic (of the sum of weights)."""

    weight: int = 1
    filters: tuple[Filter, ...] = ()


class RuleTimeouts(Trimmed, frozen=True):
    """Durations like `500ms`, `10s`; zero: none."""

    request: str | None = None
    backend_request: str | None = None


class RouteRule(Trimmed, frozen=True):
    """Matches are alternatives."""

    name: str | None = None
    matches: tuple[RouteMatch, ...] = ()
    filters: tuple[Filter, ...] = ()
    backend_refs: tuple[BackendRef, ...] = ()
    timeouts: RuleTimeouts = RuleTimeouts()


class RouteSpec(Trimmed, frozen=True):
    """Where a route attaches, for which hostnames, with which rules."""

    parent_refs: tuple[ParentRef, ...] = ()
    hostnames: tuple[str, ...] = ()
    rules: tuple[RouteRule, ...] = (RouteRule(),)


class HTTPRoute(Item, frozen=True, kw_only=True):
    """`gateway.networking.k8s.io/v1`."""

    spec: RouteSpec = RouteSpec()


class GrantFrom(Trimmed, frozen=True):
    """Who may refer."""

    group: str
    kind: str
    namespace: str


class GrantTo(Trimmed, frozen=True):
    """To what. Without a name: to all of the kind."""

    group: str
    kind: str
    name: str | None = None


class GrantSpec(Trimmed, frozen=True, rename={"from_": "from", "to": "to"}):
    """Any of `from_` may refer to any of `to`."""

    from_: tuple[GrantFrom, ...]
    to: tuple[GrantTo, ...]


class ReferenceGrant(Item, frozen=True, kw_only=True):
    """Lets objects of other namespaces refer to objects of this one."""

    spec: GrantSpec


class ServicePort(Trimmed, frozen=True):
    """A port of a Service; `name` is how its EndpointSlices call it."""

    port: int
    name: str = ""
    app_protocol: str | None = None
    protocol: str = "TCP"


class ServiceSpec(Trimmed, frozen=True):
    """Ports and type."""

    ports: tuple[ServicePort, ...] = ()
    type: str = "ClusterIP"


class Service(Item, frozen=True, kw_only=True):
    """`v1`."""

    spec: ServiceSpec = ServiceSpec()


class SliceConditions(Trimmed, frozen=True):
    """Not said means ready, and serving as it is ready."""

    ready: bool | None = None
    serving: bool | None = None
    """Ready, were it not for its end: a Pod that is being deleted and still answers."""


class SliceEndpoint(Trimmed, frozen=True):
    """One Pod, usually."""

    addresses: tuple[str, ...]
    conditions: SliceConditions = SliceConditions()


class SlicePort(Trimmed, frozen=True):
    """The Pods' port behind a Service's port."""

    port: int | None = None
    name: str | None = None


class EndpointSlice(Item, frozen=True, kw_only=True):
    """`discovery.k8s.io/v1`; the label `kubernetes.io/service-name` says whose."""

    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] | None = ()
    ports: tuple[SlicePort, ...] | None = ()


class Secret(Item, frozen=True, kw_only=True):
    """`v1`, of type kubernetes.io/tls; `data` is base64."""

    type: str = "Opaque"
    data: dict[str, str] = field(default_factory=dict)


class InferencePool(Item, frozen=True, kw_only=True):
    """`inference.networking.k8s.io/v1`: the same spec that files have."""

    spec: PoolSpec


class ConfigMap(Item, frozen=True, kw_only=True):
    """`v1`: only that it is there matters here (parameters of a Gateway)."""

    data: dict[str, str] = field(default_factory=dict)


KINDS: dict[tuple[str, str], type[Item]] = {
    ("v1", "Namespace"): Namespace,
    ("v1", "Service"): Service,
    ("v1", "Secret"): Secret,
    ("v1", "ConfigMap"): ConfigMap,
    ("discovery.k8s.io/v1", "EndpointSlice"): EndpointSlice,
    (f"{GATEWAY_GROUP}/v1", "GatewayClass"): GatewayClass,
    (f"{GATEWAY_GROUP}/v1", "Gateway"): Gateway,
    (f"{GATEWAY_GROUP}/v1", "HTTPRoute"): HTTPRoute,
    (f"{GATEWAY_GROUP}/v1", "ReferenceGrant"): ReferenceGrant,
    (f"{GATEWAY_GROUP}/v1beta1", "ReferenceGrant"): ReferenceGrant,
    ("inference.networking.k8s.io/v1", "InferencePool"): InferencePool,
}
"""By apiVersion and kind."""

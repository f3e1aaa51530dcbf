"""Listeners of one Gateway: which of them can serve, and which routes each admits."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from stellwerk.control.gateway import certificate
from stellwerk.control.gateway.backend import Grants, Unresolved
from stellwerk.control.gateway.certificate import Certificate, Spoilt
from stellwerk.control.gateway.hostname import ANY
from stellwerk.control.gateway.kinds import GATEWAY_GROUP, Gateway, HTTPRoute, Listener, RouteKind
from stellwerk.control.gateway.world import World
from stellwerk.control.remark import Condition, joined

HTTP_ROUTE = RouteKind("HTTPRoute", GATEWAY_GROUP)
PROTOCOLS = ("HTTP", "HTTPS")


class CheckedListener(Struct, frozen=True):
    """A listener of a Gateway, and what is wrong with it: a condition each, none where all is well."""

    listener: Listener
    namespace: str
    supported: tuple[RouteKind, ...]
    """The kinds of routes that may attach."""
    certificates: tuple[Certificate, ...] = ()
    not_accepted: Condition | None = None
    conflicted: Condition | None = None
    unresolved: Condition | None = None

    @property
    def hostname(self) -> str:
        """A pattern; `*` where the listener serves every name."""
        return self.listener.hostname or ANY

    @property
    def can_serve(self) -> bool:
        """Whether Envoy is to listen for it. A listener with one good certificate of two serves."""
        if self.not_accepted is not None or self.conflicted is not None or not self.supported:
            return False
        return self.listener.protocol != "HTTPS" or bool(self.certificates)

    def admits(self, route: HTTPRoute, namespaces: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether a route may attach, by its kind and namespace. `namespaces`: labels by name."""
        if HTTP_ROUTE not in self.supported:
            return False
        allowed = self.listener.allowed_routes.namespaces
        place = route.metadata.namespace
        match allowed.from_:
            case "All":
                return True
            case "Same":
                return place == self.namespace
            case "Selector":
                labels = {"kubernetes.io/metadata.name": place, **namespaces.get(place, {})}
                return allowed.selector is not None and allowed.selector.selects(labels)
        return False


class Secrets(Struct, frozen=True):
    """What certificates are read from. `before`: those that were good, by Secret."""

    world: World
    grants: Grants
    before: Mapping[str, Certificate]


def check(gateway: Gateway, secrets: Secrets) -> tuple[CheckedListener, ...]:
    """All listeners, in the order of the object."""
    conflicts = _conflicts(gateway.spec.listeners)
    return tuple(_check(gateway, each, conflicts.get(each.name), secrets) for each in gateway.spec.listeners)


def _check(gateway: Gateway, listener: Listener, conflict: Condition | None, secrets: Secrets) -> CheckedListener:
    checked = CheckedListener(listener, gateway.metadata.namespace, (), conflicted=conflict)
    if listener.protocol not in PROTOCOLS:
        message = f'protocol "{listener.protocol}" is not supported: use {" or ".join(PROTOCOLS)}'
        return replace(checked, not_accepted=_refused("UnsupportedProtocol", message))
    asked = listener.allowed_routes.kinds or (HTTP_ROUTE,)
    supported = tuple(kind for kind in asked if kind == HTTP_ROUTE)[:1]
    checked = replace(checked, supported=supported)
    strangers = sorted({kind.kind for kind in asked if kind != HTTP_ROUTE})
    if strangers:
        message = f"routes of kind {', '.join(strangers)} are not supported: use HTTPRoute"
        checked = replace(checked, unresolved=_unresolved("InvalidRouteKinds", message))
    if listener.protocol != "HTTPS":
        return checked
    if _validates_clients(gateway, listener):
        message = (
            f"port {listener.port} is to take requests with a client certificate only, which is not supported, and "
            "without that would let anybody in: remove the validation from spec.tls.frontend"
        )
        return replace(checked, not_accepted=_refused("UnsupportedValue", message))
    return _with_certificates(checked, secrets)


def _validates_clients(gateway: Gateway, listener: Listener) -> bool:
    if listener.tls is not None and listener.tls.frontend_validation is not None:
        return True
    return gateway.spec.tls.frontend.of_port(listener.port).validation is not None


def _with_certificates(checked: CheckedListener, secrets: Secrets) -> CheckedListener:
    """A Secret that is spoilt or gone is told of, and what it held before still serves: a mistake there must not close
    the port."""
    tls = checked.listener.tls
    if tls is not None and tls.mode != "Terminate":
        message = f"TLS mode {tls.mode} is not supported for HTTPS: use Terminate"
        return replace(checked, not_accepted=_refused("UnsupportedValue", message))
    references = tls.certificate_refs if tls is not None else ()
    found = [certificate.resolve(each, checked.namespace, secrets.world, secrets.grants) for each in references]
    problems = [each for each in found if isinstance(each, Unresolved)]
    if not found:
        problems = [Unresolved("InvalidCertificateRef", "tls.certificateRefs names no Secret")]
    kept = (secrets.before.get(each.secret) if isinstance(each, Spoilt) else each for each in found)
    good = tuple(each for each in kept if isinstance(each, Certificate))
    if problems:
        message = joined(each.message for each in problems)
        checked = replace(checked, unresolved=_unresolved(problems[0].reason, message))
    return replace(checked, certificates=good)


def _conflicts(listeners: Sequence[Listener]) -> dict[str, Condition]:
    """Listeners of one port must have one protocol and different hostnames. All that are in conflict are out: which one
    was meant is not ours to say."""
    known = [each for each in listeners if each.protocol in PROTOCOLS]
    protocols = {port: {each.protocol for each in known if each.port == port} for port in {each.port for each in known}}
    names = Counter((each.port, each.hostname or ANY) for each in known)
    found = {}
    for each in known:
        if len(protocols[each.port]) > 1:
            message = f"port {each.port} has listeners with the protocols {' and '.join(sorted(protocols[each.port]))}"
            found[each.name] = Condition("Conflicted", "True", "ProtocolConflict", message)
        elif names[each.port, each.hostname or ANY] > 1:
            message = f'port {each.port} has several listeners for hostname "{each.hostname or ANY}"'
            found[each.name] = Condition("Conflicted", "True", "HostnameConflict", message)
    return found


def _refused(reason: str, message: str) -> Condition:
    return Condition("Accepted", "False", reason, message)


def _unresolved(reason: str, message: str) -> Condition:
    return Condition("ResolvedRefs", "False", reason, message)

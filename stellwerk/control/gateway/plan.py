"""What all objects amount to: for each Gateway its listeners, hosts and routes in order, and what every object is told.

Pure and level-based. The controller reads the statuses, a gateway pod its own Gateway's part; both come from here, so
what is said is what is done.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct, field

from stellwerk.control.gateway import listener as listeners
from stellwerk.control.gateway.backend import Backends, BodyMode, ForeignPicker, Grants, PoolTarget, Target
from stellwerk.control.gateway.certificate import Certificate
from stellwerk.control.gateway.hostname import common, covers, most_specific
from stellwerk.control.gateway.kinds import GATEWAY_GROUP, Gateway, GatewayClass, HTTPRoute, ParentRef
from stellwerk.control.gateway.listener import CheckedListener, Secrets
from stellwerk.control.gateway.rule import Entry, Rule, in_order, rules
from stellwerk.control.gateway.world import World
from stellwerk.control.remark import Condition, joined


class Host(Struct, frozen=True):
    """A hostname (or pattern) and its routes; the first that fits decides, and without one the answer is 404."""

    domain: str
    entries: tuple[Entry, ...]


class PlannedListener(Struct, frozen=True):
    """A listener and what it serves; no hosts while it cannot serve."""

    checked: CheckedListener
    hosts: tuple[Host, ...]
    attached: int
    """Routes that attach, whether or not the listener can serve."""

    @property
    def name(self) -> str:
        """Unique in the Gateway."""
        return self.checked.listener.name


class GatewayPlan(Struct, frozen=True):
    """One Gateway."""

    gateway: Gateway
    listeners: tuple[PlannedListener, ...]

    @property
    def name(self) -> str:
        """`namespace/name`."""
        return self.gateway.full_name

    @property
    def serving(self) -> tuple[PlannedListener, ...]:
        """Those that Envoy is to have."""
        return tuple(each for each in self.listeners if each.checked.can_serve)

    @property
    def targets(self) -> tuple[Target | PoolTarget, ...]:
        """Every backend that requests may go to, each once, by the name of its cluster."""
        found = {each.cluster: each for rule in self._rules() for each in rule.targets}
        return tuple(found[name] for name in sorted(found))

    @property
    def pools(self) -> frozenset[str]:
        """Full names of the pools that requests may go to."""
        return frozenset(each.pool for each in self.targets if isinstance(each, PoolTarget))

    @property
    def own_pools(self) -> frozenset[str]:
        """Those that the gateway's own picker serves."""
        return frozenset(each.pool for each in self.targets if isinstance(each, PoolTarget) and each.picker is None)

    @property
    def pickers(self) -> tuple[ForeignPicker, ...]:
        """Every picker of somebody else, each once."""
        named = (each.picker for each in self.targets if isinstance(each, PoolTarget))
        found = {each.cluster: each for each in named if isinstance(each, ForeignPicker)}
        return tuple(found[name] for name in sorted(found))

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """Of all listeners that serve, each once."""
        found = {each.secret: each for listener in self.serving for each in listener.checked.certificates}
        return tuple(found[name] for name in sorted(found))

    def _rules(self) -> Iterator[Rule]:
        for listener in self.serving:
            for host in listener.hosts:
                for entry in host.entries:
                    yield entry.rule


class Attachment(Struct, frozen=True):
    """What became of one parentRef of a route."""

    route: HTTPRoute
    parent: ParentRef
    gateway: str
    accepted: Condition
    resolved: Condition
    partly: Condition | None
    """The route is accepted, and some of its rules are not: those are answered 500."""
    pools: tuple[PoolTarget, ...]


class Plan(Struct, frozen=True):
    """All Gateways whose class belongs to one controller."""

    classes: tuple[GatewayClass, ...] = ()
    gateways: Mapping[str, GatewayPlan] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


def plan(
    world: World,
    controller: str,
    body_mode: BodyMode = BodyMode.DUPLEX,
    before: Iterable[Certificate] = (),
) -> Plan:
    """The plan of `world` for the controller of that name (`spec.controllerName` of its classes).

    `body_mode` is that of foreign pickers whose pool names none. `before`: certificates of the last plan; they serve on
    where their Secret is spoilt. Whoever has none (the controller, a process that has just begun) plans without.
    """
    classes = tuple(each for each in world.classes.values() if each.spec.controller_name == controller)
    names = {each.metadata.name for each in classes}
    gateways = {name: each for name, each in world.gateways.items() if each.spec.gateway_class_name in names}
    return _Planning(world, gateways, body_mode, before).plan(classes)


class _Planning:
    """One run: routes are read once, whatever they attach to."""

    def __init__(
        self, world: World, gateways: Mapping[str, Gateway], body_mode: BodyMode, before: Iterable[Certificate]
    ) -> None:
        self._routes = world.routes
        self._gateways = gateways
        self._labels = {each.metadata.name: each.metadata.labels for each in world.namespaces.values()}
        grants = Grants(world)
        self._backends = Backends(world, grants, body_mode)
        secrets = Secrets(world, grants, {each.secret: each for each in before})
        self._listeners = {name: listeners.check(each, secrets) for name, each in gateways.items()}
        self._attached: dict[tuple[str, str], dict[str, tuple[HTTPRoute, tuple[str, ...]]]] = {}
        self._rules: dict[str, tuple[Rule, ...]] = {}

    def plan(self, classes: tuple[GatewayClass, ...]) -> Plan:
        attachments = tuple(found for route in self._routes.values() for found in self._attach(route))
        gateways = {name: GatewayPlan(each, tuple(self._planned(name))) for name, each in self._gateways.items()}
        return Plan(classes, gateways, attachments)

    def _attach(self, route: HTTPRoute) -> Iterator[Attachment]:
        for parent in route.spec.parent_refs:
            name = f"{parent.namespace or route.metadata.namespace}/{parent.name}"
            if (parent.group, parent.kind) == (GATEWAY_GROUP, "Gateway") and name in self._gateways:
                if route.full_name not in self._rules:
                    self._rules[route.full_name] = rules(route, self._backends)
                yield self._attachment(route, parent, name)

    def _attachment(self, route: HTTPRoute, parent: ParentRef, gateway: str) -> Attachment:
        found = self._rules[route.full_name]
        broken = [
            f"{_where(route, index)}: {rule.problem}" for index, rule in enumerate(found) if rule.problem is not None
        ]
        partly = None
        if broken and len(broken) == len(found):
            accepted = _refused("UnsupportedValue", joined(broken))
        else:
            accepted = self._place(route, parent, gateway)
            if broken and accepted.status == "True":
                # The Gateway API wants these words first.
                message = f"Dropped Rule{'s' if len(broken) > 1 else ''} {joined(broken)}"
                partly = Condition("PartiallyInvalid", "True", "UnsupportedValue", message)
        unresolved = [each for rule in found for each in rule.unresolved]
        resolved = Condition("ResolvedRefs", "True", "ResolvedRefs", "")
        if unresolved:
            message = joined(each.message for each in unresolved)
            resolved = Condition("ResolvedRefs", "False", unresolved[0].reason, message)
        return Attachment(route, parent, gateway, accepted, resolved, partly, _pools(found))

    def _place(self, route: HTTPRoute, parent: ParentRef, gateway: str) -> Condition:
        """Attach to every listener that is meant and willing; why to none."""
        meant = [
            each
            for each in self._listeners[gateway]
            if parent.section_name in (None, each.listener.name) and parent.port in (None, each.listener.port)
        ]
        if not meant:
            which = " and ".join(
                f"{key} {value}"
                for key, value in (("sectionName", parent.section_name), ("port", parent.port))
                if value is not None
            )
            return _refused("NoMatchingParent", f"Gateway {gateway} has no listener{' with ' if which else ''}{which}")
        willing = [each for each in meant if each.admits(route, self._labels)]
        if not willing:
            message = f"no listener of Gateway {gateway} admits HTTPRoutes from namespace {route.metadata.namespace}"
            return _refused("NotAllowedByListeners", message)
        fitting = [(each, names) for each in willing if (names := _hostnames(route, each.hostname))]
        if not fitting:
            asked = ", ".join(route.spec.hostnames)
            return _refused("NoMatchingListenerHostname", f"no listener of Gateway {gateway} serves {asked}")
        for each, names in fitting:
            self._attached.setdefault((gateway, each.listener.name), {})[route.full_name] = (route, names)
        return Condition("Accepted", "True", "Accepted", "")

    def _planned(self, gateway: str) -> Iterator[PlannedListener]:
        checked = self._listeners[gateway]
        for each in checked:
            attached = self._attached.get((gateway, each.listener.name), {})
            neighbours = [
                other.hostname for other in checked if other.can_serve and other.listener.port == each.listener.port
            ]
            hosts = tuple(self._hosts(each.hostname, attached, neighbours)) if each.can_serve else ()
            yield PlannedListener(each, hosts, len(attached))

    def _hosts(
        self, hostname: str, attached: Mapping[str, tuple[HTTPRoute, tuple[str, ...]]], neighbours: Iterable[str]
    ) -> Iterator[Host]:
        """The listener's own hostname, and those of its routes for which it is the most specific of its port: a name
        that a more specific listener serves is that listener's, even if it has no route for it."""
        domains = {hostname, *(name for _, names in attached.values() for name in names)}
        for domain in sorted(domains):
            if most_specific(neighbours, domain) == hostname:
                reached = [
                    (name, route, self._rules[route.full_name])
                    for route, names in attached.values()
                    for name in names
                    if covers(name, domain)
                ]
                yield Host(domain, in_order(reached))


def _hostnames(route: HTTPRoute, listener: str) -> tuple[str, ...]:
    """By which names a route is reached through a listener; empty: by none."""
    if not route.spec.hostnames:
        return (listener,)
    found = (common(listener, each) for each in route.spec.hostnames)
    return tuple(sorted({each for each in found if each is not None}))


def _pools(found: Iterable[Rule]) -> tuple[PoolTarget, ...]:
    return tuple({each.pool: each for rule in found for each in rule.targets if isinstance(each, PoolTarget)}.values())


def _where(route: HTTPRoute, index: int) -> str:
    """A rule, as whoever wrote it finds it."""
    name = route.spec.rules[index].name
    return f"spec.rules[{index}]" if name is None else f"spec.rules[{index}] ({name})"


def _refused(reason: str, message: str) -> Condition:
    return Condition("Accepted", "False", reason, message)

"""Which ConfigMaps and Secrets the Gateways of a controller name: only these are ever read, each by its name."""

from collections.abc import Iterator, Mapping

from msgspec import Struct

from stellwerk.control.gateway.backend import Grants
from stellwerk.control.gateway.kinds import Gateway, GatewayClass, ParametersRef
from stellwerk.control.gateway.parameters import Check, Malformed, Parameters, parameters, reference_problem, unchecked
from stellwerk.control.gateway.world import World
from stellwerk.control.kube.resource import Key


class References(Struct, frozen=True):
    """By name; whether they exist is another question."""

    config_maps: frozenset[Key] = frozenset()
    secrets: Mapping[str, frozenset[Key]] = {}
    """By full name of the Gateway; across namespaces only where a ReferenceGrant allows it."""

    @property
    def all_secrets(self) -> frozenset[Key]:
        """Of all Gateways."""
        return frozenset().union(*self.secrets.values())


def references(world: World, controller: str) -> References:
    """What the classes of `controller` and their Gateways name."""
    classes = {each.metadata.name: each for each in world.classes.values() if each.spec.controller_name == controller}
    gateways = [each for each in world.gateways.values() if each.spec.gateway_class_name in classes]
    grants = Grants(world)
    maps = [_class_key(each.spec.parameters_ref) for each in classes.values()]
    maps += [_gateway_key(each) for each in gateways]
    secrets = {each.full_name: frozenset(_secrets(each, grants)) for each in gateways}
    return References(frozenset(key for key in maps if key is not None), secrets)


def class_parameters(owner: GatewayClass, world: World, check: Check = unchecked) -> Parameters | Malformed:
    """What a class says, or why that cannot be read."""
    reference = owner.spec.parameters_ref
    if reference is not None and not reference.namespace and reference_problem(_plain(reference)) is None:
        return Malformed("parametersRef needs the namespace of the ConfigMap")
    return _read(reference, _class_key(reference), world, check)


def gateway_parameters(owner: Gateway, world: World, check: Check = unchecked) -> Parameters | Malformed:
    """What a Gateway says for itself. Who may make Gateways in a namespace must not thereby choose what runs with the
    rights that gateway pods have in the whole cluster."""
    reference = owner.spec.infrastructure.parameters_ref
    found = _read(reference, _gateway_key(owner), world, check)
    if isinstance(found, Parameters) and found.image is not None:
        where = f"ConfigMap {owner.metadata.namespace}/{reference.name if reference else ''}"
        return Malformed(f"{where}: image is for the parameters of a GatewayClass only: remove it, or set it there")
    return found


def _read(reference: ParametersRef | None, key: Key | None, world: World, check: Check) -> Parameters | Malformed:
    if reference is None:
        return Parameters()
    problem = reference_problem(_plain(reference))
    if problem is not None or key is None:
        return Malformed(problem or "parametersRef names nothing")
    name = f"{key[0]}/{key[1]}"
    found = world.config_maps.get(name)
    return Malformed(f"there is no ConfigMap {name}") if found is None else parameters(found.data, name, check)


def _plain(reference: ParametersRef) -> dict[str, str]:
    return {"group": reference.group, "kind": reference.kind}


def _class_key(reference: ParametersRef | None) -> Key | None:
    if reference is None or reference_problem(_plain(reference)) is not None or not reference.namespace:
        return None
    return reference.namespace, reference.name


def _gateway_key(owner: Gateway) -> Key | None:
    reference = owner.spec.infrastructure.parameters_ref
    if reference is None or reference_problem(_plain(reference)) is not None:
        return None
    return owner.metadata.namespace, reference.name


def _secrets(owner: Gateway, grants: Grants) -> Iterator[Key]:
    own = owner.metadata.namespace
    for listener in owner.spec.listeners:
        for reference in listener.tls.certificate_refs if listener.tls is not None else ():
            if (reference.group, reference.kind) != ("", "Secret"):
                continue
            place = reference.namespace or own
            if grants.allow("Gateway", own, "", "Secret", place, reference.name):
                yield place, reference.name

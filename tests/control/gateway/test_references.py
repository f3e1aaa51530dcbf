"""Which ConfigMaps and Secrets are read."""

from typing import Any

from stellwerk.control.gateway.parameters import Malformed, Parameters
from stellwerk.control.gateway.references import class_parameters, gateway_parameters, references
from stellwerk.control.gateway.world import World, world
from tests.kit.controller_objects import CONTROLLER, config_map, gateway, gateway_class, listener, reference_grant

REFERENCE = {"group": "", "kind": "ConfigMap", "name": "parameters"}


def of(*objects: dict[str, Any]) -> World:
    found, problems = world(objects)
    assert not problems
    return found


def https(*secrets: dict[str, Any]) -> dict[str, Any]:
    return listener("https", 443, "HTTPS", tls={"certificateRefs": list(secrets)})


def test_secrets_of_other_namespaces_are_read_only_with_a_grant() -> None:
    front = gateway(
        listeners=[https({"name": "own"}, {"name": "far", "namespace": "certs"}, {"name": "x", "kind": "Y"})]
    )
    without = references(of(gateway_class(), front), CONTROLLER)
    assert without.secrets == {"infra/front": {("infra", "own")}}
    granted = references(of(gateway_class(), front, reference_grant("Gateway", "Secret", "certs", "infra")), CONTROLLER)
    assert granted.all_secrets == {("infra", "own"), ("certs", "far")}


def test_what_classes_of_others_name_is_not_read() -> None:
    front = gateway(listeners=[https({"name": "own"})], infrastructure={"parametersRef": REFERENCE})
    found = references(of(gateway_class(controller="example.com/other"), front), CONTROLLER)
    assert not found.config_maps
    assert not found.secrets


def test_parameters_of_class_and_gateway_are_found_where_they_are_named() -> None:
    front = gateway(infrastructure={"parametersRef": REFERENCE})
    ours = gateway_class(parametersRef={**REFERENCE, "namespace": "system"})
    objects = (ours, front, config_map({"replicas": "2"}), config_map({"replicas": "5"}, namespace="system"))
    found = of(*objects)
    assert references(found, CONTROLLER).config_maps == {("infra", "parameters"), ("system", "parameters")}
    assert gateway_parameters(found.gateways["infra/front"], found) == Parameters(replicas=2)
    assert class_parameters(found.classes["/ours"], found) == Parameters(replicas=5)


def test_the_image_is_the_classes_business() -> None:
    front = gateway(infrastructure={"parametersRef": REFERENCE})
    ours = gateway_class(parametersRef={**REFERENCE, "namespace": "infra"})
    found = of(ours, front, config_map({"image": "evil:1"}))
    own = gateway_parameters(found.gateways["infra/front"], found)
    assert isinstance(own, Malformed)
    assert "infra/parameters" in own.message
    assert "GatewayClass only" in own.message
    assert class_parameters(found.classes["/ours"], found) == Parameters(image="evil:1")


def test_parameters_that_cannot_be_had_say_why() -> None:
    front = gateway(infrastructure={"parametersRef": REFERENCE})
    lost = of(gateway_class(parametersRef=REFERENCE), front)
    missing, homeless = (
        gateway_parameters(lost.gateways["infra/front"], lost),
        class_parameters(lost.classes["/ours"], lost),
    )
    assert isinstance(missing, Malformed)
    assert "no ConfigMap infra/parameters" in missing.message
    assert isinstance(homeless, Malformed)
    assert "namespace" in homeless.message
    strange = of(gateway_class(parametersRef={"group": "a.example", "kind": "B", "name": "c"}))
    assert isinstance(class_parameters(strange.classes["/ours"], strange), Malformed)
    assert not references(strange, CONTROLLER).config_maps

"""A world from single changes."""

import random
from collections.abc import Callable
from typing import Any

from stellwerk.control.gateway.assembly import Assembly
from stellwerk.control.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES
from stellwerk.control.gateway.world import world
from stellwerk.control.kube.resource import Resource
from tests.kit.controller_objects import gateway, gateway_class, http_route

MAKERS: list[tuple[Resource, Callable[[str], dict[str, Any]]]] = [
    (GATEWAY_CLASSES, gateway_class),
    (GATEWAYS, gateway),
    (HTTP_ROUTES, http_route),
]


def test_the_world_is_that_of_the_objects_whatever_came_in_which_order() -> None:
    chance = random.Random(7)
    for _ in range(30):
        assembly, held = Assembly(), dict[Any, Any]()
        for _ in range(40):
            resource, make = chance.choice(MAKERS)
            value = make(chance.choice("abc"))
            key = (value["metadata"].get("namespace", ""), value["metadata"]["name"])
            if chance.random() < 0.3:
                held.pop((resource, key), None)
                assembly.put(resource, key, None)
            else:
                held[resource, key] = value
                assembly.put(resource, key, value)
            if chance.random() < 0.3:
                assembly.settle()
        assembly.settle()
        assert assembly.world == world(held.values())[0]


def test_only_what_matters_makes_another_world() -> None:
    assembly = Assembly()
    assembly.put(GATEWAYS, ("infra", "front"), gateway())
    assert assembly.settle()
    before = assembly.world
    assembly.put(GATEWAYS, ("infra", "front"), {**gateway(), "status": {"addresses": []}})
    assert not assembly.settle()
    assert assembly.world is before


def test_an_object_that_cannot_be_read_stays_as_it_was_and_is_told_of() -> None:
    assembly, broken = Assembly(), {**gateway(), "spec": {"listeners": 3}}
    assembly.put(GATEWAYS, ("infra", "front"), broken)
    assembly.settle()
    assert not assembly.world.gateways
    assert assembly.unreadable(GATEWAYS) == {("infra", "front")}
    assert assembly.unreadable(HTTP_ROUTES) == frozenset()
    assembly.put(GATEWAYS, ("infra", "front"), gateway())
    assembly.settle()
    good = assembly.world
    assert not assembly.problems
    assembly.put(GATEWAYS, ("infra", "front"), broken)
    assert not assembly.settle()
    assert assembly.world is good
    assert "Gateway infra/front" in str(assembly.problems[0])
    assembly.put(GATEWAYS, ("infra", "front"), None)
    assembly.settle()
    assert not assembly.world.gateways
    assert not assembly.problems

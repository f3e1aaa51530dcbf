"""The objects that a plan depends on."""

from stellwerk.control.gateway.world import with_lost_classes
from tests.kit.gateway_objects import CONTROLLER, gateway, gateway_class, made


def test_a_gateway_whose_class_is_gone_is_still_its_controllers() -> None:
    known = made(gateway(), gateway(name="other"), gateway(name="third", class_name="never"))
    found = with_lost_classes(known, CONTROLLER, ["default/public"])
    assert [(each.metadata.name, each.spec.controller_name) for each in found.classes.values()] == [
        ("stellwerk", CONTROLLER)
    ]
    assert found.gateways.keys() == {"default/public"}, "others of that class were never ours"


def test_a_class_that_is_there_is_whose_it_says() -> None:
    known = made(gateway(), gateway_class(controller="example.com/other"))
    assert with_lost_classes(known, CONTROLLER, ["default/public"]) is known

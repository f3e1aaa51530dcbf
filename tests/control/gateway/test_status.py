"""What Gateways, listeners, routes and pools are told."""

from stellwerk.control.gateway.deployment import Observed
from stellwerk.control.gateway.plan import Plan, plan
from stellwerk.control.gateway.status import gateway_conditions, listener_statuses, pool_parents, route_parents
from stellwerk.control.remark import Condition
from tests.kit.gateway_objects import (
    CONTROLLER,
    Object,
    gateway,
    gateway_class,
    listener,
    made,
    picker_ref,
    pool,
    route,
    rule,
    to_pool,
    to_service,
)

UP = Observed((("IPAddress", "192.0.2.1"),), ready=1)


def planned(*objects: Object) -> Plan:
    return plan(made(gateway_class(), *objects), CONTROLLER)


def said(conditions: tuple[Condition, ...]) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in conditions}


def told(front: Object, found: Observed = UP, invalid: str | None = None) -> dict[str, tuple[str, str]]:
    return said(gateway_conditions(planned(front).gateways["default/public"], found, invalid))


def test_a_gateway_is_programmed_once_requests_are_answered() -> None:
    assert told(gateway()) == {"Accepted": ("True", "Accepted"), "Programmed": ("True", "Programmed")}
    assert told(gateway(), Observed())["Programmed"] == ("False", "AddressNotAssigned")
    assert told(gateway(), Observed(UP.addresses))["Programmed"] == ("False", "NoResources")
    assert told(gateway(), Observed(UP.addresses, 1, taken="a Service"))["Programmed"] == ("False", "NoResources")


def test_a_gateway_with_one_good_listener_is_accepted_and_says_that_others_are_not() -> None:
    bad = listener("bad", 1111, "INVALID")
    assert told(gateway(listener(), bad))["Accepted"] == ("True", "ListenersNotValid")
    assert told(gateway(bad)) == {"Accepted": ("False", "ListenersNotValid"), "Programmed": ("False", "Invalid")}


def test_parameters_that_are_wrong_are_not_accepted() -> None:
    assert told(gateway(), invalid="there is no ConfigMap")["Accepted"] == ("False", "InvalidParameters")


def listener_said(*listeners: Object) -> list[dict[str, tuple[str, str]]]:
    statuses = listener_statuses(planned(gateway(*listeners)).gateways["default/public"])
    return [said(each.conditions) for each in statuses]


def test_a_good_listener_says_so_in_every_condition() -> None:
    assert listener_said(listener()) == [
        {
            "Accepted": ("True", "Accepted"),
            "Programmed": ("True", "Programmed"),
            "ResolvedRefs": ("True", "ResolvedRefs"),
            "Conflicted": ("False", "NoConflicts"),
        }
    ]


def test_a_listener_of_an_unknown_protocol_supports_no_kinds() -> None:
    (found,) = listener_statuses(planned(gateway(listener(protocol="INVALID"))).gateways["default/public"])
    assert found.supported == ()
    assert said(found.conditions)["Accepted"] == ("False", "UnsupportedProtocol")


def test_kinds_that_are_not_supported_are_left_out() -> None:
    kinds = [{"kind": "InvalidRoute"}, {"kind": "HTTPRoute"}]
    front = gateway(listener(allowedRoutes={"kinds": kinds}))
    (found,) = listener_statuses(planned(front).gateways["default/public"])
    assert [each.kind for each in found.supported] == ["HTTPRoute"]
    assert said(found.conditions)["ResolvedRefs"] == ("False", "InvalidRouteKinds")
    assert said(found.conditions)["Programmed"] == ("True", "Programmed")


def test_both_listeners_in_conflict_say_so() -> None:
    for conditions in listener_said(listener("a"), listener("b")):
        assert conditions["Conflicted"] == ("True", "HostnameConflict")
        assert conditions["Accepted"] == ("False", "HostnameConflict")
        assert conditions["Programmed"] == ("False", "Invalid")


def test_a_route_has_an_entry_for_each_of_its_parents_that_is_ours() -> None:
    parents = [{"name": "public"}, {"name": "public", "sectionName": "nope"}, {"name": "theirs"}]
    entries = route_parents(planned(gateway(), pool("p"), route("a", rule(to_pool("p")), parents=parents)))
    first, second = entries["default/a"]
    assert first.reference == {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
    assert second.reference["sectionName"] == "nope"
    assert said(first.conditions) == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    assert said(second.conditions)["Accepted"] == ("False", "NoMatchingParent")


def test_a_route_that_is_not_accepted_still_says_whether_its_references_are_right() -> None:
    front = gateway(listener(hostname="a.example.com"))
    entries = route_parents(planned(front, route("a", rule(to_service("missing")), hostnames=["b.example.com"])))
    assert said(entries["default/a"][0].conditions) == {
        "Accepted": ("False", "NoMatchingListenerHostname"),
        "ResolvedRefs": ("False", "BackendNotFound"),
    }


def test_a_pool_has_an_entry_for_each_gateway_that_reaches_it() -> None:
    parents = [{"name": "public"}, {"name": "inner"}]
    objects = [gateway(), gateway(name="inner"), pool("p"), pool("lonely")]
    found = pool_parents(
        planned(*objects, route("a", rule(to_pool("p")), parents=parents), route("b", rule(to_pool("p"))))
    )
    assert list(found) == ["default/p"]
    assert [(each.reference["namespace"], each.reference["name"]) for each in found["default/p"]] == [
        ("default", "inner"), ("default", "public"),
    ]  # fmt: skip
    assert said(found["default/p"][0].conditions) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
    }


def test_a_pool_whose_picker_is_missing_says_so() -> None:
    found = pool_parents(planned(gateway(), pool("p", picker_ref("missing")), route("a", rule(to_pool("p")))))
    assert said(found["default/p"][0].conditions)["ResolvedRefs"] == ("False", "InvalidExtensionRef")


def test_a_pool_that_only_refused_routes_name_says_so() -> None:
    refused = route("a", rule(to_pool("p")), parents=[{"name": "public", "sectionName": "nope"}])
    found = pool_parents(planned(gateway(), pool("p"), refused))
    assert said(found["default/p"][0].conditions)["Accepted"] == ("False", "HTTPRouteNotAccepted")
    both = pool_parents(planned(gateway(), pool("p"), refused, route("b", rule(to_pool("p")))))
    assert said(both["default/p"][0].conditions)["Accepted"] == ("True", "Accepted")

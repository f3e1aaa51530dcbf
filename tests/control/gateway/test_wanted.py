"""Statuses as objects get them: conditions, reasons, entries, and no write when nothing is different."""

from collections.abc import Iterable
from typing import Any

import pytest

from stellwerk.control.gateway.deployment import Observed
from stellwerk.control.gateway.plan import plan
from stellwerk.control.gateway.status import SUPPORTED_FEATURES
from stellwerk.control.gateway.wanted import Invalid, condition_change, status_changes
from stellwerk.control.gateway.world import world
from stellwerk.control.kube.resource import MODELS, Key, Object, Resource
from stellwerk.control.remark import Condition
from tests.kit.controller_objects import (
    CONTROLLER,
    GROUP,
    gateway,
    gateway_class,
    http_route,
    inference_model,
    inference_pool,
    listener,
    service,
)

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
READY = Observed((("IPAddress", "10.0.0.1"),), 1)
FINE = Invalid({}, {})


class Cluster:
    """Objects, and what a controller writes to them."""

    def __init__(self, *objects: Object, found: Observed | None = READY) -> None:
        self.objects = list(objects)
        self.found = found

    def copies(self, resource: Resource) -> dict[Key, Object]:
        return {
            (value["metadata"].get("namespace", ""), value["metadata"]["name"]): value
            for value in self.objects
            if (value["apiVersion"], value["kind"]) == (resource.api_version, resource.kind)
        }

    def write(self, now: str = NOW, invalid: Invalid = FINE) -> list[str]:
        """One round; what was written to."""
        planned = plan(world(self.objects)[0], CONTROLLER)
        observed = dict.fromkeys(planned.gateways, self.found) if self.found is not None else {}
        written = []
        for one in status_changes(planned, CONTROLLER, self.copies, observed, invalid, now):
            one.value["status"] = one.change(one.value.get("status") or {})
            written.append(one.value["kind"])
        return sorted(written)

    def status(self, kind: str) -> Any:
        """Of the first object of a kind."""
        return next(value for value in self.objects if value["kind"] == kind).get("status", {})


def said(conditions: Iterable[Object]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in conditions}


def whole() -> tuple[Object, ...]:
    return gateway_class(), gateway(), http_route(), inference_pool()


def test_everything_is_told_once_and_then_left_alone() -> None:
    cluster = Cluster(*whole())
    assert cluster.write() == ["Gateway", "GatewayClass", "HTTPRoute", "InferencePool"]
    assert cluster.write(LATER) == []


def test_what_is_told_when_all_is_well() -> None:
    cluster = Cluster(*whole())
    cluster.write()
    assert said(cluster.status("GatewayClass")["conditions"]) == {"Accepted": ("True", "Accepted")}
    front = cluster.status("Gateway")
    assert said(front["conditions"]) == {"Accepted": ("True", "Accepted"), "Programmed": ("True", "Programmed")}
    assert front["addresses"] == [{"type": "IPAddress", "value": "10.0.0.1"}]
    (entry,) = front["listeners"]
    assert (entry["name"], entry["attachedRoutes"]) == ("http", 1)
    assert entry["supportedKinds"] == [{"group": GROUP, "kind": "HTTPRoute"}]
    assert said(entry["conditions"]) == {
        "Accepted": ("True", "Accepted"),
        "Programmed": ("True", "Programmed"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Conflicted": ("False", "NoConflicts"),
    }
    (parent,) = cluster.status("HTTPRoute")["parents"]
    assert (parent["controllerName"], parent["parentRef"]["name"]) == (CONTROLLER, "front")
    assert said(parent["conditions"]) == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}
    (parent,) = cluster.status("InferencePool")["parents"]
    assert parent["parentRef"] == {"group": GROUP, "kind": "Gateway", "namespace": "infra", "name": "front"}
    assert said(parent["conditions"]) == {"Accepted": ("True", "Accepted"), "ResolvedRefs": ("True", "ResolvedRefs")}


def test_every_condition_names_the_generation_that_it_is_about() -> None:
    cluster = Cluster(*whole())
    cluster.write()
    for value in cluster.objects:
        value["metadata"]["generation"] = 7
    assert len(cluster.write(LATER)) == 4
    for kind in ("GatewayClass", "Gateway"):
        assert {one["observedGeneration"] for one in cluster.status(kind)["conditions"]} == {7}
        assert {one["lastTransitionTime"] for one in cluster.status(kind)["conditions"]} == {NOW}
    for kind in ("HTTPRoute", "InferencePool"):
        (parent,) = cluster.status(kind)["parents"]
        assert {one["observedGeneration"] for one in parent["conditions"]} == {7}


def test_features_are_listed_in_order() -> None:
    cluster = Cluster(*whole())
    cluster.write()
    names = [one["name"] for one in cluster.status("GatewayClass")["supportedFeatures"]]
    assert names == sorted(SUPPORTED_FEATURES)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "AddressNotAssigned"),
        (Observed(message="x"), "AddressNotAssigned"),
        (Observed((("IPAddress", "10.0.0.1"),), 0, "x"), "NoResources"),
    ],
)
def test_a_gateway_without_address_or_ready_pod_is_not_programmed(found: Observed | None, reason: str) -> None:
    cluster = Cluster(*whole(), found=found)
    cluster.write()
    assert said(cluster.status("Gateway")["conditions"])["Programmed"] == ("False", reason)


def test_an_address_that_is_lost_is_taken_back() -> None:
    cluster = Cluster(*whole())
    cluster.write()
    cluster.found = Observed(message="gone")
    assert cluster.write(LATER) == ["Gateway"]
    assert cluster.status("Gateway")["addresses"] == []
    assert cluster.write(LATER) == []


@pytest.mark.parametrize(
    ("address", "accepted", "programmed"),
    [
        ({"type": "IPAddress"}, "Accepted", "Programmed"),
        ({"type": "IPAddress", "value": "10.0.0.1"}, "Accepted", "Programmed"),
        ({"type": "IPAddress", "value": "10.0.0.2"}, "Accepted", "AddressNotUsable"),
        ({"type": "example.com/name", "value": "x"}, "UnsupportedAddress", "Invalid"),
    ],
)
def test_an_address_that_is_asked_for_must_be_had(address: Object, accepted: str, programmed: str) -> None:
    cluster = Cluster(gateway_class(), gateway(addresses=[address]))
    cluster.write()
    reasons = {kind: reason for kind, (_, reason) in said(cluster.status("Gateway")["conditions"]).items()}
    assert reasons == {"Accepted": accepted, "Programmed": programmed}


def test_bad_parameters_of_a_class_are_its_gateways_too() -> None:
    cluster = Cluster(*whole())
    cluster.write(invalid=Invalid({"ours": "no such thing"}, {}))
    for kind in ("GatewayClass", "Gateway"):
        assert said(cluster.status(kind)["conditions"])["Accepted"] == ("False", "InvalidParameters")


def test_a_listener_that_goes_takes_its_entry_along_and_others_keep_their_times() -> None:
    cluster = Cluster(gateway_class(), gateway(listeners=[listener("a"), listener("b", 81)]))
    cluster.write()
    cluster.objects[1]["spec"]["listeners"].pop(0)
    cluster.write(LATER)
    (entry,) = cluster.status("Gateway")["listeners"]
    assert entry["name"] == "b"
    assert {one["lastTransitionTime"] for one in entry["conditions"]} == {NOW}


@pytest.mark.parametrize(
    ("route", "pools", "accepted", "resolved"),
    [
        (http_route(), [], ("True", "Accepted"), ("False", "BackendNotFound")),
        (
            http_route(hostnames=["x.example"]),
            [inference_pool()],
            ("False", "NoMatchingListenerHostname"),
            ("True", "ResolvedRefs"),
        ),
        (
            http_route(
                parents=[
                    {"group": GROUP, "kind": "Gateway", "name": "front", "namespace": "infra", "sectionName": "nope"}
                ]
            ),
            [inference_pool()],
            ("False", "NoMatchingParent"),
            ("True", "ResolvedRefs"),
        ),
        (
            http_route(backends=[{"group": "a.example", "kind": "B", "name": "c"}]),
            [],
            ("True", "Accepted"),
            ("False", "InvalidKind"),
        ),
        (
            http_route(backends=[{"kind": "Service", "name": "web", "namespace": "other", "port": 80}]),
            [service(namespace="other")],
            ("True", "Accepted"),
            ("False", "RefNotPermitted"),
        ),
    ],
)
def test_what_a_route_is_told(
    route: Object, pools: list[Object], accepted: tuple[str, str], resolved: tuple[str, str]
) -> None:
    front = gateway(listeners=[listener(hostname="y.example")])
    cluster = Cluster(gateway_class(), front, route, *pools)
    cluster.write()
    (parent,) = cluster.status("HTTPRoute")["parents"]
    assert said(parent["conditions"]) == {"Accepted": accepted, "ResolvedRefs": resolved}


def test_a_pool_has_an_entry_for_each_gateway_that_reaches_it_until_the_last_route_goes() -> None:
    second = {"group": GROUP, "kind": "Gateway", "name": "second", "namespace": "infra"}
    cluster = Cluster(*whole(), gateway("second"), http_route("other", parents=[second]))

    def gateways() -> list[str]:
        return [entry["parentRef"]["name"] for entry in cluster.status("InferencePool")["parents"]]

    cluster.write()
    assert gateways() == ["front", "second"]
    cluster.objects.pop(2)
    cluster.write()
    assert gateways() == ["second"]
    cluster.objects.pop()
    cluster.write()
    assert gateways() == []


def test_a_missing_picker_is_told_to_the_pool_and_the_route_is_accepted() -> None:
    picker = {"group": "", "kind": "Service", "name": "epp", "port": {"number": 9002}}
    cluster = Cluster(gateway_class(), gateway(), http_route(), inference_pool(endpointPickerRef=picker))
    cluster.write()
    (parent,) = cluster.status("InferencePool")["parents"]
    assert said(parent["conditions"])["ResolvedRefs"][0] == "False"
    (parent,) = cluster.status("HTTPRoute")["parents"]
    assert said(parent["conditions"])["Accepted"] == ("True", "Accepted")


def test_entries_of_another_controller_survive_ours_coming_and_going() -> None:
    theirs = {"parentRef": {"name": "x"}, "controllerName": "example.com/other", "conditions": [{"type": "Accepted"}]}
    route, pool = http_route(), inference_pool()
    for value in (route, pool):
        value["status"] = {"parents": [theirs]}
    cluster = Cluster(gateway_class(), gateway(), route, pool)
    cluster.write()
    assert [entry["controllerName"] for entry in cluster.status("HTTPRoute")["parents"]] == [
        "example.com/other",
        CONTROLLER,
    ]
    del cluster.objects[1]
    cluster.write()
    assert cluster.status("HTTPRoute") == cluster.status("InferencePool") == {"parents": [theirs]}


def test_objects_of_other_classes_are_not_touched() -> None:
    cluster = Cluster(gateway_class(controller="example.com/other"), gateway(), http_route(), inference_pool())
    assert cluster.write() == []


def test_other_fields_of_a_status_stay() -> None:
    front = {**gateway(), "status": {"attachedListenerSets": 3, "conditions": [{"type": "example.com/Cost"}]}}
    cluster = Cluster(gateway_class(), front)
    cluster.write()
    assert cluster.status("Gateway")["attachedListenerSets"] == 3
    assert cluster.status("Gateway")["conditions"][0] == {"type": "example.com/Cost"}


def test_a_model_is_told_once() -> None:
    model = inference_model("a")
    taken = Condition("Accepted", "False", "ModelNameInUse", "taken")
    change = condition_change(MODELS, model, (taken,), NOW)
    assert change is not None
    model["status"] = change({})
    assert said(model["status"]["conditions"]) == {"Accepted": ("False", "ModelNameInUse")}
    assert condition_change(MODELS, model, (taken,), LATER) is None

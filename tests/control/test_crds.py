"""The CustomResourceDefinitions as data. What a real API server makes of them is tested in tests/integration."""

from typing import Any

import pytest

from stellwerk.control.crds import APPROVED, STORED, definitions
from stellwerk.control.kinds import KINDS, PoolImport

BY_NAME = {definition["metadata"]["name"]: definition for definition in definitions()}


def schema_at(name: str, *path: str) -> Any:
    """A part of a definition's schema, by names of properties; `[]` are the items of a list."""
    found = BY_NAME[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for step in path:
        found = found["items"] if step == "[]" else found["properties"][step]
    return found


def test_every_kind_that_is_read_and_has_an_effect_is_defined() -> None:
    assert set(STORED) == {key for key, kind in KINDS.items() if kind is not PoolImport}
    assert len(BY_NAME) == len(STORED)


@pytest.mark.parametrize("name", BY_NAME)
def test_protected_groups_carry_their_approval_and_others_claim_none(name: str) -> None:
    is_protected = name.endswith(".k8s.io")
    assert (APPROVED in BY_NAME[name]["metadata"].get("annotations", {})) == is_protected


@pytest.mark.parametrize("name", BY_NAME)
def test_every_definition_has_a_status_apart_and_an_age_column(name: str) -> None:
    (version,) = BY_NAME[name]["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    assert version["additionalPrinterColumns"][-1]["name"] == "Age"
    assert BY_NAME[name]["spec"]["scope"] == "Namespaced"


def test_bounds_enums_and_defaults_are_those_of_the_types() -> None:
    pools = "inferencepools.inference.networking.k8s.io"
    port = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535}
    assert schema_at(pools, "spec", "targetPorts", "[]", "number") == port
    ports = schema_at(pools, "spec", "targetPorts")
    assert (ports["minItems"], ports["maxItems"], ports["x-kubernetes-list-type"]) == (1, 8, "atomic")
    assert schema_at(pools, "spec", "endpointPickerRef", "failureMode") == {
        "type": "string",
        "enum": ["FailOpen", "FailClose"],
        "default": "FailClose",
    }
    assert schema_at(pools, "spec", "endpointPickerRef", "group")["default"] == ""
    assert "default" not in schema_at("inferencemodels.inference.networking.x-k8s.io", "spec", "criticality")
    for group in ("llm-d.ai", "inference.networking.x-k8s.io"):
        assert schema_at(f"inferenceobjectives.{group}", "spec", "priority") == {"type": "integer", "format": "int64"}


def test_rules_stand_at_the_fields_they_are_about_with_upstreams_words() -> None:
    models = "inferencemodels.inference.networking.x-k8s.io"
    assert schema_at(models, "spec", "modelName")["x-kubernetes-validations"] == [
        {"rule": "self == oldSelf", "message": "modelName is immutable"}
    ]
    (picker_rule,) = schema_at("inferencepools.inference.networking.k8s.io", "spec", "endpointPickerRef")[
        "x-kubernetes-validations"
    ]
    assert picker_rule == {
        "rule": "self.kind != 'Service' || has(self.port)",
        "message": "port is required when kind is 'Service' or unspecified (defaults to 'Service')",
    }
    first = schema_at("modelservers.stellwerk.dev", "spec", "address")["x-kubernetes-validations"][0]
    assert first["message"].startswith("the value is neither")
    assert first["messageExpression"].startswith("r'\"' + self + ")


def test_conditions_are_keyed_by_type() -> None:
    conditions = schema_at("inferencemodels.inference.networking.x-k8s.io", "status", "conditions")
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["default"][0]["reason"] == "Pending"

"""Statuses of what refers to a pool."""

from typing import Any

from stellwerk.control.gateway.models import model_statuses
from tests.kit.controller_objects import inference_model, inference_pool


def said(*objects: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        f"{one.namespace}/{one.name}": (one.conditions[0].status, one.conditions[0].reason)
        for one in model_statuses(objects)
    }


def test_of_two_models_with_one_name_in_one_pool_the_older_holds() -> None:
    young = inference_model("a", creationTimestamp="2026-02-02T00:00:00Z")
    old = inference_model("b", creationTimestamp="2026-01-01T00:00:00Z")
    assert said(young, inference_pool(), old) == {"apps/b": ("True", "Accepted"), "apps/a": ("False", "ModelNameInUse")}


def test_a_name_may_be_had_once_in_every_pool() -> None:
    objects = [inference_pool(), inference_pool("other"), inference_model("a"), inference_model("b", pool="other")]
    assert said(*objects) == {"apps/a": ("True", "Accepted"), "apps/b": ("True", "Accepted")}


def test_another_namespace_cannot_take_a_name_away() -> None:
    thief = inference_model("b", namespace="evil", creationTimestamp="2020-01-01T00:00:00Z")
    found = said(inference_pool(), inference_model("a"), inference_pool(namespace="evil"), thief)
    assert found["apps/a"] == ("True", "Accepted")


def test_a_model_waits_for_its_pool() -> None:
    assert said(inference_model("a")) == {"apps/a": ("Unknown", "Pending")}


def test_what_cannot_be_read_gets_no_status() -> None:
    broken = inference_model("a")
    broken["spec"] = {"modelName": 3}
    assert said(inference_pool(), broken) == {}


def test_a_status_that_is_there_does_not_matter() -> None:
    model = {**inference_model("a"), "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
    pool = {**inference_pool(), "status": {"parents": [{"parentRef": {"name": "x"}}]}}
    assert said(pool, model) == {"apps/a": ("True", "Accepted")}

import pytest
from msgspec import convert

from stellwerk.model.candidates import Candidates
from stellwerk.model.detector import ConcurrencyDetector, UtilizationDetector
from stellwerk.model.fleet import Fleet
from stellwerk.schedule.filters import (
    ByLabelFilter,
    ConcurrencyDetectorFilter,
    DecodeFilter,
    EncodeFilter,
    LabelSelectorFilter,
    PrefillFilter,
    UtilizationDetectorFilter,
    UtilizationFilter,
)
from stellwerk.schedule.plugin import Filter
from tests.kit.fleet import candidates, context, endpoint, sample

ASKED = context()
ROLE = "llm-d.ai/role"


def labelled(*labels: dict[str, str]) -> Candidates:
    fleet = Fleet(endpoint(chr(ord("a") + place), labels=each) for place, each in enumerate(labels))
    return Candidates(fleet, fleet.members)


def kept(which: Filter, some: Candidates) -> str:
    mask = which.keep(ASKED, some)
    return "".join(member.endpoint.server for member, stays in zip(some.members, mask, strict=True) if stays)


@pytest.mark.parametrize(
    ("parameters", "stay"),
    [
        ({}, "abc"),
        ({"matchLabels": {"gpu": "h100"}}, "a"),
        ({"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["h100", "l4"]}]}, "ab"),
        ({"matchExpressions": [{"key": "gpu", "operator": "NotIn", "values": ["h100"]}]}, "bc"),
        ({"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}, "ab"),
        ({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}, "c"),
        ({"matchLabels": {"gpu": "h100"}, "matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}, ""),
    ],
)
def test_label_selectors_select_as_in_kubernetes(parameters: dict[str, object], stay: str) -> None:
    some = labelled({"gpu": "h100"}, {"gpu": "l4"}, {})
    assert kept(convert(parameters, LabelSelectorFilter), some) == stay


def test_the_old_label_filter_may_allow_a_missing_label() -> None:
    some = labelled({"gpu": "h100"}, {"gpu": "l4"}, {})
    assert kept(ByLabelFilter("gpu", ("l4",)), some) == "b"
    assert kept(ByLabelFilter("gpu", ("l4",), allows_no_label=True), some) == "bc"


@pytest.mark.parametrize(("which", "stay"), [(DecodeFilter(), "acd"), (PrefillFilter(), "bd"), (EncodeFilter(), "e")])
def test_roles(which: Filter, stay: str) -> None:
    roles: list[dict[str, str]] = [{}, *({ROLE: role} for role in ("prefill", "decode", "both", "encode"))]
    assert kept(which, labelled(*roles)) == stay


def test_utilization_caps_drop_who_is_above_any_of_them() -> None:
    conditions = [{"metric": "waiting-queue", "maxValue": 5}, {"metric": "kv-cache-utilization", "maxValue": 0.8}]
    some = candidates(sample(5, kv_use=0.8), sample(6), sample(0, kv_use=0.9))
    assert kept(convert({"conditions": conditions}, UtilizationFilter), some) == "a"


def test_utilization_caps_that_would_empty_the_pool_can_let_all_stay() -> None:
    parameters = {"conditions": [{"metric": "waiting-queue", "maxValue": 0}]}
    some = candidates(sample(1), sample(2))
    assert kept(convert(parameters, UtilizationFilter), some) == ""
    assert kept(convert({**parameters, "fallbackOnEmpty": True}, UtilizationFilter), some) == "ab"


def test_the_utilization_detector_as_a_filter_keeps_who_has_room_or_else_all() -> None:
    which = UtilizationDetectorFilter(UtilizationDetector(headroom=0.2))
    assert kept(which, candidates(sample(5.9), sample(6), sample(0, kv_use=0.97))) == "a"
    assert kept(which, candidates(sample(6), sample(60))) == "ab"


def test_the_concurrency_detector_as_a_filter_may_leave_nobody() -> None:
    some = candidates(sample(), sample())
    some.fleet.requests[:] = [9.0, 10.0]
    assert kept(ConcurrencyDetectorFilter(ConcurrencyDetector(max_concurrency=10)), some) == "a"
    assert kept(ConcurrencyDetectorFilter(ConcurrencyDetector(max_concurrency=9)), some) == ""

"""Our part of a status, and the parts of others."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.gateway.entries import ParentEntry, merged_conditions, merged_parents
from stellwerk.control.remark import Condition

THEN, NOW = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
YES = Condition("Accepted", "True", "Accepted", "")
NO = Condition("Accepted", "False", "Refused", "no")


def condition(kind: str = "Accepted", status: str = "True", reason: str = "Accepted", generation: int = 1) -> Any:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": THEN,
    }


def parent(controller: str, name: str, *conditions: Any) -> Any:
    return {"parentRef": {"name": name}, "controllerName": controller, "conditions": list(conditions)}


def test_a_condition_that_says_the_same_is_left_as_it_is() -> None:
    old = [condition()]
    assert merged_conditions(old, [YES], 1, NOW)[0] is old[0]


def test_a_new_generation_is_noted_without_a_transition() -> None:
    (new,) = merged_conditions([condition()], [YES], 2, NOW)
    assert (new["observedGeneration"], new["lastTransitionTime"]) == (2, THEN)


def test_another_status_is_a_transition() -> None:
    (new,) = merged_conditions([condition()], [NO], 1, NOW)
    assert (new["status"], new["reason"], new["lastTransitionTime"]) == ("False", "Refused", NOW)


def test_conditions_of_others_stay_in_their_places() -> None:
    others = condition("example.com/Billing")
    assert merged_conditions([others, condition()], [NO], 1, NOW)[0] is others


def test_what_was_said_about_a_newer_generation_is_not_taken_back() -> None:
    old = [condition(generation=5)]
    assert merged_conditions(old, [NO], 4, NOW) == old


def test_a_retired_condition_goes() -> None:
    old = [condition("Conflicted"), condition()]
    assert merged_conditions(old, [YES], 1, NOW, frozenset({"Conflicted"})) == [condition()]


def test_the_servers_first_word_is_replaced() -> None:
    waiting = {
        "type": "Accepted",
        "status": "Unknown",
        "reason": "Pending",
        "message": "Waiting for controller",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
    (new,) = merged_conditions([waiting], [YES], 1, NOW)
    assert (new["status"], new["lastTransitionTime"]) == ("True", NOW)


def test_entries_of_other_controllers_stay_and_ours_come_and_go() -> None:
    theirs, gone = parent("other", "a", condition()), parent("us", "gone", condition())
    old = [theirs, gone, parent("us", "b", condition())]
    merged = merged_parents(old, "us", [ParentEntry({"name": "b"}, (NO,)), ParentEntry({"name": "c"}, (YES,))], 1, NOW)
    assert merged[0] is theirs
    assert [entry["parentRef"]["name"] for entry in merged] == ["a", "b", "c"]
    assert merged[1]["conditions"][0]["status"] == "False"


def test_a_condition_of_ours_that_is_not_said_any_more_goes() -> None:
    old = [parent("us", "b", condition(), condition("PartiallyInvalid"))]
    (entry,) = merged_parents(old, "us", [ParentEntry({"name": "b"}, (YES,))], 1, NOW)
    assert [one["type"] for one in entry["conditions"]] == ["Accepted"]


_conditions = st.builds(
    Condition, st.sampled_from("ABC"), st.sampled_from(["True", "False"]), st.sampled_from("xy"), st.sampled_from("mn")
)
_unique = st.lists(_conditions, max_size=3, unique_by=lambda one: one.type)
_entries = st.lists(
    st.builds(ParentEntry, st.fixed_dictionaries({"name": st.sampled_from("pqr")}), _unique.map(tuple)),
    max_size=3,
    unique_by=lambda one: one.reference["name"],
)
_theirs = st.lists(
    st.sampled_from([parent("other", "p"), parent("other", "q"), {"parentRef": {"name": "p"}}]), max_size=2
)


@settings(max_examples=150, deadline=None)
@given(_theirs, _entries, _entries)
def test_the_result_is_what_is_wanted_whatever_was_there_and_writing_it_twice_changes_nothing(
    theirs: list[Any], before: list[ParentEntry], wanted: list[ParentEntry]
) -> None:
    first = merged_parents(theirs, "us", before, 1, THEN)
    merged = merged_parents(first, "us", wanted, 1, NOW)
    ours = {entry["parentRef"]["name"]: entry for entry in merged if entry.get("controllerName") == "us"}
    assert [entry for entry in merged if entry.get("controllerName") != "us"] == theirs
    assert ours.keys() == {entry.reference["name"] for entry in wanted}
    for entry in wanted:
        said = {one["type"]: one for one in ours[entry.reference["name"]]["conditions"]}
        assert {name: one["status"] for name, one in said.items()} == {one.type: one.status for one in entry.conditions}
    assert merged_parents(merged, "us", wanted, 1, "2027-01-01T00:00:00Z") == merged

"""A copy that stays right in whatever order and age the news comes."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.control.kube.replica import MAX_DELETIONS, Replica
from stellwerk.control.kube.resource import without_bulk

Object = dict[str, Any]


def thing(name: str, version: int, text: str = "") -> Object:
    """An object of no particular kind."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "spec": text}


def texts(replica: Replica) -> dict[str, str]:
    """What the copy says."""
    return {key[1]: value["spec"] for key, value in replica.objects.items()}


def listed(*items: Object, version: int) -> Replica:
    """A copy that began with this list."""
    replica = Replica(without_bulk)
    replica.relisted([replica.kept(item) for item in items], str(version))
    return replica


def test_an_event_that_the_list_has_seen_says_nothing() -> None:
    replica = listed(version=10)
    assert replica.event("ADDED", thing("a", 9)) is None
    assert replica.event("ADDED", thing("a", 11)) == ("", "a")
    assert replica.version == "11"


def test_a_late_event_does_not_bring_back_what_was_deleted() -> None:
    replica = listed(thing("a", 5), version=10)
    assert replica.event("DELETED", thing("a", 12)) == ("", "a")
    assert replica.event("MODIFIED", thing("a", 11)) is None
    assert replica.event("DELETED", thing("a", 12)) is None
    assert texts(replica) == {}
    assert replica.event("ADDED", thing("a", 13)) == ("", "a")


def test_a_late_deletion_does_not_remove_what_was_made_anew() -> None:
    replica = listed(thing("a", 5), version=10)
    replica.event("ADDED", thing("a", 13, "new"))
    assert replica.event("DELETED", thing("a", 12)) is None
    assert texts(replica) == {"a": "new"}


def test_news_out_of_order_is_taken_in_and_doubted() -> None:
    replica = listed(version=10)
    replica.event("ADDED", thing("a", 12))
    replica.event("ADDED", thing("b", 11))
    assert replica.is_doubtful
    assert set(texts(replica)) == {"a", "b"}
    assert replica.version == "12"
    replica.relisted([thing("a", 12), thing("b", 11)], "12")
    assert not replica.is_doubtful


def test_a_duplicate_is_no_reason_to_doubt() -> None:
    replica = listed(version=10)
    replica.event("ADDED", thing("a", 11))
    replica.event("ADDED", thing("b", 12))
    assert replica.event("ADDED", thing("a", 11)) is None
    assert not replica.is_doubtful


def test_a_bookmark_moves_on_and_never_back() -> None:
    replica = listed(version=10)
    assert replica.event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}) is None
    assert replica.version == "20"
    replica.event("BOOKMARK", {"metadata": {"resourceVersion": "15"}})
    assert replica.version == "20"


def test_a_change_of_what_is_not_kept_is_no_change() -> None:
    replica = listed({**thing("a", 5, "x"), "status": 1}, version=10)
    assert replica.event("MODIFIED", {**thing("a", 11, "x"), "status": 2}) is None
    assert replica.objects["", "a"]["metadata"]["resourceVersion"] == "11"
    assert replica.relisted([thing("a", 12, "x")], "12") == frozenset()


def test_a_list_tells_what_is_different() -> None:
    replica = listed(thing("a", 1, "x"), thing("b", 2, "x"), thing("c", 3, "x"), version=10)
    changed = replica.relisted([thing("a", 1, "x"), thing("b", 11, "y"), thing("d", 12, "z")], "12")
    assert changed == {("", "b"), ("", "c"), ("", "d")}


def test_an_older_list_is_recognised() -> None:
    replica = listed(version=10)
    replica.event("BOOKMARK", {"metadata": {"resourceVersion": "20"}})
    assert replica.is_outdated("19")
    assert not replica.is_outdated("20")
    assert not replica.is_outdated("opaque")


def test_versions_that_are_no_numbers_are_believed_in_order_of_arrival() -> None:
    replica = Replica(without_bulk)
    replica.relisted([], "x-7")
    for version, text in (("x-9", "one"), ("x-8", "two")):
        replica.event("MODIFIED", {"metadata": {"name": "a", "resourceVersion": version}, "spec": text})
    assert texts(replica) == {"a": "two"}
    assert replica.version == "x-8"
    assert not replica.is_doubtful


def test_more_deletions_than_are_remembered_are_a_reason_to_list() -> None:
    replica = listed(version=1)
    for number in range(MAX_DELETIONS + 1):
        replica.event("ADDED", thing(f"a{number}", 2 * number + 2))
        replica.event("DELETED", thing(f"a{number}", 2 * number + 3))
    assert replica.is_doubtful


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[str, Object]], dict[str, str]]:
    """Events of a few objects as they happened, and what is there at the end."""
    events: list[tuple[str, Object]] = []
    now: dict[str, str] = {}
    for version in range(11, 11 + draw(st.integers(0, 25))):
        name = draw(st.sampled_from("abc"))
        if name in now and draw(st.booleans()):
            events.append(("DELETED", thing(name, version, now.pop(name))))
        else:
            events.append(("MODIFIED" if name in now else "ADDED", thing(name, version, f"{version}")))
            now[name] = f"{version}"
    return events, now


@given(histories(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_any_order_and_any_repetition_end_in_the_same_state(
    history: tuple[list[tuple[str, Object]], dict[str, str]], random: Any
) -> None:
    events, now = history
    told = events + [event for event in events if random.random() < 0.3]
    told += [("ADDED", thing("a", 5, "before the list"))]
    random.shuffle(told)
    replica = listed(version=10)
    for kind, value in told:
        replica.event(kind, value)
    assert texts(replica) == now

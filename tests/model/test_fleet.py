from math import inf, isnan
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.model.fleet import Fleet, Member
from tests.kit.fleet import endpoint, sample


def fleet(*names: str, before: Fleet | None = None) -> Fleet:
    return Fleet([endpoint(name) for name in names], before, stale_after_seconds=1.0, lost_after_seconds=7.0)


def sent(some: Fleet, name: str, requests: int) -> Member:
    member = some.by_key[f"default/{name}:8000"]
    member.requests = requests
    some.load_changed(member)
    return member


def test_a_fresh_page_is_taken_at_its_word_whatever_we_have_in_flight() -> None:
    some = fleet("a")
    member = sent(some, "a", 9)
    some.sampled(member, sample(2, 3, 0.5), 10.0)
    some.settle(10.9)
    assert (some.waiting[0], some.running[0], some.kv_use[0]) == (2, 3, 0.5)


def test_a_stale_page_counts_but_not_for_less_than_what_we_sent() -> None:
    some = fleet("a")
    member = sent(some, "a", 9)
    some.sampled(member, sample(2, 3, 0.5), 10.0)
    some.settle(11.1)
    assert (some.waiting[0], some.running[0], some.kv_use[0]) == (6, 7, 0.5)
    sent(some, "a", 1)
    assert (some.waiting[0], some.running[0]) == (2, 3)


def test_a_page_of_a_server_that_stands_still_is_stale_however_fresh() -> None:
    some = fleet("a")
    member = sent(some, "a", 9)
    member.stuck_seconds = 0.5
    some.sampled(member, sample(0, 3, 0.5), 10.0)
    assert (some.waiting[0], some.running[0]) == (6, 9)
    sent(some, "a", 12)
    assert (some.waiting[0], some.running[0]) == (9, 12)


def test_a_page_read_too_long_ago_is_not_believed() -> None:
    some = fleet("a")
    member = sent(some, "a", 1)
    some.sampled(member, sample(50, 30, 0.9), 10.0)
    some.settle(17.5)
    assert (some.waiting[0], some.running[0]) == (1, 1)
    assert isnan(some.kv_use[0])


def test_without_any_page_our_own_count_stands_in() -> None:
    some = fleet("a", "b")
    sent(some, "a", 4)
    some.settle(0.0)
    assert some.waiting.tolist() == [4, 0]
    assert some.updated_at.tolist() == [-inf, -inf]


def test_a_page_that_does_not_tell_the_queue_leaves_it_to_our_own_count() -> None:
    some = fleet("a")
    member = sent(some, "a", 5)
    some.sampled(member, sample(None, 2), 1.0)
    assert (some.waiting[0], some.running[0]) == (3, 2)


def test_the_version_grows_only_when_a_value_changes() -> None:
    some = fleet("a")
    (member,) = some.members
    some.sampled(member, sample(1, 2), 1.0)
    version = some.signals_version
    some.sampled(member, sample(1, 2), 1.1)
    assert some.signals_version == version
    some.sampled(member, sample(2, 2), 1.2)
    assert some.signals_version > version


def test_members_carry_over_by_identity_and_late_counts_find_their_own() -> None:
    first = fleet("a", "b")
    kept, gone = first.members
    first.sampled(kept, sample(3), 5.0)
    sent(first, "a", 2)
    second = fleet("c", "a", before=first)
    assert second.members[1] is kept
    assert second.waiting.tolist() == [0, 3]
    assert second.requests.tolist() == [0, 2]
    assert second.updated_at.tolist() == [-inf, 5.0]
    assert second.left == (gone,)
    gone.requests = 7
    second.load_changed(gone)
    assert second.requests.tolist() == [0, 2]


def test_an_endpoint_made_again_under_its_old_key_or_moved_is_another() -> None:
    first = Fleet([endpoint("a", uid="1"), endpoint("b")])
    second = Fleet([endpoint("a", uid="2"), endpoint("b", host="10.9.9.9")], first)
    assert second.members[0] is not first.members[0]
    assert second.members[1] is not first.members[1]
    assert len(second.left) == 2


def test_labels_may_change_without_making_it_another() -> None:
    first = Fleet([endpoint("a")])
    second = Fleet([endpoint("a", labels={"x": "y"})], first)
    assert second.members[0] is first.members[0]
    assert second.members[0].endpoint.labels == {"x": "y"}


def test_holders_follow_lists_and_adapters() -> None:
    some = fleet("a", "b")
    a, b = some.members
    some.listed(a, {"base": None, "food": "base"})
    some.sampled(b, sample(running_adapters=frozenset({"food"})), 1.0)
    assert some.holders("food") == {a, b}
    assert some.holders("base") == {a}
    assert some.holders("none") == frozenset()
    some.listed(b, {"base": None})
    assert some.holders("food") == {a}


def test_capacity_is_what_ran_while_it_queued() -> None:
    some = fleet("a")
    (member,) = some.members
    some.sampled(member, sample(0, 300), 1.0)
    assert member.capacity == 300
    some.sampled(member, sample(4, 16), 2.0)
    assert member.capacity == 16
    some.sampled(member, sample(0, 3), 3.0)
    assert np.isclose(some.capacity[0], 16)


NAMES = st.lists(st.sampled_from("abcde"), unique=True)
MOVES = st.one_of(
    st.tuples(st.just("members"), NAMES),
    st.tuples(st.just("sample"), st.tuples(st.sampled_from("abcde"), st.floats(0, 9), st.none() | st.floats(0, 1))),
    st.tuples(st.just("sent"), st.tuples(st.sampled_from("abcde"), st.integers(0, 9))),
    st.tuples(st.just("passed"), st.floats(0, 5)),
)


@given(NAMES, st.lists(MOVES, max_size=30))
def test_columns_are_what_their_members_say_whoever_comes_and_goes(names: list[str], moves: list[Any]) -> None:
    """Seen to fail with the rows of a fleet before taken for those of the new one."""
    some, now = fleet(*names), 0.0
    for move, arguments in moves:
        if move == "members":
            some = fleet(*arguments, before=some)
        elif move == "passed":
            now += arguments
        elif member := some.by_key.get(f"default/{arguments[0]}:8000"):
            if move == "sample":
                some.sampled(member, sample(arguments[1], 1, arguments[2]), now)
            else:
                member.requests = arguments[1]
                some.load_changed(member)
        some.settle(now)
        for row, member in enumerate(some.members):
            assert member.row == row
            assert member.effective is not None
            np.testing.assert_equal((some.waiting[row], some.running[row], some.kv_use[row]), member.effective)
            assert some.requests[row] == member.requests
            assert some.updated_at[row] == member.sampled_at
            assert some.seen_requests[row] == member.in_flight_at_sample
            assert some.capacity[row] == member.capacity
            assert some._ages[row] == member.age

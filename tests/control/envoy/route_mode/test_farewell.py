from math import inf

from stellwerk.control.envoy.route_mode.farewell import Farewells
from stellwerk.model.members import Address, Members

A: Address = ("10.0.0.1", 9002)
B: Address = ("10.0.0.2", 9002)
C: Address = ("10.0.0.3", 9002)


def test_who_leaves_is_told_as_leaving_until_the_time_is_over() -> None:
    farewells = Farewells(5.0)
    assert farewells.told({"p": Members((A,))}, 10.0) == {"p": Members((A,))}
    assert farewells.next_deadline == inf
    moved = {"p": Members((B,))}
    assert farewells.told(moved, 11.0) == {"p": Members((B,), (A,))}
    assert farewells.next_deadline == 16.0
    assert farewells.told(moved, 15.9) == {"p": Members((B,), (A,))}
    assert farewells.told(moved, 16.0) == moved
    assert farewells.next_deadline == inf


def test_each_has_its_own_time_and_those_that_are_leaving_anyway_stand_first() -> None:
    farewells = Farewells(5.0)
    farewells.told({"p": Members((A, B), (C,))}, 0.0)
    farewells.told({"p": Members((A,), (B,))}, 1.0)
    assert farewells.told({"p": Members((A,))}, 2.0) == {"p": Members((A,), (C, B))}
    assert farewells.next_deadline == 6.0
    assert farewells.told({"p": Members((A,))}, 6.5) == {"p": Members((A,), (B,))}
    assert farewells.next_deadline == 7.0


def test_who_comes_back_is_a_member_as_before() -> None:
    farewells = Farewells(5.0)
    farewells.told({"p": Members((A, B))}, 0.0)
    farewells.told({"p": Members((A,))}, 1.0)
    assert farewells.told({"p": Members((A, B))}, 2.0) == {"p": Members((A, B))}
    assert farewells.next_deadline == inf
    assert farewells.told({"p": Members((A,))}, 3.0) == {"p": Members((A,), (B,))}
    assert farewells.next_deadline == 8.0


def test_a_cluster_that_goes_takes_its_farewells_along() -> None:
    farewells = Farewells(5.0)
    farewells.told({"p": Members((A,)), "q": Members((C,))}, 0.0)
    farewells.told({"p": Members((B,)), "q": Members((C,))}, 1.0)
    assert farewells.told({"q": Members((C,))}, 2.0) == {"q": Members((C,))}
    assert farewells.next_deadline == inf
    assert farewells.told({"p": Members((B,))}, 3.0) == {"p": Members((B,))}

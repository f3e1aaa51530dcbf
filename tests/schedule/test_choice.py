import pytest

from stellwerk.model.fleet import Fleet, Health
from stellwerk.schedule.choice import PoolChoice
from tests.kit.fleet import endpoint, pool

A1, A2 = endpoint("a", port=8000), endpoint("a", port=8001)
B = endpoint("b")
SIX = endpoint("c", host="fd00::1")


def choice() -> PoolChoice:
    every = pool(A1, A2, B, SIX)
    return PoolChoice(every, Fleet(every.endpoints))


def names(which: PoolChoice, subset: tuple[str, ...] | None = None, model: str | None = None) -> list[str]:
    return [name.removeprefix("default/") for name in which.candidates(model, subset).names]


@pytest.mark.parametrize(
    ("subset", "left"),
    [
        (None, ["a:8000", "a:8001", "b:8000", "c:8000"]),
        ((), []),
        (("10.0.0.97:8001",), ["a:8001"]),
        (("10.0.0.97",), ["a:8000", "a:8001"]),
        (("10.0.0.98:8000", "10.0.0.97:8000"), ["a:8000", "b:8000"]),
        (("10.0.0.98:9999", "10.9.9.9"), []),
        (("[fd00::1]:8000",), ["c:8000"]),
        (("fd00::1",), ["c:8000"]),
        (("[fd00::1]",), ["c:8000"]),
        ((" 10.0.0.98 ", "", "nonsense"), ["b:8000"]),
    ],
)
def test_a_subset_is_exact_with_a_port_and_means_all_ports_without(
    subset: tuple[str, ...] | None, left: list[str]
) -> None:
    assert names(choice(), subset) == left


def test_health_and_lists_are_looked_at_within_the_subset() -> None:
    which = choice()
    member = which.members[2]
    member.health = Health.WEDGED
    which.fleet.choice_version += 1
    assert names(which, ("10.0.0.98",)) == ["b:8000"]
    assert "b:8000" not in names(which)
    which.fleet.listed(which.members[0], {"m": None})
    which.fleet.listed(which.members[1], {"n": None})
    assert names(which, None, "m") == ["a:8000", "c:8000"]
    assert names(which, ("10.0.0.97:8001",), "m") == ["a:8001"]


def test_made_up_model_names_share_their_candidates() -> None:
    which = choice()
    assert which.candidates("x", None) is which.candidates("y", None) is which.candidates(None, None)


def test_the_reason_for_nobody_is_named() -> None:
    which = choice()
    assert "subset" in which.why_empty(())
    for member in which.members:
        member.health = Health.UNREACHABLE
    assert "4 endpoint(s)" in which.why_empty(None)
    nobody = pool()
    assert "no ready endpoint" in PoolChoice(nobody, Fleet()).why_empty(None)

from stellwerk.model.candidates import Candidates, reachable, serving
from stellwerk.model.fleet import Fleet, Health, Member
from tests.kit.fleet import endpoint, sample


def members(*healths: Health) -> list[Member]:
    some = [Member(endpoint(chr(ord("a") + place))) for place in range(len(healths))]
    for member, health in zip(some, healths, strict=True):
        member.health = health
    return some


def names(some: object) -> str:
    return "".join(member.endpoint.server for member in some)  # type: ignore[attr-defined]


def test_unknown_endpoints_may_be_picked_and_avoided_ones_only_if_there_is_nobody_else() -> None:
    unwanted = (Health.SUSPECT, Health.SILENT, Health.WEDGED)
    assert names(reachable(members(Health.UNKNOWN, Health.HEALTHY, *unwanted, Health.UNREACHABLE))) == "ab"
    assert names(reachable(members(*unwanted, Health.UNREACHABLE))) == "abc"
    assert names(reachable(members(Health.UNREACHABLE, Health.UNREACHABLE))) == ""


def test_who_is_known_not_to_serve_the_model_is_dropped_only_if_another_is_known_to() -> None:
    a, b, c = members(Health.HEALTHY, Health.HEALTHY, Health.HEALTHY)
    a.models, b.models = {"m": None}, {"other": None}
    assert names(serving([a, b, c], frozenset({a}))) == "ac"
    assert names(serving([a, b, c], frozenset())) == "abc"
    assert names(serving([b, c], frozenset({a}))) == "bc"


def test_signal_columns_are_snapshots_that_refresh_replaces() -> None:
    fleet = Fleet([endpoint("a"), endpoint("b"), endpoint("c")])
    some = Candidates(fleet, (fleet.members[2], fleet.members[0]))
    before = some.waiting
    fleet.sampled(fleet.members[2], sample(4), 1.0)
    some.refresh()
    assert before.tolist() == [0, 0]
    assert some.waiting.tolist() == [4, 0]
    assert some.ages(3.0).tolist() == [2.0, float("inf")]


def test_narrowed_candidates_keep_their_order_and_rows() -> None:
    fleet = Fleet([endpoint("a"), endpoint("b"), endpoint("c")])
    fleet.sampled(fleet.members[1], sample(5), 1.0)
    some = Candidates(fleet, fleet.members, "m").narrowed([2, 1])
    assert some.names == ("default/c:8000", "default/b:8000")
    assert some.waiting.tolist() == [0, 5]
    assert some.target_model == "m"

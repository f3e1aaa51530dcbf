import random
from collections import Counter
from typing import Any

import pytest

from stellwerk.model.catalog import Catalog, Pool, PublicModel
from stellwerk.model.fleet import Fleet, Health
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api
from stellwerk.schedule.resolve import Resolved, Resolver, draw
from tests.kit.fleet import catalog, endpoint, pool, public, request, split

CHANCE = random.Random(1)


def resolver(what: Catalog, **listed: dict[str, str | None]) -> Resolver:
    """`listed` gives server names their model lists."""
    fleet = Fleet(each for one in what.pools.values() for each in one.endpoints)
    for member in fleet.members:
        if member.endpoint.server in listed:
            fleet.listed(member, listed[member.endpoint.server])
    return Resolver(what, fleet)


def found(which: Resolver, model: str | None, **more: Any) -> Resolved:
    resolved = which.resolve(request(model, **more), CHANCE)
    assert isinstance(resolved, Resolved), resolved
    return resolved


def refusal(which: Resolver, model: str | None, **more: Any) -> Refused:
    resolved = which.resolve(request(model, **more), CHANCE)
    assert isinstance(resolved, Refused), resolved
    return resolved


A, B = endpoint("a"), endpoint("b")


def two_pools(*models: PublicModel, **more: object) -> Catalog:
    return catalog(
        pool(A, name="x/one", exact_rewrites={"alias": split(("base", 1), source="rewrite alias")}),
        pool(B, name="x/two", objectives={"batch": -5}),
        models=models,
        **more,
    )


LISTS: dict[str, dict[str, str | None]] = {"a": {"base": None}, "b": {"other": None, "food": "other"}}


def test_an_inference_model_comes_first_and_brings_its_priority() -> None:
    which = resolver(two_pools(public("base", ("t", 1), pool="x/two", priority=9)), **LISTS)
    resolved = found(which, "base", objective="batch")
    assert (resolved.pool.name, resolved.target, resolved.priority) == ("x/two", "t", 9)
    assert resolved.source == "InferenceModel default/x"


def test_no_rewrite_applies_to_what_an_inference_model_drew() -> None:
    which = resolver(two_pools(public("chat", ("alias", 1), pool="x/one")), **LISTS)
    assert found(which, "chat").target == "alias"


def test_an_exact_rewrite_is_a_public_name() -> None:
    resolved = found(resolver(two_pools(), **LISTS), "alias")
    assert (resolved.pool.name, resolved.target, resolved.source) == ("x/one", "base", "rewrite alias")


def test_what_servers_list_is_found_and_keeps_its_name() -> None:
    which = resolver(two_pools(), **LISTS)
    assert (found(which, "food").pool.name, found(which, "food").target) == ("x/two", "food")
    assert found(which, "base").pool.name == "x/one"


def test_the_default_pool_wins_when_both_list_a_model() -> None:
    lists: dict[str, dict[str, str | None]] = {"a": {"m": None}, "b": {"m": None}}
    assert found(resolver(two_pools(), **lists), "m").pool.name == "x/one"
    assert found(resolver(two_pools(default_pool="x/two"), **lists), "m").pool.name == "x/two"


def test_exact_rules_outrank_generic_ones_and_the_header() -> None:
    one = pool(A, exact_rewrites={"m": split(("exact", 1))}, generic_rewrite=split(("generic", 1)))
    which = resolver(catalog(one), a={"m": None, "n": None})
    assert found(which, "m", model_override="header").target == "exact"
    assert found(which, "n", model_override="header").target == "generic"
    assert found(which, "unheard").target == "generic"


def test_the_header_names_the_target_where_no_rule_does() -> None:
    which = resolver(catalog(pool(A)), a={"m": None, "canary": None})
    assert found(which, "m", model_override="canary").target == "canary"
    assert found(which, "unheard", model_override="canary").target == "canary"


def test_a_generic_rule_stays_in_its_pool() -> None:
    what = catalog(
        pool(A, name="x/one"), pool(B, name="x/two", generic_rewrite=split(("other", 1), source="rewrite all"))
    )
    which = resolver(what, a={"base": None}, b={"other": None})
    assert found(which, "base").target == "base"
    assert (found(which, "unheard").pool.name, found(which, "unheard").target) == ("x/two", "other")


def test_an_unknown_name_is_404_and_names_the_nearest() -> None:
    refused = refusal(resolver(two_pools(public("food-review", pool="x/one")), **LISTS), "food-revue")
    assert refused.reason is Reason.UNKNOWN_MODEL
    assert refused.param == "model"
    assert '"food-review"' in refused.message
    assert len(refusal(resolver(two_pools(), **LISTS), "x" * 10_000).message) < 300


def test_as_long_as_no_server_of_a_pool_has_listed_its_models_it_may_have_any() -> None:
    what = two_pools()
    assert found(resolver(what), "anything").pool.name == "x/one"
    assert found(resolver(what, a={"base": None}), "anything").pool.name == "x/two"


def test_a_model_is_not_unknown_while_a_pool_was_never_heard_of() -> None:
    which = resolver(two_pools(), a={"base": None})
    which.fleet.by_key[B.key].health = Health.UNREACHABLE
    refused = refusal(which, "anything")
    assert refused.reason is Reason.NO_ENDPOINTS
    assert "x/two" in refused.message
    assert refusal(which, "anything", pool_hint="x/one").reason is Reason.UNKNOWN_MODEL
    assert found(which, "base").pool.name == "x/one"
    empty = resolver(catalog(pool(A, name="x/one"), pool(name="x/two")), **LISTS)
    assert refusal(empty, "anything").reason is Reason.UNKNOWN_MODEL
    heard = resolver(two_pools(), **LISTS)
    heard.fleet.by_key[B.key].health = Health.UNREACHABLE
    assert refusal(heard, "anything").reason is Reason.UNKNOWN_MODEL


def test_behind_a_foreign_gateway_the_pool_is_given_and_unknown_names_pass() -> None:
    which = resolver(two_pools(passes_unknown_models=True), **LISTS)
    resolved = found(which, "whatever", pool_hint="x/two", objective="batch")
    assert (resolved.pool.name, resolved.target, resolved.priority) == ("x/two", "whatever", -5)
    assert found(which, "alias", pool_hint="x/two").target == "alias"
    assert found(which, "alias", pool_hint="x/one").target == "base"
    assert refusal(which, "base", pool_hint="x/none").reason is Reason.NO_POOL


def test_a_strict_picker_behind_a_foreign_gateway_refuses_what_the_given_pool_does_not_list() -> None:
    which = resolver(two_pools(), **LISTS)
    assert found(which, "food", pool_hint="x/two").target == "food"
    assert refusal(which, "food", pool_hint="x/one").reason is Reason.UNKNOWN_MODEL


def test_an_inference_model_of_another_pool_does_not_count_where_the_pool_is_given() -> None:
    which = resolver(two_pools(public("chat", ("t", 1), pool="x/one"), passes_unknown_models=True), **LISTS)
    assert found(which, "chat", pool_hint="x/two").target == "chat"


def test_an_inference_model_of_a_pool_that_is_gone_is_503() -> None:
    assert refusal(resolver(two_pools(public("m", pool="x/gone"))), "m").reason is Reason.NO_POOL


def test_requests_without_a_model_go_to_the_default_pool_or_the_only_one() -> None:
    assert found(resolver(catalog(pool(A))), None).target is None
    assert found(resolver(two_pools(default_pool="x/two")), None, api=Api.OTHER).pool.name == "x/two"
    refused = refusal(resolver(two_pools()), None)
    assert (refused.reason, refused.param) == (Reason.UNKNOWN_MODEL, "model")
    assert refusal(resolver(two_pools()), None, api=Api.OTHER).reason is Reason.UNKNOWN_MODEL
    assert refusal(resolver(catalog()), "m").reason is Reason.NO_POOL


def test_a_request_without_a_model_gets_that_of_the_generic_rule_or_of_the_header() -> None:
    ruled = pool(A, exact_rewrites={"wish": split(("exact", 1))}, generic_rewrite=split(("generic", 1), source="rule"))
    resolved = found(resolver(catalog(ruled)), None, model_override="wish")
    assert (resolved.target, resolved.source) == ("generic", "rule")
    assert found(resolver(catalog(pool(A, exact_rewrites={"wish": split(("exact", 1))}))), None).target is None
    free = resolver(two_pools(default_pool="x/one"), **LISTS)
    assert (found(free, None).pool.name, found(free, None).target) == ("x/one", None)
    wished = found(free, None, model_override="food", objective="batch")
    assert (wished.pool.name, wished.target, wished.priority) == ("x/two", "food", -5)
    assert refusal(free, None, model_override="foot").reason is Reason.UNKNOWN_MODEL
    assert '"foot"' in refusal(free, None, model_override="foot").message
    passing = resolver(two_pools(passes_unknown_models=True), **LISTS)
    assert found(passing, None, pool_hint="x/two", model_override="whatever").target == "whatever"


@pytest.mark.parametrize("api", [Api.OTHER, Api.MODELS])
def test_what_has_no_place_for_a_model_gets_none(api: Api) -> None:
    which = resolver(catalog(pool(A, generic_rewrite=split(("generic", 1)))))
    assert found(which, None, api=api, model_override="wish").target is None


def test_objectives_are_the_pools_own() -> None:
    which = resolver(two_pools(), **LISTS)
    assert found(which, "other", objective="batch").priority == -5
    assert found(which, "other", objective="unknown").priority == 0
    assert found(which, "base", objective="batch").priority == 0


def test_draws_follow_the_weights() -> None:
    """Chi-squared over 10,000 draws with 3 degrees of freedom; 16.3 is exceeded once in a thousand."""
    weights = {"a": 70, "b": 20, "c": 9, "d": 1}
    which = split(*weights.items())
    seen = Counter(draw(which, CHANCE) for _ in range(10_000))
    assert sum((seen[name] - 100 * weight) ** 2 / (100 * weight) for name, weight in weights.items()) < 16.3


@pytest.mark.parametrize(("at", "target"), [(0, "a"), (6, "a"), (7, "b"), (9, "b")])
def test_the_edges_of_a_share_belong_to_it(at: int, target: str) -> None:
    class At(random.Random):
        def randrange(self, *_: object) -> int:
            return at

    assert draw(split(("a", 7), ("b", 3)), At()) == target


def test_pools_need_not_have_servers() -> None:
    which = resolver(catalog(Pool(name="x/empty"), models=(public("m", pool="x/empty"),)))
    assert found(which, "m").pool.name == "x/empty"
    assert refusal(which, "other").reason is Reason.UNKNOWN_MODEL

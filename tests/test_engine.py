import random
from collections import Counter
from typing import Any

import msgspec
import pytest

from stellwerk.engine import EngineSettings
from stellwerk.model.event import (
    Ask,
    Configured,
    Draining,
    Finished,
    Prefilled,
    Released,
    SampleFailed,
    Tick,
    TurnedAway,
    Used,
    Withdrawn,
)
from stellwerk.model.outcome import Answered, Picked
from stellwerk.model.reason import Reason
from stellwerk.model.report import Report, Usage
from stellwerk.model.request import Api
from tests.kit.fleet import (
    POOL,
    Brain,
    catalog,
    endpoint,
    picker,
    pool,
    public,
    request,
    sample,
)

LONG = bytes(random.Random(7).randbytes(4096))
A, B, C = endpoint("a"), endpoint("b"), endpoint("c")


def brain(**more: Any) -> Brain:
    """Three servers, all read once, all idle."""
    made = Brain(A, B, C, **more)
    for name in "abc":
        made.tell(name)
    return made


def unreachable(some: Brain, name: str) -> None:
    some.engine.receive(SampleFailed(f"default/{name}:8000", "connection refused", True), some.now)


def finish(some: Brain, ticket: int, served: str | None, flags: str = "", status: int = 200) -> None:
    some.engine.receive(Finished(ticket, Report(status=status, served=served, flags=flags)), some.now)


def load(some: Brain) -> dict[str, tuple[int, int]]:
    """Server to requests and tokens in flight."""
    (view,) = some.engine.describe(some.now).pools
    return {each.key[8:9]: (each.requests, each.tokens) for each in view.endpoints}


def healths(some: Brain) -> dict[str, str]:
    (view,) = some.engine.describe(some.now).pools
    return {each.key[8:9]: each.health for each in view.endpoints}


def test_a_pick_names_the_pool_and_fallbacks_in_order() -> None:
    some = brain()
    some.tell("a", waiting=2)
    some.tell("b", waiting=0)
    some.tell("c", waiting=4)
    outcome = some.ask()
    assert isinstance(outcome, Picked)
    assert [each.server for each in outcome.endpoints] == ["b", "a", "c"]
    assert outcome.destination == "10.0.0.98:8000,10.0.0.97:8000,10.0.0.99:8000"
    assert outcome.pool.name == POOL
    assert (outcome.public_model, outcome.target_model, outcome.scores) == ("m", None, None)


def test_the_scores_of_all_candidates_come_along_when_asked_for() -> None:
    some = brain(settings=EngineSettings(emits_scores=True, fallback_count=0))
    some.tell("a", kv_use=0.5)
    some.tell("b", kv_use=1.0)
    outcome = some.ask()
    assert isinstance(outcome, Picked)
    assert [each.server for each in outcome.endpoints] == ["c"]
    assert outcome.scores is not None
    assert dict(zip(outcome.scores.addresses, outcome.scores.totals, strict=True)) == {
        "10.0.0.97:8000": 3.0,
        "10.0.0.98:8000": 2.0,
        "10.0.0.99:8000": 4.0,
    }


def test_a_request_without_a_model_is_told_the_one_that_a_header_wishes_for() -> None:
    some = brain()
    for name, model in (("a", "m"), ("b", "wish"), ("c", "m")):
        some.list_models(name, model)
    outcome = some.ask(None, model_override="wish")
    assert isinstance(outcome, Picked)
    assert [outcome.public_model, outcome.target_model] == [None, "wish"]
    assert outcome.endpoints[0].server == "b"
    (trace,) = some.engine.traces()
    assert (trace.public_model, trace.target_model) == (None, "wish")


def test_idle_servers_share_at_random() -> None:
    some = brain()
    picks = Counter(some.pick() for _ in range(900))
    assert min(picks.values()) > 230


def test_a_prompt_goes_where_its_beginning_went() -> None:
    some = brain()
    first = some.pick(prompt=LONG)
    some.tell("abc".replace(first, "")[0], waiting=0)
    assert {some.pick(prompt=LONG + bytes([turn])) for turn in range(20)} == {first}
    assert len({some.pick(prompt=bytes([turn]) + LONG) for turn in range(40)}) == 3


def test_another_model_or_salt_does_not_share_the_prefix() -> None:
    some = brain()
    for _ in range(20):
        some.pick(prompt=LONG, cache_salt=b"x")
    (trace,) = some.engine.traces()[-1:]
    some.ask("other", prompt=LONG)
    assert list(some.engine.traces()[-1].columns[-1].scores) == [0, 0, 0]
    some.ask(prompt=LONG)
    assert list(some.engine.traces()[-1].columns[-1].scores) == [0, 0, 0]
    assert max(trace.columns[-1].scores) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"started_at": 1.0}, {"started_at": 99.0}),
        ({"progress": 50.0}, {"progress": 2.0}),
    ],
)
def test_a_server_that_restarts_loses_its_prefixes(before: dict[str, float], after: dict[str, float]) -> None:
    some = brain()
    for name in "abc":
        some.tell(name, **before)
    first = some.pick(prompt=LONG)
    some.tell(first, **after)
    some.ask(prompt=LONG)
    assert list(some.engine.traces()[-1].columns[-1].scores) == [0, 0, 0]


def test_a_server_that_leaves_and_another_at_its_address_start_from_nothing() -> None:
    some = brain()
    first = some.pick(prompt=LONG)
    ticket = some.ticket
    taken = {"a": A, "b": B, "c": C}[first]
    others = [each for each in (A, B, C) if each is not taken]
    successor = endpoint("z", host=taken.host)
    some.configure(catalog(pool(*others, successor), passes_unknown_models=True))
    assert load(some)["z"] == (0, 0)
    some.engine.receive(Released(ticket), some.now)
    assert set(load(some).values()) == {(0, 0)}
    some.ask(prompt=LONG)
    assert not any(some.engine.traces()[-1].columns[-1].scores)


def test_what_is_in_flight_is_counted_and_released() -> None:
    some = brain()
    first = some.pick(prompt=LONG)
    assert load(some)[first] == (1, 1024)
    some.engine.receive(Prefilled(some.ticket), some.now)
    assert load(some)[first] == (1, 0)
    some.engine.receive(Released(some.ticket), some.now)
    assert load(some)[first] == (0, 0)
    some.engine.receive(Released(some.ticket), some.now)
    assert load(some)[first] == (0, 0)
    assert some.engine.describe(some.now).unknown_ticket_count == 1


def test_cached_tokens_are_no_load() -> None:
    some = brain()
    first = some.pick(prompt=LONG)
    some.engine.receive(Released(some.ticket), some.now)
    assert some.pick(prompt=LONG + b"x" * 400) == first
    assert load(some)[first] == (1, 100)


def test_an_endpoint_in_two_pools_has_one_truth() -> None:
    what = catalog(pool(A, name="x/one"), pool(A, B, name="x/two"), passes_unknown_models=True)
    some = Brain(catalog=what)
    some.ask(pool_hint="x/one")
    some.ask(pool_hint="x/one")
    views = {view.name: view for view in some.engine.describe(some.now).pools}
    assert [each.requests for each in views["x/two"].endpoints] == [2, 0]


def test_no_pool_no_endpoint_no_model() -> None:
    assert Brain(catalog=catalog()).refusal().reason is Reason.NO_POOL
    empty = Brain(catalog=catalog(pool(), passes_unknown_models=True)).refusal()
    assert empty.reason is Reason.NO_ENDPOINTS
    assert POOL in empty.message
    some = Brain(A, catalog=catalog(pool(A)))
    some.list_models("a", "m")
    assert some.refusal("n").reason is Reason.UNKNOWN_MODEL


def test_servers_nobody_has_heard_of_yet_are_used_and_those_known_to_be_down_are_not() -> None:
    some = Brain(A, B)
    assert some.engine.unready(some.now) == ()
    assert {some.pick() for _ in range(30)} == {"a", "b"}
    unreachable(some, "a")
    assert {some.pick() for _ in range(30)} == {"b"}
    unreachable(some, "b")
    refused = some.refusal()
    assert refused.reason is Reason.NO_ENDPOINTS
    assert some.engine.unready(some.now) != ()
    some.tell("a")
    assert {some.pick() for _ in range(30)} == {"a"}
    assert some.engine.unready(some.now) == ()


def test_a_server_that_the_proxy_cannot_connect_to_stops_being_picked_until_its_page_is_read() -> None:
    some = brain()
    first = some.pick()
    address = {"a": A, "b": B, "c": C}[first].address
    finish(some, some.ticket, address, "UF,URX", 503)
    assert first not in {some.pick() for _ in range(60)}
    some.now += 30
    assert first not in {some.pick() for _ in range(60)}
    some.tell(first)
    assert first in {some.pick() for _ in range(60)}


def test_the_endpoints_passed_over_by_a_retry_are_avoided_for_a_moment() -> None:
    some = brain()
    outcome = some.ask()
    assert isinstance(outcome, Picked)
    passed, served = outcome.endpoints[0], outcome.endpoints[1]
    finish(some, some.ticket, served.address)
    assert passed.server not in {some.pick() for _ in range(60)}
    some.now += 1.1
    assert passed.server in {some.pick() for _ in range(60)}


def test_a_report_on_an_endpoint_that_was_replaced_harms_nobody() -> None:
    some = Brain(A)
    some.pick()
    some.configure(catalog(pool(endpoint("a", host="10.7.7.7")), passes_unknown_models=True))
    finish(some, some.ticket, A.address, "UF", 503)
    assert healths(some) == {"a": "unknown"}


def test_a_wedged_server_stops_being_picked_and_comes_back() -> None:
    some = brain()
    for _ in range(30):
        some.pick()
    for _ in range(60):
        some.now += 0.25
        for name in "abc":
            some.tell(name, running=5, progress=7.0 if name == "b" else some.now)
    assert healths(some)["b"] == "wedged"
    assert {some.pick() for _ in range(60)} == {"a", "c"}
    some.tell("b", running=5, progress=8.0)
    assert "b" in {some.pick() for _ in range(60)}


def test_if_all_are_wedged_they_are_still_tried() -> None:
    some = Brain(A)
    some.pick()
    for _ in range(60):
        some.now += 0.25
        some.tell("a", running=5, progress=7.0)
    assert healths(some) == {"a": "wedged"}
    assert some.pick() == "a"


def test_a_server_whose_page_hangs_is_not_believed_to_be_idle_for_ever() -> None:
    """Its last page said idle; the others are read and busy. What we sent it counts nevertheless."""
    some = brain()
    picks: Counter[str] = Counter()
    for _ in range(60):
        some.now += 0.1
        some.engine.receive(SampleFailed("default/a:8000", "timed out", False), some.now)
        for name in "bc":
            some.tell(name, waiting=picks[name] // 10)
        picks[some.pick()] += 1
    assert picks["a"] < 25


def test_adapters_go_to_who_has_them_and_to_all_if_nobody_says() -> None:
    some = brain()
    some.list_models("a", "base", food="base")
    some.list_models("b", "base")
    assert {some.pick("food") for _ in range(40)} == {"a", "c"}
    assert {some.pick("base") for _ in range(60)} == {"a", "b", "c"}
    assert {some.pick("unheard") for _ in range(60)} == {"a", "b", "c"}


def test_an_inference_model_splits_and_rewrites() -> None:
    what = catalog(pool(A), models=(public("review", ("food-1", 3), ("food-2", 1)),))
    some = Brain(catalog=what)
    targets: Counter[str | None] = Counter()
    for _ in range(400):
        outcome = some.ask("review")
        assert isinstance(outcome, Picked)
        targets[outcome.target_model] += 1
        assert outcome.public_model == "review"
    assert targets["food-1"] + targets["food-2"] == 400
    assert 250 < targets["food-1"] < 350
    assert some.engine.traces()[-1].source == "InferenceModel default/x"


def saturated(priority: int) -> Brain:
    some = Brain(catalog=catalog(pool(A, B), models=(public("m", priority=priority),)))
    some.tell("a", waiting=10)
    some.tell("b", waiting=0)
    return some


def test_negative_priority_is_refused_when_the_pool_is_full_and_others_are_not() -> None:
    refused = saturated(-1).refusal()
    assert refused.reason is Reason.SATURATED
    assert saturated(0).pick() == "b"
    some = saturated(-1)
    some.tell("a", waiting=9)
    assert some.pick() == "b"


def test_only_the_endpoints_in_question_count_for_shedding() -> None:
    some = saturated(-1)
    assert some.pick(subset=(B.address,)) == "b"
    assert some.refusal(subset=(A.address,)).reason is Reason.SATURATED
    trace = some.engine.traces()[-1]
    assert trace.saturation == 2.0
    assert trace.saturation_cause == "saturation 2.00 (queue full: 1 of 1)"
    assert trace.refused == "saturated"


def test_a_burst_sheds_before_the_next_page() -> None:
    some = Brain(catalog=catalog(pool(A), models=(public("m"), public("batch", priority=-1))))
    some.tell("a", waiting=1, running=4)
    some.pick("batch")
    for _ in range(10):
        some.pick("m")
    assert some.refusal("batch").reason is Reason.SATURATED


def test_subsets_hold_for_requests_without_a_body_too() -> None:
    some = brain()
    for _ in range(20):
        assert some.pick(None, api=Api.OTHER, method="GET", subset=(C.address,)) == "c"
    assert some.refusal(None, api=Api.OTHER, subset=()).reason is Reason.NO_ENDPOINTS
    assert some.refusal(subset=("10.9.9.9:8000",)).reason is Reason.NO_ENDPOINTS


def test_a_filter_that_empties_the_choice_is_429_by_load_and_503_by_kind() -> None:
    caps = {"conditions": [{"metric": "waiting-queue", "maxValue": 1}]}
    some = brain(config=picker(("utilization-filter", caps)))
    some.pick()
    for name in "abc":
        some.tell(name, waiting=2)
    assert some.refusal().reason is Reason.SATURATED
    some = brain(config=picker(("label-selector-filter", {"matchLabels": {"gpu": "h100"}})))
    assert some.refusal().reason is Reason.NO_ENDPOINTS


def test_round_robin_goes_around() -> None:
    some = brain(config=picker(("round-robin-picker",)))
    assert [some.pick() for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_least_requests_spreads_what_is_in_flight() -> None:
    some = brain(config=picker(("active-request-scorer", 1)))
    for _ in range(30):
        some.pick()
    assert set(load(some).values()) == {(10, 0)}


def test_models_are_listed_by_the_gateway() -> None:
    some = Brain(catalog=catalog(pool(A), models=(public("review", ("food", 1)),)))
    some.list_models("a", "base", food="base")
    outcome = some.ask(None, api=Api.MODELS, method="GET")
    assert isinstance(outcome, Answered)
    assert [each["id"] for each in msgspec.json.decode(outcome.body)["data"]] == ["review", "base", "food"]
    one = some.ask("food", api=Api.MODEL, method="GET")
    assert isinstance(one, Answered)
    assert msgspec.json.decode(one.body)["parent"] == "base"
    assert some.refusal("none", api=Api.MODEL).reason is Reason.UNKNOWN_MODEL


def test_behind_a_foreign_gateway_servers_answer_for_their_models_if_we_know_none() -> None:
    some = brain()
    assert isinstance(some.ask(None, api=Api.MODELS, pool_hint=POOL), Picked)
    some.list_models("a", "m")
    assert isinstance(some.ask(None, api=Api.MODELS, pool_hint=POOL), Answered)


def test_every_decision_leaves_a_trace_that_explains_it() -> None:
    some = brain()
    some.tell("a", waiting=3, kv_use=0.5)
    some.now += 0.5
    some.ask(id="mine", prompt=LONG)
    trace = some.engine.trace("mine")
    assert trace is not None
    assert trace.candidates == ("default/a:8000", "default/b:8000", "default/c:8000")
    assert [(column.scorer, column.weight, list(column.scores)) for column in trace.columns] == [
        ("queue-scorer", 2.0, [0.0, 1.0, 1.0]),
        ("kv-cache-utilization-scorer", 2.0, [0.5, 1.0, 1.0]),
        ("prefix-cache-scorer", 3.0, [0.0, 0.0, 0.0]),
    ]
    assert list(trace.totals) == [1.0, 4.0, 4.0]
    assert list(trace.ages_seconds) == [0.5, 0.5, 0.5]
    assert trace.picked[0] in ("default/b:8000", "default/c:8000")
    some.refusal(id="no", subset=())
    refused = some.engine.trace("no")
    assert refused is not None
    assert refused.refused == "no_endpoints"
    assert msgspec.json.encode(some.engine.traces())
    assert some.engine.trace("never") is None


def test_counts_read_from_an_answer_join_its_report() -> None:
    some = brain()
    first = some.pick()
    some.engine.receive(Used(some.ticket, Usage(5, 2, 9)), some.now)
    some.engine.receive(Released(some.ticket), some.now)
    finish(some, some.ticket, {"a": A, "b": B, "c": C}[first].address)
    some.engine.receive(Used(some.ticket, Usage(1, 1, 1)), some.now)
    assert some.engine.describe(some.now).unknown_ticket_count == 1


def test_a_request_that_was_turned_away_decides_nothing_and_holds_nothing() -> None:
    some = brain()
    first = some.pick()
    assert some.engine.receive(TurnedAway(99, Reason.MALFORMED_BODY), some.now) == ()
    assert some.engine.receive(TurnedAway(some.ticket, Reason.INTERNAL, was_decided=True), some.now) == ()
    assert load(some)[first][0] == 1
    assert some.engine.describe(some.now).unknown_ticket_count == 0


def test_draining_refuses_what_is_new_and_lets_what_runs_finish() -> None:
    some = brain()
    first = some.pick()
    some.engine.receive(Draining(), some.now)
    assert some.refusal().reason is Reason.SHUTTING_DOWN
    assert some.engine.unready(some.now) == ("shutting down",)
    some.engine.receive(Released(1), some.now)
    assert load(some)[first] == (0, 0)


def test_readiness_needs_a_configuration_and_a_pool() -> None:
    some = Brain(catalog=catalog())
    assert "no InferencePool" in some.engine.unready(some.now)[0]


WAITS = EngineSettings(no_endpoint_wait_seconds=5.0)


def ask(some: Brain, ticket: int) -> list[int]:
    return [each.ticket for each in some.engine.receive(Ask(ticket, request(id=str(ticket))), some.now)]


def test_requests_may_wait_for_an_endpoint_and_are_decided_in_order_when_it_comes() -> None:
    some = Brain(catalog=catalog(pool(), passes_unknown_models=True), settings=WAITS)
    assert ask(some, 1) == ask(some, 2) == ask(some, 3) == []
    assert some.engine.next_deadline() == some.now + 5
    assert some.engine.receive(Withdrawn(2), some.now) == ()
    decided = some.engine.receive(Configured(catalog(pool(A), passes_unknown_models=True)), some.now)
    assert [each.ticket for each in decided] == [1, 3]
    assert all(isinstance(each.outcome, Picked) for each in decided)
    assert load(some) == {"a": (2, 0)}
    assert some.engine.next_deadline() is None


def test_who_waits_in_vain_is_refused_at_the_deadline_and_not_before() -> None:
    some = Brain(catalog=catalog(pool(), passes_unknown_models=True), settings=WAITS)
    ask(some, 1)
    some.now += 2
    ask(some, 2)
    assert some.engine.receive(Tick(), some.now) == ()
    some.now += 3
    (decided,) = some.engine.receive(Tick(), some.now)
    assert (decided.ticket, decided.outcome.reason) == (1, Reason.NO_ENDPOINTS)  # type: ignore[union-attr]
    assert some.engine.next_deadline() == some.now + 2


def test_who_waits_is_decided_when_a_server_comes_up_and_refused_when_the_gateway_goes_down() -> None:
    some = Brain(A, settings=WAITS)
    unreachable(some, "a")
    assert ask(some, 1) == []
    (decided,) = some.engine.receive(sampled("a"), some.now)
    assert isinstance(decided.outcome, Picked)
    unreachable(some, "a")
    assert ask(some, 2) == []
    (decided,) = some.engine.receive(Draining(), some.now)
    assert decided.outcome.reason is Reason.SHUTTING_DOWN  # type: ignore[union-attr]


def sampled(name: str) -> Any:
    from stellwerk.model.event import Sampled

    return Sampled(f"default/{name}:8000", sample())


def test_events_about_endpoints_that_are_gone_are_ignored() -> None:
    some = brain()
    for event in (sampled("gone"), SampleFailed("default/gone:8000", "x", True)):
        assert some.engine.receive(event, some.now) == ()


def test_another_picker_configuration_holds_from_the_next_request_on() -> None:
    some = brain()
    some.tell("a", waiting=9)
    some.configure(some.catalog, picker(("random-picker",)))
    assert {some.pick() for _ in range(40)} == {"a", "b", "c"}
    assert some.engine.describe(some.now).prefix_index_bytes == 0


def test_the_view_is_json_with_signals_ages_and_reasons() -> None:
    some = Brain(A, B)
    some.tell("a", waiting=2, running=3, kv_use=0.25)
    some.now += 2
    page = msgspec.json.decode(msgspec.json.encode(some.engine.describe(some.now)))
    a, b = page["pools"][0]["endpoints"]
    assert (a["waiting"], a["running"], a["kv_use"], a["age_seconds"], a["health"]) == (2, 3, 0.25, 2, "healthy")
    assert (b["waiting"], b["age_seconds"], b["health"]) == (None, None, "unknown")
    assert page["prefix_index_max_bytes"] == 256 * 1024 * 1024


def test_the_index_stays_within_its_bytes_and_shows_them() -> None:
    some = brain(settings=EngineSettings(prefix_index_bytes=400_000))
    for turn in range(400):
        some.ask(prompt=random.Random(turn).randbytes(4096))
        some.engine.receive(Released(some.ticket), some.now)
        assert some.engine.describe(some.now).prefix_index_bytes <= 400_000
    assert some.engine.describe(some.now).prefix_index_blocks > 500


def test_a_seed_makes_a_run_repeat() -> None:
    def run() -> list[str]:
        some = brain(seed=42)
        return [some.pick(prompt=LONG[:turn]) for turn in range(50)]

    assert run() == run()


@pytest.mark.parametrize(("most", "named"), [(1, 3), (2, 3), (5, 4)])
def test_the_list_has_two_fallbacks_and_more_if_the_picker_names_more(most: int, named: int) -> None:
    some = Brain(A, B, C, endpoint("d"), config=picker(("max-score-picker", {"maxNumOfEndpoints": most})))
    outcome = some.ask()
    assert isinstance(outcome, Picked)
    assert len(outcome.endpoints) == named


def test_a_name_that_is_no_text_is_refused_like_any_other() -> None:
    some = Brain(catalog=catalog(pool(A), models=(public("m"),)))
    some.list_models("a", "m")
    refused = some.refusal("m\ud800" + "x" * 1000)
    assert refused.message.encode()
    assert len(refused.message) < 300
    assert isinstance(brain().ask("m\ud800", prompt=LONG), Picked)

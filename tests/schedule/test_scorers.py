import numpy as np
import pytest

from stellwerk.schedule.scorers import (
    ActiveRequestScorer,
    KvCacheScorer,
    LeastRequestsScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    PrefixCacheScorer,
    QueueScorer,
    RunningRequestsScorer,
    TokenLoadScorer,
)
from tests.kit.fleet import candidates, context, request, sample

COLD = context()


def test_the_queue_scorer_spreads_waiting_requests_from_one_to_zero() -> None:
    scores = QueueScorer().score(COLD, candidates(sample(2), sample(10), sample(4)))
    assert scores.tolist() == [1.0, 0.0, 0.75]


def test_equal_queues_all_score_one() -> None:
    assert QueueScorer().score(COLD, candidates(sample(7), sample(7))).tolist() == [1.0, 1.0]
    assert QueueScorer().score(COLD, candidates(sample(7))).tolist() == [1.0]


def test_the_running_scorer_does_the_same_with_running_requests() -> None:
    scores = RunningRequestsScorer().score(COLD, candidates(sample(0, 1), sample(9, 5), sample(0, 3)))
    assert scores.tolist() == [1.0, 0.0, 0.5]


def test_the_kv_scorer_is_the_free_share() -> None:
    assert KvCacheScorer().score(COLD, candidates(sample(kv_use=0.25), sample(kv_use=1.0))).tolist() == [0.75, 0.0]


def test_an_unknown_kv_use_is_taken_for_the_mean_of_the_known_ones() -> None:
    scores = KvCacheScorer().score(COLD, candidates(sample(kv_use=0.2), sample(kv_use=None), sample(kv_use=0.6)))
    assert scores.tolist() == pytest.approx([0.8, 0.6, 0.4])


def test_nonsense_on_a_page_does_not_make_a_server_attractive() -> None:
    for nonsense in (float("nan"), float("inf"), -5.0, 1e30):
        scores = QueueScorer().score(COLD, candidates(sample(nonsense, nonsense), sample(3, 3)))
        assert np.isfinite(scores).all()
        kv = KvCacheScorer().score(COLD, candidates(sample(kv_use=nonsense), sample(kv_use=0.5)))
        assert kv.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(("waiting", "score"), [(0, 0.5), (32, 0.375), (64, 0.25), (128, 0.0), (500, 0.0)])
def test_the_load_aware_scorer_falls_to_zero_at_its_threshold(waiting: float, score: float) -> None:
    assert LoadAwareScorer().score(COLD, candidates(sample(waiting))).tolist() == [score]


def test_the_lora_scorer_prefers_running_then_room_then_waiting() -> None:
    some = candidates(
        sample(running_adapters=frozenset({"food", "x"}), max_adapters=2),
        sample(running_adapters=frozenset({"x"}), max_adapters=2),
        sample(running_adapters=frozenset({"x"}), waiting_adapters=frozenset({"food"}), max_adapters=2),
        sample(running_adapters=frozenset({"x"}), waiting_adapters=frozenset({"y"}), max_adapters=2),
        target_model="food",
    )
    assert LoraAffinityScorer().score(COLD, some).tolist() == [1.0, 0.8, 0.6, 0.0]


def test_the_prefix_scorer_is_the_matched_share_of_blocks() -> None:
    some = candidates(sample(), sample(), sample())
    asked = context(matched=np.array([8.0, 2.0, 0.0]), block_count=8)
    assert PrefixCacheScorer().score(asked, some).tolist() == [1.0, 0.25, 0.0]
    assert PrefixCacheScorer().score(COLD, some).tolist() == [0.0, 0.0, 0.0]


def test_the_prefix_scorer_mixes_in_the_matched_length() -> None:
    """0.5 * min(1, 32 * 64 / 4096)^2 + 0.5 * 32 / 64 = 0.5 * 0.25 + 0.25."""
    asked = context(matched=np.array([32.0, 64.0]), block_count=64)
    scorer = PrefixCacheScorer(match_length_weight=0.5, match_length_scale_tokens=4096)
    assert scorer.score(asked, candidates(sample(), sample())).tolist() == [0.375, 1.0]


def test_the_token_scorer_adds_what_this_request_would_bring() -> None:
    some = candidates(sample(), sample())
    some.fleet.tokens[:] = [100.0, 300.0]
    asked = context(request(prompt=b"x" * 1024), matched=np.array([0.0, 3.0]), block_count=4)
    scores = TokenLoadScorer(queue_threshold_tokens=1000).score(asked, some)
    assert scores.tolist() == pytest.approx([1 - (100 + 256) / 1000, 1 - (300 + 64) / 1000])


@pytest.mark.parametrize(
    ("scorer", "scores"),
    [
        (ActiveRequestScorer(), [1.0, 0.5, 0.0]),
        (ActiveRequestScorer(idle_threshold=2), [1.0, 1.0, 0.0]),
        (ActiveRequestScorer(max_busy_score=0.5), [1.0, 0.25, 0.0]),
        (ActiveRequestScorer(idle_threshold=4), [1.0, 1.0, 1.0]),
    ],
)
def test_the_active_request_scorer_counts_what_is_in_flight_here(
    scorer: ActiveRequestScorer, scores: list[float]
) -> None:
    some = candidates(sample(), sample(), sample())
    some.fleet.requests[:] = [0.0, 2.0, 4.0]
    assert scorer.score(COLD, some).tolist() == scores


def test_least_requests_takes_the_servers_word_or_our_own_count_whichever_is_more() -> None:
    some = candidates(sample(1, 3), sample(0, 0), sample(0, 0))
    some.fleet.requests[:] = [1.0, 2.0, 0.0]
    assert LeastRequestsScorer().score(COLD, some).tolist() == [0.0, 0.5, 1.0]

import pytest

from stellwerk.flow.saturation import saturation
from stellwerk.model.candidates import Candidates
from stellwerk.model.detector import ConcurrencyDetector, ConcurrencyMode, UtilizationDetector
from stellwerk.model.fleet import Fleet
from tests.kit.fleet import candidates, endpoint, sample

DEFAULT = UtilizationDetector()


@pytest.mark.parametrize(
    ("pages", "value"),
    [
        ([(0, 0.0)], 0.0),
        ([(5, 0.0)], 1.0),
        ([(0, 0.8)], 1.0),
        ([(10, 0.4), (0, 0.4)], (2.0 + 0.5) / 2),
        ([(1, 0.8), (2, 0.2), (0, 0.0)], (1.0 + 0.4 + 0.0) / 3),
        ([(50, 1.0)], 10.0),
    ],
)
def test_utilization_is_the_mean_of_the_worse_of_queue_and_cache(
    pages: list[tuple[float, float]], value: float
) -> None:
    some = candidates(*(sample(waiting, kv_use=kv_use) for waiting, kv_use in pages))
    assert saturation(DEFAULT, some, 0.1).value == pytest.approx(value)


def test_thresholds_are_parameters() -> None:
    some = candidates(sample(10, kv_use=0.1))
    assert saturation(UtilizationDetector(queue_depth_threshold=20), some, 0.0).value == pytest.approx(0.5)
    some = candidates(sample(0, kv_use=0.3))
    assert saturation(UtilizationDetector(kv_cache_util_threshold=0.6), some, 0.0).value == pytest.approx(0.5)


def test_an_endpoint_never_read_or_overdue_counts_as_full_and_the_cause_says_so() -> None:
    fleet = Fleet([endpoint("a"), endpoint("b")])
    some = Candidates(fleet, fleet.members)
    level = saturation(DEFAULT, some, 100.0)
    assert level.value == 1.0
    assert level.cause == "saturation 1.00 (metrics overdue: 2 of 2)"
    fleet.sampled(fleet.members[0], sample(), 100.0)
    assert saturation(DEFAULT, some, 105.0).value == 0.5
    assert saturation(DEFAULT, some, 107.3).value == 1.0


def test_nobody_is_full() -> None:
    assert saturation(DEFAULT, candidates(), 0.0).value == 1.0


def test_a_burst_counts_before_the_next_page() -> None:
    some = candidates(sample(1, 8))
    member = some.members[0]
    member.requests += 20
    some.fleet.load_changed(member)
    assert saturation(DEFAULT, some, 0.01).value == pytest.approx((1 + 20) / 5)
    some.fleet.sampled(member, sample(0, 28), 0.05)
    assert saturation(DEFAULT, some, 0.06).value == 0.0


def test_a_few_requests_to_an_idle_server_are_no_burst() -> None:
    some = candidates(sample(0, 0))
    member = some.members[0]
    member.requests += 50
    some.fleet.load_changed(member)
    assert saturation(DEFAULT, some, 0.01).value == 0.0


def test_concurrency_counts_what_is_in_flight() -> None:
    some = candidates(sample(), sample())
    some.fleet.requests[:] = [50.0, 150.0]
    some.fleet.tokens[:] = [900_000.0, 100_000.0]
    values = {mode: saturation(ConcurrencyDetector(concurrency_mode=mode), some, 0.0).value for mode in ConcurrencyMode}
    assert values[ConcurrencyMode.REQUESTS] == pytest.approx(200 / 200)
    assert values[ConcurrencyMode.TOKENS] == pytest.approx(0.5)
    assert values[ConcurrencyMode.HYBRID] == pytest.approx((0.9 + 1.5) / 2)

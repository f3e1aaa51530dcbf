from typing import ClassVar

import numpy as np
import pytest

from stellwerk.model.candidates import Candidates
from stellwerk.model.fleet import Floats
from stellwerk.model.picker_config import PickerConfig
from stellwerk.schedule.pickers import MaxScorePicker
from stellwerk.schedule.pipeline import NamedFilter, Profile, Weighted
from stellwerk.schedule.plugin import Context, Filter, Mask, Reads, Scorer
from stellwerk.schedule.registry import build
from tests.kit.fleet import candidates, context, sample


class Fixed(Scorer, frozen=True):
    values: tuple[float, ...]

    def score(self, context: Context, candidates: Candidates) -> Floats:
        return np.array(self.values)


class Without(Filter, frozen=True):
    name: str
    is_load: ClassVar[bool] = True

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        return np.array([not name.startswith(f"default/{self.name}:") for name in candidates.names])


class Once(Without, frozen=True):
    reads: ClassVar[Reads] = Reads.LABELS
    calls: ClassVar[list[int]] = []

    def keep(self, context: Context, candidates: Candidates) -> Mask:
        self.calls.append(1)
        return Without.keep(self, context, candidates)


def test_the_default_blend_on_a_worked_example() -> None:
    """2 * queue + 2 * (1 - kv) + 3 * prefix:
    a: 2*1.0 + 2*0.5 + 3*0.25 = 3.75; b: 2*0.5 + 2*0.9 + 3*0 = 2.8; c: 2*0 + 2*0.8 + 3*1 = 4.6."""
    some = candidates(sample(0, kv_use=0.5), sample(2, kv_use=0.1), sample(4, kv_use=0.2))
    asked = context(matched=np.array([1.0, 0.0, 4.0]), block_count=4)
    selection = build(PickerConfig()).profile.run(asked, some, 3)
    assert selection.totals.tolist() == pytest.approx([3.75, 2.8, 4.6])
    assert selection.order == [2, 0, 1]
    assert [column.scorer for column in selection.columns] == [
        "queue-scorer",
        "kv-cache-utilization-scorer",
        "prefix-cache-scorer",
    ]


def test_scores_are_clamped_weighted_and_summed_and_nan_counts_as_nothing() -> None:
    some = candidates(sample(), sample(), sample())
    nan = float("nan")
    profile = Profile(
        (), (Weighted("x", Fixed((2.0, nan, 0.5)), 2.0), Weighted("y", Fixed((-1.0, 0.25, nan)), 4.0)), MaxScorePicker()
    )
    assert profile.run(context(), some, 1).totals.tolist() == [2.0, 1.0, 1.0]


def test_new_signals_are_seen_by_the_next_request() -> None:
    some = candidates(sample(0), sample(5))
    profile = build(PickerConfig()).profile
    assert profile.run(context(), some, 1).order == [0]
    some.fleet.sampled(some.members[0], sample(9), 1.0)
    assert profile.run(context(), some, 1).order == [1]


def test_a_kept_trace_does_not_change_when_signals_do() -> None:
    some = candidates(sample(0), sample(5))
    profile = build(PickerConfig()).profile
    before = profile.run(context(), some, 1)
    told = list(before.totals), [list(column.scores) for column in before.columns]
    some.fleet.sampled(some.members[0], sample(9), 1.0)
    profile.run(context(), some, 1)
    assert (list(before.totals), [list(column.scores) for column in before.columns]) == told


def test_filters_narrow_in_order_and_say_whom_they_dropped() -> None:
    some = candidates(sample(), sample(), sample())
    filters = (NamedFilter("first", Without("a")), NamedFilter("second", Without("c")))
    selection = Profile(filters, (), MaxScorePicker()).run(context(), some, 3)
    assert selection.candidates.names == ("default/b:8000",)
    assert [(each.filter, each.endpoints) for each in selection.dropped] == [
        ("first", ("default/a:8000",)),
        ("second", ("default/c:8000",)),
    ]
    assert selection.order == [0]


def test_an_empty_choice_says_whether_load_emptied_it() -> None:
    some = candidates(sample())
    by_load = Profile((NamedFilter("x", Without("a")),), (), MaxScorePicker()).run(context(), some, 3)
    assert (by_load.order, by_load.emptied_by_load) == ([], True)


def test_a_filter_by_labels_runs_once_per_choice() -> None:
    some = candidates(sample(), sample())
    profile = Profile((NamedFilter("x", Once("a")),), (), MaxScorePicker())
    Once.calls.clear()
    for _ in range(3):
        assert profile.run(context(), some, 1).candidates.names == ("default/b:8000",)
    assert len(Once.calls) == 1

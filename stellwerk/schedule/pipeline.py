"""A scheduling profile at work: filters, then weighted scorers, then the picker, and a record of each.

Total score = sum of weight * score, every score clamped to 0..1, not divided by the weights (upstream:
`pkg/epp/scheduling/scheduler_profile.go`). What depends on the servers' pages alone is kept with the candidates and
added once per reading; what depends on the request is added per request.
"""

import numpy as np
from msgspec import Struct

from stellwerk.model.candidates import Candidates
from stellwerk.model.fleet import Floats
from stellwerk.model.trace import Column, Dropped
from stellwerk.schedule.plugin import Context, Filter, Mask, Picker, Reads, Scorer


class NamedFilter(Struct, frozen=True):
    """A filter under its name in the configuration."""

    name: str
    filter: Filter


class Weighted(Struct, frozen=True):
    """A scorer under its name in the configuration, and how much it counts."""

    name: str
    scorer: Scorer
    weight: float


class Selection(Struct, gc=False):
    """What a profile decided. `order` are positions in `candidates`; it is empty iff a filter removed everybody."""

    order: list[int]
    candidates: Candidates
    totals: Floats
    columns: tuple[Column, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    emptied_by_load: bool = False


class _Standing(Struct, gc=False):
    """The part of the scores that no request changes."""

    version: int
    adapters_version: int
    columns: tuple[Column, ...]
    total: Floats


class Profile:
    """Immutable once built; what it keeps between requests is kept by the candidates."""

    def __init__(self, filters: tuple[NamedFilter, ...], scorers: tuple[Weighted, ...], picker: Picker) -> None:
        self.filters = filters
        self.scorers = scorers
        self.picker = picker
        self._standing = tuple(each for each in scorers if each.scorer.reads is not Reads.REQUEST)
        self._asked = tuple(each for each in scorers if each.scorer.reads is Reads.REQUEST)

    def run(self, context: Context, candidates: Candidates, count: int) -> Selection:
        """The best `count` of the candidates. `candidates` is not empty."""
        dropped: tuple[Dropped, ...] = ()
        if self.filters:
            candidates, dropped, last = self._filtered(context, candidates)
            if not candidates:
                by_load = last is not None and last.is_load
                return Selection([], candidates, candidates.zeros, (), dropped, by_load)
        candidates.refresh()
        standing = self._standing_of(context, candidates)
        columns, total = standing.columns, standing.total
        for each in self._asked:
            scores = _column(each.scorer, context, candidates)
            columns += (Column(each.name, each.weight, scores),)  # type: ignore[arg-type]
            if scores is not candidates.zeros:
                total = total + each.weight * scores
        order = self.picker.order(context, total, count)
        return Selection(order, candidates, total, columns, dropped)

    def _standing_of(self, context: Context, candidates: Candidates) -> _Standing:
        kept: _Standing | None = candidates.kept.get(self)
        version, adapters_version = candidates.version, candidates.fleet.adapters_version
        if kept is not None and kept.version == version and kept.adapters_version == adapters_version:
            return kept
        total = candidates.zeros
        columns = []
        for each in self._standing:
            scores = _column(each.scorer, context, candidates)
            columns.append(Column(each.name, each.weight, scores))  # type: ignore[arg-type]
            total = total + each.weight * scores
        kept = candidates.kept[self] = _Standing(version, adapters_version, tuple(columns), total)
        return kept

    def _filtered(
        self, context: Context, candidates: Candidates
    ) -> tuple[Candidates, tuple[Dropped, ...], Filter | None]:
        dropped: list[Dropped] = []
        for each in self.filters:
            candidates.refresh()
            rest, removed = _narrowed(each, context, candidates)
            if removed is not None:
                dropped.append(removed)
            if not rest:
                return rest, tuple(dropped), each.filter
            candidates = rest
        return candidates, tuple(dropped), None


def _narrowed(each: NamedFilter, context: Context, candidates: Candidates) -> tuple[Candidates, Dropped | None]:
    """What the filter leaves; kept with the candidates if only their labels decide."""
    is_lasting = each.filter.reads is Reads.LABELS
    if is_lasting and each.name in candidates.kept:
        kept: tuple[Candidates, Dropped | None] = candidates.kept[each.name]
        return kept
    mask: Mask = each.filter.keep(context, candidates)
    if mask.all():
        result: tuple[Candidates, Dropped | None] = (candidates, None)
    else:
        names = candidates.names
        removed = tuple(names[position] for position in np.flatnonzero(~mask).tolist())
        result = (candidates.narrowed(np.flatnonzero(mask).tolist()), Dropped(each.name, removed))
    if is_lasting:
        candidates.kept[each.name] = result
    return result


def _column(scorer: Scorer, context: Context, candidates: Candidates) -> Floats:
    """The scorer's column, within 0..1; NaN counts as 0."""
    scores = scorer.score(context, candidates)
    if scorer.is_bounded:
        return scores
    clamped: Floats = np.fmin(np.fmax(scores, 0.0), 1.0)
    return clamped

"""The endpoints that one request may go to, as columns: what filters narrow, scorers score and pickers pick from.

An instance is kept for as long as the choice stays the same (pool, target model, subset, who is healthy), so that
whatever depends on the servers' signals alone is computed once per reading of a page, not once per request. Arrays
handed out are never written to afterwards: a trace may keep them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from stellwerk.model.fleet import Fleet, Floats, Health, Member, Rows


class Candidates:
    """Some members of a fleet, in a fixed order. Every column has shape (len(self),) and is float64."""

    __slots__ = (
        "_adapters",
        "_at",
        "_version",
        "fleet",
        "kept",
        "kv_use",
        "members",
        "names",
        "rows",
        "running",
        "target_model",
        "waiting",
        "zeros",
    )

    def __init__(self, fleet: Fleet, members: Iterable[Member], target_model: str | None = None) -> None:
        self.fleet = fleet
        self.members: tuple[Member, ...] = tuple(members)
        self.target_model = target_model
        self.names = tuple(member.endpoint.key for member in self.members)
        self.rows: Rows = np.fromiter((member.row for member in self.members), dtype=np.intp, count=len(self.members))
        self._at = _as_slice(self.rows)
        self.zeros: Floats = np.zeros(len(self.members))
        self.kept: dict[Any, Any] = {}
        """What others computed from these candidates; keyed by whoever put it there."""
        self._version = -1
        self._adapters: tuple[int, Floats] = (-1, self.zeros)
        self.waiting = self.running = self.kv_use = self.zeros
        self.refresh()

    def __len__(self) -> int:
        return len(self.members)

    @property
    def version(self) -> int:
        """Of the signal columns; the same number means the same values."""
        return self._version

    def refresh(self) -> None:
        """Gather the signal columns anew if the fleet's have changed."""
        fleet = self.fleet
        if self._version == fleet.signals_version:
            return
        self._version = fleet.signals_version
        at = self._at
        self.waiting = fleet.waiting[at].copy()
        self.running = fleet.running[at].copy()
        self.kv_use = _without_gaps(fleet.kv_use[at].copy())

    def ages(self, now: float) -> Floats:
        """Seconds since each one's metrics page was read; inf: never."""
        return now - self.fleet.updated_at[self._at]

    @property
    def requests(self) -> Floats:
        """In-flight requests, now."""
        return self.fleet.requests[self._at].copy()

    @property
    def tokens(self) -> Floats:
        """In-flight tokens, now."""
        return self.fleet.tokens[self._at].copy()

    @property
    def adapter_affinity(self) -> Floats:
        """How ready each is for the target as a LoRA adapter: 1 running, 0.8 a free adapter slot, 0.6 waiting for one,
        else 0 (upstream's `lora-affinity-scorer`)."""
        version, column = self._adapters
        if version != self.fleet.adapters_version:
            target = self.target_model or ""
            column = np.array([_affinity(member, target) for member in self.members], dtype=np.float64)
            self._adapters = (self.fleet.adapters_version, column)
        return column

    def narrowed(self, positions: Sequence[int]) -> "Candidates":
        """Those at the given positions, in that order."""
        members = self.members
        return Candidates(self.fleet, [members[position] for position in positions], self.target_model)


def _as_slice(rows: Rows) -> Rows | slice:
    """The rows as a slice if they follow each other: copying a stretch is many times faster than gathering."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[0]) + len(rows))
    return rows


def reachable(members: Sequence[Member]) -> Sequence[Member]:
    """Those wanted; if there is none, those that may still answer; never one where nobody listens."""
    wanted = [member for member in members if member.health.is_wanted]
    if len(wanted) == len(members):
        return members
    return wanted or [member for member in members if member.health is not Health.UNREACHABLE]


def serving(members: Sequence[Member], holders: frozenset[Member]) -> Sequence[Member]:
    """Without those known not to serve a model, if another is known to serve it (adapters may load on demand)."""
    if not holders or holders.isdisjoint(members):
        return members
    return [member for member in members if member.models is None or member in holders]


def _affinity(member: Member, target: str) -> float:
    sample = member.sample
    if sample is None:
        return 0.0
    if target in sample.running_adapters:
        return 1.0
    if len(sample.running_adapters) + len(sample.waiting_adapters) < (sample.max_adapters or 0):
        return 0.8
    return 0.6 if target in sample.waiting_adapters else 0.0


def _without_gaps(column: Floats) -> Floats:
    """Unknown values replaced by the mean of the known ones, which favours nobody; 0 if none is known."""
    gaps = np.isnan(column)
    if gaps.any():
        known = column[~gaps]
        column[gaps] = known.mean() if known.size else 0.0
    return column

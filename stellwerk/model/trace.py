"""The record of one decision: enough to explain it afterwards. The edge logs, counts and serves it."""

from collections.abc import Sequence

from msgspec import Struct


class Dropped(Struct, frozen=True, gc=False):
    """Endpoints that one filter removed, and why."""

    filter: str
    endpoints: tuple[str, ...]


class Column(Struct, frozen=True, gc=False):
    """One scorer's raw scores (0..1, one per candidate, in candidate order) and its weight."""

    scorer: str
    weight: float
    scores: Sequence[float]


class Trace(Struct, frozen=True, gc=False):
    """One decision. `candidates`, `Column.scores`, `totals` and `ages_seconds` are parallel."""

    request_id: str
    at: float
    api: str
    pool: str | None = None
    public_model: str | None = None
    target_model: str | None = None
    priority: int = 0
    candidates: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    columns: tuple[Column, ...] = ()
    totals: Sequence[float] = ()
    ages_seconds: Sequence[float] = ()
    saturation: float | None = None
    """Of the candidates; measured only where it decides (negative priority)."""
    saturation_cause: str | None = None
    """What made it, for people."""
    picked: tuple[str, ...] = ()
    refused: str | None = None
    source: str | None = None
    """The object that named the target (`InferenceModel default/food-review`)."""
    took_seconds: float = 0.0

"""From what was decided to the trace of it. This is the hot path: references are kept, nothing copied or formatted."""

from typing import Protocol

from stellwerk.model.outcome import Outcome, Picked, Refused
from stellwerk.model.request import Request
from stellwerk.model.trace import Trace
from stellwerk.schedule.pipeline import Selection
from stellwerk.schedule.resolve import Resolved


class Level(Protocol):
    """How full the candidates were."""

    @property
    def value(self) -> float: ...
    @property
    def cause(self) -> str: ...


def explain(
    request: Request,
    outcome: Outcome,
    now: float,
    *,
    resolved: Resolved | None = None,
    level: Level | None = None,
    selection: Selection | None = None,
) -> Trace:
    """As far as the decision came: each of the last three is None if it ended before."""
    return Trace(
        request_id=request.id,
        at=now,
        api=request.api.value,
        public_model=request.model,
        picked=tuple([endpoint.key for endpoint in outcome.endpoints]) if type(outcome) is Picked else (),
        refused=outcome.reason.value if type(outcome) is Refused else None,
        took_seconds=max(0.0, now - request.received_at),
        pool=resolved.pool.name if resolved is not None else None,
        target_model=resolved.target if resolved is not None else None,
        priority=resolved.priority if resolved is not None else 0,
        source=resolved.source if resolved is not None else None,
        candidates=selection.candidates.names if selection is not None else (),
        dropped=selection.dropped if selection is not None else (),
        columns=selection.columns if selection is not None else (),
        totals=selection.totals if selection is not None else (),  # type: ignore[arg-type]
        ages_seconds=selection.candidates.ages(now) if selection is not None else (),  # type: ignore[arg-type]
        saturation=level.value if level is not None else None,
        saturation_cause=level.cause if level is not None else None,
    )

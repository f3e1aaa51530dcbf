"""The last decisions, within a byte budget.

Recording keeps references; numbers become plain lists when they are read.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import structs

from stellwerk.model.trace import Column, Trace

BASE_BYTES = 700
"""Of a trace without its arrays, strings of usual length included."""


class Decisions:
    """A ring of traces, newest last. One owner: the engine."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._ring: deque[tuple[int, Trace]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def bytes(self) -> int:
        """What the ring takes, about: arrays shared by traces are counted with each."""
        return self._bytes

    def record(self, trace: Trace) -> None:
        """Keep a trace, and forget the oldest ones beyond the budget."""
        names = len(trace.request_id) + len(trace.public_model or "")
        size = BASE_BYTES + names + 8 * len(trace.candidates) * (len(trace.columns) + 2)
        self._ring.append((size, trace))
        self._bytes += size
        while self._bytes > self.max_bytes and self._ring:
            self._bytes -= self._ring.popleft()[0]

    def all(self) -> list[Trace]:
        """Every trace kept, readable."""
        return [_readable(trace) for _, trace in self._ring]

    def find(self, request_id: str) -> Trace | None:
        """The newest trace of a request."""
        for _, trace in reversed(self._ring):
            if trace.request_id == request_id:
                return _readable(trace)
        return None


def _readable(trace: Trace) -> Trace:
    columns = tuple(Column(column.scorer, column.weight, _plain(column.scores)) for column in trace.columns)
    return structs.replace(trace, columns=columns, totals=_plain(trace.totals), ages_seconds=_plain(trace.ages_seconds))


def _plain(values: Sequence[float] | Any) -> list[float]:
    plain: list[float] = np.asarray(values, dtype=np.float64).tolist()
    return plain

import msgspec
import numpy as np

from stellwerk.model.trace import Column, Trace
from stellwerk.telemetry.decisions import Decisions


def trace(id: str, endpoints: int = 2) -> Trace:
    column = np.zeros(endpoints)
    names = tuple(f"e{number}" for number in range(endpoints))
    scores: list[Column] = [Column("queue-scorer", 2.0, column)]  # type: ignore[arg-type]
    return Trace(id, 1.0, "chat", candidates=names, columns=tuple(scores), totals=column, ages_seconds=column - np.inf)  # type: ignore[arg-type]


def test_the_newest_are_last_and_the_newest_of_an_id_is_found() -> None:
    ring = Decisions(1 << 20)
    for id in ("a", "b", "a"):
        ring.record(trace(id))
    assert [each.request_id for each in ring.all()] == ["a", "b", "a"]
    assert ring.find("b") is not None
    assert ring.find("c") is None


def test_the_budget_is_in_bytes_and_the_oldest_go() -> None:
    ring = Decisions(100_000)
    for number in range(1000):
        ring.record(trace(str(number), endpoints=50))
    assert ring.bytes <= 100_000
    kept = ring.all()
    assert 20 < len(kept) < 150
    assert kept[-1].request_id == "999"
    ring.record(trace("huge", endpoints=100_000))
    assert ring.bytes <= 100_000


def test_what_is_read_is_plain_and_becomes_json() -> None:
    ring = Decisions(1 << 20)
    ring.record(trace("a"))
    (read,) = ring.all()
    assert read.columns[0].scores == [0.0, 0.0]
    assert msgspec.json.decode(msgspec.json.encode(read))["ages_seconds"] == [None, None]

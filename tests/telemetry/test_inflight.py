"""What is in flight, by endpoint and tenant."""

import pytest
from msgspec.structs import replace

from stellwerk.model.fleet import Fleet
from stellwerk.model.trace import Trace
from stellwerk.telemetry import inflight
from stellwerk.telemetry.inflight import inflight_families
from stellwerk.telemetry.ledger import Entry, Ledger
from tests.kit.fleet import endpoint

TRACE = Trace("r", 0.0, "chat")


def ledger(*entries: tuple[int, str | None, int]) -> Ledger:
    """Of two endpoints of one server; an entry is rank, tenant and priority, each of 100 and 30 tokens."""
    fleet = Fleet([endpoint("a", port=8000, rank=0), endpoint("a", port=8001, rank=1)])
    found = Ledger(fleet)
    for ticket, (rank, tenant, priority) in enumerate(entries):
        member = fleet.members[rank]
        trace = replace(TRACE, priority=priority)
        found.reserve(ticket, Entry(member, 100, 30, trace, (member.endpoint,), tenant), 0.0)
    return found


def rows(found: Ledger) -> tuple[dict[tuple[str, ...], float], ...]:
    """Requests, and tokens."""
    families = inflight_families(found.in_flight(), lambda tenant: tenant or "nobody")
    return tuple({labels: float(str(value)) for labels, value in family.rows} for family in families)


def test_rows_are_by_endpoint_tenant_and_priority_and_go_with_what_is_released() -> None:
    found = ledger((0, "x", 0), (0, "x", 0), (1, "x", 0), (0, None, -1))
    found.prefilled(0)
    requests, tokens = rows(found)
    assert requests == {
        ("a-rank-0", "default", "inflight-load-producer", "x", "0"): 2,
        ("a-rank-1", "default", "inflight-load-producer", "x", "0"): 1,
        ("a-rank-0", "default", "inflight-load-producer", "nobody", "-1"): 1,
    }
    assert tokens["a-rank-0", "default", "inflight-load-producer", "x", "0"] == 160
    for ticket in range(4):
        found.released(ticket, 1.0)
    assert rows(found) == ({}, {})


def test_rows_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "MAX_ROWS", 2)
    requests, _ = rows(ledger(*((0, f"t{number}", 0) for number in range(5))))
    assert len(requests) == 3
    assert requests["other", "other", "inflight-load-producer", "other", "other"] == 3

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.model.endpoint import Endpoint
from stellwerk.model.fleet import Fleet, Member
from stellwerk.model.trace import Trace
from stellwerk.telemetry import ledger as module
from stellwerk.telemetry.ledger import REPORT_WAIT_SECONDS, Entry, Ledger
from tests.kit.fleet import endpoint

TRACE = Trace("r", 0.0, "chat")


def entry(member: Member, prompt: int = 100, output: int = 0) -> Entry:
    return Entry(member, prompt, output, TRACE, (member.endpoint,), None)


def start(*names: str) -> tuple[Fleet, Ledger]:
    fleet = Fleet([endpoint(name) for name in names])
    return fleet, Ledger(fleet)


def test_an_exchange_counts_from_its_dispatch_to_its_release() -> None:
    fleet, ledger = start("a", "b")
    a = fleet.members[0]
    ledger.reserve(1, entry(a, 100, 30), 0.0)
    ledger.reserve(2, entry(a, 50), 0.0)
    assert (fleet.requests.tolist(), fleet.tokens.tolist()) == ([2, 0], [180, 0])
    ledger.prefilled(1)
    assert (fleet.requests.tolist(), fleet.tokens.tolist()) == ([2, 0], [80, 0])
    ledger.released(1, 1.0)
    assert (fleet.requests.tolist(), fleet.tokens.tolist()) == ([1, 0], [50, 0])
    ledger.released(2, 1.0)
    assert (fleet.requests.tolist(), fleet.tokens.tolist()) == ([0, 0], [0, 0])


def test_repeated_and_unknown_events_change_nothing_and_are_counted() -> None:
    fleet, ledger = start("a")
    ledger.reserve(1, entry(fleet.members[0]), 0.0)
    ledger.prefilled(1)
    ledger.prefilled(1)
    assert ledger.released(1, 0.0) is not None
    assert ledger.released(1, 0.0) is None
    assert ledger.finished(1) is not None
    assert ledger.finished(1) is None
    assert ledger.released(99, 0.0) is None
    assert ledger.unknown_count == 3
    assert fleet.requests.tolist() == [0]
    assert len(ledger) == 0


def test_a_ticket_is_used_once() -> None:
    fleet, ledger = start("a")
    ledger.reserve(1, entry(fleet.members[0]), 0.0)
    with pytest.raises(ValueError, match="ticket 1"):
        ledger.reserve(1, entry(fleet.members[0]), 0.0)
    assert fleet.requests.tolist() == [1]


def test_a_release_after_the_endpoint_left_touches_nobody_else() -> None:
    fleet, ledger = start("a", "b")
    ledger.reserve(1, entry(fleet.members[0]), 0.0)
    ledger.reserve(2, entry(fleet.members[1]), 0.0)
    ledger.fleet = new = Fleet([endpoint("b"), endpoint("c", host="10.0.0.97")], fleet)
    assert new.requests.tolist() == [1, 0]
    ledger.released(1, 0.0)
    assert new.requests.tolist() == [1, 0]
    ledger.released(2, 0.0)
    assert new.requests.tolist() == [0, 0]


def test_a_report_may_come_before_or_after_the_release() -> None:
    fleet, ledger = start("a")
    for ticket in (1, 2):
        ledger.reserve(ticket, entry(fleet.members[0]), 0.0)
    ledger.finished(1)
    assert fleet.requests.tolist() == [2]
    ledger.released(1, 0.0)
    ledger.released(2, 0.0)
    ledger.finished(2)
    assert len(ledger) == 0


def test_reports_that_never_come_are_forgotten_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, ledger = start("a")
    for ticket in range(3):
        ledger.reserve(ticket, entry(fleet.members[0]), 0.0)
        ledger.released(ticket, float(ticket))
    ledger.expire(1.0 + REPORT_WAIT_SECONDS)
    assert (len(ledger), ledger.unreported_count) == (1, 2)
    monkeypatch.setattr(module, "MAX_AWAITED", 10)
    for ticket in range(100, 200):
        ledger.reserve(ticket, entry(fleet.members[0]), 2.0)
        ledger.released(ticket, 2.0)
    assert len(ledger) <= 11


@dataclass
class Plain:
    """What a ledger must amount to, written down the slow way."""

    live: dict[int, tuple[Member, int, int]] = field(default_factory=dict)

    def requests(self, member: Member) -> int:
        return sum(1 for owner, _, _ in self.live.values() if owner is member)

    def tokens(self, member: Member) -> int:
        return sum(prompt + output for owner, prompt, output in self.live.values() if owner is member)


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_counts_are_those_of_what_is_in_flight_over_random_histories(data: st.DataObject) -> None:
    """Dispatches, first bytes, releases and reports in any order, repeated and for wrong tickets, with endpoints that
    come, go, and come back under the same key or address. At rest everything is zero."""
    fleet, ledger = start("a", "b")
    plain, issued, members = Plain(), 0, list(fleet.members)
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["send", "send", "prefilled", "released", "finished", "configure"])):
            case "send" if fleet.members:
                member = data.draw(st.sampled_from(fleet.members))
                issued += 1
                prompt, output = data.draw(st.integers(0, 50)), data.draw(st.integers(0, 50))
                ledger.reserve(issued, entry(member, prompt, output), 0.0)
                plain.live[issued] = (member, prompt, output)
            case "prefilled":
                ticket = data.draw(st.integers(0, issued + 1))
                ledger.prefilled(ticket)
                if ticket in plain.live:
                    member, _, output = plain.live[ticket]
                    plain.live[ticket] = (member, 0, output)
            case "released":
                ticket = data.draw(st.integers(0, issued + 1))
                ledger.released(ticket, 0.0)
                plain.live.pop(ticket, None)
            case "finished":
                ledger.finished(data.draw(st.integers(0, issued + 1)))
            case "configure":
                ledger.fleet = fleet = Fleet(data.draw(_endpoints()), fleet)
                members += [member for member in fleet.members if member not in members]
        _agrees(fleet, plain, members)
    for ticket in list(plain.live):
        ledger.released(ticket, 0.0)
    assert not any((member.requests, member.tokens, member.prefill_tokens) != (0, 0, 0) for member in members)
    assert not fleet.requests.any()
    assert not fleet.tokens.any()


def _endpoints() -> st.SearchStrategy[list[Endpoint]]:
    one = st.builds(endpoint, st.sampled_from("abc"), uid=st.sampled_from("12"), host=st.sampled_from(["", "10.1.1.1"]))
    return st.lists(one, max_size=4)


def _agrees(fleet: Fleet, plain: Plain, members: list[Member]) -> None:
    for member in members:
        assert (member.requests, member.tokens) == (plain.requests(member), plain.tokens(member))
        if member.row >= 0:
            assert fleet.members[member.row] is member
            assert (fleet.requests[member.row], fleet.tokens[member.row]) == (member.requests, member.tokens)

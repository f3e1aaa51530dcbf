"""Every order of events, to a depth: whatever a proxy, an engine and a clock do, an exchange ends well, and once."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from stellwerk.exchange.command import Abort, Commands, Extend, Finish, Forward, Mode, Reply
from stellwerk.exchange.machine import Exchange, Phase
from stellwerk.model.catalog import Pool
from stellwerk.model.event import Ask, Finished, Prefilled, Released, TurnedAway, Used, Withdrawn
from stellwerk.model.outcome import Answered, Outcome, Refused
from stellwerk.model.reason import Reason
from tests.kit.exchanges import BODY, OK_JSON, TICKET, exchange, foreign, head, own, picked

DEPTH = 6
HALF = len(BODY) // 2
EVENTS = b'data: {"model": "served-by-us", "choices": []}\n\n'
MESSAGES: dict[str, Callable[[Exchange, float], Commands]] = {
    "headers": lambda one, now: one.request_headers(head(), False, now),
    "headers, no body": lambda one, now: one.request_headers(head("/anything", "GET"), True, now),
    "body, first half": lambda one, now: one.request_body(BODY[:HALF], False, now),
    "body, second half": lambda one, now: one.request_body(BODY[HALF:], True, now),
    "body, all": lambda one, now: one.request_body(BODY, True, now),
    "trailers": lambda one, now: one.request_trailers(now),
    "response headers": lambda one, now: one.response_headers(OK_JSON, False, now),
    "response headers, no body": lambda one, now: one.response_headers({":status": "503"}, True, now),
    "response body": lambda one, now: one.response_body(EVENTS, False, now),
    "response body, last": lambda one, now: one.response_body(b"", True, now),
    "response trailers": lambda one, now: one.response_trailers(now),
    "half close": lambda one, now: one.half_closed(now),
    "bug": lambda one, now: one.fail(now),
}
DECISIONS: dict[str, Outcome] = {
    "picked": picked(target_model="served-by-us", pool=Pool("p", restores_streamed_model=True)),
    "refused": Refused(Reason.SATURATED, "busy"),
    "answered": Answered(200, b"{}"),
}
TO_ENGINE = (Ask, Withdrawn, TurnedAway, Released, Prefilled, Used, Finished)
COUNTED = (Released, Withdrawn, TurnedAway, Reply, Abort, Forward, Extend, Prefilled, Used, Finished)
OF_ENGINE = (200, 429)
"""Statuses of `DECISIONS`: a reply with another one is the exchange's own."""
NOW = 1.0


class Conversation:
    """An exchange, and the rules that hold whatever happens to it. Holds counts, no history: conversations that went
    different ways to the same state are the same."""

    def __init__(self, one: Exchange, decides: str) -> None:
        self.one = one
        self.decides = decides
        self.counts: dict[type, int] = {}
        self.is_over = False
        self.is_asked = False
        self.is_decided = False
        self.has_answer = False
        self.has_refused = False
        """Without the engine."""

    def step(self, name: str) -> None:
        if name == "decision":
            self.decide()
        elif name == "deadline":
            assert self.one.next_deadline is not None
            self.take(self.one.expire(self.one.next_deadline))
        else:
            self.has_answer = self.has_answer or name.startswith("response headers")
            self.take(MESSAGES[name](self.one, NOW))

    def decide(self) -> None:
        self.is_decided = True
        self.take(self.one.decided(DECISIONS[self.decides.removeprefix("late ")], NOW))

    def take(self, commands: Commands) -> None:
        for command in commands:
            kind = type(command)
            if isinstance(command, TO_ENGINE):
                assert command.ticket == TICKET
            else:
                assert not self.is_over, f"{command} after the last word"
            self.counts[kind] = self.counts.get(kind, 0) + (kind in COUNTED)
            self.is_over = self.is_over or kind in (Reply, Abort, Finish)
            if isinstance(command, Reply):
                self.has_refused = command.rendered.status not in OF_ENGINE
            if kind is Ask:
                assert not self.is_asked
                self.is_asked = True
                if self.decides.startswith("late"):
                    self.take(self.one.undecided())
                elif self.decides in DECISIONS:
                    self.decide()

    def moves(self) -> Iterator[str]:
        if self.is_over:
            return
        yield from MESSAGES
        if self.decides.startswith("late") and self.is_asked and not self.is_decided:
            yield "decision"
        if self.one.next_deadline is not None:
            yield "deadline"

    def end(self) -> None:
        self.take(self.one.closed(NOW))
        if self.is_asked and not self.is_decided and self.decides.startswith("late"):
            self.decide()
        assert self.one.closed(NOW) == ()
        assert self.one.phase is Phase.OVER
        assert self.one.next_deadline is None
        assert self.one.buffered_bytes == 0
        count = Counter(self.counts)
        was_picked = self.is_decided and self.decides.endswith("picked")
        assert count[Released] == was_picked
        assert count[Withdrawn] <= self.is_asked
        assert self.is_decided or count[Withdrawn] == self.is_asked
        assert count[Reply] + count[Abort] <= 1
        assert count[TurnedAway] <= self.has_refused
        assert count[TurnedAway] == self.has_refused or self.has_answer
        assert count[Forward] <= 1
        assert count[Extend] <= 1
        assert count[Prefilled] <= 1
        assert count[Used] + count[Finished] <= was_picked


MODES = {
    "own": lambda: exchange(own(), Mode.BUFFERED, Mode.NONE),
    "duplex": lambda: exchange(foreign(), Mode.DUPLEX, Mode.DUPLEX),
    "streamed": lambda: exchange(foreign(), Mode.STREAMED, Mode.STREAMED),
    "none": lambda: exchange(foreign(), Mode.NONE, Mode.BUFFERED),
}
POLICIES = ("picked", "refused", "answered", "late picked", "late refused", "never")


@pytest.mark.parametrize("decides", POLICIES)
@pytest.mark.parametrize("mode", MODES)
def test_every_order_of_events_ends_once_and_gives_back_what_it_took(mode: str, decides: str) -> None:
    seen: set[bytes] = set()
    states = [pickle.dumps(Conversation(MODES[mode](), decides))]
    for _ in range(DEPTH):
        reached = []
        for state in states:
            for move in list(pickle.loads(state).moves()):
                conversation = pickle.loads(state)
                conversation.step(move)
                after = pickle.dumps(conversation)
                conversation.end()
                if after not in seen:
                    seen.add(after)
                    reached.append(after)
        states = reached
    assert len(seen) > 20

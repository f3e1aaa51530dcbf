"""The ext_proc service: one `Conversation` per gRPC call, one `exchange.Exchange` in each, one engine behind all.

Commands of the engine may concern any conversation: `dispatch` finds it by its ticket. A conversation is the one door
per stream where a bug ends: it is counted, logged, answered with a typed 500, and harms nobody else.
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, cast

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from google.protobuf.message import DecodeError
from msgspec import structs

from stellwerk.edge.extproc import reading, wire
from stellwerk.edge.extproc.deadlines import CallLater, Deadlines
from stellwerk.edge.extproc.settings import Counts, ExtProcSettings
from stellwerk.edge.grpc.service import Call
from stellwerk.edge.grpc.status import Status
from stellwerk.exchange.command import (
    Abort,
    Commands,
    Continue,
    Finish,
    Forward,
    Reply,
)
from stellwerk.exchange.machine import Exchange
from stellwerk.model.event import Ask, Decided, Event, Released
from stellwerk.model.outcome import Outcome, Picked

PATH = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"

_RESUME_POLL_SECONDS = 0.005
_log = logging.getLogger("stellwerk.extproc")


def _call_later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, callback)


def _make_id() -> str:
    return uuid.uuid4().hex


class ExtProcService:
    """A `edge.grpc.service.Service`. `engine_receive` is `Engine.receive` (or a wrapper of it); `clock` gives the
    monotonic seconds that the engine is told. Runs on one event loop."""

    def __init__(
        self,
        engine_receive: Callable[[Event, float], Iterable[Decided]],
        settings: ExtProcSettings,
        clock: Callable[[], float],
        *,
        make_id: Callable[[], str] = _make_id,
        call_later: CallLater = _call_later,
    ) -> None:
        self.settings = settings
        self.counts = Counts()
        self.clock = clock
        self.make_id = make_id
        self.receive = engine_receive
        self.exchange_settings = settings.for_exchange()
        self.is_own = settings.is_own_proxy
        self.ticket_prefix = f"{settings.epoch}-"
        self.deadlines = Deadlines(clock, call_later)
        self.waiting: dict[int, Conversation] = {}
        """Conversations whose decision the engine still owes, by ticket."""
        self._call_later = call_later
        self._last_ticket = 0
        self._backlog: deque[Decided] = deque()
        self._is_dispatching = False
        self._paused: dict[Conversation, None] = {}

    def expect(self, renames_models: bool) -> None:
        """Whether requests that come from here on may be given another model name."""
        self.exchange_settings = structs.replace(self.exchange_settings, renames_models=renames_models)

    def __call__(self, call: Call) -> "Conversation":
        """A new call."""
        self._last_ticket += 1
        self.counts.conversations += 1
        self.counts.open += 1
        return Conversation(call, self, self._last_ticket)

    def dispatch(self, commands: Iterable[Decided]) -> None:
        """Bring decisions to their exchanges. One that nobody waits for is given back to the engine."""
        backlog = self._backlog
        backlog.extend(commands)
        if self._is_dispatching:
            return
        self._is_dispatching = True
        try:
            while backlog:
                decided = backlog.popleft()
                conversation = self.waiting.pop(decided.ticket, None)
                if conversation is not None:
                    conversation.decide(decided.outcome)
                elif isinstance(decided.outcome, Picked):
                    backlog.extend(self.receive(Released(decided.ticket), self.clock()))
        finally:
            self._is_dispatching = False

    def tell(self, event: Event, now: float) -> None:
        """Hand an event to the engine, and its commands to whom they concern."""
        commands = self.receive(event, now)
        if commands:
            self.dispatch(commands)

    def pause(self, conversation: "Conversation") -> None:
        """Take no more input from `conversation` until `Conversation.may_resume`."""
        if conversation in self._paused:
            return
        self.counts.pauses += 1
        self._paused[conversation] = None
        conversation.call.pause()
        if len(self._paused) == 1:
            self._call_later(_RESUME_POLL_SECONDS, self._resume_some)

    def forget(self, conversation: "Conversation") -> None:
        """`conversation` is closed."""
        self.counts.open -= 1
        self._paused.pop(conversation, None)
        self.waiting.pop(conversation.ticket, None)

    def close(self) -> None:
        """Stop the timer. Conversations end with their calls."""
        self.deadlines.close()

    def _resume_some(self) -> None:
        for conversation in tuple(self._paused):
            if conversation.may_resume():
                del self._paused[conversation]
                conversation.call.resume()
        if self._paused:
            self._call_later(_RESUME_POLL_SECONDS, self._resume_some)


class Conversation:
    """One call: decodes messages, runs the exchange, carries out its commands. A `edge.grpc.service.Handler`."""

    __slots__ = (
        "_answer_seconds",
        "_armed_at",
        "_began_at",
        "_exchange",
        "_has_failed",
        "_held_bytes",
        "_is_first",
        "_is_handled",
        "_is_said",
        "_service",
        "_status",
        "call",
        "is_open",
        "ticket",
    )

    def __init__(self, call: Call, service: ExtProcService, ticket: int) -> None:
        self.call = call
        self.ticket = ticket
        self.is_open = True
        self._service = service
        self._exchange = Exchange(ticket, service.exchange_settings)
        if service.settings.is_routed:
            pool = reading.pool(call.metadata)
            if pool is not None:
                self._exchange.route(pool)
        self._began_at = -1.0
        """When its first message came; negative before that."""
        self._answer_seconds: float | None = None
        """Spent on the answer so far; None: none of it was seen."""
        self._status = Status.CANCELLED
        self._is_first = True
        self._is_handled = False
        """Whether the request is decided, one way or the other."""
        self._is_said = False
        self._has_failed = False
        self._held_bytes = 0
        self._armed_at: float | None = None

    # Handler

    def on_message(self, message: bytes) -> None:
        """A `ProcessingRequest`."""
        if not self._is_said:
            self._run(self._read, message)

    def on_half_close(self) -> None:
        """The proxy has said everything."""
        if not self._is_said:
            self._run(self._exchange.half_closed)

    def on_closed(self) -> None:
        """The call is over."""
        if self.is_open:
            self.is_open = False
            self._is_said = True
            self._service.forget(self)
            self._count(self._run(self._exchange.closed))

    # From the service

    def decide(self, outcome: Outcome) -> None:
        """The engine's late decision."""
        self._run(self._exchange.decided, outcome)

    def expire(self, now: float) -> None:
        """A deadline has come; it may have moved since it was set."""
        self._armed_at = None
        self._run(self._exchange.expire)

    def may_resume(self) -> bool:
        """Whether a paused call may go on: its output is drained, and there is room for its body."""
        service = self._service
        settings = service.settings
        if self.call.unsent_bytes > settings.max_unsent_bytes // 2:
            return False
        return not self._held_bytes or service.counts.buffered_bytes <= settings.max_buffered_bytes

    # Inside

    def _run(self, step: Callable[..., Commands], *arguments: object) -> float:
        """The one broad door: a bug in here, in the exchange or in the engine ends here, and ends this stream only.
        Returns when it began."""
        now = self._service.clock()
        if self._began_at < 0.0:
            self._began_at = now
        try:
            self._carry_out(step(*arguments, now), now)
        except Exception:  # noqa: BLE001
            self._service.counts.failures += 1
            fields = {"ticket": self.ticket, "phase": self._exchange.phase.value}
            _log.exception("exchange failed", extra={"fields": fields})
            if not self._has_failed:
                self._has_failed = True
                self._run(self._exchange.fail)
            elif not self._is_said:
                self._finish(Status.INTERNAL, "internal error")
        spent = self._answer_seconds
        if spent is not None:
            self._answer_seconds = spent + self._service.clock() - now
        return now

    def _read(self, message: bytes, now: float) -> Commands:
        try:
            request = ProcessingRequest.FromString(message)
        except DecodeError:
            self._service.counts.undecodable += 1
            self._finish(Status.INVALID_ARGUMENT, "the message is not a ProcessingRequest")
            return self._exchange.closed(now)
        exchange = self._exchange
        which = request.WhichOneof("request")
        if self._is_first:
            self._is_first = False
            if not self._begin(request):
                return ()
        if request.HasField("metadata_context"):
            self._read_metadata(request.metadata_context.filter_metadata, which)
        if which == "request_body":
            body = request.request_body
            return exchange.request_body(body.body, body.end_of_stream, now)
        if which == "request_headers":
            http = request.request_headers
            headers = reading.header_map(http.headers.headers)
            return exchange.request_headers(reading.head(headers, self._service.make_id, now), http.end_of_stream, now)
        if which == "response_headers":
            self._answer_seconds = self._answer_seconds or 0.0
            http = request.response_headers
            return exchange.response_headers(reading.header_map(http.headers.headers), http.end_of_stream, now)
        if which == "response_body":
            body = request.response_body
            return exchange.response_body(body.body, body.end_of_stream, now)
        if which == "request_trailers":
            return exchange.request_trailers(now)
        if which == "response_trailers":
            return exchange.response_trailers(now)
        return ()

    def _begin(self, request: Any) -> bool:
        """Read what only the first message says. False: the conversation ends here."""
        if request.observability_mode:
            self._finish(Status.OK)
            return False
        if not request.HasField("protocol_config"):
            return True
        config = request.protocol_config
        request_mode = reading.MODES.get(config.request_body_mode)
        response_mode = reading.MODES.get(config.response_body_mode)
        if request_mode is None or response_mode is None:
            self._service.counts.unsupported += 1
            self._finish(Status.UNIMPLEMENTED, "body mode is not supported: use BUFFERED or FULL_DUPLEX_STREAMED")
            return False
        self._exchange.configure(request_mode, response_mode)
        return True

    def _read_metadata(self, filter_metadata: Any, which: str | None) -> None:
        if which in ("response_headers", "response_body", "response_trailers"):
            address = reading.served(filter_metadata)
            if address is not None:
                self._exchange.serve(address)
        elif not self._service.settings.ignores_subset:
            subset = reading.subset(filter_metadata)
            if subset is not None:
                self._exchange.hint(subset)

    def _carry_out(self, commands: Commands, now: float) -> None:
        service = self._service
        for command in commands:
            if type(command) is Continue:
                self.call.send(wire.CONTINUE[command.slot])
            elif type(command) is Forward:
                self.call.send(
                    wire.forward(command, f"{service.ticket_prefix}{self.ticket}" if service.is_own else None)
                )
                self._handled(now)
            elif type(command) is Ask:
                self._ask(command, now)
            elif type(command) is Reply:
                service.counts.replies += 1
                self.call.send(wire.reply(command))
                self._finish(Status.OK)
                self._handled(now)
            elif type(command) is Finish:
                self._finish(Status.OK)
            elif type(command) is Abort:
                service.counts.out_of_order += 1
                self._finish(Status.INVALID_ARGUMENT, command.message)
            elif type(command) in wire.ENCODERS:
                self.call.send(wire.ENCODERS[type(command)](command))
            else:
                service.tell(cast(Event, command), now)
        self._keep_books()

    def _ask(self, ask: Ask, now: float) -> None:
        """Most decisions come at once; then nothing is registered anywhere."""
        service = self._service
        mine: Outcome | None = None
        others: list[Decided] = []
        before = service.clock()
        commands = service.receive(ask, now)
        after = service.clock()
        service.counts.scheduling_seconds.observe(after - before)
        for decided in commands:
            if decided.ticket == ask.ticket and mine is None:
                mine = decided.outcome
            else:
                others.append(decided)
        if mine is not None:
            self._carry_out(self._exchange.decided(mine, now), after)
        else:
            service.waiting[ask.ticket] = self
            self._carry_out(self._exchange.undecided(), now)
        if others:
            service.dispatch(others)

    def _keep_books(self) -> None:
        """Keep the books: bytes held, output not yet taken, the next deadline."""
        exchange = self._exchange
        service = self._service
        held = exchange.buffered_bytes
        if held != self._held_bytes:
            service.counts.buffered_bytes += held - self._held_bytes
            self._held_bytes = held
        if not self.is_open:
            return
        settings = service.settings
        if (held and service.counts.buffered_bytes > settings.max_buffered_bytes) or (
            self.call.unsent_bytes > settings.max_unsent_bytes
        ):
            service.pause(self)
        deadline = exchange.next_deadline
        if deadline is not None and (self._armed_at is None or deadline < self._armed_at):
            self._armed_at = deadline
            service.deadlines.add(deadline, self)

    def _handled(self, now: float) -> None:
        """The proxy knows what to do with the request."""
        if not self._is_handled:
            self._is_handled = True
            self._service.counts.request_seconds.observe(now - self._began_at)

    def _count(self, now: float) -> None:
        """The call is over."""
        counts = self._service.counts
        counts.ended[self._status] = counts.ended.get(self._status, 0) + 1
        counts.stream_seconds.observe(now - self._began_at)
        if self._answer_seconds is not None:
            counts.answer_seconds.observe(self._answer_seconds)

    def _finish(self, status: Status, message: str = "") -> None:
        self._is_said = True
        self._status = status
        self.call.finish(status, message)

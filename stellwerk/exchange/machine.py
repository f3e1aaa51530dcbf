"""The life of one HTTP exchange, as the proxy tells it: messages in, commands out. No socket, no clock, no protobuf.

    START ─ headers ─▶ READING ─ last byte ─▶ DECIDING ─ Picked ─▶ FORWARDED ─ answer's end, client leaves ─▶ OVER
                          │                      │ Refused, Answered, deadline
                          └─ refused by headers ─┴─▶ SILENT: we have said the last word

A response that arrives before a decision is the proxy's own (a timeout, a limit): PASSED, nothing is decided any more.
What a `Picked` reserves is given back exactly once, by `Released`: at the end of the answer where we see it, else when
the conversation closes. An event may come in any phase; those that break ext_proc's order end the conversation.
"""

from collections.abc import Mapping
from enum import Enum

from msgspec.structs import replace

from stellwerk.exchange import body as body_reader
from stellwerk.exchange import request_head
from stellwerk.exchange.command import (
    WHOLE,
    Abort,
    Command,
    Commands,
    Extend,
    Finish,
    Forward,
    Mode,
    Reply,
    Slot,
    Watch,
)
from stellwerk.exchange.head import Head
from stellwerk.exchange.paths import classify
from stellwerk.exchange.refusal import Rendered, render, render_answer
from stellwerk.exchange.response import CONTINUE, ResponseHalf, pieces
from stellwerk.exchange.rewrite import with_model
from stellwerk.exchange.settings import ExchangeSettings
from stellwerk.model.event import Ask, Finished, Prefilled, Released, TurnedAway, Used, Withdrawn
from stellwerk.model.outcome import Answered, Outcome, Picked, Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api

_FINISH = (Finish(),)
_WATCH = (Watch(),)
_NO_HEAD = Head(method="POST", path="", headers={}, id="", received_at=0.0)


class Phase(Enum):
    """Where the request is."""

    START = "start"
    READING = "reading"
    DECIDING = "deciding"
    FORWARDED = "forwarded"
    PASSED = "passed"
    SILENT = "silent"
    OVER = "over"


_ENDED = (Phase.SILENT, Phase.OVER)


class Exchange:
    """One exchange. `next_deadline` is when `expire` wants to be called; `buffered_bytes` what it holds of the body."""

    __slots__ = (
        "_api",
        "_asked_slot",
        "_body",
        "_chunks",
        "_ends_with_body",
        "_had_trailers",
        "_head",
        "_is_extended",
        "_is_half_closed",
        "_is_prefilled",
        "_is_reserved",
        "_is_upload_over",
        "_owed",
        "_phase",
        "_picked",
        "_pool",
        "_request_bytes",
        "_request_mode",
        "_response",
        "_settings",
        "_steered",
        "_subset",
        "_ticket",
        "_upload_deadline",
        "buffered_bytes",
        "next_deadline",
    )

    def __init__(self, ticket: int, settings: ExchangeSettings) -> None:
        self._ticket = ticket
        self._settings = settings
        self._phase = Phase.START
        self._request_mode = Mode.BUFFERED if settings.is_own_proxy else Mode.DUPLEX
        self._response = ResponseHalf(settings)
        self._head = _NO_HEAD
        self._api = Api.OTHER
        self._subset: tuple[str, ...] | None = None
        self._pool = settings.pool_hint
        self._steered = False
        self._chunks: list[bytes] = []
        self._body = b""
        self._request_bytes = 0
        self._asked_slot = Slot.REQUEST_HEADERS
        self._ends_with_body = False
        self._is_upload_over = False
        self._upload_deadline = 0.0
        self._had_trailers = False
        self._owed: list[Command] = []
        self._is_extended = False
        self._is_half_closed = False
        self._picked: Picked | None = None
        self._is_reserved = False
        self._is_prefilled = False
        self.next_deadline: float | None = None
        self.buffered_bytes = 0

    @property
    def ticket(self) -> int:
        """The name of its decision in the engine."""
        return self._ticket

    @property
    def phase(self) -> Phase:
        """Where the request is."""
        return self._phase

    # What the proxy says about itself and the request, beside its messages

    def configure(self, request_mode: Mode, response_mode: Mode) -> None:
        """The modes that the proxy works in. Without this call: those of our own Envoy, or those that the endpoint
        picker protocol prescribes to gateways."""
        self._request_mode = request_mode
        self._response.mode = response_mode

    def hint(self, subset: tuple[str, ...]) -> None:
        """The proxy restricts the choice. The latest hint before the decision counts; a steering header outranks it."""
        if not self._steered:
            self._subset = subset

    def route(self, pool: str) -> None:
        """The proxy's own route has chosen the pool (`namespace/name`)."""
        self._pool = pool

    def serve(self, address: str) -> None:
        """The proxy names the endpoint (`ip:port`) that answered."""
        self._response.served = address

    # The request

    def request_headers(self, head: Head, is_last: bool, now: float) -> Commands:
        """`is_last`: the request has no body."""
        if self._phase is not Phase.START:
            return self._out_of_order("request headers", now)
        self._phase = Phase.READING
        self._head = head
        self._api = classify(head.method, head.path)
        refused = request_head.refusal(head, self._settings.limits)
        if refused is not None:
            return self._turn_away(refused)
        if self._settings.accepts_steering:
            steered = request_head.steering(head)
            if steered is not None:
                self._steered = True
                self._subset = steered
        if is_last:
            self._is_upload_over = True
            return self._ask(b"", self._api, Slot.REQUEST_HEADERS, now)
        mode = self._request_mode
        if mode in WHOLE:
            settings = self._settings
            may_rename = settings.renames_models or request_head.names_target(head)
            return _WATCH if settings.is_own_proxy and may_rename else CONTINUE[Slot.REQUEST_HEADERS]
        if mode is Mode.DUPLEX:
            self._upload_deadline = now + self._settings.upload_seconds
            self.next_deadline = now + self._settings.upload_idle_seconds
            return ()
        # The body will not be seen before the headers are answered: they alone decide.
        return self._ask(b"", Api.OTHER, Slot.REQUEST_HEADERS, now)

    def request_body(self, chunk: bytes, is_last: bool, now: float) -> Commands:
        """A chunk of the body, or all of it, by the proxy's mode."""
        phase = self._phase
        if phase is Phase.READING:
            if self._request_mode is Mode.DUPLEX:
                return self._keep(chunk, is_last, now)
            return self._take_whole(chunk, now)
        if phase is Phase.START and self._request_mode is not Mode.DUPLEX:
            # The proxy is configured not to show headers.
            self._phase = Phase.READING
            if self._request_mode in WHOLE:
                return self._take_whole(chunk, now)
            self._is_upload_over = is_last
            return self._ask(b"", Api.OTHER, Slot.REQUEST_BODY, now)
        if phase in (Phase.PASSED, Phase.SILENT, Phase.OVER):
            return ()
        if self._is_upload_over or self._request_mode not in (Mode.STREAMED, Mode.NONE):
            return self._out_of_order("request body", now)
        self._is_upload_over = is_last
        return self._acknowledge(Slot.REQUEST_BODY)

    def request_trailers(self, now: float) -> Commands:
        """Trailers end the request."""
        phase = self._phase
        if phase in (Phase.PASSED, Phase.SILENT, Phase.OVER):
            return ()
        if self._had_trailers or phase is Phase.START:
            return self._out_of_order("request trailers", now)
        self._had_trailers = True
        self._is_upload_over = True
        if phase is not Phase.READING:
            return self._acknowledge(Slot.REQUEST_TRAILERS)
        if self._request_mode is Mode.DUPLEX:
            self._owed += CONTINUE[Slot.REQUEST_TRAILERS]
            return self._ask(b"".join(self._chunks), self._api, Slot.REQUEST_HEADERS, now)
        return self._ask(b"", self._api, Slot.REQUEST_TRAILERS, now)

    def undecided(self) -> Commands:
        """The engine keeps the question for later. A proxy with a message timer is asked for the whole budget, once:
        it grants no second extension for the same message."""
        if self._phase is not Phase.DECIDING or self._is_extended or self._request_mode is Mode.DUPLEX:
            return ()
        self._is_extended = True
        settings = self._settings
        return (Extend(min(settings.decision_seconds + 1.0, settings.max_override_seconds)),)

    def decided(self, outcome: Outcome, now: float) -> Commands:
        """The engine's answer. It may come when nobody waits for it any more: then what it reserved is given back."""
        if self._phase is not Phase.DECIDING:
            return (Released(self._ticket),) if isinstance(outcome, Picked) else ()
        self.next_deadline = None
        if isinstance(outcome, Picked):
            return self._forward(outcome)
        if isinstance(outcome, Refused):
            return self._refuse(outcome)
        return self._answer_ourselves(outcome)

    # The response

    def response_headers(self, headers: Mapping[str, str], is_last: bool, now: float) -> Commands:
        """`is_last`: the answer has no body. Answers that no model server gave come here too."""
        before = self._overtake(now)
        if self._phase in _ENDED:
            return before
        response = self._response
        if response.has_started or response.has_ended:
            return self._out_of_order("response headers", now)
        return before + response.headers(headers, is_last, self._picked, now) + self._after_response(now)

    def response_body(self, chunk: bytes, is_last: bool, now: float) -> Commands:
        """A chunk of the answer, or all of it, by the proxy's mode."""
        before = self._overtake(now)
        if self._phase in _ENDED:
            return before
        if self._response.has_ended:
            return self._out_of_order("response body", now)
        return before + self._response.body(chunk, is_last, now) + self._after_response(now)

    def response_trailers(self, now: float) -> Commands:
        """Trailers end the answer."""
        before = self._overtake(now)
        if self._phase in _ENDED:
            return before
        return before + self._response.trailers() + self._after_response(now)

    # The ends

    def half_closed(self, now: float) -> Commands:
        """The proxy sends no more messages; it still reads."""
        if self._phase in _ENDED:
            return ()
        if self._phase is Phase.DECIDING:
            self._is_half_closed = True
            return ()
        return _FINISH

    def closed(self, now: float) -> Commands:
        """The conversation is over, in whatever way: the answer was delivered, the client left, a process died."""
        commands = self._let_go(now)
        self._phase = Phase.OVER
        return commands

    def expire(self, now: float) -> Commands:
        """`next_deadline` has come."""
        if self.next_deadline is None or now < self.next_deadline:
            return ()
        settings = self._settings
        if self._phase is Phase.DECIDING:
            message = f"no decision within {settings.decision_seconds:g} s: the queue is too long, try again later"
        else:
            message = (
                f"the request body stopped arriving for {settings.upload_idle_seconds:g} s, "
                f"or took more than {settings.upload_seconds:g} s"
            )
        return self._let_go(now) + self._turn_away(Refused(Reason.DEADLINE, message))

    def fail(self, now: float) -> Commands:
        """Something in here, or in the engine, is broken: the client hears of it, and nothing stays reserved."""
        commands = self._let_go(now)
        phase = self._phase
        if phase in _ENDED:
            return commands
        refused = Refused(Reason.INTERNAL, "the gateway made a mistake; its log has the details")
        is_forwarded = phase is Phase.FORWARDED
        if is_forwarded and self._is_failure_told():
            return commands + self._refuse(refused)
        return commands + self._turn_away(refused, was_decided=is_forwarded)

    # Steps

    def _keep(self, chunk: bytes, is_last: bool, now: float) -> Commands:
        settings = self._settings
        if chunk:
            self.buffered_bytes += len(chunk)
            if self.buffered_bytes > settings.limits.max_body_bytes:
                return self._turn_away(request_head.too_large(f"at least {self.buffered_bytes}", settings.limits))
            self._chunks.append(chunk)
        if is_last:
            self._is_upload_over = self._ends_with_body = True
            chunks = self._chunks
            return self._ask(chunks[0] if len(chunks) == 1 else b"".join(chunks), self._api, Slot.REQUEST_HEADERS, now)
        self.next_deadline = min(now + settings.upload_idle_seconds, self._upload_deadline)
        return ()

    def _take_whole(self, body: bytes, now: float) -> Commands:
        if len(body) > self._settings.limits.max_body_bytes:
            return self._turn_away(request_head.too_large(len(body), self._settings.limits))
        self._is_upload_over = True
        self.buffered_bytes = len(body)
        return self._ask(body, self._api, Slot.REQUEST_BODY, now)

    def _ask(self, body: bytes, api: Api, slot: Slot, now: float) -> Commands:
        self._chunks = []
        settings = self._settings
        request = body_reader.read(self._head, api, body, settings.limits)
        if isinstance(request, Refused):
            return self._turn_away(request)
        if self._subset is not None or self._pool is not None:
            request = replace(request, subset=self._subset, pool_hint=self._pool)
        self._body = body
        self._request_bytes = len(body)
        self._asked_slot = slot
        self._phase = Phase.DECIDING
        self.next_deadline = now + settings.decision_seconds
        return (Ask(self._ticket, request),)

    def _forward(self, picked: Picked) -> Commands:
        self._phase = Phase.FORWARDED
        self._picked = picked
        self._is_reserved = True
        body, self._body = self._body, b""
        self.buffered_bytes = 0
        content_length = None
        target = picked.target_model
        # The name of `Api.MODEL` stands in the path.
        if target is not None and target != picked.public_model and body and self._api is not Api.MODEL:
            changed = with_model(body, self._head.headers.get("content-type", ""), target)
            if changed != body:
                body = changed
                content_length = len(body)
        removed = request_head.control_headers(self._head)
        slot = self._asked_slot
        if slot is Slot.REQUEST_BODY:
            new_body = None if content_length is None else body
            commands: Commands = (Forward(slot, picked, removed, new_body, content_length),)
        else:
            commands = (Forward(slot, picked, removed, None, content_length),)
            if body or self._ends_with_body:
                commands += pieces(Slot.REQUEST_BODY, body, self._ends_with_body)
        if self._owed:
            commands += tuple(self._owed)
            self._owed = []
        return commands + _FINISH if self._is_half_closed else commands

    def _acknowledge(self, slot: Slot) -> Commands:
        """Answer a message that changes nothing: now, or after the answer that is still owed before it."""
        if self._phase is Phase.DECIDING:
            self._owed += CONTINUE[slot]
            return ()
        return CONTINUE[slot]

    def _answer_ourselves(self, answered: Answered) -> Commands:
        self._phase = Phase.SILENT
        self._drop()
        rendered = render_answer(answered.status, answered.body, self._head.id)
        return (Reply(self._without_body(rendered), "stellwerk_answered"),)

    def _refuse(self, refused: Refused) -> Commands:
        """The last word. Whose refusal it is decides who counts it: the engine counts its own."""
        self._phase = Phase.SILENT
        self._drop()
        rendered = render(refused, self._api, self._head.id)
        return (Reply(self._without_body(rendered), f"stellwerk_{refused.reason.value}"),)

    def _turn_away(self, refused: Refused, *, was_decided: bool = False) -> Commands:
        """A refusal that is ours, not the engine's: it learns of it after the client."""
        return (*self._refuse(refused), TurnedAway(self._ticket, refused.reason, was_decided))

    def _is_failure_told(self) -> bool:
        """Whether a report says, or will say, that an exchange which breaks now has failed: where none is ours to
        make, the access log of a proxy that has the answer's headers does."""
        status = self._response.status
        return status >= 400 if self._settings.reports else status > 0

    def _out_of_order(self, what: str, now: float) -> Commands:
        phase = self._phase
        if phase in _ENDED:
            return ()
        commands = self._let_go(now)
        self._phase = Phase.SILENT
        return (*commands, Abort(f"{what} came out of order (in phase {phase.value!r})"))

    def _overtake(self, now: float) -> Commands:
        """A response means that the request is settled, with or without us."""
        phase = self._phase
        if phase is Phase.FORWARDED or phase is Phase.PASSED:
            return ()
        commands = self._let_go(now)
        if phase not in _ENDED:
            self._phase = Phase.PASSED
        return commands

    def _after_response(self, now: float) -> Commands:
        """What the engine should know as early as we do."""
        if not self._is_reserved:
            return ()
        commands: Commands = ()
        if not self._is_prefilled and self._response.is_underway:
            self._is_prefilled = True
            commands = (Prefilled(self._ticket),)
        return commands + self._settle(now) if self._response.has_ended else commands

    def _settle(self, now: float) -> Commands:
        """Give back what is reserved, and say what became of it: once."""
        if not self._is_reserved:
            return ()
        self._is_reserved = False
        released = Released(self._ticket)
        if self._settings.reports:
            report = self._response.report(self._head.received_at, self._request_bytes, now)
            return (Finished(self._ticket, report), released)
        usage = self._response.usage
        return (released,) if usage is None else (Used(self._ticket, usage), released)

    def _let_go(self, now: float) -> Commands:
        """Whatever the engine holds for this exchange, it holds no more. The caller leaves the phase behind."""
        self._drop()
        if self._phase is Phase.DECIDING:
            return (Withdrawn(self._ticket),)
        return self._settle(now)

    def _drop(self) -> None:
        self.next_deadline = None
        self.buffered_bytes = 0
        self._body = b""
        self._chunks = []
        self._owed = []

    def _without_body(self, rendered: Rendered) -> Rendered:
        return replace(rendered, body=b"") if self._head.method == "HEAD" else rendered

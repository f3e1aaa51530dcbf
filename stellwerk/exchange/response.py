"""The response half of an exchange: answers the proxy's response messages, restores what has to be, takes notes."""

from bisect import bisect_left
from collections.abc import Mapping

from msgspec.structs import replace

from stellwerk.exchange.answer import Answer, Kind
from stellwerk.exchange.command import WHOLE, Adjust, Command, Commands, Continue, Mode, ReplaceBody, SendBody, Slot
from stellwerk.exchange.settings import ExchangeSettings
from stellwerk.model.catalog import Pool
from stellwerk.model.outcome import Picked
from stellwerk.model.report import GAP_BOUNDS, Gaps, Report, Usage

MAX_CHUNK_BYTES = 62_000
"""Of a body sent back: below the 64 KiB that Envoy's documentation recommends, with room for the envelope."""

CONTINUE: dict[Slot, tuple[Command, ...]] = {slot: (Continue(slot),) for slot in Slot}

_NOT_NAMED = "fail: missing destination endpoint served metadata"


class ResponseHalf:
    """Owned by its exchange. `first_byte_at` is when the first byte of the answer's body was known to exist."""

    __slots__ = (
        "_answer",
        "_chunk_at",
        "_gaps",
        "_is_timed",
        "_settings",
        "first_byte_at",
        "has_ended",
        "mode",
        "served",
    )

    def __init__(self, settings: ExchangeSettings) -> None:
        self._settings = settings
        self._answer: Answer | None = None
        self._chunk_at: float | None = None
        self._gaps: Gaps | None = None
        self._is_timed = False
        """Whether it is a stream that is to be reported on."""
        self.mode = Mode.NONE if settings.is_own_proxy else Mode.DUPLEX
        self.has_ended = False
        self.first_byte_at: float | None = None
        self.served: str | None = None
        """`ip:port` that the proxy says has answered."""

    @property
    def has_started(self) -> bool:
        """Whether headers were seen."""
        return self._answer is not None

    @property
    def status(self) -> int:
        """The answer's; 0 before its headers."""
        return self._answer.status if self._answer is not None else 0

    @property
    def is_underway(self) -> bool:
        """Whether a model server has begun to answer. Errors do not count: they may be the proxy's own."""
        return self.first_byte_at is not None and self._answer is not None and 200 <= self._answer.status < 300

    @property
    def usage(self) -> Usage | None:
        """Token counts that the answer told."""
        return self._answer.usage if self._answer is not None else None

    def headers(self, headers: Mapping[str, str], is_last: bool, picked: Picked | None, now: float) -> Commands:
        """`picked` is None if no model server of ours can have answered."""
        answer = self._answer = Answer(headers, _public_model(picked), self._settings.limits.max_answer_bytes)
        adjust = None
        if is_last:
            self.has_ended = True
        else:
            adjust = self._plan(answer, picked)
            if answer.kind is Kind.JSON:
                # A server that answers in one piece has its first byte when it sends the headers.
                self.first_byte_at = now
            elif answer.kind is Kind.EVENTS and self._settings.reports:
                self._is_timed = True
        if self._settings.names_served:
            adjust = replace(adjust or Adjust(), served=self.served or _NOT_NAMED)
        return CONTINUE[Slot.RESPONSE_HEADERS] if adjust is None else (adjust,)

    def body(self, chunk: bytes, is_last: bool, now: float) -> Commands:
        """A chunk, or the whole body, by the proxy's mode."""
        if chunk and self.first_byte_at is None:
            self.first_byte_at = now
        answer = self._answer
        if self._is_timed and chunk:
            # Once per chunk of every stream, so without a call.
            if self._chunk_at is not None:
                gap, gaps = now - self._chunk_at, self._gaps
                if gaps is None:
                    gaps = self._gaps = Gaps()
                gaps.counts[bisect_left(GAP_BOUNDS, gap)] += 1
                gaps.seconds += gap
            self._chunk_at = now
        is_whole = self.mode in WHOLE
        self.has_ended = is_last or is_whole
        if self.mode is Mode.DUPLEX:
            return pieces(Slot.RESPONSE_BODY, chunk if answer is None else answer.feed(chunk, is_last), is_last)
        if answer is None:
            return CONTINUE[Slot.RESPONSE_BODY]
        passed = answer.whole(chunk) if is_whole else answer.feed(chunk, is_last)
        if passed == chunk:
            return CONTINUE[Slot.RESPONSE_BODY]
        return (ReplaceBody(passed, sets_content_length=is_whole),)

    def trailers(self) -> Commands:
        """What is held back goes out before them."""
        rest = b""
        if self.mode is Mode.DUPLEX and self._answer is not None and not self.has_ended:
            rest = self._answer.feed(b"", True)
        self.has_ended = True
        return pieces(Slot.RESPONSE_BODY, rest, False) + CONTINUE[Slot.RESPONSE_TRAILERS]

    def report(self, received_at: float, request_bytes: int, now: float) -> Report:
        """What became of it, as far as it was seen from here."""
        answer = self._answer
        first_byte_at = self.first_byte_at
        return Report(
            status=answer.status if answer is not None else 0,
            served=self.served,
            has_passed=answer is not None,
            is_stream=answer is not None and answer.kind is Kind.EVENTS,
            ttft_seconds=first_byte_at - received_at if first_byte_at is not None else None,
            duration_seconds=now - received_at,
            request_bytes=request_bytes,
            response_bytes=answer.size_bytes if answer is not None else 0,
            usage=answer.usage if answer is not None else None,
            gaps=self._gaps,
        )

    def _plan(self, answer: Answer, picked: Picked | None) -> Adjust | None:
        restores_streams = picked is not None and self._restores_streams(picked.pool)
        reads_events = self._settings.reports
        if self.mode is not Mode.NONE:
            return answer.prepare(self.mode, restores_streams, reads_events)
        if picked is None or not self._settings.is_own_proxy:
            return None
        wanted = answer.wants(restores_streams)
        if wanted is None:
            return None
        self.mode = wanted
        return replace(answer.prepare(wanted, restores_streams, reads_events) or Adjust(), body_mode=wanted)

    def _restores_streams(self, pool: Pool) -> bool:
        """Our own proxy would have to show them for it; a foreign gateway shows them anyway."""
        wanted = pool.restores_streamed_model
        return not self._settings.is_own_proxy if wanted is None else wanted


def pieces(slot: Slot, body: bytes, is_last: bool) -> tuple[SendBody, ...]:
    """`body` in chunks that fit; an empty one only where the end has to be said. Slices, not copies."""
    size = len(body)
    if size <= MAX_CHUNK_BYTES:
        return (SendBody(slot, body, is_last),) if size or is_last else ()
    view = memoryview(body)
    last = (size - 1) // MAX_CHUNK_BYTES * MAX_CHUNK_BYTES
    return tuple(
        SendBody(slot, view[start : start + MAX_CHUNK_BYTES], is_last and start == last)
        for start in range(0, size, MAX_CHUNK_BYTES)
    )


def _public_model(picked: Picked | None) -> str | None:
    """The name to restore: the client's, where the server was told another one."""
    if picked is None or picked.target_model is None or picked.target_model == picked.public_model:
        return None
    return picked.public_model

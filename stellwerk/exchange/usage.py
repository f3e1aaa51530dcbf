"""Token counts that a server states in its answer: whole JSON, or server-sent events as they come.

A count that is no plain non-negative integer is left out by itself; the others still hold.
"""

import msgspec
from msgspec import Raw, Struct

from stellwerk.exchange.sse import EventReader
from stellwerk.model.report import Usage

_NOTHING = Raw()
_BRACE = ord("{")
_WORD, _EVENT_END = b'usage"', b"\n\n"
_MAX_DIGITS = 12
"""No answer has 10^12 tokens."""


class _Details(Struct, gc=False):
    cached_tokens: Raw = _NOTHING


class _Usage(Struct, gc=False):
    prompt_tokens: Raw = _NOTHING
    input_tokens: Raw = _NOTHING
    completion_tokens: Raw = _NOTHING
    output_tokens: Raw = _NOTHING
    cache_read_input_tokens: Raw = _NOTHING
    prompt_tokens_details: Raw = _NOTHING
    input_tokens_details: Raw = _NOTHING


class _Answer(Struct, gc=False):
    usage: Raw = _NOTHING
    response: Raw = _NOTHING
    message: Raw = _NOTHING


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_details = msgspec.json.Decoder(_Details).decode


def of_answer(body: bytes) -> Usage | None:
    """The counts in a whole JSON answer; None if it states none."""
    found = _found(body)
    return found if found and found != Usage() else None


class StreamUsage:
    """The counts of a stream of events, whatever its chunks are: of each count the last that was stated holds.

    So continuous usage ends in its total, and Anthropic's `message_start` and `message_delta` complete each other.
    An event longer than `sse.MAX_EVENT_BYTES` is not looked into. Of whole events only those that hold the word are
    read: most of a stream is text, and looking for a word costs a hundredth of decoding it.
    """

    def __init__(self) -> None:
        self._events: EventReader[Usage] = EventReader(_found)
        self.usage: Usage | None = None

    def feed(self, chunk: bytes, is_last: bool = False) -> None:
        """Read on. `is_last` also reads an event that the stream's end leaves unterminated."""
        if is_last or b"\r" in chunk:
            self._read(chunk, is_last)
            return
        start, end = 0, chunk.rfind(_EVENT_END) + len(_EVENT_END)
        if end < len(_EVENT_END):
            self._read(chunk)
            return
        if not self._events.is_between:
            start = chunk.find(_EVENT_END) + len(_EVENT_END)
            self._read(chunk[:start])
        while (at := chunk.find(_WORD, start, end)) >= 0:
            before, stop = chunk.rfind(_EVENT_END, start, at), chunk.find(_EVENT_END, at) + len(_EVENT_END)
            self._read(chunk[start if before < 0 else before : stop])
            start = stop
        if end < len(chunk):
            self._read(chunk[end:])

    def _read(self, text: bytes, is_last: bool = False) -> None:
        for piece in self._events.feed(text, is_last):
            if piece.found and piece.found != Usage():
                self.usage = _merged(self.usage, piece.found)


def _merged(old: Usage | None, new: Usage) -> Usage:
    if old is None:
        return new
    return Usage(
        prompt_tokens=old.prompt_tokens if new.prompt_tokens is None else new.prompt_tokens,
        cached_tokens=old.cached_tokens if new.cached_tokens is None else new.cached_tokens,
        output_tokens=old.output_tokens if new.output_tokens is None else new.output_tokens,
    )


def _found(text: bytes) -> Usage | None:
    """What `text` states, possibly nothing (an empty Usage); None if it is no complete JSON object."""
    try:
        answer = _decode_answer(text)
        for raw in (answer.usage, _inner_usage(answer.response), _inner_usage(answer.message)):
            if _is_object(raw):
                return _counts(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return Usage()


def _inner_usage(value: Raw) -> Raw:
    return _decode_answer(value).usage if _is_object(value) else _NOTHING


def _counts(raw: Raw) -> Usage:
    usage = _decode_usage(raw)
    cached = (_cached(usage.prompt_tokens_details), _cached(usage.input_tokens_details))
    return Usage(
        prompt_tokens=_first(_count(usage.prompt_tokens), _count(usage.input_tokens)),
        cached_tokens=_first(*cached, _count(usage.cache_read_input_tokens)),
        output_tokens=_first(_count(usage.completion_tokens), _count(usage.output_tokens)),
    )


def _cached(details: Raw) -> int | None:
    return _count(_decode_details(details).cached_tokens) if _is_object(details) else None


def _count(raw: Raw) -> int | None:
    digits = bytes(memoryview(raw)[: _MAX_DIGITS + 1])
    return int(digits) if len(digits) <= _MAX_DIGITS and digits.isdigit() else None


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)


def _is_object(raw: Raw) -> bool:
    return raw is not _NOTHING and memoryview(raw)[0] == _BRACE

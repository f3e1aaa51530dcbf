"""Gives an answer the public model name back that its request came with; every other byte stays as it is.

The name stands at the top level of JSON answers and of most events, in `response` (Responses API events) or in
`message` (Anthropic's `message_start`). Whatever is not JSON goes through unchanged.
"""

import msgspec
from msgspec import Raw, Struct

from stellwerk.exchange import structure
from stellwerk.exchange.rewrite import Spans, quoted, spliced, top_level_names
from stellwerk.exchange.sse import EventReader

MAX_HELD_BYTES = 1024 * 1024
"""How much of a JSON answer of unknown length waits for the name to turn up; then it goes out unchanged."""
_MAX_LEADING_SPACE = 1024
_NOTHING = Raw()
_QUOTE, _BRACE = ord('"'), ord("{")


class _Named(Struct, gc=False):
    model: Raw = _NOTHING
    response: Raw = _NOTHING
    message: Raw = _NOTHING


_decode = msgspec.json.Decoder(_Named).decode


def answer(body: bytes, public_model: str) -> bytes:
    """`body`, a whole JSON answer, with `public_model` in place of the served name."""
    return spliced(body, _spans(body) or (), quoted(public_model))


class StreamRestorer:
    """The same for an answer that comes in chunks: SSE, or JSON of unknown length. Owned by one exchange.

    Holds back at most `sse.MAX_EVENT_BYTES` (the line or event that is incomplete) or `MAX_HELD_BYTES` (JSON); what is
    longer goes through unchanged.
    """

    def __init__(self, public_model: str) -> None:
        self._name = quoted(public_model)
        self._start = b""
        self._reader: _JsonRestorer | _EventRestorer | None = None

    def feed(self, chunk: bytes, is_last: bool) -> bytes:
        """What may go out, given `chunk`; everything, when `is_last`."""
        if self._reader is None:
            chunk = self._start + chunk
            first = chunk.lstrip()[:1]
            if not first and len(chunk) < _MAX_LEADING_SPACE and not is_last:
                self._start = chunk
                return b""
            self._reader = _JsonRestorer(self._name) if first == b"{" else _EventRestorer(self._name)
        return self._reader.feed(chunk, is_last)


class _EventRestorer:
    def __init__(self, name: bytes) -> None:
        self._name = name
        self._events: EventReader[Spans] = EventReader(_spans)

    def feed(self, chunk: bytes, is_last: bool) -> bytes:
        pieces = self._events.feed(chunk, is_last)
        return b"".join([spliced(p.raw, p.found, self._name) if p.found else p.raw for p in pieces])


class _JsonRestorer:
    """Servers write the name early: it is looked for when the held bytes have doubled, so all looks together cost no
    more than two at the end."""

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._held = bytearray()
        self._look_at_bytes = 1
        self._passes = False

    def feed(self, chunk: bytes, is_last: bool) -> bytes:
        if self._passes:
            return chunk
        self._held += chunk
        if is_last:
            self._passes = True
            held = bytes(self._held)
            return spliced(held, _spans(held) or (), self._name)
        if len(self._held) < self._look_at_bytes:
            return b""
        held = bytes(self._held)
        spans = _early_spans(held)
        self._look_at_bytes = 2 * len(held)
        if not spans and len(held) <= MAX_HELD_BYTES:
            return b""
        self._passes = True
        self._held.clear()
        return spliced(held, spans, self._name)


def _spans(text: bytes) -> Spans | None:
    """Where the served name stands; None if `text` is no complete JSON object."""
    try:
        named = _decode(text)
        models = (named.model, _inner_model(named.response), _inner_model(named.message))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return tuple(sorted(structure.span(model, text) for model in models if _starts(model, _QUOTE)))


def _inner_model(value: Raw) -> Raw:
    return _decode(value).model if _starts(value, _BRACE) else _NOTHING


def _starts(value: Raw, byte: int) -> bool:
    return value is not _NOTHING and memoryview(value)[0] == byte


def _early_spans(start: bytes) -> Spans:
    """Where the name stands in the start of a JSON answer, if it is there already."""
    return tuple(span for span in top_level_names(start) if start[span[0]] == _QUOTE)

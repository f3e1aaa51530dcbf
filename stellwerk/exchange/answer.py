"""The answer of one exchange, as far as it passes the picker: what it says about tokens, and its model name restored.

Mostly it does not pass: our own proxy shows no answer unasked, and its access log tells what became of it. `wants`
decides on the headers whether the body has to pass; `feed` and `whole` take what the proxy then shows.
"""

from collections.abc import Mapping
from enum import Enum

from stellwerk.exchange import restore
from stellwerk.exchange.command import Adjust, Mode
from stellwerk.exchange.usage import StreamUsage, of_answer
from stellwerk.model.report import Usage


class Kind(Enum):
    """What the content type says."""

    JSON = "json"
    EVENTS = "events"
    """`text/event-stream`."""
    OTHER = "other"


class Answer:
    """Owned by its exchange. `public_model` is the name to restore, None where there is nothing to restore."""

    __slots__ = (
        "_headers",
        "_is_readable",
        "_max_answer_bytes",
        "_parts",
        "_parts_bytes",
        "_public_model",
        "_restorer",
        "_stream_usage",
        "_usage",
        "kind",
        "size_bytes",
        "status",
    )

    def __init__(self, headers: Mapping[str, str], public_model: str | None, max_answer_bytes: int) -> None:
        self._headers = headers
        self._public_model = public_model
        self._max_answer_bytes = max_answer_bytes
        self.status = _status(headers.get(":status", ""))
        self.kind = _kind(headers.get("content-type", ""))
        # Announced trailers: a proxy that streams would end with them, and leave no place for what is still held back.
        self._is_readable = (
            200 <= self.status < 300
            and headers.get("content-encoding", "identity") == "identity"
            and "trailer" not in headers
        )
        self.size_bytes = 0
        self._restorer: restore.StreamRestorer | None = None
        self._stream_usage: StreamUsage | None = None
        self._parts: list[bytes] | None = None
        self._parts_bytes = 0
        self._usage: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        """Token counts seen so far."""
        return self._stream_usage.usage if self._stream_usage is not None else self._usage

    def wants(self, restores_streams: bool) -> Mode | None:
        """The mode in which an answer that the proxy would not show has to be shown; None: it need not be.

        Only to restore a model name: in a JSON answer of known, small length at once (a longer one would have to fit
        the proxy's buffer), in any other chunk by chunk.
        """
        if not self._is_readable or self._public_model is None:
            return None
        if self.kind is Kind.JSON:
            length = _length(self._headers.get("content-length"))
            if length is not None and length <= self._max_answer_bytes:
                return Mode.BUFFERED if length else None
            return Mode.STREAMED
        return Mode.STREAMED if self.kind is Kind.EVENTS and restores_streams else None

    def prepare(self, mode: Mode, restores_streams: bool, reads_events: bool) -> Adjust | None:
        """Get ready for a body shown in `mode`; what that changes in the headers, if anything."""
        if not self._is_readable or self.kind is Kind.OTHER:
            return None
        if self.kind is Kind.EVENTS:
            if reads_events:
                self._stream_usage = StreamUsage()
            if not restores_streams:
                self._public_model = None
        elif mode is not Mode.BUFFERED:
            self._parts = []
        if self._public_model is None or mode is Mode.BUFFERED:
            return None
        self._restorer = restore.StreamRestorer(self._public_model)
        return Adjust(removes_content_length=True) if "content-length" in self._headers else None

    def feed(self, chunk: bytes, is_last: bool) -> bytes:
        """Take a chunk; the bytes to pass on for it, which may lag behind until `is_last`."""
        self.size_bytes += len(chunk)
        if self._stream_usage is not None:
            self._stream_usage.feed(chunk, is_last)
        elif self._parts is not None:
            self._collect(chunk, is_last)
        if self._restorer is None:
            return chunk
        return self._restorer.feed(chunk, is_last)

    def whole(self, body: bytes) -> bytes:
        """Take a body shown in one message; the bytes to pass on."""
        self.size_bytes += len(body)
        if not self._is_readable:
            return body
        if self.kind is Kind.JSON:
            if len(body) <= self._max_answer_bytes:
                self._usage = of_answer(body)
            return body if self._public_model is None else restore.answer(body, self._public_model)
        if self._stream_usage is not None:
            self._stream_usage.feed(body, True)
        if self.kind is Kind.EVENTS and self._public_model is not None:
            return restore.StreamRestorer(self._public_model).feed(body, True)
        return body

    def _collect(self, chunk: bytes, is_last: bool) -> None:
        parts = self._parts
        assert parts is not None
        self._parts_bytes += len(chunk)
        if self._parts_bytes > self._max_answer_bytes:
            self._parts = None
            return
        parts.append(chunk)
        if is_last:
            self._usage = of_answer(b"".join(parts))
            self._parts = None


def _status(value: str) -> int:
    return int(value) if len(value) == 3 and value.isascii() and value.isdigit() else 0


def _length(value: str | None) -> int | None:
    return int(value) if value is not None and len(value) < 19 and value.isascii() and value.isdigit() else None


def _kind(content_type: str) -> Kind:
    if content_type == "application/json":
        return Kind.JSON
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "text/event-stream":
        return Kind.EVENTS
    if media_type == "application/json" or media_type.endswith("+json"):
        return Kind.JSON
    return Kind.OTHER

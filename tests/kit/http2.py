"""An HTTP/2 client in bytes: builds frames, right or wrong, and reads what a server answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hpack.hpack import Decoder, Encoder

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.connection import Connection
from stellwerk.edge.grpc.counters import Counters
from stellwerk.edge.grpc.events import Closed, HalfClosed, Message, Opened
from stellwerk.edge.grpc.status import Status
from stellwerk.edge.grpc.stream import Stream

PATH = "/test.Test/Call"
Fields = Sequence[tuple[str, str]]


def head(
    path: str = PATH, *more: tuple[str, str], method: str = "POST", content_type: str = "application/grpc"
) -> Fields:
    """Request headers as a gRPC client sends them."""
    return (
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "picker"),
        ("content-type", content_type),
        ("te", "trailers"),
        *more,
    )


def message(payload: bytes, flag: int = 0) -> bytes:
    """A gRPC message with its prefix."""
    return bytes((flag,)) + len(payload).to_bytes(4, "big") + payload


@dataclass
class Frame:
    """One frame from the server; `fields` of a HEADERS frame are decoded."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The payload's last four bytes: error code of RST_STREAM, increment of WINDOW_UPDATE."""
        return int.from_bytes(self.payload[-4:], "big")

    @property
    def goaway(self) -> tuple[int, h2.ErrorCode]:
        """Last stream id and error code of a GOAWAY."""
        return int.from_bytes(self.payload[:4], "big"), h2.ErrorCode(int.from_bytes(self.payload[4:8], "big"))


class Client:
    """The client's half of one connection: frames as bytes, with one HPACK state for each direction."""

    def __init__(self) -> None:
        self.encoder = Encoder()
        self.decoder = Decoder()
        self._rest = b""

    def preface(self, *settings: tuple[int, int]) -> bytes:
        return h2.PREFACE + h2.settings(settings)

    def headers(self, stream_id: int, fields: Fields | None = None, *, end: bool = False) -> bytes:
        block = self.encoder.encode(fields if fields is not None else head())
        return h2.frame(h2.HEADERS, h2.END_HEADERS | (h2.END_STREAM if end else 0), stream_id, block)

    def data(self, stream_id: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
        flags = h2.END_STREAM if end else 0
        if padding is None:
            return h2.frame(h2.DATA, flags, stream_id, payload)
        padded = bytes((padding,)) + payload + bytes(padding)
        return h2.frame(h2.DATA, flags | h2.PADDED, stream_id, padded)

    def call(self, stream_id: int, *payloads: bytes, end: bool = True) -> bytes:
        """A whole call: headers and messages, each in one frame."""
        parts = [self.headers(stream_id, end=end and not payloads)]
        for number, payload in enumerate(payloads, 1):
            parts.append(self.data(stream_id, message(payload), end=end and number == len(payloads)))
        return b"".join(parts)

    def read(self, data: bytes) -> list[Frame]:
        """Whole frames of what the server sent."""
        data = self._rest + data
        frames: list[Frame] = []
        pos = 0
        while len(data) - pos >= 9:
            word, flags, stream_id = h2.HEAD.unpack_from(data, pos)
            stop = pos + 9 + (word >> 8)
            if stop > len(data):
                break
            found = Frame(word & 0xFF, flags, stream_id, data[pos + 9 : stop])
            if found.kind == h2.HEADERS:
                found.fields = {str(name): str(value) for name, value in self.decoder.decode(found.payload)}
            frames.append(found)
            pos = stop
        self._rest = data[pos:]
        return frames


Told = tuple[str, int] | tuple[str, int, bytes]


@dataclass
class Served:
    """What happened on the server's side of a `Conversation`: one entry per event."""

    told: list[Told] = field(default_factory=list)
    streams: dict[int, Stream] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)

    def messages(self, stream_id: int) -> list[bytes]:
        return [entry[2] for entry in self.told if len(entry) == 3 and entry[1] == stream_id]

    def has(self, what: str, stream_id: int) -> bool:
        return (what, stream_id) in self.told


class Conversation:
    """A client and the machine, talking without sockets. Time stands still unless it is moved."""

    def __init__(self, limits: TransportLimits | None = None, *settings: tuple[int, int], greet: bool = True) -> None:
        self.client = Client()
        self.counters = Counters()
        self.now = 100.0
        self.wakes = 0
        self.machine = Connection(limits or TransportLimits(), self.counters, self.now, self._wake)
        self.served = Served()
        self.frames: list[Frame] = []
        """All frames the server sent after the greeting, in order."""
        self.is_echoing = False
        if greet:
            self.send(self.client.preface(*settings))
            self.greeting = self.frames
            self.frames = []

    def _wake(self) -> None:
        self.wakes += 1

    def send(self, *data: bytes) -> list[Frame]:
        """Give the machine these bytes, one `receive` each, and let it answer; returns the frames of the answer."""
        for piece in data:
            self.machine.receive(piece, self.now)
            self.handle()
        return self.flush()

    def wait(self, seconds: float) -> list[Frame]:
        """Let time pass and tick."""
        self.now += seconds
        self.machine.tick(self.now)
        self.handle()
        return self.flush()

    def is_over(self) -> bool:
        """Whether the server wants to close."""
        return self.machine.is_closing

    def handle(self) -> None:
        """Note the events; their order is checked: opened first, closed last, both once."""
        for event in self.machine.events:
            stream = event.stream
            assert isinstance(event, Opened) == (stream.id not in self.served.streams)
            assert stream.id not in self.served.closed
            match event:
                case Opened():
                    self.served.told.append(("opened", stream.id))
                    self.served.streams[stream.id] = stream
                case Message():
                    self.served.told.append(("message", stream.id, event.payload))
                    if self.is_echoing:
                        stream.send(event.payload)
                case HalfClosed():
                    self.served.told.append(("half closed", stream.id))
                    if self.is_echoing:
                        stream.finish(Status.OK)
                case Closed():
                    self.served.told.append(("closed", stream.id))
                    self.served.closed.add(stream.id)
        self.machine.events.clear()

    def flush(self) -> list[Frame]:
        """Frames the server has to write now."""
        frames: list[Frame] = []
        while data := self.machine.output():
            frames += self.client.read(data)
        self.handle()
        self.frames += frames
        return frames


def of_kind(frames: Iterable[Frame], kind: int, stream_id: int | None = None) -> list[Frame]:
    """The frames of one type, and of one stream when it is given."""
    return [found for found in frames if found.kind == kind and stream_id in (None, found.stream_id)]


def answer(frames: Iterable[Frame], stream_id: int) -> bytes:
    """The DATA of one stream, joined."""
    return b"".join(found.payload for found in of_kind(frames, h2.DATA, stream_id))

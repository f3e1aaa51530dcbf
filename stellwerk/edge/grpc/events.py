"""What a connection tells its edge: a call began, said something, said its last, is over."""

from __future__ import annotations

from msgspec import Struct

from stellwerk.edge.grpc.stream import Stream


class Opened(Struct, frozen=True, gc=False):
    """A new call; `stream.path` and `stream.metadata` say which."""

    stream: Stream


class Message(Struct, frozen=True, gc=False):
    """One whole gRPC message."""

    stream: Stream
    payload: bytes


class HalfClosed(Struct, frozen=True, gc=False):
    """The peer will send no more messages on this call."""

    stream: Stream


class Closed(Struct, frozen=True, gc=False):
    """The call is over, however it ended. Exactly one per `Opened`, and the last event of its stream."""

    stream: Stream


Event = Opened | Message | HalfClosed | Closed

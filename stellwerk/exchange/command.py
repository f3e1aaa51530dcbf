"""What an exchange wants done: messages for the proxy, and events for the engine.

The edge encodes the former, and hands the latter (`model.event`) to `Engine.receive` as they are.
"""

from enum import Enum, IntEnum

from msgspec import Struct

from stellwerk.exchange.refusal import Rendered
from stellwerk.model.event import Ask, Finished, Prefilled, Released, TurnedAway, Used, Withdrawn
from stellwerk.model.outcome import Picked


class Slot(IntEnum):
    """Which of the proxy's messages is answered. The value is the field number of the answer in ext_proc's
    `ProcessingResponse`."""

    REQUEST_HEADERS = 1
    RESPONSE_HEADERS = 2
    REQUEST_BODY = 3
    RESPONSE_BODY = 4
    REQUEST_TRAILERS = 5
    RESPONSE_TRAILERS = 6


class Mode(Enum):
    """How the proxy shows a body. The value is that of Envoy's `ProcessingMode.BodySendMode`."""

    NONE = 0
    STREAMED = 1
    """One answer per chunk, in order; headers are answered first."""
    BUFFERED = 2
    """The whole body in one message."""
    BUFFERED_PARTIAL = 3
    """As `BUFFERED`, but cut off where the proxy's buffer ends."""
    DUPLEX = 4
    """Envoy's FULL_DUPLEX_STREAMED: the chunks are ours, and every byte has to be sent back."""


WHOLE = (Mode.BUFFERED, Mode.BUFFERED_PARTIAL)


class Continue(Struct, frozen=True, gc=False):
    """Answer a message without changing anything."""

    slot: Slot


class Watch(Struct, frozen=True, gc=False):
    """Answer request headers without changing anything, and ask to be shown the answer's headers, too."""


class Forward(Struct, frozen=True, gc=False):
    """The decision: send the request to `picked`. `slot` is the message that it answers.

    `body` replaces the whole body. `content_length` is the new length of a body that changed, here or in the `SendBody`
    that follow. `removed` are headers that model servers must not see.
    """

    slot: Slot
    picked: Picked
    removed: tuple[str, ...] = ()
    body: bytes | None = None
    content_length: int | None = None


class Adjust(Struct, frozen=True, gc=False):
    """Answer response headers with changes. `body_mode` asks the proxy to show the body in another mode."""

    body_mode: Mode | None = None
    removes_content_length: bool = False
    served: str | None = None
    """Value for the conformance suite's header that names the endpoint that served."""


class SendBody(Struct, frozen=True, gc=False):
    """Send a piece of a body back (`Mode.DUPLEX`)."""

    slot: Slot
    chunk: bytes | memoryview
    is_last: bool


class ReplaceBody(Struct, frozen=True, gc=False):
    """Answer a response body message with other bytes. `sets_content_length`: the message held the whole body."""

    chunk: bytes
    sets_content_length: bool


class Reply(Struct, frozen=True, gc=False):
    """Answer the client ourselves; the conversation with the proxy ends with it. `details` is for Envoy's logs."""

    rendered: Rendered
    details: str


class Extend(Struct, frozen=True, gc=False):
    """Ask the proxy for more patience, counted from now."""

    seconds: float


class Finish(Struct, frozen=True, gc=False):
    """End the conversation: there is nothing more to say."""


class Abort(Struct, frozen=True, gc=False):
    """End the conversation with an error: the proxy broke the protocol. `message` says how."""

    message: str


Command = (
    Continue
    | Watch
    | Forward
    | Adjust
    | SendBody
    | ReplaceBody
    | Reply
    | Extend
    | Finish
    | Abort
    | Ask
    | Withdrawn
    | TurnedAway
    | Released
    | Prefilled
    | Used
    | Finished
)
Commands = tuple[Command, ...]

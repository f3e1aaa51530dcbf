"""The events of one watch: lines of JSON out of a body that may be cut anywhere, bounded in length and in silence."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from stellwerk.edge.kube.errors import ApiError, error_of_status


class WatchEvent(Struct):
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK; an ERROR is raised instead."""

    type: str
    object: dict[str, Any]


_DECODER = msgspec.json.Decoder(WatchEvent)


class WatchStream:
    """One answer to a watch, read to its end once."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        max_line_bytes: int,
        idle_seconds: float,
        what: str,
        heard: Callable[[], None],
    ) -> None:
        """`heard` is told of every sign of life."""
        self._content, self._max_line_bytes = content, max_line_bytes
        self._idle_seconds, self._what, self._heard = idle_seconds, what, heard
        self._rest = bytearray()
        self._error: ApiError | None = None

    async def events(self) -> list[WatchEvent] | None:
        """The events that came since the last call, one or more; None: the server ended the watch. Raises ApiError,
        after all events that came before it."""
        while self._error is None:
            piece = await self._piece()
            if not piece:
                if self._rest.strip():
                    raise ApiError(0, "Unreachable", f"the {self._what} broke off inside an event")
                return None
            events = self._take(piece)
            if events:
                return events
        raise self._error

    def _take(self, piece: bytes) -> list[WatchEvent]:
        rest = self._rest
        seen = len(rest)
        rest += piece
        end = rest.rfind(b"\n", seen)
        events: list[WatchEvent] = []
        if end >= 0:
            lines = bytes(rest[:end]).split(b"\n")
            del rest[: end + 1]
            for line in lines:
                event = self._event(line) if line.strip() else None
                if event is not None:
                    events.append(event)
                if self._error is not None:
                    return events
        if len(rest) > self._max_line_bytes:
            message = f"an event in the {self._what} has more than {self._max_line_bytes:,} bytes"
            self._error = ApiError(0, "TooLarge", message)
        return events

    def _event(self, line: bytes) -> WatchEvent | None:
        """The event, or None with `_error` set."""
        try:
            event = _DECODER.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            self._error = ApiError(0, "Malformed", f"an event in the {self._what} is not one: {error}")
            return None
        if event.type == "ERROR":
            self._error = error_of_status(event.object)
            return None
        return event

    async def _piece(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_seconds):
                piece = await self._content.readany()
        except TimeoutError as error:
            raise ApiError(0, "Timeout", f"the {self._what} was silent for {self._idle_seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ApiError(0, "Unreachable", f"the {self._what} broke off: {str(error)[:200]}") from error
        if piece:
            self._heard()
        return piece

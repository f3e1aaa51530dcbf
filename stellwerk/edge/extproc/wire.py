"""Answers to the proxy as serialised `ProcessingResponse`s, written by hand: the decision of a common request is a
cached prefix and a few bytes. Tests compare every encoding with what protobuf itself makes of the same message.

Wire format: protobuf.dev, "Encoding". Field numbers: envoy/service/ext_proc/v3/external_processor.proto.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from struct import pack
from typing import Any

from stellwerk.exchange.command import Adjust, Extend, Forward, Mode, ReplaceBody, Reply, SendBody, Slot, Watch
from stellwerk.model.outcome import Scores

DESTINATION = "x-gateway-destination-endpoint"
SCORES = "x-gateway-destination-endpoint-scores"
POOL = "x-stellwerk-pool"
SERVED_ECHO = "x-conformance-test-served-endpoint"

_OVERWRITE = b"\x18\x02"
"""`HeaderValueOption.append_action`: OVERWRITE_IF_EXISTS_OR_ADD."""
_CLEAR_ROUTE_CACHE = b"\x28\x01"


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _open(number: int, size: int) -> bytes:
    """What stands before a length-delimited field of `size` bytes; `number` < 16."""
    return bytes((number << 3 | 2,)) + _varint(size)


def _field(number: int, payload: bytes) -> bytes:
    return _open(number, len(payload)) + payload


def _entry(key: str, value: bytes) -> bytes:
    """One entry of `Struct.fields`; `value` is a serialised `Value`."""
    return _field(1, _field(1, key.encode()) + _field(2, value))


def _string(text: str) -> bytes:
    return _field(3, text.encode())


def _struct(*entries: bytes) -> bytes:
    return _field(5, b"".join(entries))


def _set_header(name: str, value: str) -> bytes:
    return _field(1, _field(1, _field(1, name.encode()) + _field(3, value.encode("latin-1", "replace"))) + _OVERWRITE)


def _remove_headers(names: Iterable[str]) -> bytes:
    return b"".join([_field(2, name.encode("latin-1", "replace")) for name in names])


CONTINUE = {slot: _field(slot, b"") for slot in Slot}
WATCH = CONTINUE[Slot.REQUEST_HEADERS] + _field(9, b"\x10\x01\x18\x02")
"""With a `mode_override`: `response_header_mode: SEND`, and `request_body_mode: BUFFERED` as it was."""


def reply(command: Reply) -> bytes:
    """An ImmediateResponse."""
    rendered = command.rendered
    headers = b"".join([_set_header(name, value) for name, value in rendered.headers])
    status = b"\x08" + _varint(rendered.status)
    parts = [_field(1, status), _field(2, headers)]
    if rendered.body:
        parts.append(_field(3, rendered.body))
    parts.append(_field(5, command.details.encode()))
    return _field(7, b"".join(parts))


def extend(command: Extend) -> bytes:
    """`override_message_timeout`, to the millisecond."""
    milliseconds = round(command.seconds * 1000)
    seconds, rest = divmod(milliseconds, 1000)
    duration = (b"\x08" + _varint(seconds) if seconds else b"") + (b"\x10" + _varint(rest * 1_000_000) if rest else b"")
    return _field(10, duration)


def send_body(command: SendBody) -> bytes:
    """A StreamedBodyResponse."""
    chunk = command.chunk
    size = len(chunk)
    tail = b"\x10\x01" if command.is_last else b""
    head = _open(1, size) if size else b""
    size += len(head) + len(tail)
    for number in (3, 3, 1, command.slot):
        opening = _open(number, size)
        head = opening + head
        size += len(opening)
    return b"".join((head, chunk, tail))


def replace_body(command: ReplaceBody) -> bytes:
    """A BodyResponse for the response, with other bytes."""
    chunk = command.chunk
    common = _field(2, _set_header("content-length", str(len(chunk)))) if command.sets_content_length else b""
    if not chunk:
        return _field(Slot.RESPONSE_BODY, _field(1, common + _field(3, b"\x10\x01")))
    return _around(Slot.RESPONSE_BODY, common, chunk)


def adjust(command: Adjust) -> bytes:
    """A HeadersResponse for the response."""
    mutation = b""
    if command.served is not None:
        mutation += _set_header(SERVED_ECHO, command.served)
    if command.removes_content_length:
        mutation += _remove_headers(("content-length",))
    message = _field(Slot.RESPONSE_HEADERS, _field(1, _field(2, mutation)) if mutation else b"")
    if command.body_mode is not None:
        message += _MODE_OVERRIDES[command.body_mode]
    return message


_MODE_OVERRIDES: dict[Mode, bytes] = {
    mode: _field(9, b"\x10\x01\x20" + _varint(mode.value)) for mode in Mode if mode is not Mode.NONE
}
"""`mode_override` with `response_header_mode: SEND` and the body mode."""


def forward(command: Forward, ticket: str | None) -> bytes:
    """The decision. With a `ticket` it is for our own Envoy, which also gets the pool, for its route."""
    picked = command.picked
    pool, named = None, b""
    if ticket is not None:
        pool = picked.pool.name
        named = _ticket_prefix(len(ticket)) + ticket.encode()
    if command.content_length is None and picked.scores is None:
        return _decision(command.slot, picked.destination, pool, command.removed) + named
    return _unusual_decision(command, pool, named)


@lru_cache(maxsize=4096)
def _decision(slot: Slot, destination: str, pool: str | None, removed: tuple[str, ...]) -> bytes:
    metadata = _metadata(_entry(DESTINATION, _string(destination)))
    if slot is Slot.REQUEST_TRAILERS:
        return CONTINUE[slot] + metadata
    mutation = _mutation(destination, pool, removed)
    return _field(slot, _field(1, mutation + _CLEAR_ROUTE_CACHE)) + metadata


def _unusual_decision(command: Forward, pool: str | None, named: bytes) -> bytes:
    """With a body that changes, or with scores. `named` is the serialised ticket."""
    picked = command.picked
    entries = [_entry(DESTINATION, _string(picked.destination))]
    if picked.scores is not None:
        entries.append(_entry(SCORES, _scores(picked.scores)))
    metadata = _metadata(*entries) + named
    slot = command.slot
    if slot is Slot.REQUEST_TRAILERS:
        return CONTINUE[slot] + metadata
    length = () if command.content_length is None else (("content-length", str(command.content_length)),)
    common = _mutation(picked.destination, pool, command.removed, length) + _CLEAR_ROUTE_CACHE
    if command.body is None:
        return _field(slot, _field(1, common)) + metadata
    return _around(slot, common, command.body, metadata)


def _mutation(
    destination: str, pool: str | None, removed: tuple[str, ...], more: tuple[tuple[str, str], ...] = ()
) -> bytes:
    headers = [(DESTINATION, destination), *more]
    if pool is not None:
        headers.append((POOL, pool))
    return _field(2, b"".join([_set_header(name, value) for name, value in headers]) + _remove_headers(removed))


def _metadata(*entries: bytes) -> bytes:
    return _field(8, _entry("envoy.lb", _struct(*entries)))


def _scores(scores: Scores) -> bytes:
    pairs = zip(scores.addresses, scores.totals, strict=True)
    return _field(5, b"".join([_score_prefix(address) + pack("<d", total) for address, total in pairs]))


@lru_cache(maxsize=16384)
def _score_prefix(address: str) -> bytes:
    """What stands before the 8 bytes of a score."""
    return _entry(address, b"\x11" + bytes(8))[:-8]


@lru_cache(maxsize=64)
def _ticket_prefix(size: int) -> bytes:
    """What stands before a ticket of `size` bytes: dynamic metadata `stellwerk` / `ticket`. A second occurrence of
    `dynamic_metadata` merges into the first."""
    with_ticket = _field(8, _entry("stellwerk", _struct(_entry("ticket", _field(3, b"\x00" * size)))))
    return with_ticket[: len(with_ticket) - size]


def _around(slot: Slot, common: bytes, body: bytes, after: bytes = b"") -> bytes:
    """A BodyResponse whose `CommonResponse` holds `common` and a mutation to `body`, which is copied once."""
    opening = _open(1, len(body))
    opening = _open(3, len(opening) + len(body)) + opening
    opening = common + opening
    opening = _open(1, len(opening) + len(body)) + opening
    opening = _open(slot, len(opening) + len(body)) + opening
    return b"".join((opening, body, after))


ENCODERS: dict[type, Callable[[Any], bytes]] = {
    SendBody: send_body,
    ReplaceBody: replace_body,
    Adjust: adjust,
    Extend: extend,
    Watch: lambda _: WATCH,
}

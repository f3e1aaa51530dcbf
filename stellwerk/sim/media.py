"""Audio transcription (multipart in, text out) and image generation (a one-pixel picture): enough for routing tests."""

import base64
import re
import struct
import time
import zlib

import msgspec

from stellwerk.sim import errors, fields
from stellwerk.sim.connection import Exchange
from stellwerk.sim.errors import JSON, ApiError
from stellwerk.sim.serving import Serving

_BOUNDARY = re.compile(r"multipart/form-data\s*;.*?boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
_NAME = re.compile(rb"name=\"([^\"]{0,64})\"")
_MAX_PARTS = 64
_BYTES_PER_SECOND = 32_000
"""16 kHz, 16 bits, one channel."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\xff"))
    + _chunk(b"IEND", b"")
).decode()


def _form(exchange: Exchange) -> dict[str, bytes]:
    """The parts of a multipart body by name. Raises ApiError."""
    matched = _BOUNDARY.match(exchange.request.headers.get("content-type", ""))
    if matched is None:
        raise errors.plain(415) if exchange.request.body else errors.missing("file", {})
    mark = b"--" + (matched[1] or matched[2]).encode("latin-1")
    parts = exchange.request.body.split(mark, _MAX_PARTS)[1:]
    form: dict[str, bytes] = {}
    for part in parts:
        head, gap, content = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if gap and name is not None:
            form.setdefault(name[1].decode("utf-8", "replace"), content.removesuffix(b"\r\n"))
    return form


def transcriptions(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/audio/transcriptions`."""
    form = _form(exchange)
    if "file" not in form:
        raise errors.missing("file", form)
    body = {"model": form["model"].decode("utf-8", "replace")} if "model" in form else {}
    name = serving.model_of(body)
    seconds = max(1, len(form["file"]) // _BYTES_PER_SECOND)
    text = f"{len(form['file'])} bytes of audio heard by {name}"
    if form.get("response_format") == b"text":
        exchange.reply(200, text.encode(), "text/plain; charset=utf-8")
        return
    usage = {"type": "duration", "seconds": seconds}
    exchange.reply(200, msgspec.json.encode({"text": text, "usage": usage}), JSON)


def images(serving: Serving, exchange: Exchange) -> None:
    """`POST /v1/images/generations`."""
    body = fields.read(exchange.request.body)
    if not isinstance(fields.required(body, "prompt"), str):
        raise errors.complaint("string_type", "prompt", "Input should be a valid string", body)
    serving.model_of(body)
    n = fields.integer(body, "n", 1) or 1
    if not 1 <= n <= 10:
        raise ApiError(400, f"n must be 1 to 10, got {n}.", "BadRequestError", "n")
    data = [{"b64_json": _PIXEL, "url": None, "revised_prompt": None} for _ in range(n)]
    exchange.reply(200, msgspec.json.encode({"created": int(time.time()), "data": data}), JSON)

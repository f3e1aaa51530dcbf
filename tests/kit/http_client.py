"""A bare HTTP/1.1 client on asyncio streams: exact bytes out, head and body back, nothing in between."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """Status, headers in the order they came, body with its chunked framing undone, and the chunks."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", "host: test", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def read_answer(reader: asyncio.StreamReader, *, is_head: bool = False) -> Answer:
    """One answer. Raises IncompleteReadError or ConnectionError where it breaks off."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.rstrip("\r\n").split("\r\n")
    headers = dict(one.split(": ", 1) for one in fields)
    answer = Answer(int(line.split(" ")[1]), headers, b"")
    if is_head or answer.status == 100:
        return answer
    if "transfer-encoding" in headers:
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            answer.chunks.append(await reader.readexactly(size))
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
        answer.body = b"".join(answer.chunks)
    elif "content-length" in headers:
        answer.body = await reader.readexactly(int(headers["content-length"]))
    else:
        answer.body = await reader.read()
    return answer


async def call(port: int, method: str, path: str, body: object = None, *headers: str) -> Answer:
    """One request on a connection of its own; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(method, path, raw, *headers))
        async with asyncio.timeout(20):
            return await read_answer(reader, is_head=method == "HEAD")
    finally:
        writer.close()

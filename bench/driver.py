"""A closed-loop HTTP/1.1 load driver, cheap enough to share two cores with what it measures.

Each connection sends prepared bytes, waits for the whole answer, and sends again. Where the bytes hold `SERIAL`, each
request gets its own number there, so that no two prompts begin alike.
"""

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from itertools import count

SERIAL = b"#00000000#"
"""Replaced in each request by its number, in as many bytes."""
_numbers = count(1)


@dataclass
class Run:
    """What one run saw. `latencies` in seconds, one per request, in order of completion."""

    requests: int = 0
    bad: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Latency in seconds that `share` (0..1) of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, request: bytes, run: Run, until: float, done: asyncio.Future[None]) -> None:
        self.parts = request.partition(SERIAL)
        self.run = run
        self.until = until
        self.done = done
        self.buffer = b""
        self.need = -1
        self.is_chunked = False
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Send one request."""
        self.buffer, self.need, self.is_chunked = b"", -1, False
        self.sent_at = time.perf_counter()
        before, serial, after = self.parts
        self.transport.write(before + b"#%08d#" % next(_numbers) + after if serial else before)

    def data_received(self, data: bytes) -> None:
        """Count the answer when it is whole."""
        self.buffer = self.buffer + data if self.buffer else data
        if self.need < 0 and not self.is_chunked:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self.run.bad += 1
            at = head.find(b"content-length:")
            if at >= 0:
                self.need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            else:
                self.is_chunked = True
        if self.buffer.endswith(b"0\r\n\r\n") if self.is_chunked else len(self.buffer) >= self.need:
            self.finish()

    def finish(self) -> None:
        """Enter one answer; go on, or stop."""
        now = time.perf_counter()
        self.run.requests += 1
        self.run.latencies.append(now - self.sent_at)
        if now < self.until:
            self.send()
        else:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that breaks counts as a bad request."""
        if not self.done.done():
            self.run.bad += 1
            self.done.set_result(None)


def request_bytes(path: str, body: bytes) -> bytes:
    """A POST with `body`."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def drive(port: int, request: bytes, connections: int, seconds: float) -> Run:
    """Keep `connections` busy for `seconds`."""
    loop = asyncio.get_running_loop()
    run, started = Run(), time.perf_counter()
    until = started + seconds
    finished: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done = loop.create_future()
        finished.append(done)
        await loop.create_connection(partial(Connection, request, run, until, done), "127.0.0.1", port)
    await asyncio.wait_for(asyncio.gather(*finished), seconds + 60)
    run.seconds = time.perf_counter() - started
    return run

"""A server whose metrics page behaves as told: well, or in one of the ways in which real ones fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from stellwerk.model.endpoint import Endpoint

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]

MODELS = b'{"object":"list","data":[{"id":"tiny","parent":null},{"id":"sql-lora","parent":"tiny"}]}'


def page(waiting: str = "0", running: str = "0", adapters: str = "") -> bytes:
    """A small vLLM page."""
    return (
        f'vllm:num_requests_running{{engine="0"}} {running}\n'
        f'vllm:num_requests_waiting{{engine="0"}} {waiting}\n'
        f'vllm:lora_requests_info{{max_lora="2",running_lora_adapters="{adapters}",waiting_lora_adapters=""}} 1\n'
    ).encode()


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


class FaultyServer:
    """Answers GETs; `answer` may be changed while it runs."""

    def __init__(self, answer: Behaviour) -> None:
        self.answer = answer
        self.requests: list[str] = []
        """Paths."""
        self.heads: list[bytes] = []
        self.connections = 0
        self.host = ""
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    def endpoint(self, name: str = "a", *, uid: str = "", engine: str = "vllm") -> Endpoint:
        """This server as an endpoint `default/<name>:<port>`."""
        key = f"default/{name}:{self.port}"
        return Endpoint(key, f"default/{name}", "default", self.host, self.port, engine=engine, uid=uid)

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed."""
        return len(self._writers)

    def hang_up(self) -> None:
        """Close every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split(b" ", 2)[1].decode()
                self.requests.append(path)
                self.heads.append(head)
                await self.answer(reader, writer, path)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@asynccontextmanager
async def serving(answer: Behaviour, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[FaultyServer]:
    """A `FaultyServer` on a loopback port; 0: a free one."""
    faulty = FaultyServer(answer)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(faulty.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, host, port)
    faulty.host, faulty.port = server.sockets[0].getsockname()[:2]
    try:
        yield faulty
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def good(body: bytes | None = None, *, models: bytes | None = MODELS) -> Behaviour:
    """A well server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        if path == "/v1/models":
            writer.write(http(models) if models is not None else http(b"", "404 Not Found"))
        else:
            writer.write(http(page() if body is None else body))
        await writer.drain()

    return answer


def fixed(answer_bytes: bytes) -> Behaviour:
    """These bytes, whatever is asked."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(answer_bytes)
        await writer.drain()

    return answer


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """Begin an answer, then cut the connection."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nvllm:")
    await writer.drain()
    writer.transport.abort()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """A byte at a time, never enough."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"v")
        await writer.drain()
        await asyncio.sleep(0.01)


async def huge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """100 MB without a word about its length."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    line = b'vllm:num_requests_running{engine="0"} 1\n' * 1000
    for _ in range(100_000_000 // len(line)):
        writer.write(line)
        await writer.drain()
    writer.transport.close()

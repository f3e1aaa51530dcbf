"""The server on real sockets of this machine, with a client made of bytes."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc import frames as h2
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.grpc.service import Call
from tests.kit.http2 import PATH, Client, Frame, head, message, of_kind


class Echo:
    """Says everything again; `boom` breaks it where it is told to."""

    closed = 0

    def __init__(self, call: Call) -> None:
        self.call = call

    def on_message(self, message: bytes) -> None:
        if message == b"boom":
            raise ValueError("the prompt was secret")
        self.call.send(message)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_closed(self) -> None:
        type(self).closed += 1


class Peer:
    """One connection of the byte client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.client = Client()
        self.reader = reader
        self.writer = writer
        self.frames: list[Frame] = []

    async def until(self, is_so: Callable[[list[Frame]], object]) -> None:
        async with asyncio.timeout(10):
            while not is_so(self.frames):
                data = await self.reader.read(65_536)
                assert data, "the server closed the connection"
                self.frames += self.client.read(data)

    async def closed(self) -> None:
        """Read to the end."""
        async with asyncio.timeout(10):
            while data := await self.reader.read(65_536):
                self.frames += self.client.read(data)


async def connect(path: Path, *, greet: bool = True) -> Peer:
    peer = Peer(*await asyncio.open_unix_connection(str(path)))
    if greet:
        peer.writer.write(peer.client.preface())
    return peer


def with_server(
    folder: Path, talk: Callable[[GrpcServer, Path], Awaitable[None]], limits: TransportLimits | None = None
) -> GrpcServer:
    """Run a server on a Unix socket for the duration of `talk`; whatever it opened must be closed afterwards."""

    async def main() -> GrpcServer:
        Echo.closed = 0
        server = GrpcServer({PATH: Echo}, limits)
        path = folder / "grpc.sock"
        await server.listen_unix(str(path))
        try:
            await talk(server, path)
        finally:
            await server.close()
        assert not path.exists()
        assert server.counters.connections_open == server.counters.streams_open == 0
        return server

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def is_ended(stream_id: int) -> Callable[[list[Frame]], bool]:
    return lambda frames: any(found.flags & h2.END_STREAM for found in of_kind(frames, h2.HEADERS, stream_id))


def test_a_handlers_bug_ends_its_call_only_and_its_message_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(server: GrpcServer, path: Path) -> None:
        peer = await connect(path)
        peer.writer.write(peer.client.call(1, b"fine", end=False) + peer.client.call(3, b"boom", b"more", end=False))
        await peer.until(is_ended(3))
        assert of_kind(peer.frames, h2.HEADERS, 3)[-1].fields["grpc-status"] == "13"
        peer.writer.write(peer.client.data(1, message(b"still"), end=True))
        await peer.until(is_ended(1))
        assert of_kind(peer.frames, h2.HEADERS, 1)[-1].fields == {"grpc-status": "0"}
        peer.writer.close()

    with caplog.at_level(logging.DEBUG):
        server = with_server(tmp_path, talk)
    assert server.counters.handler_errors == 1
    assert Echo.closed == 2
    assert "secret" not in caplog.text
    (record,) = (record for record in caplog.records if record.name == "stellwerk.grpc")
    assert "ValueError" in str(record.__dict__["fields"])


def test_a_handler_that_has_finished_is_told_nothing_more_but_the_end(tmp_path: Path) -> None:
    told: list[str] = []

    class Hasty(Echo):
        def on_message(self, message: bytes) -> None:
            told.append(message.decode())
            self.call.finish()

        def on_half_close(self) -> None:
            told.append("half closed")

        def on_closed(self) -> None:
            told.append("closed")

    async def talk(server: GrpcServer, path: Path) -> None:
        server._services = {PATH: Hasty}
        peer = await connect(path)
        peer.writer.write(peer.client.call(1, b"one", b"two", b"three"))
        await peer.until(is_ended(1))
        peer.writer.close()

    with_server(tmp_path, talk)
    assert told == ["one", "closed"]


def test_an_unknown_method_is_unimplemented(tmp_path: Path) -> None:
    async def talk(server: GrpcServer, path: Path) -> None:
        peer = await connect(path)
        peer.writer.write(peer.client.headers(1, head("/no/such"), end=True))
        await peer.until(is_ended(1))
        assert of_kind(peer.frames, h2.HEADERS, 1)[0].fields["grpc-status"] == "12"
        peer.writer.close()

    with_server(tmp_path, talk)


def test_the_last_words_of_a_broken_connection_reach_a_peer_that_still_writes(tmp_path: Path) -> None:
    async def talk(server: GrpcServer, path: Path) -> None:
        peer = await connect(path)
        peer.writer.write(h2.frame(h2.DATA, 0, 0, b"x") + bytes(100_000))
        await peer.closed()
        assert peer.frames[-1].goaway[1] is h2.ErrorCode.PROTOCOL_ERROR
        peer.writer.close()

    with_server(tmp_path, talk)


def test_connections_over_the_limit_are_closed_at_once(tmp_path: Path) -> None:
    async def talk(server: GrpcServer, path: Path) -> None:
        first = await connect(path)
        await first.until(lambda frames: of_kind(frames, h2.SETTINGS))
        second = await connect(path)
        with pytest.raises((ConnectionError, AssertionError)):
            await second.until(lambda frames: of_kind(frames, h2.SETTINGS))
        assert server.counters.connections_refused == 1
        for peer in (first, second):
            peer.writer.close()

    with_server(tmp_path, talk, TransportLimits(max_connections=1))


def test_silent_connections_are_reaped(tmp_path: Path) -> None:
    limits = TransportLimits(handshake_timeout_seconds=0.05, ping_interval_seconds=0.05, ping_timeout_seconds=0.05)

    async def talk(server: GrpcServer, path: Path) -> None:
        stranger = await connect(path, greet=False)
        friend = await connect(path)
        friend.writer.write(friend.client.call(1, b"x", end=False))
        await asyncio.gather(stranger.closed(), friend.closed())
        assert of_kind(friend.frames, h2.PING)
        assert Echo.closed == 1
        assert server.counters.connections_reaped == 2
        for peer in (stranger, friend):
            peer.writer.close()

    with_server(tmp_path, talk, limits)


def test_deadlines_fire_without_any_traffic(tmp_path: Path) -> None:
    async def talk(server: GrpcServer, path: Path) -> None:
        peer = await connect(path)
        peer.writer.write(peer.client.headers(1, head(PATH, ("grpc-timeout", "60m"))))
        peer.writer.write(peer.client.headers(3, head(PATH, ("grpc-timeout", "20m"))))
        await peer.until(is_ended(3))
        assert not is_ended(1)(peer.frames)
        await peer.until(is_ended(1))
        assert of_kind(peer.frames, h2.HEADERS, 1)[0].fields["grpc-status"] == "4"
        peer.writer.close()

    with_server(tmp_path, talk)


def test_a_client_that_vanishes_closes_its_calls(tmp_path: Path) -> None:
    async def talk(server: GrpcServer, path: Path) -> None:
        peer = await connect(path)
        peer.writer.write(peer.client.call(1, b"x", end=False) + peer.client.call(3, b"y", end=False))
        await peer.until(lambda frames: of_kind(frames, h2.DATA, 3))
        peer.writer.transport.abort()
        async with asyncio.timeout(10):
            while Echo.closed < 2:  # noqa: ASYNC110 - the condition is a counter
                await asyncio.sleep(0.005)

    with_server(tmp_path, talk)


def test_a_peer_that_does_not_read_stops_our_output_at_the_socket(tmp_path: Path) -> None:
    limits = TransportLimits(max_unsent_bytes=4_000_000)

    async def talk(server: GrpcServer, path: Path) -> None:
        peer = await connect(path)
        peer.writer.write(h2.settings([(h2.INITIAL_WINDOW_SIZE, 2**31 - 1)]) + h2.window_update(0, 2**30))
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            for stream_id in range(1, 401, 2):
                peer.writer.write(peer.client.headers(stream_id))
                peer.writer.write(b"".join(peer.client.data(stream_id, message(bytes(16_000))) for _ in range(4)))
                await asyncio.wait_for(peer.writer.drain(), 5)
                await asyncio.sleep(0)
        except (ConnectionError, TimeoutError):
            pass
        async with asyncio.timeout(10):
            while server.counters.floods_refused == 0:  # noqa: ASYNC110 - the condition is a counter
                await asyncio.sleep(0.005)
        peer.writer.transport.abort()

    with_server(tmp_path, talk, limits)


def test_a_stale_socket_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        stale = tmp_path / "stale.sock"
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(stale))
        server = GrpcServer({PATH: Echo})
        await server.listen_unix(str(stale))
        precious = tmp_path / "precious"
        precious.write_text("data")
        with pytest.raises(OSError, match="precious"):
            await server.listen_unix(str(precious))
        assert precious.read_text() == "data"
        await server.close()
        assert not stale.exists()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_the_server_also_runs_on_asyncios_own_loop(tmp_path: Path) -> None:
    async def main() -> None:
        server = GrpcServer({PATH: Echo})
        host, port = await server.listen_tcp("127.0.0.1", 0)
        peer = Peer(*await asyncio.open_connection(host, port))
        peer.writer.write(peer.client.preface() + peer.client.call(1, b"x" * 16_000))
        peer.writer.write(h2.window_update(1, 10**6) + h2.window_update(0, 10**6))
        await peer.until(is_ended(1))
        drained = asyncio.create_task(server.drain(5))
        await peer.closed()
        peer.writer.close()
        await drained

    asyncio.run(main())

"""grpcio as the client: an implementation that shares nothing with ours."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
import uvloop

from stellwerk.config import TransportLimits
from stellwerk.edge.grpc.health import Health
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.grpc.service import Call
from stellwerk.edge.grpc.status import GrpcError, Status
from stellwerk.edge.grpc.tls import ServerCertificate, self_signed_pem
from tests.kit.health import listed_states

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
ECHO, SINK, SLOW, BROKEN, REFUSED, BURST = (
    f"/test.Test/{name}" for name in ("Echo", "Sink", "Slow", "Broken", "Refused", "Burst")
)
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
"""Own limits of the client off: the server's are tested."""


class Calls:
    """Counts the calls of a service that are open."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.refused = 0
        """Calls whose service raised, so that there is no handler to be told."""

    def service(self, kind: type["Echo"]) -> Callable[[Call], "Echo"]:
        return lambda call: kind(call, self)


class Echo:
    """Says everything again."""

    def __init__(self, call: Call, calls: Calls) -> None:
        self.call = call
        self.calls = calls
        calls.opened += 1

    def on_message(self, message: bytes) -> None:
        self.call.send(message)

    def on_half_close(self) -> None:
        self.call.finish()

    def on_closed(self) -> None:
        self.calls.closed += 1


class Sink(Echo):
    """Counts bytes, and says how many."""

    total = 0

    def on_message(self, message: bytes) -> None:
        self.total += len(message)

    def on_half_close(self) -> None:
        self.call.send(str(self.total).encode())
        self.call.finish()


class Slow(Echo):
    """Never answers."""

    def on_message(self, message: bytes) -> None:
        pass

    def on_half_close(self) -> None:
        pass


class Broken(Echo):
    """Has a bug."""

    def on_message(self, message: bytes) -> None:
        raise RuntimeError("secret prompt")


class Refused(Echo):
    """Wants nothing to do with it."""

    def __init__(self, call: Call, calls: Calls) -> None:
        super().__init__(call, calls)
        calls.refused += 1
        raise GrpcError(Status.FAILED_PRECONDITION, "größer als 100%\n")


class Burst(Echo):
    """Answers one message with many, more than any window."""

    def on_message(self, message: bytes) -> None:
        for number in range(int(message)):
            self.call.send(bytes((number % 256,)) * 100_000)
        self.call.finish()


class Stage:
    """A running server and how a client reaches it."""

    def __init__(self, server: GrpcServer, calls: Calls, health: Health) -> None:
        self.server = server
        self.calls = calls
        self.health = health
        self.target = ""
        self.credentials: grpc.ChannelCredentials | None = None

    def channel(self, compression: grpc.Compression | None = None) -> grpc.aio.Channel:
        if self.credentials is not None:
            options = [*_OPTIONS, ("grpc.ssl_target_name_override", "localhost")]
            return grpc.aio.secure_channel(self.target, self.credentials, options=options, compression=compression)
        return grpc.aio.insecure_channel(self.target, options=_OPTIONS, compression=compression)


@asynccontextmanager
async def stage(
    over: str = "tcp", folder: Path | None = None, limits: TransportLimits | None = None
) -> AsyncIterator[Stage]:
    calls = Calls()
    health = Health()
    kinds: dict[str, type[Echo]] = {
        ECHO: Echo, SINK: Sink, SLOW: Slow, BROKEN: Broken, REFUSED: Refused, BURST: Burst
    }  # fmt: skip
    services = {path: calls.service(kind) for path, kind in kinds.items()}
    server = GrpcServer({**services, **health.services()}, limits)
    here = Stage(server, calls, health)
    if over == "unix":
        assert folder is not None
        path = folder / "grpc.sock"
        await server.listen_unix(str(path))
        here.target = f"unix:{path}"
    else:
        tls: ssl.SSLContext | None = None
        if over == "tls":
            assert folder is not None
            chain, key = self_signed_pem(["localhost"])
            (folder / "chain.pem").write_bytes(chain)
            (folder / "key.pem").write_bytes(key)
            tls = ServerCertificate(folder / "chain.pem", folder / "key.pem").context
            here.credentials = grpc.ssl_channel_credentials(root_certificates=chain)
        host, port = await server.listen_tcp("127.0.0.1", 0, tls)
        here.target = f"{host}:{port}"
    try:
        yield here
    finally:
        await server.close()
        assert server.counters.connections_open == 0
        assert server.counters.streams_open == 0
        assert calls.opened == calls.closed + calls.refused


async def until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - the condition is a counter
            await asyncio.sleep(0.005)


def run(main: Callable[[], object]) -> None:
    """On uvloop, as the gateway does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]


@pytest.mark.parametrize("over", ["tcp", "tls", "unix"])
def test_messages_of_every_size_come_back(over: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(over, tmp_path) as here, here.channel() as channel:
            echo = channel.stream_stream(ECHO)
            for size in (0, 1, 16_379, 16_380, 65_535, 262_144, 1_048_571, 16 * MIB, 20 * MIB):
                payload = random.Random(size).randbytes(size)
                sent = 0
                async for answer in echo(payload for _ in range(2)):
                    assert answer == payload
                    sent += 1
                assert sent == 2

    run(main)


@pytest.mark.parametrize("over", ["tcp", "tls", "unix"])
def test_large_messages_of_many_calls_at_once_do_not_stall(over: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with stage(over, tmp_path) as here, here.channel() as channel:
            sink = channel.stream_unary(SINK)
            answers = await asyncio.gather(*(sink(iter([bytes(16 * MIB)])) for _ in range(12)))
            assert answers == [str(16 * MIB).encode()] * 12

    run(main)


def test_thousands_of_interleaved_streams_on_one_connection(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            echo = channel.stream_stream(ECHO)

            async def one(number: int) -> None:
                call = echo()
                for turn in range(4):
                    payload = f"{number} {turn}".encode() * (1 + number % 50)
                    await call.write(payload)
                    assert await call.read() == payload
                await call.done_writing()
                assert await call.code() is grpc.StatusCode.OK

            await asyncio.gather(*(one(number) for number in range(3_000)))
            assert here.server.counters.connections_accepted == 1
            assert here.calls.closed == 3_000

    run(main)


def test_cancelled_calls_are_closed_and_the_others_live(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            echo = channel.stream_stream(ECHO)
            slow = channel.stream_stream(SLOW)
            kept = echo()
            await kept.write(b"before")
            for _ in range(4):
                open_calls = [(echo if number % 2 else slow)() for number in range(500)]
                await asyncio.gather(*(call.write(b"x") for call in open_calls))
                for call in open_calls:
                    call.cancel()
            await until(lambda: here.server.counters.streams_open == 1)
            await kept.write(b"after")
            await kept.done_writing()
            assert [answer async for answer in kept] == [b"before", b"after"]
            assert here.server.counters.floods_refused == 0

    run(main)


def test_deadlines_end_calls_on_both_sides(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            slow = channel.stream_stream(SLOW)
            calls = [slow(timeout=0.05 + number / 1000) for number in range(200)]
            codes = await asyncio.gather(*(call.code() for call in calls))
            assert set(codes) == {grpc.StatusCode.DEADLINE_EXCEEDED}
            await until(lambda: here.server.counters.streams_open == 0)

    run(main)


def text(size: int) -> bytes:
    """Words that become a good deal smaller, and not absurdly so."""
    words = [bytes(random.Random(number).choices(b"abcdefghij ", k=9)) for number in range(500)]
    return b"".join(random.Random(size).choices(words, k=1 + size // 9))[:size]


@pytest.mark.parametrize("over", ["tcp", "tls", "unix"])
@pytest.mark.parametrize("is_of_channel", [True, False])
def test_compressed_messages_of_every_size_come_back(over: str, is_of_channel: bool, tmp_path: Path) -> None:
    gzip = grpc.Compression.Gzip

    async def main() -> None:
        async with stage(over, tmp_path) as here, here.channel(gzip if is_of_channel else None) as channel:
            echo = channel.stream_stream(ECHO)
            for size in (0, 1, 900, 65_535, 262_144, 5 * MIB, 20 * MIB):
                wanted = [text(size), random.Random(size).randbytes(min(size, 5 * MIB)), bytes(size)]
                call = echo(iter(wanted)) if is_of_channel else echo(iter(wanted), compression=gzip)
                assert [answer async for answer in call] == wanted
                assert await call.code() is grpc.StatusCode.OK
            assert here.server.counters.calls_refused == here.server.counters.protocol_errors == 0

    run(main)


def test_many_compressed_calls_beside_plain_ones_do_not_stall(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            sink = channel.stream_unary(SINK)
            payload = text(5 * MIB)
            kinds = [grpc.Compression.Gzip, grpc.Compression.NoCompression] * 8
            answers = await asyncio.gather(*(sink(iter([payload, payload]), compression=kind) for kind in kinds))
            assert answers == [str(10 * MIB).encode()] * 16

    run(main)


def test_every_way_to_fail_has_its_status(tmp_path: Path) -> None:
    async def main() -> None:
        limits = TransportLimits(max_message_bytes=1_000)
        async with stage("unix", tmp_path, limits) as here, here.channel() as channel:

            async def status(path: str, payload: bytes, **more: object) -> tuple[grpc.StatusCode, str]:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await channel.unary_unary(path)(payload, **more)
                return caught.value.code(), caught.value.details() or ""

            assert (await status("/test.Test/Nope", b""))[0] is grpc.StatusCode.UNIMPLEMENTED
            assert (await status(ECHO, bytes(1_001)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
            deflated = await status(ECHO, bytes(900), compression=grpc.Compression.Deflate)
            assert deflated[0] is grpc.StatusCode.UNIMPLEMENTED
            grown = await status(ECHO, bytes(1_001), compression=grpc.Compression.Gzip)
            assert grown[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await channel.unary_unary(ECHO)(bytes(1_000), compression=grpc.Compression.Gzip) == bytes(1_000)
            assert await status(BROKEN, b"x") == (grpc.StatusCode.INTERNAL, "internal error")
            refused = await status(REFUSED, b"x")
            assert refused == (grpc.StatusCode.FAILED_PRECONDITION, "größer als 100%\n")
            assert here.server.counters.handler_errors == 1
            assert await channel.unary_unary(ECHO)(b"fine") == b"fine"

    run(main)


def test_a_reader_slower_than_its_answers_gets_them_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            call = channel.unary_stream(BURST)(b"400")
            seen = 0
            async for answer in call:
                assert answer == bytes((seen % 256,)) * 100_000
                seen += 1
                if seen % 50 == 0:
                    await asyncio.sleep(0.01)
            assert seen == 400

    run(main)


def test_health_is_checked_watched_and_listed(tmp_path: Path) -> None:
    def request(name: str) -> bytes:
        return b"\x0a" + bytes((len(name),)) + name.encode()

    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            here.health.set("", True)
            here.health.set("a.B", False)
            assert await check(b"") == b"\x08\x01"
            assert await check(request("a.B")) == b"\x08\x02"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await check(request("c.D"))
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
            watcher = watch(request("c.D"))
            assert await watcher.read() == b"\x08\x03"
            here.health.set("c.D", True)
            assert await watcher.read() == b"\x08\x01"
            here.health.set("c.D", False)
            assert await watcher.read() == b"\x08\x02"
            watcher.cancel()
            listed = await channel.unary_unary("/grpc.health.v1.Health/List")(b"")
            assert listed_states(listed) == {"": 1, "a.B": 2, "c.D": 2}

    run(main)


def test_a_drain_lets_running_calls_finish(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            call = channel.stream_stream(ECHO)()
            await call.write(b"one")
            assert await call.read() == b"one"
            drained = asyncio.create_task(here.server.drain(10))
            await until(lambda: not (tmp_path / "grpc.sock").exists())
            await call.write(b"two")
            assert await call.read() == b"two"
            assert not drained.done()
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK
            await asyncio.wait_for(drained, 5)

    run(main)


def test_closing_tells_running_calls_that_we_are_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        async with stage("unix", tmp_path) as here, here.channel() as channel:
            call = channel.stream_stream(SLOW)()
            await call.write(b"one")
            await until(lambda: here.calls.opened == 1)
            await here.server.close()
            assert await call.code() is grpc.StatusCode.UNAVAILABLE

    run(main)


def test_renewed_certificates_are_used_for_new_connections(tmp_path: Path) -> None:
    def write(pem: tuple[bytes, bytes]) -> None:
        (tmp_path / "chain.pem").write_bytes(pem[0])
        (tmp_path / "key.pem").write_bytes(pem[1])

    async def says_hello(server: GrpcServer, root: bytes, port: int) -> bytes:
        credentials = grpc.ssl_channel_credentials(root_certificates=root)
        options = [("grpc.ssl_target_name_override", "localhost")]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            answer: bytes = await channel.unary_unary(ECHO)(b"hello", timeout=5)
            return answer

    async def main() -> None:
        first, second = self_signed_pem(["localhost"]), self_signed_pem(["localhost"])
        write(first)
        certificate = ServerCertificate(tmp_path / "chain.pem", tmp_path / "key.pem")
        calls = Calls()
        server = GrpcServer({ECHO: calls.service(Echo)})
        _, port = await server.listen_tcp("127.0.0.1", 0, certificate.context)
        assert await says_hello(server, first[0], port) == b"hello"
        write((second[0], b"half a file"))
        with pytest.raises(OSError, match="PEM"):
            certificate.reload_if_changed()
        assert await says_hello(server, first[0], port) == b"hello"
        write(second)
        assert certificate.reload_if_changed()
        assert not certificate.reload_if_changed()
        assert await says_hello(server, second[0], port) == b"hello"
        await server.close()

    run(main)

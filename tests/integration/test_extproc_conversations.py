"""Raw ext_proc conversations: grpcio as the proxy, our transport, our service, the real engine.

Each test ends with nothing reserved: what a conversation took, it gave back.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from stellwerk.config import Timeouts
from stellwerk.edge import extproc
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.engine import Engine, EngineSettings
from stellwerk.model.catalog import Catalog, Pool, PublicModel, Split, Target
from stellwerk.model.event import Configured, ModelsListed
from stellwerk.telemetry.meters import Meters
from tests.kit.exchanges import BODY, endpoint

pytestmark = pytest.mark.integration

BUFFERED, DUPLEX = 2, 4
WAIT_SECONDS = 10.0
CHAT = {":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json"}


async def until(check: Callable[[], bool]) -> None:
    """Poll until `check()` holds."""
    end = time.monotonic() + WAIT_SECONDS
    while not check():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


class Stand:
    """An engine with one pool of two servers behind a listening service."""

    def __init__(self, port: int, engine: Engine, service: extproc.ExtProcService) -> None:
        self.port = port
        self.engine = engine
        self.service = service

    def in_flight(self) -> int:
        view = self.engine.describe(time.monotonic())
        return sum(one.requests for pool in view.pools for one in pool.endpoints)

    async def settles(self) -> None:
        """Nothing is open and nothing is reserved, soon."""
        await until(lambda: not self.in_flight() and not self.service.counts.open)
        assert self.service.counts.buffered_bytes == 0
        assert self.service.counts.failures == 0


def catalog(endpoints: tuple[Any, ...] | None = None) -> Catalog:
    members = (endpoint(port=9001), endpoint(port=9002)) if endpoints is None else endpoints
    pool = Pool("default/llama", members, restores_streamed_model=True)
    split = Split.of((Target("served-by-us", 1),), "InferenceModel default/public")
    return Catalog(1, {pool.name: pool}, {"public": PublicModel("public", pool.name, split)}, pool.name)


@asynccontextmanager
async def stand(endpoints: tuple[Any, ...] | None = None, **changes: Any) -> AsyncIterator[Stand]:
    engine = Engine(EngineSettings(), random.Random(1), Meters())
    settings = extproc.ExtProcSettings(**{"is_own_proxy": True, "epoch": "e", **changes})
    service = extproc.ExtProcService(engine.receive, settings, time.monotonic)
    now = time.monotonic()
    engine.receive(Configured(catalog(endpoints)), now)
    for one in (endpoint(port=9001), endpoint(port=9002)):
        engine.receive(ModelsListed(one.key, {"served-by-us": None}), now)
    server = GrpcServer({extproc.PATH: service})
    _, port = await server.listen_tcp("127.0.0.1", 0)
    try:
        yield Stand(port, engine, service)
    finally:
        service.close()
        await server.close()


class Proxy:
    """The proxy's end of one stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def say(self, **fields: Any) -> None:
        await self.stream.write(pb.ProcessingRequest(**fields))

    async def headers(self, mode: int, end: bool = False, pairs: dict[str, str] | None = None, **extra: Any) -> None:
        config = pb.ProtocolConfiguration(request_body_mode=mode, response_body_mode=DUPLEX if mode == DUPLEX else 0)
        await self.say(request_headers=http_headers({**CHAT, **(pairs or {})}, end), protocol_config=config, **extra)

    async def body(self, body: bytes = BODY, end: bool = True) -> None:
        await self.say(request_body=pb.HttpBody(body=body, end_of_stream=end))

    async def hear(self) -> Any:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.stream.read()


def http_headers(pairs: dict[str, str], end: bool = False) -> Any:
    headers = [core.HeaderValue(key=name, raw_value=value.encode()) for name, value in pairs.items()]
    return pb.HttpHeaders(headers=core.HeaderMap(headers=headers), end_of_stream=end)


@asynccontextmanager
async def channel_to(port: int) -> AsyncIterator[Callable[[], Proxy]]:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        method = channel.stream_stream(
            extproc.PATH,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )
        yield lambda: Proxy(method())


def conversation(play: Callable[[Stand, Callable[[], Proxy]], Coroutine[Any, Any, None]], **changes: Any) -> None:
    """Run `play` against a stand, and see that nothing stays behind."""

    async def run() -> None:
        async with stand(**changes) as here, channel_to(here.port) as new:
            await play(here, new)
            await here.settles()

    asyncio.run(run())


def destination(answer: Any) -> str:
    value: str = answer.dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"]
    return value


def test_a_buffered_request_and_its_answer() -> None:
    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        proxy = new()
        await proxy.headers(BUFFERED)
        assert (await proxy.hear()).WhichOneof("response") == "request_headers"
        await proxy.body()
        answer = await proxy.hear()
        common = answer.request_body.response
        assert common.body_mutation.body == BODY.replace(b"public", b"served-by-us")
        headers = {one.header.key: one.header.raw_value.decode() for one in common.header_mutation.set_headers}
        assert headers["x-stellwerk-pool"] == "default/llama"
        assert headers["x-gateway-destination-endpoint"] == destination(answer)
        assert set(destination(answer).split(",")) == {"127.0.0.1:9001", "127.0.0.1:9002"}
        assert here.in_flight() == 1
        await proxy.say(response_headers=http_headers({":status": "200", "content-type": "text/event-stream"}))
        assert (await proxy.hear()).mode_override.response_body_mode == 1
        await proxy.say(response_body=pb.HttpBody(body=b'data: {"model": "served-by-us"}\n\n', end_of_stream=True))
        assert (await proxy.hear()).response_body.response.body_mutation.body == b'data: {"model": "public"}\n\n'
        await proxy.stream.done_writing()
        assert await proxy.hear() is grpc.aio.EOF

    conversation(play)


@pytest.mark.parametrize("size", [0, 62_000, 1_000_000, 15_000_000])
def test_a_duplex_body_comes_back_whole(size: int) -> None:
    body = b'{"model": "other", "prompt": "' + b"x" * size + b'"}'

    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        proxy = new()
        pairs = {":path": "/v1/unknown"}
        await proxy.headers(DUPLEX, pairs=pairs)
        for start in range(0, len(body), 65_536):
            await proxy.body(body[start : start + 65_536], end=start + 65_536 >= len(body))
        assert (await proxy.hear()).WhichOneof("response") == "request_headers"
        back = []
        while True:
            piece = (await proxy.hear()).request_body.response.body_mutation.streamed_response
            back.append(piece.body)
            if piece.end_of_stream:
                break
        assert b"".join(back) == body
        assert all(len(one) <= 62_000 for one in back)
        proxy.stream.cancel()

    conversation(play, is_own_proxy=False)


@pytest.mark.parametrize("mode", [BUFFERED, DUPLEX])
def test_refusals_are_typed_in_either_mode(mode: int) -> None:
    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        cases: Iterable[tuple[bytes, int]] = ((b'{"model": "unknown"}', 404), (b"{", 400), (b"x" * 17_000_000, 413))
        for body, status in cases:
            proxy = new()
            await proxy.headers(mode)
            if mode == BUFFERED:
                await proxy.hear()
            await proxy.body(body)
            answer = await proxy.hear()
            assert answer.immediate_response.status.code == status
            assert answer.immediate_response.body.startswith(b'{"error":')
            assert await proxy.hear() is grpc.aio.EOF
            assert await proxy.stream.code() is grpc.StatusCode.OK

    conversation(play)


def test_an_empty_pool_is_503() -> None:
    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        proxy = new()
        await proxy.headers(BUFFERED)
        await proxy.hear()
        await proxy.body()
        answer = (await proxy.hear()).immediate_response
        assert answer.status.code == 503
        assert "retry-after" in {one.header.key for one in answer.headers.set_headers}

    conversation(play, endpoints=())


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (["127.0.0.1:9002"], "127.0.0.1:9002"),
        ("127.0.0.1:9002,10.9.9.9:1", "127.0.0.1:9002"),
        (["127.0.0.1:9999"], None),
        ([], None),
        (7, None),
    ],
)
@pytest.mark.parametrize("has_body", [True, False])
def test_the_subset_hint_binds_every_request(hint: object, expected: str | None, has_body: bool) -> None:
    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        metadata = core.Metadata()
        metadata.filter_metadata["envoy.lb.subset_hint"].update({"x-gateway-destination-endpoint-subset": hint})
        proxy = new()
        pairs = {} if has_body else {":method": "GET", ":path": "/anything"}
        await proxy.headers(BUFFERED, end=not has_body, pairs=pairs, metadata_context=metadata)
        answer = await proxy.hear()
        if has_body:
            await proxy.body()
            answer = await proxy.hear()
        if expected is None:
            assert answer.immediate_response.status.code == 503
        else:
            assert destination(answer) == expected
        proxy.stream.cancel()

    conversation(play)


def test_hundreds_of_streams_that_leave_anywhere_leave_nothing() -> None:
    chance = random.Random(7)

    async def one(proxy: Proxy, mode: int, steps: int) -> None:
        moves: list[Callable[[], Coroutine[Any, Any, None]]] = [
            lambda: proxy.headers(mode),
            lambda: proxy.body(BODY, end=True),
            lambda: proxy.say(response_headers=http_headers({":status": "200", "content-type": "text/event-stream"})),
            lambda: proxy.say(response_body=pb.HttpBody(body=b"data: {}\n\n")),
        ]
        for move in moves[:steps]:
            await move()
        await asyncio.sleep(chance.random() * 0.02)
        proxy.stream.cancel()

    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        plans = [(new(), chance.choice((BUFFERED, DUPLEX)), chance.randrange(5)) for _ in range(300)]
        await asyncio.gather(*(one(*plan) for plan in plans))

    conversation(play, is_own_proxy=False)


def test_odd_messages_end_their_own_stream_at_most() -> None:
    odd = [
        pb.ProcessingRequest(),
        pb.ProcessingRequest(request_headers=pb.HttpHeaders()),
        pb.ProcessingRequest(request_headers=pb.HttpHeaders(end_of_stream=True)),
        pb.ProcessingRequest(request_body=pb.HttpBody(body=b"x")),
        pb.ProcessingRequest(request_trailers=pb.HttpTrailers()),
        pb.ProcessingRequest(response_headers=pb.HttpHeaders()),
        pb.ProcessingRequest(response_body=pb.HttpBody(end_of_stream=True)),
        pb.ProcessingRequest(response_trailers=pb.HttpTrailers()),
    ]

    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        bystander = new()
        await bystander.headers(BUFFERED)
        await bystander.hear()
        for first in odd:
            for second in odd:
                proxy = new()
                await proxy.stream.write(first)
                try:
                    await proxy.stream.write(second)
                    await proxy.stream.done_writing()
                    async with asyncio.timeout(WAIT_SECONDS):
                        while await proxy.stream.read() is not grpc.aio.EOF:
                            pass
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    pass
                async with asyncio.timeout(WAIT_SECONDS):
                    await proxy.stream.code()
        await bystander.body()
        assert destination(await bystander.hear())
        bystander.stream.cancel()

    conversation(play)


def test_a_stalled_upload_ends_in_a_504() -> None:
    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        proxy = new()
        await proxy.headers(DUPLEX)
        await proxy.body(BODY[:9], end=False)
        assert (await proxy.hear()).immediate_response.status.code == 504

    conversation(play, timeouts=Timeouts(request_headers_seconds=0.2))


def test_many_half_sent_bodies_stay_within_the_bound() -> None:
    async def play(here: Stand, new: Callable[[], Proxy]) -> None:
        proxies = [new() for _ in range(20)]
        for proxy in proxies:
            await proxy.headers(DUPLEX)

        async def upload(proxy: Proxy) -> None:
            for _ in range(40):
                await proxy.body(b"x" * 100_000, end=False)

        tasks = [asyncio.create_task(upload(proxy)) for proxy in proxies]
        await until(lambda: here.service.counts.pauses >= len(proxies) // 2)
        await asyncio.sleep(0.2)
        # What the windows had granted before the pause may still arrive.
        assert here.service.counts.buffered_bytes <= 10_000_000 + len(proxies) * 1_300_000
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for proxy in proxies:
            proxy.stream.cancel()

    conversation(play, max_buffered_bytes=10_000_000)

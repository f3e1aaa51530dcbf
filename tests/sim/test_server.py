"""A simulated server over real sockets: connections, endpoints, cancellation, slow clients."""

import asyncio
import hashlib
import json
from typing import Any

import msgspec
import pytest

from stellwerk.sim.connection import ConnectionSettings
from stellwerk.sim.http1 import HttpLimits
from stellwerk.sim.service import Running, start
from stellwerk.sim.settings import SimSettings
from stellwerk.sim.shape import SPEEDS, Shape, StepTime
from tests.kit.http_client import call, read_answer, request
from tests.kit.loop import on_loop, until

pytestmark = pytest.mark.integration
INSTANT = msgspec.structs.replace(SPEEDS["instant"], max_adapters=2)
SLOW = Shape(step=StepTime(base_seconds=0.02), max_adapters=2)


async def serve(shape: Shape = INSTANT, **fields: Any) -> Running:
    """One server."""
    return await start(SimSettings(shape=shape, **fields))


def chat(**fields: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, **fields}


@on_loop
async def test_pipelined_requests_are_answered_in_order_on_one_connection() -> None:
    async with await serve() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        body = json.dumps(chat()).encode()
        writer.write(
            request("POST", "/v1/chat/completions", body) + request("GET", "/version") + request("HEAD", "/health")
        )
        assert (await read_answer(reader)).json()["object"] == "chat.completion"
        assert (await read_answer(reader)).json() == {"version": "0.32.0"}
        assert (await read_answer(reader, is_head=True)).status == 200
        writer.write(request("GET", "/version", b"", "connection: close"))
        assert "connection" in (await read_answer(reader)).headers
        assert await reader.read() == b""
        writer.close()


@on_loop
async def test_a_pipelined_request_waits_for_the_answer_before_it() -> None:
    async with await serve(SLOW) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        body = json.dumps(chat(stream=True)).encode()
        writer.write(request("POST", "/v1/chat/completions", body) + request("GET", "/version"))
        assert (await read_answer(reader)).body.endswith(b"data: [DONE]\n\n")
        assert (await read_answer(reader)).json() == {"version": "0.32.0"}
        writer.close()


@on_loop
async def test_expect_100_continue_is_answered_before_the_body_is_sent() -> None:
    async with await serve() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        body = json.dumps(chat()).encode()
        head, _, _ = request("POST", "/v1/chat/completions", body, "expect: 100-continue").partition(body)
        writer.write(head)
        assert (await read_answer(reader)).status == 100
        writer.write(body)
        assert (await read_answer(reader)).status == 200
        writer.close()


@on_loop
async def test_a_body_over_the_limit_is_413_even_while_it_is_being_sent() -> None:
    settings = ConnectionSettings(limits=HttpLimits(max_body_bytes=1_000))
    async with await serve(connection=settings) as running:
        answer = await call(running.ports[0], "POST", "/v1/chat/completions", b"x" * 300_000)
        assert answer.status == 413


@on_loop
async def test_bytes_that_are_no_http_are_400_and_harm_nobody_else() -> None:
    async with await serve() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert (await read_answer(reader)).status == 400
        writer.close()
        assert (await call(running.ports[0], "GET", "/health")).status == 200


@on_loop
async def test_idle_and_half_sent_connections_are_closed() -> None:
    settings = ConnectionSettings(keep_alive_seconds=0.01, request_seconds=0.01)
    async with await serve(connection=settings) as running:
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        half, half_writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
        idle_writer.write(request("GET", "/health"))
        half_writer.write(b"GET /hea")
        await read_answer(idle)
        async with asyncio.timeout(10):
            assert (await idle.read(), await half.read()) == (b"", b"")
        idle_writer.close()
        half_writer.close()


@on_loop
async def test_echo_headers_tell_what_arrived() -> None:
    async with await serve() as running:
        body = json.dumps(chat()).encode()
        answer = await call(
            running.ports[0], "POST", "/v1/chat/completions?a=1", body, "X-Sim-Echo-Headers: 1", "x-a: b"
        )
    assert answer.headers["x-sim-server"] == running.address()
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()
    assert json.loads(answer.headers["x-sim-request"]) == ["POST", "/v1/chat/completions?a=1"]
    assert json.loads(answer.headers["x-sim-request-headers"])["x-a"] == "b"


@on_loop
async def test_the_request_id_of_the_caller_becomes_the_answers() -> None:
    async with await serve() as running:
        answer = await call(running.ports[0], "POST", "/v1/chat/completions", chat(), "x-request-id: abc")
    assert answer.json()["id"] == "chatcmpl-abc"


@on_loop
async def test_a_repeated_prompt_reports_its_cached_tokens_as_vllm_does_with_the_flag() -> None:
    long = {"messages": [{"role": "user", "content": "word" * 1_000}]}
    async with await serve(reports_cached_tokens=True) as running:
        first, second = [await call(running.ports[0], "POST", "/v1/chat/completions", chat(**long)) for _ in range(2)]
        streamed = await call(
            running.ports[0],
            "POST",
            "/v1/chat/completions",
            chat(**long, stream=True, stream_options={"include_usage": True}),
        )
        other = await call(running.ports[0], "POST", "/v1/chat/completions", chat(**long, cache_salt="mine"))
    assert first.json()["usage"]["prompt_tokens_details"] is None
    assert second.json()["usage"]["prompt_tokens_details"] == {"cached_tokens": 896}
    assert b'"prompt_tokens_details":{"cached_tokens":896}' in streamed.body
    assert other.json()["usage"]["prompt_tokens_details"] is None


@on_loop
async def test_a_client_that_leaves_frees_its_sequences_and_counts_as_aborted() -> None:
    async with await serve(SLOW) as running:
        model = running.servers[0].serving.engine.model
        for is_stream in (False, True):
            reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0])
            body = chat(stream=is_stream, n=3, max_tokens=2_000, ignore_eos=True)
            writer.write(request("POST", "/v1/chat/completions", json.dumps(body).encode()))
            await until(lambda: model.running == 3)
            if is_stream:
                await reader.readuntil(b"content")
            writer.transport.abort()
            await until(lambda: model.running == 0)
        assert model.pool.used == 0
        page = (await call(running.ports[0], "GET", "/metrics")).body.decode()
    assert 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="tiny"} 6.0' in page


@on_loop
async def test_a_client_that_reads_slowly_gets_every_token_and_costs_no_memory() -> None:
    shape = Shape(step=StepTime(base_seconds=0.0005))
    async with await serve(shape, max_model_tokens=200_000) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.ports[0], limit=1024)
        body = chat(stream=True, max_tokens=40_000, ignore_eos=True, stream_options={"include_usage": True})
        writer.write(request("POST", "/v1/chat/completions", json.dumps(body).encode()))
        model = running.servers[0].serving.engine.model
        model.slowness = 0.01
        await until(lambda: model.counters.generated_tokens == 40_000)
        text, tokens = 0, 0
        await reader.readuntil(b"\r\n\r\n")
        while (size := int(await reader.readuntil(b"\r\n"), 16)) > 0:
            event = (await reader.readexactly(size)).removeprefix(b"data: ")
            await reader.readexactly(2)
            if not event.startswith(b"[DONE]"):
                chunk = json.loads(event)
                text += sum(len(choice["delta"].get("content", "")) for choice in chunk["choices"])
                tokens = (chunk.get("usage") or {}).get("completion_tokens", 0)
        writer.close()
    assert (text, tokens) == (160_000, 40_000)


@on_loop
async def test_adapters_load_serve_and_unload() -> None:
    async with await serve(adapters=("sql",)) as running:
        port = running.ports[0]
        load = {"lora_name": "chat", "lora_path": "/adapters/chat"}
        assert (await call(port, "POST", "/v1/chat/completions", chat(model="chat"))).status == 404
        assert (
            await call(port, "POST", "/v1/load_lora_adapter", load)
        ).body == b"Success: LoRA adapter 'chat' added successfully."
        assert (await call(port, "POST", "/v1/load_lora_adapter", load)).status == 400
        assert (await call(port, "POST", "/v1/load_lora_adapter", {**load, "load_inplace": True})).status == 200
        assert (await call(port, "POST", "/v1/chat/completions", chat(model="chat"))).json()["model"] == "chat"
        cards = (await call(port, "GET", "/v1/models")).json()["data"]
        assert [(card["id"], card["root"], card["parent"]) for card in cards] == [
            ("tiny", "tiny", None),
            ("sql", "sql", "tiny"),
            ("chat", "/adapters/chat", "tiny"),
        ]
        assert (await call(port, "POST", "/v1/unload_lora_adapter", {"lora_name": "chat"})).status == 200
        assert (await call(port, "POST", "/v1/unload_lora_adapter", {"lora_name": "chat"})).status == 404
        assert (await call(port, "POST", "/v1/chat/completions", chat(model="chat"))).status == 404
        assert (await call(port, "GET", "/v1/models/sql")).json()["parent"] == "tiny"
        assert (await call(port, "GET", "/v1/models/chat")).status == 404


@on_loop
async def test_rerank_score_and_detokenize_answer() -> None:
    async with await serve() as running:
        port = running.ports[0]
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            body = {"query": "red fox", "documents": ["blue", "a red fox", {"text": "red"}], "top_n": 2}
            results = (await call(port, "POST", path, body)).json()["results"]
            assert [one["index"] for one in results] == [1, 2]
        scores = (await call(port, "POST", "/score", {"text_1": "a", "text_2": ["b", "c"]})).json()["data"]
        assert [one["index"] for one in scores] == [0, 1]
        ids = (await call(port, "POST", "/tokenize", {"prompt": "hello wörld"})).json()["tokens"]
        assert (await call(port, "POST", "/detokenize", {"tokens": ids})).json() == {"prompt": "hello wörld"}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/nope", {}, 404),
        ("/v1/chat/completions", b"", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/chat/completions", b"\xff", 400),
        ("/v1/chat/completions", b"[" * 100_000, 400),
        ("/v1/chat/completions", {"model": 5, "messages": []}, 400),
        ("/v1/chat/completions", {"messages": "x"}, 400),
        ("/v1/chat/completions", {"messages": ["x"]}, 400),
        ("/v1/chat/completions", chat(max_tokens="x"), 400),
        ("/v1/chat/completions", chat(max_tokens=0), 400),
        ("/v1/chat/completions", chat(max_tokens=10**30), 400),
        ("/v1/chat/completions", chat(n=0), 400),
        ("/v1/chat/completions", chat(n=10**9), 400),
        ("/v1/chat/completions", chat(stream="yes"), 400),
        ("/v1/chat/completions", chat(stream_options={"include_usage": True}), 400),
        ("/v1/chat/completions", chat(stream=True, stream_options=[1]), 400),
        ("/v1/chat/completions", chat(stop=[1]), 400),
        ("/v1/chat/completions", chat(min_tokens=9), 400),
        ("/v1/completions", {"prompt": ""}, 400),
        ("/v1/completions", {"prompt": [[]]}, 400),
        ("/v1/completions", {"prompt": {"a": 1}}, 400),
        ("/v1/completions", {"prompt": [-1]}, 400),
        ("/v1/completions", {}, 400),
        ("/v1/messages", chat(max_tokens=None), 400),
        ("/v1/responses", {"input": 5}, 400),
        ("/v1/embeddings", {"input": []}, 400),
        ("/v1/embeddings", {"input": "a", "dimensions": 10**9}, 400),
        ("/rerank", {"query": "a", "documents": [1]}, 400),
        ("/score", {"text_1": ["a", "b"], "text_2": ["a", "b", "c"]}, 400),
        ("/detokenize", {"tokens": ["x"]}, 400),
        ("/v1/audio/transcriptions", b"x", 415),
        ("/v1/images/generations", {"prompt": "a", "n": 11}, 400),
        ("/v1/load_lora_adapter", {}, 400),
        ("/sim/fault", {}, 400),
        ("/sim/fault", {"kind": "wegde"}, 400),
        ("/sim/fault", {"kind": "slow", "value": "x"}, 400),
        ("/sim/fault", {"kind": "slow", "server": 7}, 400),
        ("/sim/nope", {}, 404),
    ],
)
@on_loop
async def test_bad_requests_get_a_typed_error_and_leave_nothing_behind(path: str, body: object, status: int) -> None:
    async with await serve() as running:
        answer = await call(running.ports[0], "POST", path, body)
        assert answer.status == status, answer.body
        error = answer.json()["error"]
        assert error["message"]
        assert error["type"]
        model = running.servers[0].serving.engine.model
        assert (model.running, model.waiting, model.pool.used) == (0, 0, 0)


@on_loop
async def test_a_wrong_method_is_405_and_head_has_no_body() -> None:
    async with await serve() as running:
        port = running.ports[0]
        assert (await call(port, "GET", "/v1/chat/completions")).status == 405
        assert (await call(port, "POST", "/v1/models", {})).status == 405
        head = await call(port, "HEAD", "/v1/models")
        assert (head.status, head.body) == (200, b"")
        assert int(head.headers["content-length"]) > 0

"""Answers of the simulator next to recorded ones of the real server: same headers, same fields in the same order."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stellwerk.sim.service import Running, start
from stellwerk.sim.settings import SimSettings
from stellwerk.sim.shape import Shape
from tests.kit.http_client import Answer, call
from tests.kit.loop import on_loop

pytestmark = pytest.mark.integration
FIXTURES = Path(__file__).parents[1] / "fixtures" / "vllm-0.32.0"
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
TEXT = {"model": "tiny", "prompt": "Hello, world", "max_tokens": 8}
RESPONSE = {"model": "tiny", "input": "Hello", "max_output_tokens": 8}


@asynccontextmanager
async def recorded_server() -> AsyncIterator[Running]:
    """Started as the recorded one was."""
    settings = SimSettings(
        adapters=("sql-lora", "chat-lora"), shape=Shape(max_adapters=2), max_model_tokens=4_096, echoes=False
    )
    async with await start(settings) as running:
        yield running


def fields_of(value: Any) -> Any:
    """A JSON value without its leaves: names in order, and the kinds of values."""
    if isinstance(value, dict):
        return {name: fields_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [fields_of(inner) for inner in value]
    return type(value).__name__


def recorded(name: str) -> tuple[int, dict[str, str], str]:
    """Status, headers, body."""
    found = json.loads((FIXTURES / f"{name}.json").read_text())
    return found["status"], found["headers"], found["body"]


def in_order(value: Any) -> str:
    """Fields and their order as text."""
    return json.dumps(fields_of(value))


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("chat", "/v1/chat/completions", CHAT),
        ("chat-lora", "/v1/chat/completions", {**CHAT, "model": "sql-lora"}),
        ("completion", "/v1/completions", TEXT),
        ("messages", "/v1/messages", CHAT),
        ("responses", "/v1/responses", RESPONSE),
        ("models", "/v1/models", None),
        ("version", "/version", None),
    ],
)
@on_loop
async def test_an_answer_has_the_recorded_headers_and_fields(name: str, path: str, body: object) -> None:
    async with recorded_server() as running:
        answer = await call(running.ports[0], "GET" if body is None else "POST", path, body)
    status, headers, raw = recorded(name)
    assert answer.status == status
    assert list(answer.headers) == list(headers)
    assert {k: v for k, v in answer.headers.items() if k not in ("date", "content-length")} == {
        k: v for k, v in headers.items() if k not in ("date", "content-length")
    }
    assert in_order(answer.json()) == in_order(json.loads(raw))
    if name in ("chat", "completion"):
        assert answer.json()["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("unknown-model", "/v1/chat/completions", {**CHAT, "model": "nope"}),
        ("malformed", "/v1/chat/completions", b'{"model":'),
        ("missing-messages", "/v1/chat/completions", {"model": "tiny"}),
        ("too-long", "/v1/completions", {**TEXT, "prompt": "x" * 30_000}),
    ],
)
@on_loop
async def test_an_error_is_the_recorded_one_byte_for_byte(name: str, path: str, body: object) -> None:
    async with recorded_server() as running:
        answer = await call(running.ports[0], "POST", path, body)
    status, headers, raw = recorded(name)
    assert (answer.status, answer.body.decode()) == (status, raw)
    assert list(answer.headers) == list(headers)


@on_loop
async def test_tokenize_and_health_are_answered_as_recorded() -> None:
    async with recorded_server() as running:
        tokenized = await call(running.ports[0], "POST", "/tokenize", {"model": "tiny", "prompt": "Hello"})
        health = await call(running.ports[0], "GET", "/health")
    assert list(tokenized.json()) == list(json.loads(recorded("tokenize")[2]))
    assert (health.status, health.body, list(health.headers)) == (200, b"", list(recorded("health")[1]))


def events_of(text: str) -> list[tuple[str, str]]:
    """(event name, fields in order) of each SSE event, repeats of the same once."""
    events: list[tuple[str, str]] = []
    for block in text.strip("\n").split("\n\n"):
        matched = re.fullmatch(r"(?:event: (?P<name>\S+)\n)?data: (?P<data>.*)", block)
        assert matched is not None, block
        data = matched["data"]
        one = (matched["name"] or "", data if data == "[DONE]" else in_order(json.loads(data)))
        if not events or events[-1] != one:
            events.append(one)
    return events


USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CONTINUOUS = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("stream-chat-usage", "/v1/chat/completions", {**CHAT, **USAGE}),
        ("stream-chat-continuous-usage", "/v1/chat/completions", {**CHAT, **CONTINUOUS}),
        ("stream-completion", "/v1/completions", {**TEXT, "stream": True}),
        ("stream-completion-usage", "/v1/completions", {**TEXT, **USAGE}),
        ("stream-messages", "/v1/messages", {**CHAT, "stream": True}),
        ("stream-responses", "/v1/responses", {**RESPONSE, "stream": True}),
    ],
)
@on_loop
async def test_a_stream_has_the_recorded_events_one_chunk_each(name: str, path: str, body: object) -> None:
    async with recorded_server() as running:
        answer: Answer = await call(running.ports[0], "POST", path, body)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events_of(answer.body.decode()) == events_of((FIXTURES / f"{name}.sse").read_text())
    assert all(chunk.endswith(b"\n\n") and chunk.count(b"data: ") == 1 for chunk in answer.chunks)

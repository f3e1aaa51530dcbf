"""The openai and anthropic SDKs through real Envoy: what users do first must simply work."""

import json
from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.kit.processes import Gateway, Sim, call, gateway, simulated_servers

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def servers() -> Iterator[Sim]:
    with simulated_servers(2, "--model", "llama", "--lora", "sql", "--speed", "instant") as sim:
        yield sim


@pytest.fixture(scope="module")
def running(servers: Sim) -> Iterator[Gateway]:
    with gateway(*(part for url in servers.urls for part in ("--server", url))) as running:
        yield running


@pytest.fixture(scope="module")
def client(running: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="not-needed", max_retries=0) as client:
        yield client


def test_chat_answers(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="llama", messages=[{"role": "user", "content": "Hi"}], max_tokens=8)
    assert answer.model == "llama"
    assert answer.choices[0].message.content
    assert answer.usage
    assert answer.usage.completion_tokens == 8


def test_chat_streams_with_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="llama",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 8


def test_completions_embeddings_and_responses_answer(client: openai.OpenAI) -> None:
    assert client.completions.create(model="llama", prompt="Once", max_tokens=4).choices[0].text
    assert client.embeddings.create(model="llama", input=["a", "b"]).data[1].embedding
    assert client.responses.create(model="llama", input="Hi", max_output_tokens=16).output_text


def test_models_lists_base_models_and_adapters_once(client: openai.OpenAI) -> None:
    assert sorted(model.id for model in client.models.list()) == ["llama", "sql"]
    assert client.models.retrieve("sql").id == "sql"


def test_an_unknown_model_is_the_sdks_not_found_error_with_the_nearest_names(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="llama") as caught:
        client.chat.completions.create(model="lama", messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.code == "model_not_found"


def test_anthropic_messages_answer_and_stream(running: Gateway) -> None:
    with anthropic.Anthropic(base_url=running.url, api_key="not-needed", max_retries=0) as client:
        answer = client.messages.create(model="llama", max_tokens=8, messages=[{"role": "user", "content": "Hi"}])
        assert answer.model == "llama"
        assert answer.usage.output_tokens == 8
        with client.messages.stream(
            model="llama", max_tokens=8, messages=[{"role": "user", "content": "Hi"}]
        ) as stream:
            assert "".join(stream.text_stream)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="lama", max_tokens=8, messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("is_stream", [False, True])
def test_raw_answers_equal_those_of_a_direct_call(servers: Sim, running: Gateway, is_stream: bool) -> None:
    body = {"model": "llama", "messages": [{"role": "user", "content": "same"}], "max_tokens": 6, "stream": is_stream}
    direct = call(f"{servers.urls[0]}/v1/chat/completions", body)
    through = call(f"{running.url}/v1/chat/completions", body)

    def steady(answer: bytes) -> str:
        """The bytes without what differs between any two calls: id, time."""
        lines = answer.decode().splitlines(keepends=True)
        for position, line in enumerate(lines):
            start = line.find("{")
            if start >= 0:
                value = json.loads(line[start:])
                lines[position] = line.replace(str(value["id"]), "ID").replace(str(value["created"]), "TIME")
        return "".join(lines)

    assert steady(through.body) == steady(direct.body)
    assert through.headers["content-type"] == direct.headers["content-type"]

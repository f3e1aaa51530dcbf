"""The official clients against a simulated server, as users point them at vLLM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest

from stellwerk.sim.service import start
from stellwerk.sim.settings import SimSettings
from stellwerk.sim.shape import SPEEDS
from tests.kit.loop import on_loop

pytestmark = pytest.mark.integration
HI: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]


@asynccontextmanager
async def openai_client() -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of a fresh server."""
    async with (
        await start(SimSettings(shape=SPEEDS["instant"])) as running,
        openai.AsyncOpenAI(base_url=f"{running.url()}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


@on_loop
async def test_chat_and_completions_answer_with_usage() -> None:
    async with openai_client() as client:
        chat = await client.chat.completions.create(model="tiny", messages=HI, max_tokens=8, n=2)
        assert [len(choice.message.content or "") for choice in chat.choices] == [32, 32]
        assert chat.usage is not None
        assert chat.usage.completion_tokens == 16
        again = await client.chat.completions.create(model="tiny", messages=HI, max_tokens=8, n=2)
        assert again.choices == chat.choices
        text = await client.completions.create(model="tiny", prompt=["a", "b"], max_tokens=2)
        assert len(text.choices) == 2


@on_loop
async def test_a_chat_streams_with_usage_at_its_end() -> None:
    async with openai_client() as client:
        stream = await client.chat.completions.create(
            model="tiny", messages=HI, max_tokens=8, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        whole = await client.chat.completions.create(model="tiny", messages=HI, max_tokens=8)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert all(chunk.usage is None for chunk in chunks[:-1])


@on_loop
async def test_responses_answer_and_stream() -> None:
    async with openai_client() as client:
        answer = await client.responses.create(model="tiny", input="Hi", max_output_tokens=4)
        assert len(answer.output_text) == 16
        stream = await client.responses.create(model="tiny", input="Hi", max_output_tokens=4, stream=True)
        events = [event async for event in stream]
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == answer.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


@on_loop
async def test_models_embeddings_and_images_answer() -> None:
    async with openai_client() as client:
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert (await client.models.retrieve("tiny")).owned_by == "vllm"
        packed = await client.embeddings.create(model="tiny", input=["a", "b"])
        plain = await client.embeddings.create(model="tiny", input=["a", "b"], encoding_format="float")
        assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)
        assert packed.data[0].embedding != packed.data[1].embedding
        assert (await client.images.generate(model="tiny", prompt="a")).data
        heard = await client.audio.transcriptions.create(model="tiny", file=("a.wav", b"RIFF" * 20_000))
        assert heard.text


@on_loop
async def test_errors_are_the_sdks_own() -> None:
    async with openai_client() as client:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.chat.completions.create(model="nope", messages=HI)
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await client.chat.completions.create(model="tiny", messages=HI, max_tokens=1_000_000)


@on_loop
async def test_anthropic_messages_answer_stream_and_count() -> None:
    say: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]
    async with await start(SimSettings(shape=SPEEDS["instant"])) as running:
        client = anthropic.AsyncAnthropic(base_url=running.url(), api_key="none", max_retries=0)
        async with client:
            answer = await client.messages.create(model="tiny", max_tokens=8, messages=say)
            block = answer.content[0]
            assert block.type == "text"
            assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 8)
            async with client.messages.stream(model="tiny", max_tokens=8, messages=say) as stream:
                assert "".join([text async for text in stream.text_stream]) == block.text
                assert (await stream.get_final_message()).usage.output_tokens == 8
            counted = await client.messages.count_tokens(model="tiny", messages=say)
            assert counted.input_tokens == answer.usage.input_tokens
            with pytest.raises(anthropic.NotFoundError):
                await client.messages.create(model="nope", max_tokens=8, messages=say)


@on_loop
async def test_many_clients_at_once_all_get_their_own_answer() -> None:
    async with openai_client() as client:

        async def ask(number: int) -> None:
            stream = await client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": str(number)}],
                max_tokens=20,
                stream=True,
                seed=number,
            )
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert len("".join(pieces)) == 80

        await asyncio.gather(*(ask(number) for number in range(40)))

"""One request that generates: its sequences in the engine, and the answer put together as tokens come.

The wording is a `Format`, one per API; this module knows jobs, choices, usage, cancellation and slow clients.
"""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from stellwerk.sim.answers import Answer
from stellwerk.sim.connection import Exchange
from stellwerk.sim.engine import Engine
from stellwerk.sim.errors import JSON
from stellwerk.sim.job import Finished, Job
from stellwerk.sim.metrics import Asked

SSE = "text/event-stream; charset=utf-8"


class Choice(Struct, frozen=True):
    """One sequence of a request, its answer known in advance."""

    index: int
    prompt_tokens: int
    block_hashes: Sequence[int]
    answer: Answer


class Usage(Struct):
    """Tokens of a request so far."""

    prompt_tokens: int = 0
    """Each prompt once, however many choices it has."""
    completion_tokens: int = 0
    cached_tokens: int = 0


class Format(Protocol):
    """How an API words the answer. Chunks are whole SSE events."""

    def begin(self, usage: Usage) -> list[bytes]:
        """Events sent with the response headers, before any token."""

    def first(self, index: int, usage: Usage) -> list[bytes]:
        """Events before the first piece of a choice."""

    def piece(self, index: int, text: str, usage: Usage, ended: Answer | None) -> bytes:
        """One piece of text; `ended` with the choice's last."""

    def end(self, answers: Sequence[Answer], usage: Usage) -> list[bytes]:
        """Events after the last piece of the last choice."""

    def whole(self, answers: Sequence[Answer], usage: Usage) -> bytes:
        """The body of an answer that is not streamed."""


class Generation:
    """The request in flight. Owns its jobs until they finish, the client leaves, or a fault resets it."""

    def __init__(self, exchange: Exchange, engine: Engine, form: Format, *, is_stream: bool) -> None:
        self._exchange = exchange
        self._engine = engine
        self._form = form
        self._is_stream = is_stream
        self._voices: list[_Voice] = []
        self._open = 0
        self.usage = Usage()

    def start(self, choices: Sequence[Choice], prompt_tokens: int, adapter: str, asked: Asked) -> None:
        """Submit everything and stream the beginning. `prompt_tokens`: of all prompts, each once."""
        drive, metrics = self._engine.drive, self._engine.metrics
        self.usage.prompt_tokens = prompt_tokens
        self._exchange.on_closed = self._abort
        self._exchange.on_resumed = self._catch_up
        if self._is_stream:
            self._exchange.begin(200, SSE)
            self._exchange.send(*self._form.begin(self.usage))
        is_watched = self._is_stream or self._exchange.reset_after_tokens is not None
        for choice in choices:
            voice = _Voice(self, drive.next_id(), choice)
            job = Job(voice.job_id, choice.prompt_tokens, choice.answer.tokens, choice.block_hashes, adapter)
            metrics.asked(voice.job_id, asked)
            self._voices.append(voice)
            drive.submit(job, voice, is_stream=is_watched)
        self._open = len(choices)
        drive.pump()

    def progressed(self, voice: "_Voice", tokens: int) -> None:
        """A voice has so many tokens."""
        reset_after = self._exchange.reset_after_tokens
        is_over = reset_after is not None and tokens >= reset_after
        if is_over and reset_after is not None:
            tokens = min(tokens, reset_after)
        if self._is_stream and not (self._exchange.is_congested and tokens < voice.choice.answer.tokens):
            self._speak(voice, tokens)
        if is_over:
            self._exchange.reset()
            self._abort()

    def _speak(self, voice: "_Voice", tokens: int) -> None:
        """Send what a voice has not said yet: a piece per token, or one for all if the client was slow."""
        if tokens <= voice.said:
            return
        answer, index = voice.choice.answer, voice.choice.index
        events = self._form.first(index, self.usage) if voice.said == 0 else []
        stride = tokens - voice.said if voice.was_congested else 1
        for start in range(voice.said, tokens, stride):
            end = min(start + stride, tokens)
            self.usage.completion_tokens += end - start
            ended = answer if end == answer.tokens else None
            events.append(self._form.piece(index, answer.piece(start, end), self.usage, ended))
        voice.said = tokens
        voice.was_congested = self._exchange.is_congested
        self._exchange.send(*events)

    def _catch_up(self) -> None:
        for voice in self._voices:
            if not voice.is_finished:
                self._speak(voice, self._engine.drive.model.generated(voice.job_id))

    def finished(self, voice: "_Voice", event: Finished) -> None:
        """A voice is done; with the last one the answer is."""
        answer = voice.choice.answer
        if self._is_stream:
            self._speak(voice, answer.tokens)
        else:
            self.usage.completion_tokens += answer.tokens
        voice.is_finished = True
        self.usage.cached_tokens += event.cached_tokens
        self._engine.metrics.ended(answer.finish_reason)
        self._open -= 1
        if self._open:
            return
        answers = [one.choice.answer for one in self._voices]
        if self._is_stream:
            self._exchange.finish(*self._form.end(answers, self.usage))
        else:
            self._exchange.reply(200, self._form.whole(answers, self.usage), JSON)

    def _abort(self) -> None:
        for voice in self._voices:
            if self._engine.drive.abort(voice.job_id):
                self._engine.metrics.forget(voice.job_id)
                self._engine.metrics.ended("abort")
        self._engine.drive.pump()


class _Voice:
    """One sequence's listener."""

    __slots__ = ("_generation", "choice", "is_finished", "job_id", "said", "was_congested")

    def __init__(self, generation: Generation, job_id: int, choice: Choice) -> None:
        self._generation = generation
        self.choice = choice
        self.job_id = job_id
        self.said = 0
        self.was_congested = False
        self.is_finished = False

    def progressed(self, tokens: int) -> None:
        self._generation.progressed(self, tokens)

    def finished(self, event: Finished) -> None:
        self._generation.finished(self, event)

"""The demo's clients: chats that grow turn by turn, summaries, and batch work, all through the gateway."""

import asyncio
import json
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field

import aiohttp

from stellwerk.demo.scenario import BATCH, CANARY, CHAT

TURNS = 6
"""Length of a chat before its user leaves."""
RECENT = 200
"""Latencies kept for the percentiles of the table."""


@dataclass
class Tally:
    """What one public model's clients saw."""

    sent: int = 0
    ok: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    servers: Counter[str] = field(default_factory=Counter)
    first_byte_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def percentile(self, share: float) -> float | None:
        """Time to first byte that `share` of the recent requests did not exceed, in seconds."""
        ordered = sorted(self.first_byte_seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Traffic:
    """Clients of every kind; `tallies` is what the table shows."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.url = f"{url}/v1/chat/completions"
        self.rng = rng
        self.tallies = {name: Tally() for name in (CHAT, CANARY, BATCH)}

    async def run(self, chats: int = 6, summaries: int = 2, batches: int = 2) -> None:
        """Drive clients until cancelled."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for number in range(chats):
                group.create_task(self._chat(session), name=f"chat-{number}")
            for number in range(summaries):
                group.create_task(self._ask(session, CANARY, 600, 24), name=f"summary-{number}")
            for number in range(batches):
                group.create_task(self._ask(session, BATCH, 200, 48), name=f"batch-{number}")

    async def _chat(self, session: aiohttp.ClientSession) -> None:
        """One conversation after the other; each turn repeats the history, which is what a prefix cache is for."""
        while True:
            history = [{"role": "system", "content": self._text(400)}]
            for _ in range(self.rng.randrange(1, TURNS)):
                history.append({"role": "user", "content": self._text(40)})
                answer = await self._send(session, CHAT, history, 32)
                history.append({"role": "assistant", "content": answer})
                await asyncio.sleep(self.rng.expovariate(4.0))

    async def _ask(self, session: aiohttp.ClientSession, model: str, words: int, tokens: int) -> None:
        """Independent questions."""
        while True:
            await self._send(session, model, [{"role": "user", "content": self._text(words)}], tokens)
            await asyncio.sleep(self.rng.expovariate(5.0))

    async def _send(
        self, session: aiohttp.ClientSession, model: str, messages: list[dict[str, str]], tokens: int
    ) -> str:
        """One streamed request; the text of the answer, empty when there was none."""
        tally = self.tallies[model]
        tally.sent += 1
        body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": True}
        started, text = time.monotonic(), ""
        try:
            async with session.post(self.url, json=body) as response:
                if response.status != 200:
                    tally.refused[response.status] += 1
                    await asyncio.sleep(0.5)
                    return ""
                async for line in response.content:
                    if not text:
                        tally.first_byte_seconds.append(time.monotonic() - started)
                    text += _content(line) or " "
                tally.ok += 1
                tally.servers[response.headers.get("x-sim-server", "?")] += 1
        except (aiohttp.ClientError, TimeoutError):
            tally.failed += 1
            await asyncio.sleep(0.5)
        return text

    def _text(self, words: int) -> str:
        return " ".join(self.rng.choice(WORDS) for _ in range(words))


def _content(line: bytes) -> str:
    """The text of one SSE line of a chat."""
    if not line.startswith(b"data: {"):
        return ""
    choices = json.loads(line[6:])["choices"]
    return str(choices[0]["delta"].get("content") or "") if choices else ""


WORDS = ("signal", "track", "lever", "switch", "block", "points", "station", "express", "freight", "yard", "platform")

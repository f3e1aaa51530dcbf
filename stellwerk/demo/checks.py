"""What `demo --once` asserts: the gateway's promises, asked for over HTTP like any user would."""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from stellwerk.demo.scenario import ADAPTERS, BASE, BATCH, CANARY, CHAT
from stellwerk.demo.traffic import Traffic


class CheckFailed(Exception):
    """A promise that did not hold; the message says what was seen."""


def expect(condition: bool, seen: object) -> None:
    """Raise CheckFailed with what was seen unless `condition`."""
    if not condition:
        raise CheckFailed(f"saw {seen}")


class Checks:
    """The checks, in order. Each is a method whose docstring is its name on screen."""

    def __init__(self, session: aiohttp.ClientSession, url: str, admin_url: str, servers: int) -> None:
        self.session = session
        self.url = url
        self.admin_url = admin_url
        self.servers = servers

    def all(self) -> list[Callable[[], Awaitable[None]]]:
        """Every check."""
        return [
            self.models,
            self.chat,
            self.stream,
            self.anthropic,
            self.unknown_model,
            self.malformed,
            self.canary,
            self.spread,
            self.admin,
        ]

    async def post(self, path: str, body: dict[str, Any] | bytes) -> tuple[int, Any]:
        """Status and parsed body of a POST."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        async with self.session.post(self.url + path, data=data, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def models(self) -> None:
        """GET /v1/models lists public names, base model and adapters, each once"""
        async with self.session.get(f"{self.url}/v1/models") as response:
            names = [model["id"] for model in (await response.json())["data"]]
        expect(sorted(names) == sorted([BASE, *ADAPTERS, CHAT, CANARY, BATCH]), names)

    async def chat(self) -> None:
        """a chat is answered under the name the client asked for"""
        status, answer = await self.post("/v1/chat/completions", _chat(CHAT))
        expect(status == 200 and answer["model"] == CHAT and answer["choices"][0]["message"]["content"], answer)

    async def stream(self) -> None:
        """a stream ends with its token counts and [DONE]"""
        body = _chat(BASE) | {"stream": True, "stream_options": {"include_usage": True}}
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as response:
            text = await response.text()
        expect('"completion_tokens":8' in text and text.rstrip().endswith("[DONE]"), text[-300:])

    async def anthropic(self) -> None:
        """Anthropic's messages API is answered in its own shape"""
        status, answer = await self.post("/v1/messages", _chat(BASE))
        expect(status == 200 and answer["type"] == "message", answer)

    async def unknown_model(self) -> None:
        """an unknown model is 404 and names the nearest one"""
        status, answer = await self.post("/v1/chat/completions", _chat("lama"))
        expect(status == 404 and BASE in answer["error"]["message"], answer)

    async def malformed(self) -> None:
        """a malformed body is a typed 400"""
        status, answer = await self.post("/v1/chat/completions", b'{"model": ')
        expect(status == 400 and answer["error"]["type"] == "invalid_request_error", answer)

    async def canary(self) -> None:
        """a canary's share follows its weights (90 to 10)"""
        for _ in range(4):
            await asyncio.gather(*(self.post("/v1/chat/completions", _chat(CANARY, 1)) for _ in range(25)))
        async with self.session.get(f"{self.admin_url}/api/decisions?limit=1000") as response:
            decisions = (await response.json())["decisions"]
        targets = [d["target_model"] for d in decisions if d["public_model"] == CANARY]
        share = targets.count(ADAPTERS[0]) / max(1, len(targets))
        expect(len(targets) >= 100 and 0.75 < share < 0.99, f"{share:.2f} of {len(targets)}")

    async def spread(self) -> None:
        """under mixed traffic every server works, and nothing fails"""
        traffic = Traffic(self.url, random.Random(1))
        task = asyncio.create_task(traffic.run(), name="demo-traffic")
        tallies = traffic.tallies.values()
        for _ in range(300):
            await asyncio.sleep(0.1)
            used = {server for tally in tallies for server in tally.servers}
            if len(used) == self.servers and all(tally.ok >= 5 for tally in tallies):
                break
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        expect(len(used) == self.servers, f"traffic on {sorted(used)}")
        expect(not any(tally.failed for tally in tallies), tallies)

    async def admin(self) -> None:
        """the admin API is ready, knows every endpoint and explains every decision"""
        async with self.session.get(f"{self.admin_url}/readyz") as response:
            expect(response.status == 200, await response.text())
        async with self.session.get(f"{self.admin_url}/api/pools") as response:
            pools = (await response.json())["pools"]
        expect(sum(len(pool["endpoints"]) for pool in pools) == self.servers, pools)
        async with self.session.get(f"{self.admin_url}/metrics") as response:
            expect("llm_d_epp_request_total" in await response.text(), response.status)


def _chat(model: str, tokens: int = 8) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": tokens}

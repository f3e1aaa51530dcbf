"""Malformed bodies through real Envoy: typed 4xx or the model server's own answer; no crash, no hang, no 5xx."""

import asyncio
import json
import random
from collections import Counter

import aiohttp
import pytest

from tests.kit.processes import gateway, picker_of, simulated_servers

pytestmark = pytest.mark.integration
BODIES = 5_000

PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/v1/audio/transcriptions",
]
SEEDS = [
    b'{"model":"llama","messages":[{"role":"user","content":"hi"}],"max_tokens":1}',
    b'{"model":"llama","prompt":["a","b"],"max_tokens":1}',
    b'{"model":"llama","prompt":[1,2,3],"max_tokens":1}',
    b'{"model":"llama","input":"x"}',
]
TRAPS = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b"{}",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'{"model":"\\ud800","messages":[]}',
    b'{"model":1e999}',
    b'{"model":' + b"9" * 5000 + b"}",
    b'{"model":"llama","seed":' + b"9" * 5000 + b',"messages":[]}',
    b'{"model":"llama","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"x":' + b'{"a":' * 2_000 + b"1" + b"}" * 2_000 + b"}",
    b'{"model":"llama","model":"other","messages":[]}',
    b'{"model":"llama\x00","messages":[]}',
    b'{"model":["llama"]}',
    b'{"model":null}',
    b'{"model":""}',
    b'{"model":"' + b"m" * 100_000 + b'"}',
    b'{"model":"llama","prompt":[' + b"1," * 100_000 + b"1]}",
    b'{"model":"llama","messages":' + b'"' + b"\\u0000" * 1000 + b'"}',
]


def mutated(rng: random.Random) -> bytes:
    """A seed or a trap, with bytes flipped, cut, doubled or inserted."""
    body = bytearray(rng.choice(SEEDS + TRAPS))
    for _ in range(rng.randrange(4)):
        if not body:
            break
        position = rng.randrange(len(body))
        match rng.randrange(4):
            case 0:
                body[position] = rng.randrange(256)
            case 1:
                del body[position:]
            case 2:
                body[position:position] = body[position : position + 20]
            case _:
                body[position:position] = rng.choice([b'"', b"\\", b"{", b"]", b"\x00", b"NaN", b"\xc3"])
    return bytes(body)


def test_five_thousand_malformed_bodies_get_no_5xx_and_harm_nobody() -> None:
    rng = random.Random(11)
    with (
        simulated_servers(1, "--model", "llama", "--speed", "instant") as sim,
        gateway("--server", sim.urls[0]) as running,
    ):
        before = picker_of(running)
        statuses: Counter[int] = Counter()
        odd: list[tuple[int, bytes, str]] = []

        async def worker(session: aiohttp.ClientSession, count: int) -> None:
            for _ in range(count):
                body = mutated(rng)
                path = rng.choice(PATHS)
                headers = {
                    "content-type": rng.choice(["application/json", "text/plain", "multipart/form-data; boundary=b"])
                }
                async with session.post(running.url + path, data=body, headers=headers) as response:
                    text = await response.text(errors="replace")
                    statuses[response.status] += 1
                    if response.status >= 500:
                        odd.append((response.status, body[:200], text[:200]))
                    if response.status == 400:
                        assert "error" in json.loads(text), text[:200]

        async def drive() -> None:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
                await asyncio.gather(*(worker(session, BODIES // 10) for _ in range(10)))

        asyncio.run(drive())
        assert sum(statuses.values()) == BODIES
        assert not odd, odd[:5]
        assert statuses[400] > BODIES / 10
        assert picker_of(running) == before

"""Time of one decision in the engine (resolve, filter, score, pick, reserve) against the number of endpoints.

Default profile, 2 KB prompts, half of them with a prefix that some server holds; each decision is released at once.
"""

import random
import time

from stellwerk.engine import Engine, EngineSettings
from stellwerk.model.catalog import Catalog, Pool
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import Ask, Configured, ModelsListed, Released, Sampled
from stellwerk.model.outcome import Picked
from stellwerk.model.request import Api, Request
from stellwerk.model.sample import Sample
from stellwerk.telemetry.meters import Meters

SIZES = (10, 100, 1_000, 10_000)


def run() -> dict[int, float]:
    """Seconds of a decision, by number of endpoints."""
    return {size: decision_seconds(size) for size in SIZES}


def decision_seconds(size: int, rounds: int = 2_000) -> float:
    """Median over five batches."""
    engine, rng = warm_engine(size), random.Random(5)
    prompts = [rng.randbytes(2_000) for _ in range(rounds // 2)]
    ticket, batches = 0, []
    for _ in range(5):
        started = time.process_time()
        for number in range(rounds // 5):
            ticket += 1
            prompt = prompts[number % len(prompts)]
            request = Request(f"r{ticket}", Api.CHAT, "POST", "/v1/chat/completions", 10.0, "llama", prompts=(prompt,))
            (decided,) = engine.receive(Ask(ticket, request), 10.0)
            assert type(decided.outcome) is Picked
            engine.receive(Released(ticket), 10.0)
        batches.append((time.process_time() - started) / (rounds // 5))
    return sorted(batches)[2]


def warm_engine(size: int) -> Engine:
    """An engine with `size` endpoints, each read once."""
    rng = random.Random(size)
    endpoints = tuple(
        Endpoint(
            f"default/s{number}:8000",
            f"s{number}",
            "default",
            f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            8000,
        )
        for number in range(size)
    )
    pool = Pool("default/llama", endpoints)
    engine = Engine(EngineSettings(), rng, Meters())
    engine.receive(Configured(Catalog(1, {pool.name: pool}, default_pool=pool.name)), 9.0)
    for endpoint in endpoints:
        sample = Sample(waiting=rng.randrange(8), running=rng.randrange(32), kv_use=rng.random())
        engine.receive(Sampled(endpoint.key, sample), 9.9)
        engine.receive(ModelsListed(endpoint.key, {"llama": None}), 9.9)
    return engine


def table(results: dict[int, float]) -> str:
    """Markdown."""
    rows = ["| endpoints | one decision, default profile |", "|---|---|"]
    return "\n".join(rows + [f"| {size:,} | {seconds * 1e6:,.0f} µs |" for size, seconds in results.items()])

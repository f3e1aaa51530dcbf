"""The picker dies or freezes under load: FailOpen pools lose the scheduling only, FailClose pools get a typed error."""

import asyncio
import functools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.load import chat, load, until
from tests.kit.objects import pool, servers_of
from tests.kit.processes import Gateway, call, gateway, picker_of, simulated_servers, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Gateway]:
    """Two pools on one listener: `open` is FailOpen with model-open, `close` is FailClose with model-close."""
    with (
        simulated_servers(2, "--model", "model-open", "--speed", "instant") as open_servers,
        simulated_servers(1, "--model", "model-close", "--speed", "instant") as close_servers,
    ):
        objects = [
            *servers_of(open_servers.ports, app="open"),
            *servers_of(close_servers.ports, app="close"),
            pool("open", "FailOpen"),
            pool("close", "FailClose"),
        ]
        (tmp_path / "objects.yaml").write_text("\n---\n".join(objects))
        with gateway("-f", str(tmp_path)) as running:
            for model in ("model-open", "model-close"):
                wait_until(f"{model} to be served", functools.partial(_is_served, running, model))
            yield running


def _is_served(running: Gateway, model: str) -> bool:
    return call(f"{running.url}/v1/chat/completions", chat(model)).status == 200


def test_a_killed_picker_costs_fail_open_pools_nothing_and_is_back_within_two_seconds(running: Gateway) -> None:
    async def drive() -> None:
        url = f"{running.url}/v1/chat/completions"
        async with (
            load(url, lambda _: chat("model-open"), workers=6) as opened,
            load(url, lambda _: chat("model-close"), workers=2, pause_seconds=0.01) as closed,
        ):
            await until("traffic", lambda: opened.total > 200 and closed.statuses[200] > 20)
            first = picker_of(running)
            os.kill(first, signal.SIGKILL)
            killed_at = time.monotonic()

            def is_back() -> bool:
                try:
                    return picker_of(running) != first and call(f"{running.admin_url}/healthz", timeout=1).status == 200
                except (OSError, ValueError):
                    return False

            await asyncio.to_thread(wait_until, "the picker to be back", is_back, 10.0)
            back_after = time.monotonic() - killed_at
            served = closed.statuses[200]
            await until("the FailClose pool to serve again", lambda: closed.statuses[200] > served + 20)
        assert opened.statuses.keys() == {200}, (opened.statuses, opened.refusals)
        assert not opened.failures
        assert not opened.cut
        assert set(closed.statuses) <= {200, 500, 503, 504}, closed.statuses
        assert not closed.failures
        for text in closed.refusals:
            assert '"error"' in text
        print(f"picker back after {back_after:.2f} s")

    asyncio.run(drive())


def test_a_frozen_picker_gives_504_or_fail_open_within_the_timeout(running: Gateway) -> None:
    pid = picker_of(running)
    os.kill(pid, signal.SIGSTOP)
    try:
        url = f"{running.url}/v1/chat/completions"
        assert call(url, chat("model-open"), timeout=20).status == 200
        refused = call(url, chat("model-close"), timeout=20)
        assert refused.status in (503, 504)
        assert refused.json()["error"]["message"]
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("traffic after the thaw", functools.partial(_is_served, running, "model-close"))

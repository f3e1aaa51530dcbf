"""The scraper against real sockets: who is read, how often, and that a broken server harms only itself."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec
import pytest
import uvloop

from stellwerk.config import Scraping
from stellwerk.edge.scrape import Scraped, Scraper
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.event import ModelsListed, Sampled, SampleFailed
from stellwerk.telemetry.pace import Budget
from tests.kit.loop import on_loop, until
from tests.kit.model_server_faults import MODELS, drip, fixed, good, hang, http, huge, page, reset, serving

QUICK = Scraping(
    busy_interval_seconds=0.01,
    idle_interval_seconds=0.05,
    timeout_seconds=0.3,
    max_page_bytes=256 * 1024,
    models_interval_seconds=0.05,
)


class Heard:
    """What the scraper reported."""

    def __init__(self) -> None:
        self.events: list[Scraped] = []

    def of(self, key: str) -> list[Scraped]:
        return [event for event in self.events if event.endpoint == key]

    def samples(self, key: str) -> list[Sampled]:
        return [event for event in self.of(key) if isinstance(event, Sampled)]

    def failures(self, key: str) -> list[SampleFailed]:
        return [event for event in self.of(key) if isinstance(event, SampleFailed)]

    def lists(self, key: str) -> list[ModelsListed]:
        return [event for event in self.of(key) if isinstance(event, ModelsListed)]


@asynccontextmanager
async def scraping(
    *endpoints: Endpoint,
    settings: Scraping = QUICK,
    report: Callable[[Scraped], None] | None = None,
    budget: Budget | None = None,
) -> AsyncIterator[tuple[Scraper, Heard]]:
    heard = Heard()
    scraper = Scraper(settings, report or heard.events.append, chance=random.Random(1), budget=budget or Budget(10.0))
    scraper.set_endpoints(endpoints)
    task = asyncio.create_task(scraper.run())
    try:
        yield scraper, heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@on_loop
async def test_pages_and_model_lists_are_read_over_one_connection() -> None:
    async with serving(good(page(waiting="3", running="4"))) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint) as (_, heard):
            await until(lambda: len(heard.samples(endpoint.key)) >= 3 and len(heard.lists(endpoint.key)) >= 2)
        sample = heard.samples(endpoint.key)[0].sample
        assert (sample.waiting, sample.running) == (3.0, 4.0)
        assert heard.lists(endpoint.key)[0].models == {"tiny": None, "sql-lora": "tiny"}
        assert server.connections == 1
        assert set(server.requests) == {"/metrics", "/v1/models"}


def test_uvloops_connections_serve_as_well() -> None:
    async def read_some() -> None:
        async with serving(good()) as server:
            endpoint = server.endpoint()
            async with scraping(endpoint) as (_, heard):
                await until(lambda: len(heard.samples(endpoint.key)) >= 2 and heard.lists(endpoint.key))
                server.hang_up()
                await until(lambda: server.connections == 2)
            assert heard.failures(endpoint.key) == []

    uvloop.run(read_some())


@on_loop
async def test_a_connection_that_the_server_closed_meanwhile_is_replaced_without_a_failure() -> None:
    async with serving(good()) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint) as (_, heard):
            for _ in range(3):
                before = len(heard.samples(endpoint.key))
                server.hang_up()
                await until(lambda before=before: len(heard.samples(endpoint.key)) >= before + 2)  # type: ignore[misc]
            assert server.connections >= 3
        assert heard.failures(endpoint.key) == []


@on_loop
async def test_a_request_that_met_the_servers_closing_is_sent_once_more() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        if writer in served:
            writer.transport.abort()
        else:
            served.append(writer)
            writer.write(http(page()))

    served: list[asyncio.StreamWriter] = []
    settings = msgspec.structs.replace(QUICK, models_interval_seconds=600.0)
    async with serving(answer) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint, settings=settings) as (_, heard):
            await until(lambda: len(heard.samples(endpoint.key)) >= 4)
        assert heard.failures(endpoint.key) == []
        assert server.connections >= 4


@on_loop
async def test_a_busy_server_is_read_often_and_an_idle_one_seldom() -> None:
    settings = msgspec.structs.replace(QUICK, idle_interval_seconds=30.0, models_interval_seconds=60.0)
    async with serving(good(page(running="1"))) as busy, serving(good()) as idle:
        first, second = busy.endpoint("busy"), idle.endpoint("idle")
        async with scraping(first, second, settings=settings) as (_, heard):
            await until(lambda: len(heard.samples(first.key)) >= 40)
        # Doubling from 20 ms: five readings in the time in which the busy one is read forty times.
        assert 1 <= len(heard.samples(second.key)) <= 10


@on_loop
async def test_a_request_wakes_an_idle_servers_probe() -> None:
    settings = msgspec.structs.replace(QUICK, idle_interval_seconds=600.0, models_interval_seconds=600.0)
    async with serving(good()) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint, settings=settings) as (scraper, heard):
            await until(lambda: len(heard.samples(endpoint.key)) >= 6)  # by now the interval is a third of a second
            before = len(heard.samples(endpoint.key))
            scraper.busy(endpoint.key)
            scraper.busy(endpoint.key)
            await until(lambda: len(heard.samples(endpoint.key)) > before, seconds=0.25)
            scraper.busy("default/nobody:1")


@on_loop
async def test_a_model_that_nobody_lists_brings_all_lists_forward_but_not_again_and_again() -> None:
    settings = msgspec.structs.replace(QUICK, idle_interval_seconds=600.0, models_interval_seconds=600.0)
    async with serving(good()) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint, settings=settings) as (scraper, heard):
            await until(lambda: len(heard.lists(endpoint.key)) == 1 and len(heard.samples(endpoint.key)) >= 6)
            scraper.ask_models()
            await until(lambda: len(heard.lists(endpoint.key)) == 2, seconds=0.25)
            before = len(heard.samples(endpoint.key))
            while len(heard.samples(endpoint.key)) < before + 2:
                scraper.ask_models()
                scraper.busy(endpoint.key)
                await asyncio.sleep(0.01)
            assert len(heard.lists(endpoint.key)) == 2


@on_loop
async def test_an_unknown_adapter_on_the_page_brings_the_model_list_forward() -> None:
    settings = msgspec.structs.replace(QUICK, models_interval_seconds=600.0)
    async with serving(good()) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint, settings=settings) as (_, heard):
            await until(lambda: len(heard.lists(endpoint.key)) == 1)
            server.answer = good(page(running="1", adapters="new-lora"), models=MODELS.replace(b"sql", b"new"))
            await until(lambda: len(heard.lists(endpoint.key)) == 2)
        assert "new-lora" in heard.lists(endpoint.key)[1].models


@on_loop
async def test_an_adapter_that_is_never_listed_does_not_have_the_list_read_with_every_page() -> None:
    settings = msgspec.structs.replace(QUICK, models_interval_seconds=600.0)
    for models in (MODELS, None):
        async with serving(good(page(running="1", adapters="secret-lora"), models=models)) as server:
            endpoint = server.endpoint()
            async with scraping(endpoint, settings=settings) as (_, heard):
                await until(lambda: len(heard.samples(endpoint.key)) >= 10)  # noqa: B023 - called here only
            assert server.requests.count("/v1/models") == 1


@on_loop
async def test_a_server_without_a_model_list_is_no_fault() -> None:
    async with serving(good(models=None)) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint) as (scraper, heard):
            await until(lambda: server.requests.count("/v1/models") >= 2)
            errors = {row[0]: row[1] for row in scraper.families()[0].rows}
        assert heard.lists(endpoint.key) == []
        assert errors == {("metrics-data-source",): 0, ("models-data-source",): 0}


@on_loop
async def test_nobody_listening_is_told_at_once_and_recovery_is_noticed() -> None:
    async with serving(good()) as server:
        endpoint = server.endpoint()
    async with scraping(endpoint) as (_, heard):
        await until(lambda: len(heard.failures(endpoint.key)) >= 3)
        assert heard.failures(endpoint.key)[0] == SampleFailed(endpoint.key, "connection refused", True)
        async with serving(good(), endpoint.port):
            await until(lambda: heard.samples(endpoint.key))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (
            fixed(http(b"", "302 Found", "Location: http://10.0.0.1/\r\n")),
            "/metrics redirects (HTTP 302), which is not followed",
        ),
        (fixed(http(b"oops", "500 Internal Server Error")), "/metrics answers HTTP 500"),
        (fixed(http(b"", "404 Not Found")), "/metrics answers HTTP 404"),
        (fixed(http(b"<html>")), "/metrics has none of the vllm metrics"),
        (fixed(http(bytes(range(256)))), "/metrics has none of the vllm metrics"),
        (fixed(b"\x16\x03\x01 tls?\r\n\r\n"), "the answer is not HTTP/1.1"),
        (fixed(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n"), "the page is larger than 262144 bytes"),
        (hang, "no answer within 0.3 s"),
        (drip, "no answer within 0.3 s"),
        (huge, "the page is larger than 262144 bytes"),
        (reset, "connection reset by peer|the connection was closed in the middle of the answer"),
    ],
)
@on_loop
async def test_a_broken_page_is_named(answer: object, error: str) -> None:
    async with serving(answer) as server:  # type: ignore[arg-type]
        endpoint = server.endpoint()
        async with scraping(endpoint) as (_, heard):
            await until(lambda: heard.failures(endpoint.key))
        failure = heard.failures(endpoint.key)[0]
        assert failure.error in error.split("|")
        assert not failure.is_unreachable


@on_loop
async def test_a_page_of_nonsense_values_is_a_sample_without_them() -> None:
    async with serving(good(page(waiting="NaN", running="1e30"))) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint) as (_, heard):
            await until(lambda: heard.samples(endpoint.key))
        sample = heard.samples(endpoint.key)[0].sample
        assert (sample.waiting, sample.running) == (None, None)
        assert sample.implausible == ("vllm:num_requests_running", "vllm:num_requests_waiting")


@on_loop
async def test_trtllm_serves_page_is_found_at_either_place() -> None:
    text = b"trtllm_num_requests_waiting 2\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(http(text) if path == "/metrics" else http(b"", "404 Not Found"))

    async with serving(answer) as server:
        endpoint = server.endpoint(engine="trtllm-serve")
        async with scraping(endpoint) as (_, heard):
            await until(lambda: len(heard.samples(endpoint.key)) >= 3)
        assert heard.samples(endpoint.key)[0].sample.waiting == 2.0
        assert server.requests.count("/prometheus/metrics") == 1


@on_loop
async def test_an_endpoint_that_left_is_not_reported_even_when_its_answer_comes_late() -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        await release.wait()
        writer.write(http(page()))

    async with serving(slow) as server, serving(good()) as other:
        leaving, staying = server.endpoint("leaving"), other.endpoint("staying")
        async with scraping(leaving, staying) as (scraper, heard):
            await until(lambda: server.requests)
            scraper.set_endpoints([staying])
            release.set()
            seen = len(heard.samples(staying.key))
            await until(lambda: len(heard.samples(staying.key)) >= seen + 5)
        assert heard.of(leaving.key) == []


@on_loop
async def test_endpoints_that_left_leave_no_connection_no_task_and_no_cost() -> None:
    async with serving(good(page(running="1"))) as server:
        endpoints = [msgspec.structs.replace(server.endpoint(), key=f"default/{number}:1") for number in range(20)]
        budget = Budget(10.0)
        async with scraping(*endpoints, budget=budget) as (scraper, heard):
            await until(lambda: all(heard.samples(endpoint.key) for endpoint in endpoints))
            assert server.open_connections == 20
            assert budget.demand > 0
            scraper.set_endpoints([])
            await until(lambda: server.open_connections == 0)
            assert budget.demand == pytest.approx(0.0, abs=1e-9)
            assert [task for task in asyncio.all_tasks() if task.get_name().startswith("scrape ")] == []


@on_loop
async def test_an_ipv6_address_is_written_in_brackets() -> None:
    try:
        async with serving(good(), host="::1") as server:
            endpoint = server.endpoint()
            async with scraping(endpoint) as (_, heard):
                await until(lambda: heard.samples(endpoint.key))
            assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in server.heads[0]
    except OSError:
        pytest.skip("no IPv6 here")


@on_loop
async def test_changed_labels_leave_a_probe_alone_and_a_new_uid_begins_a_new_one() -> None:
    async with serving(good()) as server:
        endpoint = server.endpoint(uid="1")
        async with scraping(endpoint) as (scraper, heard):
            await until(lambda: heard.samples(endpoint.key))
            scraper.set_endpoints([msgspec.structs.replace(endpoint, labels={"app": "x"})])
            seen = len(heard.samples(endpoint.key))
            await until(lambda: len(heard.samples(endpoint.key)) >= seen + 2)
            assert server.connections == 1
            scraper.set_endpoints([msgspec.structs.replace(endpoint, uid="2")])
            await until(lambda: server.connections == 2)


@on_loop
async def test_several_ports_of_one_server_are_read_each() -> None:
    async with serving(good(page(running="1"))) as first, serving(good(page(running="2"))) as second:
        endpoints = [first.endpoint("a"), second.endpoint("a")]
        async with scraping(*endpoints) as (_, heard):
            await until(lambda: all(heard.samples(endpoint.key) for endpoint in endpoints))
        running = [heard.samples(endpoint.key)[0].sample.running for endpoint in endpoints]
        assert running == [1.0, 2.0]


@on_loop
async def test_thousands_of_new_endpoints_are_not_read_at_once() -> None:
    async with serving(good()) as server:
        endpoints = [
            msgspec.structs.replace(server.endpoint(), key=f"default/{index}:{server.port}") for index in range(3000)
        ]
        async with scraping(*endpoints, settings=Scraping()) as (_, heard):
            await until(lambda: len(heard.events) >= 3)
            assert server.connections < 200


@on_loop
async def test_a_bug_in_what_is_told_stops_neither_this_probe_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []

    def report(event: Scraped) -> None:
        calls.append(event.endpoint)
        if event.endpoint == first.key:
            raise RuntimeError("bug")

    async with serving(good()) as one, serving(good()) as two:
        first, second = one.endpoint("a"), two.endpoint("b")
        async with scraping(first, second, report=report):
            await until(lambda: calls.count(first.key) >= 3 and calls.count(second.key) >= 3)
    assert "reading a page failed" in caplog.text


@pytest.mark.integration
@on_loop
async def test_broken_servers_of_every_kind_do_not_slow_the_reading_of_good_ones() -> None:
    settings = Scraping(timeout_seconds=0.5, max_page_bytes=1024 * 1024)
    faults = [
        hang,
        drip,
        huge,
        reset,
        fixed(http(b"\x00" * 5000)),
        fixed(http(b"", "302 Found")),
        good(page(waiting="NaN")),
    ]
    async with serving(good(page(running="1"))) as well:
        good_ones = [msgspec.structs.replace(well.endpoint(), key=f"default/good-{n}:{well.port}") for n in range(5)]
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(serving(fault)) for fault in faults * 8]
            broken = [server.endpoint(f"broken-{number}") for number, server in enumerate(servers)]
            scraper, heard = await stack.enter_async_context(scraping(*broken, *good_ones, settings=settings))
            await until(lambda: all(len(heard.samples(one.key)) >= 40 for one in good_ones), seconds=30)
            assert all(heard.of(one.key) for one in broken)
            assert not any(heard.failures(one.key) for one in good_ones)
            assert scraper.tally.pages["failed"] > 0


@on_loop
async def test_what_reading_costs_is_visible() -> None:
    async with serving(good(page(running="1"))) as server:
        endpoint = server.endpoint()
        async with scraping(endpoint) as (scraper, heard):
            await until(lambda: len(heard.samples(endpoint.key)) >= 3)
            families = {family.name: family for family in scraper.families()}
        readings = dict(families["stellwerk_scrapes_total"].rows)
        assert readings[("ok",)] == len(heard.samples(endpoint.key))
        for name in ("stellwerk_scrape_bytes_total", "stellwerk_scrape_cpu_seconds_total", "stellwerk_scrape_demand"):
            _, value = families[name].rows[0]
            assert isinstance(value, int | float)
            assert value > 0

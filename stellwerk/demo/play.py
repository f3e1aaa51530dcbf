"""The demo itself: starts servers and gateway as child processes, then traffic and table, or the checks."""

import asyncio
import contextlib
import os
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from msgspec import Struct
from rich.console import Console

from stellwerk.config import Address
from stellwerk.demo import scenario
from stellwerk.demo.checks import CheckFailed, Checks
from stellwerk.demo.show import show
from stellwerk.demo.traffic import Traffic
from stellwerk.edge.supervisor import Program, Supervisor

START_SECONDS = 60.0
"""How long servers and gateway may take to come up. A slow, busy machine needs a few seconds."""
CHECK_SECONDS = 60.0


class Stage(Struct, frozen=True):
    """Where things are in this run."""

    listen: Address
    admin: Address
    first_server_port: int
    servers: int
    directory: Path

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{self.listen.host}:{self.listen.port}"

    @property
    def admin_url(self) -> str:
        """The admin API."""
        return f"http://{self.admin.host}:{self.admin.port}"

    @property
    def ports(self) -> list[int]:
        """Of the simulated servers."""
        return [self.first_server_port + number for number in range(self.servers)]

    @property
    def objects(self) -> Path:
        """The objects file."""
        return self.directory / "objects.yaml"

    @property
    def log(self) -> Path:
        """What servers and gateway write."""
        return self.directory / "log"


async def play(stage: Stage, console: Console, is_once: bool) -> int:
    """Run the demo until a signal comes, or, with `is_once`, until the checks are through. Gives the exit status."""
    stage.objects.write_text(scenario.objects(stage.ports))
    with stage.log.open("w") as log:
        act = asyncio.create_task((check if is_once else perform)(stage, console), name="act")

        async def end_act() -> None:
            act.cancel()

        supervisor = Supervisor(programs(stage, lambda line: print(line, file=log, flush=True)), end_act)
        running = asyncio.create_task(supervisor.run(), name="servers and gateway")
        try:
            await asyncio.wait([running, act], return_when=asyncio.FIRST_COMPLETED)
            return 0 if act.cancelled() else await act
        except CheckFailed as problem:
            console.print(str(problem), markup=False, style="red")
            return 1
        finally:
            supervisor.stop()
            await asyncio.gather(running, return_exceptions=True)


def programs(stage: Stage, on_line: Callable[[str], None]) -> list[Program]:
    """The two children: the commands that a user would type."""
    stellwerk = (sys.executable, "-m", "stellwerk")
    sim = ("sim", "--port", str(stage.first_server_port), "--count", str(stage.servers), "--speed", "laptop")
    names = ("--model", scenario.BASE, *(part for name in scenario.ADAPTERS for part in ("--lora", name)))
    listen = f"{stage.listen.host}:{stage.listen.port}"
    admin = f"{stage.admin.host}:{stage.admin.port}"
    run = ("run", "-f", str(stage.objects), "--listen", listen, "--admin", admin, "--drain-timeout", "2s")
    return [
        Program("gateway", (*stellwerk, *run), on_line, stop_seconds=10.0),
        Program("servers", (*stellwerk, *sim, *names), on_line),
    ]


async def until_ready(stage: Stage, session: aiohttp.ClientSession) -> None:
    """Until the gateway lists every model. Raises CheckFailed with the end of the log when it takes too long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{stage.url}/v1/models") as response:
                        if scenario.ADAPTERS[-1] in await response.text():
                            return
                await asyncio.sleep(0.1)
    tail = "\n".join(stage.log.read_text().splitlines()[-20:])
    raise CheckFailed(f"servers and gateway did not come up within {START_SECONDS:.0f} s:\n{tail}")


async def check(stage: Stage, console: Console) -> int:
    """Every check once; 0 when all hold."""
    failures = 0
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        await until_ready(stage, session)
        for each in Checks(session, stage.url, stage.admin_url, stage.servers).all():
            failures += await _one(each, console)
    console.print(f"{failures} checks failed; the log is in {stage.log}" if failures else "all checks passed")
    if failures:
        console.print(stage.log.read_text()[-3000:], markup=False)
    return 1 if failures else 0


async def _one(check: Callable[[], Awaitable[None]], console: Console) -> int:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except (CheckFailed, TimeoutError, aiohttp.ClientError, KeyError, ValueError) as problem:
        console.print(f"[red]FAIL[/red] {check.__doc__}: ", end="")
        console.print(repr(problem), markup=False)
        return 1
    console.print(f"[green]ok[/green]   {check.__doc__}")
    return 0


async def perform(stage: Stage, console: Console) -> int:
    """Traffic and table until cancelled."""
    console.print(f"starting {stage.servers} simulated servers and the gateway (log: {stage.log}) ...")
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        await until_ready(stage, session)
    traffic = Traffic(stage.url, random.Random())
    hints = scenario.to_try(stage.url, stage.admin_url, str(stage.objects))
    async with asyncio.TaskGroup() as group:
        group.create_task(traffic.run(), name="traffic")
        group.create_task(show(traffic, stage.admin_url, console, hints), name="table")
    return 0


def directory() -> tempfile.TemporaryDirectory[str]:
    """Where this run keeps its objects and log."""
    return tempfile.TemporaryDirectory(prefix=f"stellwerk-demo-{os.getpid()}-")

"""Start simulated servers in this process: the composition that the command line, the demo and tests call.

running = await start(SimSettings(count=2))
...  running.servers[0].port, running.servers[0].inject(fault("wedge"))
await running.stop()
"""

import asyncio
import contextlib

from stellwerk.sim.admin import Admin
from stellwerk.sim.faults import Fault
from stellwerk.sim.server import SimServer
from stellwerk.sim.settings import SimSettings

_SWEEP_SECONDS = 1.0


class CannotStart(Exception):
    """A setting or a port that cannot be; the message says which and what to do."""


class Running:
    """Servers that answer. `stop` exactly once, or use it as a context manager."""

    def __init__(self, settings: SimSettings, servers: tuple[SimServer, ...]) -> None:
        self.settings = settings
        self.servers = servers
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="sim sweep")

    @property
    def ports(self) -> tuple[int, ...]:
        """Port of each server."""
        return tuple(server.port for server in self.servers)

    def address(self, index: int = 0) -> str:
        """`host:port` of a server, as a URL writes it."""
        host = self.settings.host
        return f"[{host}]:{self.servers[index].port}" if ":" in host else f"{host}:{self.servers[index].port}"

    def url(self, index: int = 0) -> str:
        """`http://host:port` of a server."""
        return f"http://{self.address(index)}"

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            for server in self.servers:
                server.sweep(loop.time())

    async def stop(self) -> None:
        """Close all ports and connections."""
        self._sweeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._sweeper
        for server in self.servers:
            await server.close()

    async def __aenter__(self) -> "Running":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def start(settings: SimSettings) -> Running:
    """Bind all ports and answer. Raises CannotStart, and then nothing is left open."""
    problem = settings.problem()
    if problem is not None:
        raise CannotStart(problem)
    admin = Admin()
    servers: list[SimServer] = []
    try:
        for index in range(settings.count):
            server = SimServer(settings, index, admin)
            port = settings.port + index if settings.port else 0
            servers.append(server)
            await _listen(server, port)
    except CannotStart:
        for server in servers:
            await server.close()
        raise
    admin.servers += servers
    for index, fault in settings.faults:
        _inject(servers, index, fault)
    return Running(settings, tuple(servers))


def _inject(servers: list[SimServer], index: int, fault: Fault) -> None:
    servers[index].inject(fault)


async def _listen(server: SimServer, port: int) -> None:
    try:
        await server.listen(port)
    except OSError as error:
        host = server.settings.host
        reason = error.strerror or str(error)
        raise CannotStart(f"cannot listen on {host}:{port}: {reason}. Choose another --port, or --port 0") from None

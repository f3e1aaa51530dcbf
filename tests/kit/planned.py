"""Real Envoy with a plan's configuration and no picker: for what Envoy answers by itself, whatever the ports."""

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from stellwerk.control.envoy.route_mode.clusters import gateway_clusters, gateway_members, picker_members
from stellwerk.control.envoy.route_mode.resources import gateway_resources
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.gateway.plan import GatewayPlan, plan
from stellwerk.edge import discovery
from stellwerk.edge.envoy import EnvoyAdmin, EnvoyFiles, command
from stellwerk.edge.grpc.health import Health
from stellwerk.edge.grpc.server import GrpcServer
from stellwerk.edge.grpc.service import Service
from stellwerk.edge.preflight import RuntimeDirectory, find_envoy
from stellwerk.model.catalog import Catalog
from tests.kit.gateway_objects import CONTROLLER, Object, gateway_class, made
from tests.kit.processes import wait_until


@contextlib.contextmanager
def planned_envoy(objects: list[Object], ports: Mapping[int, int], log: Path) -> Iterator[None]:
    """Serving Gateway `default/public`, whose listeners' ports are bound as `ports` says."""
    planned = plan(made(gateway_class(), *objects), CONTROLLER).gateways["default/public"]
    with RuntimeDirectory() as paths, log.open("wb") as output, _told(planned, paths.picker_socket):
        settings = EnvoySettings(paths)
        resources = gateway_resources(planned, gateway_clusters(planned, Catalog(), settings), settings, ports)
        EnvoyFiles(paths).write(resources)
        arguments = command(find_envoy(), paths, concurrency=1)
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

        async def has_taken() -> bool:
            admin = EnvoyAdmin(paths.admin_socket)
            try:
                return await admin.is_ready() and await admin.has_taken(resources)
            finally:
                await admin.close()

        try:
            wait_until("Envoy to take its files", lambda: asyncio.run(has_taken()))
            yield
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _told(planned: GatewayPlan, socket: str) -> Iterator[None]:
    """Endpoints and certificates, as the picker tells them."""
    endpoints, secrets = discovery.endpoints(), discovery.secrets()
    endpoints.tell(gateway_members(planned, Catalog()) | picker_members(planned))
    secrets.tell({each.secret: (each.chain, each.key) for each in planned.certificates})
    health = Health()
    health.set("envoy.service.ext_proc.v3.ExternalProcessor", is_serving=True)
    services: dict[str, Service] = {
        discovery.ENDPOINTS_PATH: endpoints,
        discovery.SECRETS_PATH: secrets,
        **health.services(),
    }
    listening, over = threading.Event(), threading.Event()

    async def serve() -> None:
        server = GrpcServer(services, standing=discovery.PATHS)
        await server.listen_unix(socket)
        listening.set()
        await asyncio.to_thread(over.wait)
        await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert listening.wait(20)
        yield
    finally:
        over.set()
        thread.join()

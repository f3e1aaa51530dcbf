"""`stellwerk controller`: the controller of our GatewayClasses, with its health, metrics and lease."""

import asyncio
import contextlib
import logging
import secrets
import signal
import socket

from msgspec import Struct

from stellwerk.app.running import running
from stellwerk.config import Address, Observability
from stellwerk.control.gateway.plan import Plan
from stellwerk.edge import log
from stellwerk.edge.admin import AdminServer, Views
from stellwerk.edge.kube.client import KubeClient
from stellwerk.edge.kube.controller import Controller, Settings
from stellwerk.edge.kube.lease import Election
from stellwerk.edge.metrics import process_families
from stellwerk.telemetry.render import text

LEASE = "stellwerk-controller"

_log = logging.getLogger("stellwerk.controller")


class ControllerConfig(Struct, frozen=True):
    """The command line of `stellwerk controller`."""

    settings: Settings = Settings()
    kubeconfig: str | None = None
    admin: Address = Address(port=9090)
    elects: bool = True
    """Whether several replicas agree on one that writes."""
    lease_namespace: str | None = None
    """None: that of the Pod, or of the kubeconfig's context."""
    observability: Observability = Observability()


def run_controller(config: ControllerConfig) -> int:
    """Until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)
    return running(lambda: _serve(config))


async def _serve(config: ControllerConfig) -> None:
    client = KubeClient.from_environment(config.kubeconfig)
    controller = Controller(client, config.settings, _election(config, client))
    admin = AdminServer(config.admin, _views(controller), is_private=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host, port = await admin.start()
    _log.info("controller %s, admin on http://%s:%d", config.settings.controller, host, port)
    work = asyncio.create_task(controller.run(), name="controller")
    ended = asyncio.create_task(stop.wait(), name="signal")
    try:
        await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (work, ended):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        await admin.close()
        await client.close()


def _election(config: ControllerConfig, client: KubeClient) -> Election | None:
    if not config.elects:
        return None
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    return Election(client, LEASE, config.lease_namespace or client.namespace, identity)


def _views(controller: Controller) -> Views:
    return Views(
        describe=lambda: described(controller.plan),
        traces=tuple,
        trace=lambda request_id: None,
        unready=controller.unready,
        metrics=lambda: text((*controller.families(), *process_families())),
        remarks=controller.remarks,
    )


def described(plan: Plan) -> dict[str, object]:
    """The plan in short, for `/api/pools`: per Gateway its listeners, and the pools that it reaches."""
    return {
        "gateways": {
            name: {
                "class": planned.gateway.spec.gateway_class_name,
                "listeners": {
                    each.name: {"serves": each.checked.can_serve, "attachedRoutes": each.attached}
                    for each in planned.listeners
                },
                "pools": sorted(planned.pools),
            }
            for name, planned in plan.gateways.items()
        }
    }

"""`stellwerk epp`: the picker alone, behind a gateway that is not ours; its objects come from files or a cluster."""

import asyncio
import logging
import secrets
import ssl
from pathlib import Path

from stellwerk.app.in_cluster import in_cluster
from stellwerk.app.picker import STANDING, Picker
from stellwerk.app.running import files_of, running
from stellwerk.config import Config, Epp
from stellwerk.edge import extproc, log
from stellwerk.edge.grpc import tls
from stellwerk.edge.grpc.server import GrpcServer

CERTIFICATE_SECONDS = 10.0
"""Between two looks at the files of the certificate."""
_LOWEST = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_log = logging.getLogger("stellwerk.epp")


def run_epp(config: Config) -> int:
    """The endpoint picker alone, until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)
    return running(lambda: _serve(config))


async def _serve(config: Config) -> None:
    if config.epp.cluster is None:
        await serve_picker(Picker(config, extproc_settings(config), files_of(config)))
        return
    async with in_cluster(config) as found:
        picker = Picker(
            found.config, extproc_settings(found.config), found.source, remarks=found.remarks, place=found.place
        )
        found.on_change(picker.show_health)
        await serve_picker(picker)


async def serve_picker(picker: Picker) -> None:
    """ext_proc, health and admin ports until a signal comes, drained."""
    config, epp = picker.config, picker.config.epp
    health = picker.health.services()
    services = {**picker.services(), **(health if epp.has_health_on_grpc else {})}
    grpc, probes = GrpcServer(services, config.transport, STANDING), GrpcServer(health, config.transport)
    certificate = _certificate(epp) if epp.is_secure else None
    renewal: asyncio.Task[None] | None = None

    async def listen() -> None:
        context = certificate.context if isinstance(certificate, tls.ServerCertificate) else certificate
        host, port = await grpc.listen_tcp(epp.grpc.host, epp.grpc.port, context)
        _log.info("picking on %s:%d", host, port, extra={"fields": {"listen": f"{host}:{port}"}})

    try:
        # First of all, since liveness is asked for while the API server lets us wait.
        await probes.listen_tcp(epp.health.host, epp.health.port)
        if epp.reloads_cert and isinstance(certificate, tls.ServerCertificate):
            renewal = asyncio.create_task(_follow(certificate), name="certificate")
        await picker.run(listen, config.timeouts.drain_seconds)
        await grpc.drain(config.timeouts.drain_seconds)
    finally:
        if renewal is not None:
            renewal.cancel()
        await grpc.close()
        await probes.close()
        await picker.admin.close()


def extproc_settings(config: Config) -> extproc.ExtProcSettings:
    """The part of the configuration that the ext_proc service reads, behind a gateway that is not ours."""
    epp = config.epp
    return extproc.ExtProcSettings(
        is_own_proxy=False,
        epoch=secrets.token_hex(4),
        limits=config.body,
        timeouts=config.timeouts,
        pool_hint=epp.pool,
        ignores_subset=epp.ignores_subset,
        accepts_steering=epp.accepts_steering,
        names_served=epp.accepts_steering,
    )


def _certificate(epp: Epp) -> tls.ServerCertificate | ssl.SSLContext:
    """For the ext_proc port. Raises OSError."""
    lowest = _LOWEST[epp.tls_min_version]
    if epp.cert_path is None:
        return tls.self_signed(lowest=lowest)
    return tls.ServerCertificate(Path(epp.cert_path, "tls.crt"), Path(epp.cert_path, "tls.key"), lowest=lowest)


async def _follow(certificate: tls.ServerCertificate) -> None:
    """Take up renewed files."""
    problem = ""
    while True:
        await asyncio.sleep(CERTIFICATE_SECONDS)
        try:
            if certificate.reload_if_changed():
                _log.info("certificate renewed")
            problem = ""
        except OSError as error:
            if str(error) != problem:
                problem = str(error)
                _log.warning("the renewed certificate cannot be used, the old one stays: %s", problem)

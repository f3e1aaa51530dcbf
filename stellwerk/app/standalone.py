"""`stellwerk epp`: the picker alone, behind a gateway that is not ours."""

import logging
import secrets
import ssl
from pathlib import Path

from stellwerk.app.picker import STANDING, Picker
from stellwerk.app.running import files_of, running
from stellwerk.config import Config
from stellwerk.edge import extproc, log
from stellwerk.edge.grpc.server import GrpcServer

_log = logging.getLogger("stellwerk.epp")


def run_epp(config: Config) -> int:
    """The endpoint picker alone, until a signal comes. Returns the exit status."""
    log.configure(config.observability.log_format, config.observability.log_level)
    epp = config.epp
    settings = extproc.ExtProcSettings(
        is_own_proxy=False,
        epoch=secrets.token_hex(4),
        limits=config.body,
        timeouts=config.timeouts,
        pool_hint=epp.pool,
        accepts_steering=epp.accepts_steering,
        names_served=epp.accepts_steering,
    )

    async def serve() -> None:
        picker = Picker(config, settings, files_of(config))
        health = picker.health.services()
        services = {**picker.services(), **(health if epp.has_health_on_grpc else {})}
        grpc, probes = GrpcServer(services, config.transport, STANDING), GrpcServer(health, config.transport)

        async def listen() -> None:
            tls = _tls(epp.cert_path) if epp.is_secure else None
            host, port = await grpc.listen_tcp(epp.grpc.host, epp.grpc.port, tls)
            await probes.listen_tcp(epp.health.host, epp.health.port)
            _log.info("picking on %s:%d", host, port, extra={"fields": {"listen": f"{host}:{port}"}})

        try:
            await picker.run(listen, config.timeouts.drain_seconds)
            await grpc.drain(config.timeouts.drain_seconds)
        finally:
            await grpc.close()
            await probes.close()
            await picker.admin.close()

    return running(serve)


def _tls(directory: str | None) -> ssl.SSLContext:
    """A context for the ext_proc port; `directory` holds `tls.crt` and `tls.key`. Raises OSError."""
    from stellwerk.edge.grpc import tls

    if directory is None:
        return tls.self_signed()
    return tls.ServerCertificate(Path(directory, "tls.crt"), Path(directory, "tls.key")).context

"""`stellwerk run`: the whole gateway on one machine."""

import ipaddress
import sys
from typing import Any

import click

from stellwerk.cli.options import Duration, Listen, source_options, tuned, tuning_options
from stellwerk.config import Address, Config, Timeouts

EPILOG = """\b
Two vLLM servers:
  stellwerk run --server http://127.0.0.1:8001 --server http://127.0.0.1:8002
  curl localhost:8080/v1/models
Pools, canaries, priorities (docs/objects.md has every kind and field):
  stellwerk run -f objects/
What it is doing:
  curl localhost:9090/api/pools ; curl localhost:9090/api/decisions ; curl localhost:9090/readyz"""

_WILDCARDS = {"0.0.0.0", "::"}


def _for_envoy(address: Address) -> Address:
    """Envoy takes IP addresses only, and its port has to be known beforehand."""
    host = "127.0.0.1" if address.host == "localhost" else address.host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise click.BadParameter(
            f"{host} is not an IP address: write 127.0.0.1 for this machine only, 0.0.0.0 for all who can reach it",
            param_hint="--listen",
        ) from None
    if not address.port:
        raise click.BadParameter("port 0 is none that clients can know: choose one", param_hint="--listen")
    return Address(host=host, port=address.port)


@click.command(epilog=EPILOG, context_settings={"show_default": True})
@source_options
@click.option("--listen", type=Listen(), default="127.0.0.1:8080", help="Where clients connect.")
@click.option("--admin", type=Listen(), default="127.0.0.1:9090", help="Admin API and metrics.")
@click.option(
    "--trust-identity-from",
    "trusted_sources",
    multiple=True,
    metavar="CIDR",
    help="Clients whose objective, fairness and SLO headers are believed (repeatable). Nobody by default.",
)
@click.option(
    "--picker-timeout",
    type=Duration(),
    default=Timeouts().proxy_message_seconds,
    help="How long Envoy waits for a silent picker before FailOpen or 504.",
)
@tuning_options
def run(**options: Any) -> None:
    """Run the gateway: Envoy, the endpoint picker and the admin API, from objects in files or a list of servers.

    Files are read again when they change; a broken one is reported and the last good state goes on serving. SIGTERM
    drains: running requests finish, new ones go elsewhere.
    """
    import msgspec.structs

    from stellwerk.app.gateway import run_gateway

    if not options["objects"] and not options["servers"]:
        raise click.UsageError(
            "nothing to serve: name model servers with --server http://host:port, or objects with -f FILE_OR_DIRECTORY"
        )
    for source in options["trusted_sources"]:
        try:
            ipaddress.ip_network(source, strict=False)
        except ValueError as problem:
            raise click.BadParameter(
                f"{problem}; write it like 10.0.0.0/8", param_hint="--trust-identity-from"
            ) from None
    listen, admin = _for_envoy(options["listen"]), options["admin"]
    if (
        listen.port == admin.port
        and listen.port
        and (listen.host == admin.host or _WILDCARDS & {listen.host, admin.host})
    ):
        raise click.UsageError(f"--listen and --admin both want port {listen.port}: choose another for one of them")
    config = tuned(Config(), options)
    config = msgspec.structs.replace(
        config,
        listen=listen,
        admin=admin,
        trusted_sources=tuple(options["trusted_sources"]),
        timeouts=msgspec.structs.replace(config.timeouts, proxy_message_seconds=options["picker_timeout"]),
    )
    sys.exit(run_gateway(config))

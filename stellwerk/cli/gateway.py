"""`stellwerk gateway`: a gateway of a cluster. The controller starts it; by hand it serves from outside."""

import re
import sys
from typing import Any

import click

from stellwerk.cli.options import Listen, tuned, tuning_options
from stellwerk.config import Address, Config, OwnGateway

EPILOG = """\b
In a pod, with the pod's own account:
  stellwerk gateway --gateway inference/public
From outside, as whoever the kubeconfig says:
  stellwerk gateway --gateway inference/public --kubeconfig ~/.kube/config
Routes, pools and model servers from files, without a cluster:
  stellwerk gateway --gateway default/public -f objects/
A listener's port below 1024 is served 10000 higher; the Service in front of the pods maps it back."""


@click.command(epilog=EPILOG, context_settings={"show_default": True})
@click.option("--gateway", "name", required=True, metavar="NAMESPACE/NAME", help="The Gateway to serve.")
@click.option("--kubeconfig", metavar="FILE", help="How to reach the API server from outside a cluster.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look at routes, pools and Services of these namespaces only (repeatable).",
)
@click.option("--controller-name", default=OwnGateway("").controller, help="spec.controllerName of our classes.")
@click.option(
    "--picker-body-mode",
    type=click.Choice(["FullDuplexStreamed", "Streamed"]),
    default=OwnGateway("").picker_body_mode,
    help="How pools' own pickers are shown bodies, where the pool does not say.",
)
@click.option("--bind-address", default="0.0.0.0", help="Address of all listeners.")
@click.option("--admin", type=Listen(), default="127.0.0.1:19090", help="Health, admin API and metrics.")
@click.option("-f", "--file", "objects", multiple=True, metavar="PATH", help="Objects from files instead (repeatable).")
@click.option("--config", "picker_config", metavar="PICKER.yaml", help="EndpointPickerConfig of the gateway's picker.")
@click.option("--config-text", "picker_text", metavar="YAML", help="The same itself, instead of a file.")
@click.option(
    "--trust-identity-from",
    "trusted_sources",
    multiple=True,
    metavar="CIDR",
    help="Clients whose objective, fairness and SLO headers are believed (repeatable). Nobody by default.",
)
@tuning_options
def gateway(**options: Any) -> None:
    """Serve one Gateway of the Gateway API: Envoy, the endpoint picker for its InferencePools, and routes to Services.

    Objects come from the API server and are followed; while it is away, the last state goes on serving. SIGTERM drains.
    """
    import ipaddress

    import msgspec.structs

    from stellwerk.app import routed

    if not re.fullmatch(r"[^/\s]+/[^/\s]+", options["name"]):
        raise click.BadParameter(f'"{options["name"]}" is not NAMESPACE/NAME', param_hint="--gateway")
    for source in options["trusted_sources"]:
        try:
            ipaddress.ip_network(source, strict=False)
        except ValueError as problem:
            raise click.BadParameter(
                f"{problem}; write it like 10.20.30.0/24", param_hint="--trust-identity-from"
            ) from None
    if options["picker_config"] is not None and options["picker_text"] is not None:
        raise click.UsageError("--config and --config-text both hold the configuration: leave one out")
    config = tuned(Config(), {**options, "servers": ()})
    config = msgspec.structs.replace(
        config,
        listen=Address(host=options["bind_address"]),
        admin=options["admin"],
        picker_text=options["picker_text"],
        trusted_sources=tuple(options["trusted_sources"]),
        gateway=OwnGateway(
            options["name"],
            options["controller_name"],
            options["kubeconfig"],
            options["picker_body_mode"],
            tuple(options["namespaces"]),
        ),
    )
    sys.exit(routed.run_routed(config))

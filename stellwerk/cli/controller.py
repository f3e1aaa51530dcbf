"""`stellwerk controller`: the controller of our GatewayClasses in a cluster."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from stellwerk.cli.options import Listen
from stellwerk.config import Observability

EPILOG = """\b
In a cluster, by the manifests in deploy/. On a workstation, with the kubeconfig's rights:
  stellwerk controller --kubeconfig ~/.kube/config --gateway-image registry.example/stellwerk:1.0
What it is doing:
  curl localhost:9090/readyz ; curl localhost:9090/api/pools ; curl localhost:9090/metrics"""


@click.command(epilog=EPILOG, context_settings={"show_default": True})
@click.option("--kubeconfig", metavar="FILE", help="Default: the Pod's service account, or $KUBECONFIG.")
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME",
    help="Look at Gateways, routes, pools and Services of these namespaces only (repeatable).",
)
@click.option(
    "--gateway-image",
    default="stellwerk:latest",
    help="Image of gateway pods, where the class's parameters name none.",
)
@click.option(
    "--gateway-arg",
    "arguments",
    multiple=True,
    metavar="ARG",
    help="One more argument of `stellwerk gateway` (repeatable).",
)
@click.option(
    "--controller-name", default="stellwerk.dev/gateway-controller", help="spec.controllerName of our classes."
)
@click.option("--admin", type=Listen(), default="127.0.0.1:9090", help="Health and metrics.")
@click.option("--leader-elect", type=bool, default=True, help="Let one of several replicas write, by a Lease.")
@click.option("--lease-namespace", metavar="NAME", help="Default: the controller's own namespace.")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", default="auto", type=click.Choice(["auto", "text", "json"]))
def controller(**options: Any) -> None:
    """Keep Gateways of our classes: statuses, and a Deployment and Service of gateway pods for each.

    What the pods run with (replicas, image, resources, service type) stands in the ConfigMap that a GatewayClass or a
    Gateway names as parametersRef.
    """
    import msgspec.structs

    from stellwerk.app.controller import ControllerConfig, run_controller
    from stellwerk.control.gateway.deployment import Defaults
    from stellwerk.edge.kube.controller import Settings

    defaults = Defaults()
    parameters = msgspec.structs.replace(defaults.parameters, image=options["gateway_image"])
    settings = Settings(
        controller=options["controller_name"],
        namespaces=tuple(options["namespaces"]),
        defaults=Defaults(parameters, options["arguments"], drain_seconds(options["arguments"])),
    )
    config = ControllerConfig(
        settings=settings,
        kubeconfig=options["kubeconfig"],
        admin=options["admin"],
        elects=options["leader_elect"],
        lease_namespace=options["lease_namespace"],
        observability=Observability(log_format=options["log_format"], log_level=options["log_level"]),
    )
    sys.exit(run_controller(config))


def drain_seconds(arguments: Sequence[str]) -> float:
    """How long gateway pods with these arguments drain. Raises BadParameter: a wrong argument would end them all."""
    from stellwerk.cli.gateway import gateway

    try:
        context = gateway.make_context("gateway", ["--gateway", "namespace/name", *arguments])
    except click.UsageError as problem:
        raise click.BadParameter(problem.format_message(), param_hint="--gateway-arg") from None
    return float(context.params["drain_timeout"])

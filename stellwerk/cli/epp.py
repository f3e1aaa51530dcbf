"""`stellwerk epp`: the endpoint picker alone. Flags of the Go picker keep their names where they make sense."""

import sys
from typing import Any

import click

from stellwerk.cli.options import source_options, tuned, tuning_options
from stellwerk.config import Address, Config, Epp

EPILOG = """\b
Behind an Envoy of your own, without TLS:
  stellwerk epp -f objects/ --secure-serving=false
The proxy states its body mode in protocol_config, and the picker follows it: FULL_DUPLEX_STREAMED as the endpoint
picker protocol prescribes, or BUFFERED."""


@click.command(epilog=EPILOG, context_settings={"show_default": True})
@source_options
@click.option("--config-file", help="The Go picker's name for --config.", metavar="PICKER.yaml")
@click.option("--bind-address", default="127.0.0.1", help="Address of all three ports.")
@click.option("--grpc-port", default=9002, type=click.IntRange(0, 65535), help="ext_proc.")
@click.option("--grpc-health-port", default=9003, type=click.IntRange(0, 65535), help="gRPC health.")
@click.option("--metrics-port", default=9090, type=click.IntRange(0, 65535), help="Admin, metrics.")
@click.option("--health-checking", type=bool, default=False, help="Health on the ext_proc port too.")
@click.option("--secure-serving", type=bool, default=True, help="TLS on the ext_proc port.")
@click.option("--cert-path", metavar="DIR", help="Directory with tls.crt and tls.key; without it: self-signed.")
@click.option("--enable-cert-reload", type=bool, default=False, help="Read the certificate again.")
@click.option("--pool-name", help="The InferencePool to serve; the only one when left out.")
@click.option("--pool-namespace", default="default")
@click.option("--emit-endpoint-scores", type=bool, default=False, help="Scores in metadata.")
@click.option("--strict-models", type=bool, default=False, help="404 for model names nobody lists.")
@click.option("--test-endpoint-selection", type=bool, default=False, help="Honour test-epp-endpoint-selection.")
@tuning_options
def epp(**options: Any) -> None:
    """Run the endpoint picker behind a gateway that speaks the endpoint picker protocol (ext_proc)."""
    import msgspec.structs

    from stellwerk.app.standalone import run_epp

    if options["config_file"]:
        options["picker_config"] = options["config_file"]
    if not options["objects"] and not options["servers"]:
        raise click.UsageError("nothing to pick from: name objects with -f FILE_OR_DIRECTORY, or servers with --server")
    bind = options["bind_address"]
    config = msgspec.structs.replace(
        tuned(Config(), options),
        admin=Address(host=bind, port=options["metrics_port"]),
        emits_scores=options["emit_endpoint_scores"],
        epp=Epp(
            grpc=Address(host=bind, port=options["grpc_port"]),
            health=Address(host=bind, port=options["grpc_health_port"]),
            is_secure=options["secure_serving"],
            cert_path=options["cert_path"],
            reloads_cert=options["enable_cert_reload"],
            has_health_on_grpc=options["health_checking"],
            pool=f"{options['pool_namespace']}/{options['pool_name']}" if options["pool_name"] else None,
            is_strict=options["strict_models"],
            accepts_steering=options["test_endpoint_selection"],
        ),
    )
    sys.exit(run_epp(config))

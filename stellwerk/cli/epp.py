"""`stellwerk epp`: the endpoint picker alone. Flags of the Go picker keep their names where they make sense."""

import re
import sys
from typing import Any

import click

from stellwerk.cli.go_flags import GoCommand, GoSize, go_flags, log_options, switch
from stellwerk.cli.options import Duration, source_options, tuned, tuning_options
from stellwerk.config import Address, Cluster, Config, Epp

EPILOG = """\b
In a cluster, for an InferencePool (its namespace is that of the Pod):
  stellwerk epp --pool-name llama
For Pods without an InferencePool:
  stellwerk epp --endpoint-selector app=llama --endpoint-target-ports 8000
Behind an Envoy of your own, with objects from files, without TLS:
  stellwerk epp -f objects/ --secure-serving=false
The proxy states its body mode in protocol_config, and the picker follows it: FULL_DUPLEX_STREAMED as the endpoint
picker protocol prescribes, or BUFFERED. Flags of the Go picker without a counterpart are refused with a hint."""

POOL_GROUPS = ("inference.networking.k8s.io", "inference.networking.x-k8s.io")
TLS_VERSIONS = {"VersionTLS12": "TLSv1.2", "VersionTLS13": "TLSv1.3"}
DEFAULT_TLS_VERSION = "VersionTLS12"
MAX_PORTS = 8


class LabelSelector(click.ParamType[str]):
    """`app=llama,tier in (a,b),!old`; empty: none."""

    name = "selector"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As the API server takes it."""
        from stellwerk.control.selector import checked_selector

        try:
            return checked_selector(str(value)) if value else ""
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Ports(click.ParamType[tuple[int, ...]]):
    """`8000` or `8000,8001`."""

    name = "ports"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """In their order, with repetitions."""
        parts = [part.strip() for part in str(value).split(",")]
        if any(not re.fullmatch("[0-9]{1,5}", part) or not 1 <= int(part) <= 65535 for part in parts):
            self.fail(f'"{value}" is no list of ports: write it like 8000,8001', param, ctx)
        return tuple(int(part) for part in parts)


class TlsVersion(click.Choice[str]):
    """A name of Go's; empty: the default."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """One of `TLS_VERSIONS`."""
        return super().convert(value or DEFAULT_TLS_VERSION, param, ctx)


@click.command(cls=GoCommand, epilog=EPILOG, context_settings={"show_default": True})
@source_options
@click.option("--config-file", help="The Go picker's name for --config.", metavar="PICKER.yaml")
@click.option("--config-text", help="An EndpointPickerConfig itself, instead of a file.", metavar="YAML")
@click.option("--pool-name", help="The InferencePool to serve, of the cluster or of the files.")
@click.option("--pool-namespace", envvar=["STELLWERK_EPP_POOL_NAMESPACE", "NAMESPACE"], help="Default: the Pod's.")
@click.option("--pool-group", type=click.Choice(POOL_GROUPS), default=POOL_GROUPS[0], help="Its API group.")
@click.option(
    "--endpoint-selector", type=LabelSelector(), metavar="SELECTOR", help="Pods to pick from, without a pool."
)
@click.option(
    "--endpoint-target-ports", type=Ports(), multiple=True, metavar="PORTS", help="Their ports, up to 8 (repeatable)."
)
@click.option("--kubeconfig", metavar="FILE", help="Default: the Pod's service account, or $KUBECONFIG.")
@switch("ha-enable-leader-election", False, "One replica serves, the others stand by.")
@click.option("--pod-name", envvar=["STELLWERK_EPP_POD_NAME", "POD_NAME"], hidden=True)
@click.option("--bind-address", help="Address of all three ports. Default: all in a cluster, else 127.0.0.1.")
@click.option("--grpc-port", default=9002, type=click.IntRange(0, 65535), help="ext_proc.")
@click.option("--grpc-health-port", default=9003, type=click.IntRange(0, 65535), help="gRPC health.")
@click.option("--metrics-port", default=9090, type=click.IntRange(0, 65535), help="Admin, metrics.")
@switch("metrics-endpoint-auth", True, "In a cluster: who reads metrics needs a token and the right to.")
@switch("health-checking", False, "Health on the ext_proc port too.")
@switch("secure-serving", True, "TLS on the ext_proc port.")
@click.option("--cert-path", metavar="DIR", help="Directory with tls.crt and tls.key; without it: self-signed.")
@switch("enable-cert-reload", False, "Follow changes of the certificate.")
@click.option("--tls-min-version", type=TlsVersion(list(TLS_VERSIONS)), default=DEFAULT_TLS_VERSION)
@click.option("--grpc-max-recv-msg-size", type=GoSize(), help="Largest message of the proxy.")
@click.option("--refresh-metrics-interval", type=Duration(), help="The Go picker's name for --scrape-busy-interval.")
@click.option("--metrics-staleness-threshold", type=Duration(), help="Older readings of a server are not believed.")
@switch("emit-endpoint-scores", False, "Scores of the candidates in metadata: up to 1000.")
@switch("disable-endpoint-subset-filter", False, "Ignore the proxy's subset hint.")
@switch("strict-models", False, "404 for model names nobody lists.")
@switch(
    "test-endpoint-selection", False, "Honour test-epp-endpoint-selection, name who served: for conformance suites."
)
@go_flags
@tuning_options
def epp(**options: Any) -> None:
    """Run the endpoint picker behind a gateway that speaks the endpoint picker protocol (ext_proc)."""
    config = config_of(options)

    from stellwerk.app.standalone import run_epp

    sys.exit(run_epp(config))


def config_of(options: dict[str, Any]) -> Config:
    """The configuration that the flags ask for. Raises UsageError."""
    import msgspec.structs

    if options["config_file"]:
        options["picker_config"] = options["config_file"]
    if options["picker_config"] and options["config_text"]:
        raise click.UsageError("--config-text and --config-file both hold the configuration: leave one out")
    cluster = _cluster(options)
    bind = _bind_address(options["bind_address"], cluster is not None)
    base = tuned(Config(), {**options, **log_options(options)})
    scraping, transport = base.scraping, base.transport
    if options["refresh_metrics_interval"]:
        scraping = msgspec.structs.replace(scraping, busy_interval_seconds=options["refresh_metrics_interval"])
    if believed := options["metrics_staleness_threshold"]:
        idle = min(scraping.idle_interval_seconds, believed / 2)
        scraping = msgspec.structs.replace(scraping, idle_interval_seconds=idle, believed_seconds=believed)
    if options["grpc_max_recv_msg_size"]:
        transport = msgspec.structs.replace(transport, max_message_bytes=options["grpc_max_recv_msg_size"])
    return msgspec.structs.replace(
        base,
        admin=Address(host=bind, port=options["metrics_port"]),
        emits_scores=options["emit_endpoint_scores"],
        picker_text=options["config_text"],
        scraping=scraping,
        transport=transport,
        epp=_epp(options, bind, cluster),
    )


def _epp(options: dict[str, Any], bind: str, cluster: Cluster | None) -> Epp:
    pool = None
    if cluster is None and options["pool_name"]:
        pool = f"{options['pool_namespace'] or 'default'}/{options['pool_name']}"
    return Epp(
        grpc=Address(host=bind, port=options["grpc_port"]),
        health=Address(host=bind, port=options["grpc_health_port"]),
        is_secure=options["secure_serving"],
        cert_path=options["cert_path"],
        reloads_cert=options["enable_cert_reload"],
        has_health_on_grpc=options["health_checking"],
        pool=pool,
        is_strict=options["strict_models"],
        accepts_steering=options["test_endpoint_selection"],
        ignores_subset=options["disable_endpoint_subset_filter"],
        tls_min_version=TLS_VERSIONS[options["tls_min_version"]],
        cluster=cluster,
    )


def _cluster(options: dict[str, Any]) -> Cluster | None:
    """The cluster to take objects from; None: they come from files and flags. Raises UsageError."""
    name, selector = options["pool_name"], options["endpoint_selector"]
    if options["objects"] or options["servers"]:
        for flag in ("endpoint_selector", "endpoint_target_ports", "kubeconfig", "ha_enable_leader_election"):
            if options[flag]:
                raise click.UsageError(f"--{flag.replace('_', '-')} is for a cluster, and -f and --server are without")
        return None
    if not name and not selector:
        raise click.UsageError(
            "nothing to pick from: name a pool of the cluster with --pool-name (or Pods with --endpoint-selector), "
            "objects with -f FILE_OR_DIRECTORY, or servers with --server"
        )
    if name and selector:
        raise click.UsageError("--pool-name and --endpoint-selector both say what to pick from: leave one out")
    ports = tuple(dict.fromkeys(port for given in options["endpoint_target_ports"] for port in given))
    if selector and not ports:
        raise click.UsageError("--endpoint-selector needs --endpoint-target-ports: no InferencePool names them")
    if len(ports) > MAX_PORTS:
        raise click.UsageError(f"--endpoint-target-ports names {len(ports)} different ports, and may name {MAX_PORTS}")
    return Cluster(
        kubeconfig=options["kubeconfig"],
        namespace=options["pool_namespace"],
        pool_name=name,
        pool_group=options["pool_group"],
        selector=selector or "",
        ports=ports if selector else (),
        elects=options["ha_enable_leader_election"],
        instance=options["pod_name"],
        guards_metrics=options["metrics_endpoint_auth"],
    )


def _bind_address(given: str | None, is_in_cluster: bool) -> str:
    from stellwerk.edge.preflight import every_address

    if given is not None:
        return given
    return every_address() if is_in_cluster else "127.0.0.1"

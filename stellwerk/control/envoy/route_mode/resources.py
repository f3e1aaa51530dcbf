"""The files of one Gateway: from its plan and the Catalog to everything that Envoy reads, in the order that is safe."""

from collections.abc import Iterable, Mapping

from stellwerk.control.envoy.bootstrap import bootstrap
from stellwerk.control.envoy.document import Document, versioned
from stellwerk.control.envoy.listener import STAT_PREFIX
from stellwerk.control.envoy.resources import CDS, LDS, Resources
from stellwerk.control.envoy.route_mode.listeners import listener, routes_file
from stellwerk.control.envoy.route_mode.routes import route_configuration, route_name
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.control.gateway.plan import GatewayPlan, PlannedListener


def gateway_resources(
    planned: GatewayPlan | None, clusters: Iterable[Document], settings: EnvoySettings, ports: Mapping[int, int]
) -> Resources:
    """`planned` None: the Gateway is not there (yet), and nothing is listened for. `clusters`: those of the plan
    (`gateway_clusters`), and whichever Envoy shall keep while routes that it still has name them. `ports`: listener
    port to the port to bind, for every port of the Gateway."""
    paths = settings.paths
    serving = _by_port(planned)
    files: dict[str, Document] = {}
    stats: dict[str, str] = {}
    files[paths.clusters] = versioned(*clusters)
    for port, listeners in serving.items():
        path = routes_file(port, paths)
        files[path] = versioned(route_configuration(port, listeners, settings))
        stats[path] = f"http.{STAT_PREFIX}.rds.{route_name(port)}"
    files[paths.listeners] = versioned(*(listener(port, ports[port], each, settings) for port, each in serving.items()))
    stats |= {paths.clusters: CDS, paths.listeners: LDS}
    versions = {f"{stats[path]}.version_text": files[path]["version_info"] for path in stats}
    return Resources((paths.bootstrap, bootstrap(settings)), files, versions)


def _by_port(planned: GatewayPlan | None) -> dict[int, list[PlannedListener]]:
    found: dict[int, list[PlannedListener]] = {}
    for each in planned.serving if planned is not None else ():
        found.setdefault(each.checked.listener.port, []).append(each)
    return dict(sorted(found.items()))

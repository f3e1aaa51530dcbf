"""The files: from Catalog and settings to everything that Envoy reads, ordered so that each change is safe.

Clusters are there before the routes that name them.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from stellwerk.control.envoy.bootstrap import bootstrap
from stellwerk.control.envoy.clusters import addresses, cluster, listed
from stellwerk.control.envoy.document import Document, versioned
from stellwerk.control.envoy.listener import STAT_PREFIX, listener
from stellwerk.control.envoy.routes import NOTHING_SERVED, ROUTES, route_configuration
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.model.catalog import Catalog

LDS, CDS, RDS = "listener_manager.lds", "cluster_manager.cds", f"http.{STAT_PREFIX}.rds.{ROUTES}"
"""Prefixes of the statistics of Envoy's subscriptions."""


class Resources(Struct, frozen=True):
    """Paths and contents. Write `files` in order; then files of `paths.watched` that are not among them may go."""

    bootstrap: tuple[str, Document]
    files: dict[str, Document]
    versions: dict[str, str]
    """What Envoy's statistics of these names read once it has taken every file."""


def resources(
    catalog: Catalog, settings: EnvoySettings, served: Mapping[str, Iterable[str]] = NOTHING_SERVED
) -> Resources:
    """Equal arguments give equal documents, and each document's version is a digest of its content.

    `served` are the models that servers list themselves, by pool: without objects that name them, only they tell to
    which pool a request belongs while the picker is silent.
    """
    paths = settings.paths
    pools = [cluster(pool, settings, listed(name, addresses(pool))) for name, pool in sorted(catalog.pools.items())]
    files = {
        paths.clusters: versioned(*pools),
        paths.routes: versioned(route_configuration(catalog, settings, served)),
        paths.listeners: versioned(listener(settings)),
    }
    stats = {paths.clusters: CDS, paths.routes: RDS, paths.listeners: LDS}
    versions = {f"{stats[path]}.version_text": document["version_info"] for path, document in files.items()}
    return Resources((paths.bootstrap, bootstrap(settings)), files, versions)

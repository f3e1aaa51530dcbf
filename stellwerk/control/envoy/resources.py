"""The files: from Catalog and settings to everything that Envoy reads, ordered so that each change is safe.

A cluster's endpoints are there before the cluster, and clusters before the routes that name them.
"""

import hashlib
import json

from msgspec import Struct

from stellwerk.control.envoy.bootstrap import bootstrap
from stellwerk.control.envoy.clusters import assignment, cluster, endpoints_file
from stellwerk.control.envoy.document import Document, discovery
from stellwerk.control.envoy.listener import listener
from stellwerk.control.envoy.routes import route_configuration
from stellwerk.control.envoy.settings import EnvoySettings
from stellwerk.model.catalog import Catalog


class Resources(Struct, frozen=True):
    """Paths and contents. Write `files` in order; then files of `paths.watched` that are not among them may go."""

    bootstrap: tuple[str, Document]
    files: dict[str, Document]


def resources(catalog: Catalog, settings: EnvoySettings) -> Resources:
    """Equal arguments give equal documents, and each document's version is a digest of its content."""
    pools = [catalog.pools[name] for name in sorted(catalog.pools)]
    paths = settings.paths
    files = {paths.endpoints(endpoints_file(pool)): _file([assignment(pool)]) for pool in pools}
    files[paths.clusters] = _file([cluster(pool, settings) for pool in pools])
    files[paths.routes] = _file([route_configuration(catalog, settings)])
    files[paths.listeners] = _file([listener(settings)])
    return Resources((paths.bootstrap, bootstrap(settings)), files)


def _file(contents: list[Document]) -> Document:
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return discovery(digest[:16], contents)

"""Kinds of an API server as the edge asks for them: group, version, plural, and the paths that follow."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from stellwerk.control.fields import LEGACY_GROUP, POOL_GROUP, ROUTER_GROUP

Object = dict[str, Any]
"""One object as JSON says it."""
Key = tuple[str, str]
"""Namespace ("" for cluster-scoped kinds) and name."""


class Resource(Struct, frozen=True):
    """One kind in one version."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`; only the version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path; without `namespace` that of all namespaces, without `name` that of the collection."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
SECRETS = Resource("", "v1", "secrets", "Secret")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False)

POOLS = Resource(POOL_GROUP, "v1", "inferencepools", "InferencePool")
OLD_POOLS = Resource(LEGACY_GROUP, "v1alpha2", "inferencepools", "InferencePool")
MODELS = Resource(LEGACY_GROUP, "v1alpha2", "inferencemodels", "InferenceModel")
OBJECTIVES = Resource(ROUTER_GROUP, "v1alpha2", "inferenceobjectives", "InferenceObjective")
OLD_OBJECTIVES = Resource(LEGACY_GROUP, "v1alpha2", "inferenceobjectives", "InferenceObjective")
REWRITES = Resource(ROUTER_GROUP, "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite")
OLD_REWRITES = Resource(LEGACY_GROUP, "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite")

POOL_RESOURCES = (POOLS, OLD_POOLS)
POLICY_RESOURCES = (MODELS, OBJECTIVES, OLD_OBJECTIVES, REWRITES, OLD_REWRITES)
"""What refers to a pool of its own namespace."""


def key_of(value: Mapping[str, Any]) -> Key:
    """Where the object stands. Raises KeyError, TypeError or AttributeError for what is no object."""
    metadata = value["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def without_bulk(value: Object) -> Object:
    """The object without what nobody here reads and what changes most often: managed fields, status, and the copy
    that kubectl keeps in an annotation."""
    metadata = {name: part for name, part in value["metadata"].items() if name != "managedFields"}
    annotations = metadata.get("annotations")
    if annotations:
        last_applied = "kubectl.kubernetes.io/last-applied-configuration"
        metadata["annotations"] = {name: text for name, text in annotations.items() if name != last_applied}
    kept = {name: part for name, part in value.items() if name != "status"}
    kept["metadata"] = metadata
    return kept

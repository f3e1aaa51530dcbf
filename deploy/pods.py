"""What all pods here have in common: no rights on their node, a read-only root, spread over nodes."""

from typing import Any

from deploy.value import ENTRY, ENTRY_TEXT, KEY, NAMESPACE, Each, Object, Sum, Value, value
from stellwerk import __version__

USER = 65532
"""Of the image (see Dockerfile); nobody on a node."""
COMMON_LABELS: Object = {"app.kubernetes.io/version": __version__, "app.kubernetes.io/part-of": "stellwerk"}
CONTAINER_SECURITY: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_API_SERVER = "Values.networkPolicy.apiServer"
TO_API_SERVER: Object = {
    "to": [Each(f"{_API_SERVER}.cidrs", {"ipBlock": {"cidr": ENTRY}})],
    "ports": [Each(f"{_API_SERVER}.ports", {"protocol": "TCP", "port": ENTRY})],
}
"""Egress of a policy. It cannot name the API server, and no address stands for every one."""


def options(path: str) -> Each:
    """More options of a command, as variables. In the pod's own words, so that a change restarts it."""
    return Each(path, {"name": KEY, "value": ENTRY_TEXT})


def pod_spec(
    account: Any, labels: Object, placement: str, container: Object, volumes: list[Object], grace: int | Sum
) -> Object:
    """`placement` is the path of the chart's values that say where pods run, ending in a dot or empty; `grace` the
    seconds from SIGTERM to SIGKILL."""
    return {
        "serviceAccountName": account,
        "terminationGracePeriodSeconds": grace,
        "imagePullSecrets": value("imagePullSecrets"),
        # No variables for each Service of the namespace: their names could be those of options.
        "enableServiceLinks": False,
        "affinity": value(f"{placement}affinity"),
        "nodeSelector": value(f"{placement}nodeSelector"),
        "tolerations": value(f"{placement}tolerations"),
        "priorityClassName": value(f"{placement}priorityClassName"),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
        ],
        "containers": [
            {
                "image": value("image"),
                "imagePullPolicy": value("imagePullPolicy"),
                **container,
                "volumeMounts": [*container.get("volumeMounts", []), {"name": "tmp", "mountPath": "/tmp"}],
                "securityContext": CONTAINER_SECURITY,
            }
        ],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {}}],
    }


def manifest(
    version: str, kind: str, name: Any, labels: Object, *, namespace: Value | None = NAMESPACE, **more: Any
) -> Object:
    """An object; without `namespace` one of the whole cluster."""
    place: Object = {} if namespace is None else {"namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **place, "labels": labels}, **more}


def binding(kind: str, name: Any, role: tuple[str, Any], account: Any, labels: Object) -> Object:
    """A RoleBinding or ClusterRoleBinding of `account` to `role` (kind and name)."""
    group = "rbac.authorization.k8s.io"
    return manifest(
        f"{group}/v1",
        kind,
        name,
        labels,
        namespace=NAMESPACE if kind == "RoleBinding" else None,
        roleRef={"apiGroup": group, "kind": role[0], "name": role[1]},
        subjects=[{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    )

"""What a GatewayClass or Gateway says about the pods of its gateways: a ConfigMap that `parametersRef` names.

Those of the Gateway hold over those of its class, key by key; what neither says, the controller's settings do.
"""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from stellwerk.control.document import ReadingLimits, read
from stellwerk.control.finding import advice, shown
from stellwerk.control.gateway.backend import BodyMode

SERVICE_TYPES = ("LoadBalancer", "NodePort", "ClusterIP")
KEYS = ("replicas", "image", "serviceType", "resources", "pickerBodyMode")
MAX_REPLICAS = 1000
_QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?([munkKMGTPE]|[KMGTPE]i|[eE][0-9]+)?$")
_IMAGE = re.compile(r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]{0,511}$")
_BODY_MODES = tuple(mode.value for mode in BodyMode)
_LIMITS = ReadingLimits(max_bytes=16 * 1024, max_depth=8, max_nodes=200, max_documents=1)

Resources = Mapping[str, Mapping[str, str]]
"""`requests` and `limits`, each of quantities by resource name."""


class Parameters(Struct, frozen=True):
    """None: not said."""

    replicas: int | None = None
    """Without it nobody's business but the Deployment's, so that an autoscaler may set it."""
    image: str | None = None
    service_type: str | None = None
    resources: Resources | None = None
    picker_body_mode: str | None = None
    """How pickers of somebody else are shown bodies, where their pool does not say it; a value of `BodyMode`."""

    def over(self, other: "Parameters") -> "Parameters":
        """These, and `other`'s where these say nothing."""
        return Parameters(
            replicas=self.replicas if self.replicas is not None else other.replicas,
            image=self.image or other.image,
            service_type=self.service_type or other.service_type,
            resources=self.resources if self.resources is not None else other.resources,
            picker_body_mode=self.picker_body_mode or other.picker_body_mode,
        )


class Malformed(Struct, frozen=True):
    """Why a ConfigMap holds no parameters."""

    message: str


def reference_problem(reference: Mapping[str, Any]) -> str | None:
    """What is wrong with a `parametersRef` by itself; None: it names a ConfigMap."""
    group, kind = reference.get("group"), reference.get("kind")
    if (group, kind) != ("", "ConfigMap"):
        named = f"{shown(str(kind))} of group {shown(str(group)) or 'core'}"
        return f'parametersRef names a {named}; it must name a ConfigMap (group "")'
    return None


def parameters(data: Mapping[str, str], name: str) -> Parameters | Malformed:
    """The parameters in the `data` of ConfigMap `name`. An unknown key is an error: a misspelt one would be silent."""
    for key in data:
        if key not in KEYS:
            return Malformed(f'ConfigMap {name} has no parameter "{shown(key)}": {advice(key, KEYS)}')
    words = ("replicas", "image", "serviceType", "pickerBodyMode")
    replicas, image, service_type, mode = (data.get(key, "").strip() for key in words)
    if replicas and not (replicas.isascii() and replicas.isdigit() and int(replicas[:9]) <= MAX_REPLICAS):
        return Malformed(f'ConfigMap {name}: replicas is "{shown(replicas)}", not a number from 0 to {MAX_REPLICAS}')
    if image and not _IMAGE.match(image):
        return Malformed(f'ConfigMap {name}: image is "{shown(image)}", not the name of an image')
    if service_type and service_type not in SERVICE_TYPES:
        choice = advice(service_type, SERVICE_TYPES)
        return Malformed(f'ConfigMap {name}: serviceType "{shown(service_type)}" is not known: {choice}')
    if mode and mode not in _BODY_MODES:
        return Malformed(f'ConfigMap {name}: pickerBodyMode "{shown(mode)}" is not known: {advice(mode, _BODY_MODES)}')
    resources = _resources(data["resources"], name) if "resources" in data else None
    if isinstance(resources, Malformed):
        return resources
    return Parameters(int(replicas) if replicas else None, image or None, service_type or None, resources, mode or None)


def _resources(text: str, name: str) -> Resources | Malformed:
    """`{requests: {cpu: 500m}, limits: {memory: 1Gi}}` in YAML or JSON."""
    where = f"ConfigMap {name}: resources"
    found = read(where, text.encode(errors="replace"), _LIMITS)
    if found.problems:
        return Malformed(str(found.problems[0]))
    value = found.documents[0].root.unfolded() if found.documents else {}
    if not isinstance(value, dict) or not value.keys() <= {"requests", "limits"}:
        return Malformed(f"{where} must be a mapping with requests and limits")
    resources: dict[str, dict[str, str]] = {}
    for part, quantities in value.items():
        if not isinstance(quantities, dict):
            return Malformed(f"{where}.{part} must be a mapping like {{cpu: 500m, memory: 512Mi}}")
        resources[part] = {str(resource): str(quantity) for resource, quantity in quantities.items()}
        for resource, quantity in resources[part].items():
            if not _QUANTITY.match(quantity):
                return Malformed(
                    f'{where}.{part}.{shown(resource)} is "{shown(quantity)}", not a quantity like 500m or 1Gi'
                )
    return resources

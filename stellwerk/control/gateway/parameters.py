"""What a GatewayClass or Gateway says about the pods of its gateways: a ConfigMap that `parametersRef` names.

Those of the Gateway hold over those of its class, key by key; what neither says, the controller's settings do.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from stellwerk.control.document import ReadingLimits, read
from stellwerk.control.finding import advice, shown
from stellwerk.control.gateway.backend import BodyMode

MAX_REPLICAS = 1000
MAX_PICKER_CONFIG_BYTES = 48 * 1024
"""It travels as an argument of a program, which may have 128 KiB."""
CHOICES = {
    "serviceType": ("LoadBalancer", "NodePort", "ClusterIP"),
    "externalTrafficPolicy": ("Cluster", "Local"),
    "pickerBodyMode": tuple(mode.value for mode in BodyMode),
}
KEYS = ("replicas", "image", "resources", "pickerConfig", *CHOICES)
_QUANTITY = re.compile(r"^[0-9]+(\.[0-9]+)?([munkKMGTPE]|[KMGTPE]i|[eE][0-9]+)?$")
_IMAGE = re.compile(r"^[a-zA-Z0-9][-a-zA-Z0-9._/:@]{0,511}$")
_LIMITS = ReadingLimits(max_bytes=16 * 1024, max_depth=8, max_nodes=200, max_documents=1)

Resources = Mapping[str, Mapping[str, str]]
"""`requests` and `limits`, each of quantities by resource name."""
Check = Callable[[str, str], str]
"""What is wrong with the EndpointPickerConfig in a text (the second argument; the first is what to call it); empty:
nothing. Which plugins there are is not known here."""


class Parameters(Struct, frozen=True):
    """None: not said."""

    replicas: int | None = None
    """Without it nobody's business but the Deployment's, so that an autoscaler may set it."""
    image: str | None = None
    service_type: str | None = None
    resources: Resources | None = None
    picker_body_mode: str | None = None
    """How pickers of somebody else are shown bodies, where their pool does not say it; a value of `BodyMode`."""
    external_traffic_policy: str | None = None
    """`Local`: clients from outside come with their own addresses, and only to nodes with a gateway pod."""
    picker_config: str | None = None
    """The gateway's own picker's EndpointPickerConfig, as text."""

    def over(self, other: "Parameters") -> "Parameters":
        """These, and `other`'s where these say nothing."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(other, **said)


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


def unchecked(where: str, text: str) -> str:
    """The `Check` that finds nothing."""
    return ""


def parameters(data: Mapping[str, str], name: str, check: Check = unchecked) -> Parameters | Malformed:
    """The parameters in the `data` of ConfigMap `name`. An unknown key is an error: a misspelt one would be silent."""
    said = {key: text.strip() for key, text in data.items() if text.strip()}
    problem = next(filter(None, (_problem(key, said.get(key, "")) for key in data)), "")
    config = said.get("pickerConfig")
    if not problem and config is not None:
        problem = check("pickerConfig", data["pickerConfig"])
    if problem:
        return Malformed(f"ConfigMap {name}: {problem}")
    resources = _resources(said["resources"], name) if "resources" in said else None
    if isinstance(resources, Malformed):
        return resources
    return Parameters(
        replicas=int(said["replicas"]) if "replicas" in said else None,
        image=said.get("image"),
        service_type=said.get("serviceType"),
        resources=resources,
        picker_body_mode=said.get("pickerBodyMode"),
        external_traffic_policy=said.get("externalTrafficPolicy"),
        picker_config=data["pickerConfig"] if config is not None else None,
    )


def _problem(key: str, text: str) -> str:
    """What is wrong with the value of one key, but for what has a grammar of its own; empty: nothing."""
    if key not in KEYS:
        return f'there is no parameter "{shown(key)}": {advice(key, KEYS)}'
    if not text:
        return ""
    if key in CHOICES and text not in CHOICES[key]:
        return f'{key} "{shown(text)}" is not known: {advice(text, CHOICES[key])}'
    if key == "replicas" and not (text.isascii() and text.isdigit() and int(text[:9]) <= MAX_REPLICAS):
        return f'replicas is "{shown(text)}", not a number from 0 to {MAX_REPLICAS}'
    if key == "image" and not _IMAGE.match(text):
        return f'image is "{shown(text)}", not the name of an image'
    if key == "pickerConfig" and len(text.encode(errors="replace")) > MAX_PICKER_CONFIG_BYTES:
        return f"pickerConfig has {len(text):,} characters, more than the limit of {MAX_PICKER_CONFIG_BYTES:,} bytes"
    return ""


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

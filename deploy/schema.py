"""The values that a chart takes, as JSON Schema (draft 7): what is misspelt or of another kind, Helm refuses by its
place, before anything is installed."""

from collections.abc import Sequence

import click

from deploy import gateway, picker
from deploy.value import Object
from stellwerk.cli.controller import controller
from stellwerk.cli.epp import POOL_GROUPS, epp
from stellwerk.cli.main import environment_name
from stellwerk.control.gateway.parameters import CHOICES, MAX_REPLICAS

_TEXT: Object = {"type": "string", "minLength": 1}
_SWITCH: Object = {"type": "boolean"}
_NAME: Object = {"type": "string", "pattern": "^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}
"""Of a Service, and so of everything here."""
_REPLICAS: Object = {"type": "integer", "minimum": 0, "maximum": MAX_REPLICAS}
_PORT: Object = {"type": "integer", "minimum": 1, "maximum": 65535}
_ANY: Object = {"type": "object"}
"""In Kubernetes' words, which the API server checks."""
_TEXTS: Object = {"type": "object", "additionalProperties": {"type": "string"}}


def of_picker() -> Object:
    """Of the chart stellwerk-epp."""
    return _chart(
        name=_NAME,
        pool={
            **_closed(
                create=_SWITCH,
                name=_TEXT,
                group={"enum": list(POOL_GROUPS)},
                matchLabels=_TEXTS,
                targetPorts={"type": "array", "minItems": 1, "maxItems": 8, "items": _closed(number=_PORT)},
                failureMode={"enum": ["FailClose", "FailOpen"]},
            ),
            # The chart makes pools of the newer group only.
            "if": {"properties": {"group": {"const": POOL_GROUPS[1]}}, "required": ["group"]},
            "then": {"properties": {"create": {"const": False}}},
        },
        replicas=_REPLICAS,
        leaderElection=_SWITCH,
        rollout=_ANY,
        maxUnavailable=_share(),
        drainSeconds={"type": "integer", "minimum": 1},
        **_process(epp, picker.arguments()),
        pickerConfig=_TEXT,
        metrics=_closed(auth=_SWITCH),
    )


def of_gateway() -> Object:
    """Of the chart stellwerk."""
    return _chart(
        controller=_closed(replicas=_REPLICAS, maxUnavailable=_share(), **_process(controller, gateway.arguments())),
        gatewayClass=_closed(
            create=_SWITCH,
            name=_TEXT,
            replicas=_REPLICAS,
            serviceType={"enum": list(CHOICES["serviceType"])},
            resources={"type": "string"},
            externalTrafficPolicy={"enum": ["", *CHOICES["externalTrafficPolicy"]]},
            pickerBodyMode={"enum": ["", *CHOICES["pickerBodyMode"]]},
            pickerConfig={"type": "string"},
        ),
    )


def _chart(**own: Object) -> Object:
    """With what both charts have; `global` is there where a chart is part of another."""
    api_server = _closed(
        ports={"type": "array", "minItems": 1, "items": _PORT}, cidrs={"type": "array", "items": _TEXT}
    )
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **_closed(
            image=_TEXT,
            imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            imagePullSecrets={"type": "array", "items": _closed(name=_TEXT)},
            **own,
            networkPolicy=_closed(apiServer=api_server),
            monitoring=_closed(enabled=_SWITCH, interval=_TEXT, labels=_TEXTS),
            **{"global": _ANY},
        ),
    }


def _process(command: click.Command, arguments: Sequence[object]) -> dict[str, Object]:
    """Values of one Deployment that runs `command`. What stands in its `arguments` holds over any variable."""
    shown = (each for each in command.params if isinstance(each, click.Option) and not each.hidden)
    free = (each for each in shown if not any(name in arguments for name in each.opts))
    variables = [environment_name(str(command.name), each) for each in free]
    level = next(each for each in command.params if each.name == "log_level").type
    assert isinstance(level, click.Choice)
    return {
        "resources": _closed(requests=_ANY, limits=_ANY),
        "affinity": _ANY,
        "nodeSelector": _TEXTS,
        "tolerations": {"type": "array", "items": _ANY},
        "priorityClassName": {"type": "string"},
        "podAnnotations": _TEXTS,
        "logLevel": {"enum": list(level.choices)},
        "options": {
            "type": "object",
            "propertyNames": {"enum": variables},
            "additionalProperties": {"type": ["string", "boolean", "number"]},
        },
    }


def _share() -> Object:
    """A number of pods, or a share of them."""
    return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+%$"}]}


def _closed(**properties: Object) -> Object:
    """These and no others; what has a default need not be given."""
    return {"type": "object", "additionalProperties": False, "properties": properties}

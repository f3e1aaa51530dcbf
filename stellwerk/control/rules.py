"""Rules over several values: what a type's bounds cannot say. With upstream's CEL and upstream's messages, where it
has them. `schema` applies the table, and a generator of CustomResourceDefinitions can read it."""

from typing import Any

from stellwerk.control.address import NAME, NUMBER_AT_END, is_name, is_reachable, literal
from stellwerk.control.kinds import EndpointPickerRef, ModelSpec, PoolSpec, ServerSpec
from stellwerk.control.schema import Rule, Rules


def _unique_numbers(ports: Any) -> bool:
    return len({port["number"] for port in ports}) == len(ports)


def _unique(values: Any) -> bool:
    return len(set(values)) == len(values)


def _all_or_none_weighted(targets: Any) -> bool:
    return len({"weight" in target for target in targets}) < 2


def _has_port(reference: Any) -> bool:
    return reference.get("kind", "Service") != "Service" or "port" in reference


def _is_address(value: Any) -> bool:
    return literal(value) is not None or is_name(value)


def _is_host_of_others(value: Any) -> bool:
    address = literal(value)
    return address is None or is_reachable(address)


RULES: Rules = {
    PoolSpec: (
        Rule(
            "port number must be unique",
            "self.all(p1, self.exists_one(p2, p1.number==p2.number))",
            _unique_numbers,
            field="targetPorts",
        ),
    ),
    EndpointPickerRef: (
        Rule(
            "port is required when kind is 'Service' or unspecified (defaults to 'Service')",
            "self.kind != 'Service' || has(self.port)",
            _has_port,
        ),
    ),
    ModelSpec: (
        # A file has no earlier state to compare with.
        Rule("modelName is immutable", "self == oldSelf", lambda _: True, field="modelName"),
        Rule(
            "Weights should be set for all models, or none of the models.",
            "self.all(model, has(model.weight)) || self.all(model, !has(model.weight))",
            _all_or_none_weighted,
            field="targetModels",
        ),
    ),
    ServerSpec: (
        Rule(
            '"{value}" is neither an IPv4 or IPv6 address nor a DNS name: write it like 10.0.0.7, fd00::7 or '
            "gpu-7.example, without scheme, port or brackets",
            f"isIP(self) || (self.matches(r'^{NAME}$') && !self.matches(r'{NUMBER_AT_END}'))",
            _is_address,
            field="address",
            is_upstream=False,
        ),
        Rule(
            '"{value}" is an address to listen on, not to connect to',
            "!isIP(self) || !(ip(self).isUnspecified() || cidr('224.0.0.0/4').containsIP(ip(self)) || "
            "cidr('ff00::/8').containsIP(ip(self)))",
            _is_host_of_others,
            field="address",
            is_upstream=False,
        ),
        Rule(
            "port number must be unique",
            "self.all(p1, self.exists_one(p2, p1 == p2))",
            _unique,
            field="ports",
            is_upstream=False,
        ),
    ),
}

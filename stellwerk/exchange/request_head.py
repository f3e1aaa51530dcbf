"""What the headers of a request settle by themselves: refusals, what to hide from model servers, steering."""

from stellwerk.exchange.head import Head
from stellwerk.exchange.limits import BodyLimits
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason

STEERING = "test-epp-endpoint-selection"

_OVERRIDES = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
_CONTROL = frozenset(
    {
        *_OVERRIDES,
        "x-llm-d-inference-objective",
        "x-gateway-inference-objective",
        "x-llm-d-inference-fairness-id",
        "x-gateway-inference-fairness-id",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-slo-tpot-ms",
        "x-slo-ttft-ms",
        "x-slo-tpot-ms",
    }
)
"""Headers that speak to the picker, and are none of a model server's business."""


def refusal(head: Head, limits: BodyLimits) -> Refused | None:
    """Why the request cannot be served whatever its body is. Upgrades end here at once: a proxy that waits for the end
    of their body would wait for ever. (`Upgrade: h2c` is an offer, not a demand.)"""
    headers = head.headers
    upgrade = headers.get("upgrade")
    if (upgrade is not None and upgrade.strip().lower() != "h2c") or head.method == "CONNECT":
        what = f"upgrade to {upgrade[:32]!r}" if upgrade is not None else "CONNECT"
        return Refused(Reason.UNSUPPORTED, f"{what} is not supported: send a plain HTTP request")
    length = headers.get("content-length")
    if length is not None and length.isascii() and length.isdigit():
        if len(length) > 18:
            return too_large(length[:18] + "...", limits)
        if int(length) > limits.max_body_bytes:
            return too_large(length, limits)
    return None


def too_large(size: object, limits: BodyLimits) -> Refused:
    """`size` is what the body has, or has reached, in bytes."""
    limit = limits.max_body_bytes
    return Refused(
        Reason.BODY_TOO_LARGE,
        f"the request body has {size} bytes, more than the limit of {limit} bytes (--max-body-bytes)",
    )


def control_headers(head: Head) -> tuple[str, ...]:
    """Those of the picker's own headers that this request carries, sorted."""
    if _CONTROL.isdisjoint(head.headers):
        return ()
    return tuple(sorted(_CONTROL.intersection(head.headers)))


def names_target(head: Head) -> bool:
    """Whether a header asks for another model than the body does."""
    return any(name in head.headers for name in _OVERRIDES)


def steering(head: Head) -> tuple[str, ...] | None:
    """The addresses that the conformance suite's header names; None without the header."""
    value = head.headers.get(STEERING)
    return addresses(value) if value else None


def addresses(text: str) -> tuple[str, ...]:
    """A comma-separated list of addresses, without blanks and empty entries."""
    return tuple(address for part in text.split(",") if (address := part.strip()))

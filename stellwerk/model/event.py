"""What the engine is told and what it wants done: the whole vocabulary of `Engine.receive`.

A `ticket` names one exchange's decision; the edge hands out ascending integers and never uses one twice.
"""

from collections.abc import Mapping

from msgspec import Struct

from stellwerk.model.catalog import Catalog
from stellwerk.model.outcome import Outcome
from stellwerk.model.picker_config import PickerConfig
from stellwerk.model.reason import Reason
from stellwerk.model.report import Report, Usage
from stellwerk.model.request import Request
from stellwerk.model.sample import Sample


class Ask(Struct, frozen=True, gc=False):
    """A complete request wants a decision. Answered by exactly one `Decided`, at once or later."""

    ticket: int
    request: Request


class Withdrawn(Struct, frozen=True, gc=False):
    """The client left, or the exchange died, before `Decided`: no `Decided` follows, nothing stays reserved."""

    ticket: int


class TurnedAway(Struct, frozen=True, gc=False):
    """The exchange refused a request by itself, without a `Decided` that said so. Counted; at most once per ticket.

    `was_decided`: an endpoint had been picked for it, and something broke on the way.
    """

    ticket: int
    reason: Reason
    was_decided: bool = False


class Released(Struct, frozen=True, gc=False):
    """The exchange of a `Picked` request is over; what it reserved is free. Sent exactly once per `Picked`."""

    ticket: int


class Prefilled(Struct, frozen=True, gc=False):
    """The first byte of the answer was seen: its prompt no longer waits for prefill."""

    ticket: int


class Used(Struct, frozen=True, gc=False):
    """Token counts read from an answer that passed the picker."""

    ticket: int
    usage: Usage


class Finished(Struct, frozen=True, gc=False):
    """The last word on an exchange, at most once per ticket; may come before or after `Released`."""

    ticket: int
    report: Report


class Sampled(Struct, frozen=True, gc=False):
    """A metrics page was read. `endpoint` is `Endpoint.key`."""

    endpoint: str
    sample: Sample


class SampleFailed(Struct, frozen=True, gc=False):
    """A metrics page could not be read. `is_unreachable`: nobody listens (refused, no route)."""

    endpoint: str
    error: str
    is_unreachable: bool


class ModelsListed(Struct, frozen=True, gc=False):
    """What a server's `/v1/models` names: model to its parent (None: a base model)."""

    endpoint: str
    models: Mapping[str, str | None]


class Configured(Struct, frozen=True, gc=False):
    """The objects changed: from here on these hold. `picker` has been checked (`schedule.registry.check`)."""

    catalog: Catalog
    picker: PickerConfig = PickerConfig()


class Draining(Struct, frozen=True, gc=False):
    """Shutting down: what waits is refused, what runs finishes."""


class Tick(Struct, frozen=True, gc=False):
    """The time that `Engine.next_deadline` named has come."""


Event = (
    Ask
    | Withdrawn
    | TurnedAway
    | Released
    | Prefilled
    | Used
    | Finished
    | Sampled
    | SampleFailed
    | ModelsListed
    | Configured
    | Draining
    | Tick
)


class Decided(Struct, frozen=True, gc=False):
    """The answer to an `Ask`."""

    ticket: int
    outcome: Outcome


Command = Decided

"""What becomes of a request: `Picked | Answered | Refused`. Expected bad news is a value, not an exception."""

from array import array

from msgspec import Struct

from stellwerk.model.catalog import Pool
from stellwerk.model.endpoint import Endpoint
from stellwerk.model.reason import Reason


class Scores(Struct, frozen=True, gc=False):
    """Total scores, by `ip:port`: a column of 8 bytes each, for it is held for as long as the answer takes."""

    addresses: tuple[str, ...]
    totals: "array[float]"


class Picked(Struct, frozen=True, gc=False):
    """Forward to `endpoints[0]`; the rest, in order, are what the proxy may fall back to. Never empty.

    `target_model` is the name to write into the body; None leaves the body alone. `public_model` is what the client
    wrote, None if nothing: then the target is added. `scores` are those of all candidates, when they were asked for.
    """

    pool: Pool
    endpoints: tuple[Endpoint, ...]
    destination: str
    """`ip:port[,ip:port...]` of `endpoints`: the value of `x-gateway-destination-endpoint`."""
    public_model: str | None = None
    target_model: str | None = None
    scores: Scores | None = None


class Answered(Struct, frozen=True, gc=False):
    """The gateway answers by itself (`GET /v1/models`). `body` is JSON."""

    status: int
    body: bytes


class Refused(Struct, frozen=True, gc=False):
    """Not forwarded. `message` is for the client: it names the thing, the value and the remedy, never the prompt."""

    reason: Reason
    message: str
    param: str | None = None
    retry_after_seconds: int | None = None


Outcome = Picked | Answered | Refused

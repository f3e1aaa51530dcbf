"""What an exchange has to know about its surroundings; one value for all exchanges of a listener."""

from msgspec import Struct

from stellwerk.exchange.limits import BodyLimits


class ExchangeSettings(Struct, frozen=True):
    """`is_own_proxy`: the proxy is the Envoy that we configured, not a foreign gateway's."""

    is_own_proxy: bool
    limits: BodyLimits = BodyLimits()
    decision_seconds: float = 5.0
    """From a complete request to its decision; then the client gets a typed 504."""
    max_override_seconds: float = 120.0
    """The longest patience that the proxy may be asked for."""
    upload_idle_seconds: float = 15.0
    """`Mode.DUPLEX`: no byte of an unfinished request body for so long ends the request."""
    upload_seconds: float = 600.0
    """`Mode.DUPLEX`: the whole request body has to be there after so long."""
    pool_hint: str | None = None
    """The pool that the proxy has chosen already (picker behind a foreign gateway)."""
    accepts_steering: bool = False
    """Whether the conformance suite's header `test-epp-endpoint-selection` restricts the choice."""
    names_served: bool = False
    """Whether answers carry the conformance suite's header `x-conformance-test-served-endpoint`."""
    renames_models: bool = False
    """Whether the objects may have a model server told another model name than the client's. Our own proxy shows an
    answer only when asked to, and it is asked where a name may have to be restored."""
    reports: bool = False
    """Whether the exchange tells what became of it (`Finished`); where an access log does, it does not."""

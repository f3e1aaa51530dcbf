"""The head of a request, as the exchange and the body readers see it."""

from collections.abc import Mapping

from msgspec import Struct


class Head(Struct, frozen=True, gc=False):
    """Method, path and headers. Header names are lower-case; of a repeated header the first value counts; values are
    decoded as Latin-1, so no byte is lost and none raises."""

    method: str
    path: str
    """As received, query string included."""
    headers: Mapping[str, str]
    id: str
    """`x-request-id`, bounded in length; made by the edge when absent."""
    received_at: float

"""What the transport counts, as plain integers; the edge's collector reads them."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Totals over all connections of one server, except `*_open`, which are gauges. Only the transport writes."""

    connections_open: int = 0
    connections_accepted: int = 0
    connections_refused: int = 0
    """Closed at once, because `max_connections` were open."""
    connections_reaped: int = 0
    """Closed because they were silent: no handshake, no answer to PING, nothing to do for too long."""
    streams_open: int = 0
    streams_accepted: int = 0
    streams_refused: int = 0
    """Over `max_concurrent_streams`, or opened while draining."""
    calls_refused: int = 0
    """Ended by the transport with a status: not gRPC, too large, compressed in a way we cannot read."""
    resets_received: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    protocol_errors: int = 0
    """Connections and streams ended because the peer broke HTTP/2's rules."""
    floods_refused: int = 0
    """Connections ended with ENHANCE_YOUR_CALM."""
    deadlines_exceeded: int = 0
    handler_errors: int = 0
    """Exceptions that left a handler; each one is a bug."""

"""One HTTP request's talk with the proxy: the state machine, bodies, SSE, error bodies. No I/O, no clock."""

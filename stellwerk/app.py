"""Composition roots: the only file that knows everyone. It builds, connects and closes; it decides nothing."""

from stellwerk.config import Config


def run_gateway(config: Config) -> int:
    """The gateway: supervises Envoy and the picker until a signal comes. Returns the exit status."""
    raise NotImplementedError


def run_epp(config: Config) -> int:
    """The endpoint picker alone, until a signal comes. Returns the exit status."""
    raise NotImplementedError

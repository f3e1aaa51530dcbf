"""Who serves a cluster: the addresses behind a pool, a Service or a picker."""

from msgspec import Struct

Address = tuple[str, int]
"""IP address and port."""


class Members(Struct, frozen=True):
    """Each address once, in a stable order. `leaving` still serve, though they are about to go: they get what `ready`
    cannot take, be it that there are none, or that they do not answer yet."""

    ready: tuple[Address, ...] = ()
    leaving: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ready or self.leaving)

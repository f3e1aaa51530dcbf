"""Adapter slots of one simulated engine: who runs in them, and whose weights are still there."""

from collections import OrderedDict


class AdapterSlots:
    """`count` slots. An adapter stays in its slot until another one needs it; the base model ("") needs none."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._running: dict[str, int] = {}
        self._resident: OrderedDict[str, None] = OrderedDict()

    @property
    def running(self) -> dict[str, int]:
        """Running sequences per adapter, in order of their first. Not to be changed."""
        return self._running

    @property
    def resident(self) -> tuple[str, ...]:
        """Adapters in slots, least recently used first."""
        return tuple(self._resident)

    def has_room_for(self, adapter: str) -> bool:
        """Whether a sequence of this adapter may start."""
        return not adapter or adapter in self._running or len(self._running) < self.count

    def hold(self, adapter: str) -> bool:
        """A sequence starts; `has_room_for` was true. True if the adapter has to be loaded for it."""
        if not adapter:
            return False
        self._running[adapter] = self._running.get(adapter, 0) + 1
        is_new = adapter not in self._resident
        if is_new and len(self._resident) >= self.count:
            del self._resident[next(name for name in self._resident if name not in self._running)]
        self._resident[adapter] = None
        self._resident.move_to_end(adapter)
        return is_new

    def drop(self, adapter: str) -> None:
        """A sequence ends."""
        if not adapter:
            return
        self._running[adapter] -= 1
        if not self._running[adapter]:
            del self._running[adapter]

    def unload(self, adapter: str) -> None:
        """Empty the slot of an adapter that no running sequence uses."""
        if adapter not in self._running:
            self._resident.pop(adapter, None)

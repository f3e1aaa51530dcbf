"""The approximate prefix index: which server was sent which prompt blocks lately, and so probably has them cached.

One dict from block hash to an integer whose bits are the servers that hold the block: a lookup is one dict access and
one AND per hash, however many servers there are. Per server, a clock (second chance) stands in for an LRU list: the
order of arrival in a deque, and a set of those used again since; moving a long prompt to the front is one set update.
Within a prompt the deepest block is entered first and so evicted first, because a match needs its beginning.

The index is bounded twice: in blocks per server, of which one hash may stand for several (`blocks`), and in bytes over
all servers.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from stellwerk.schedule.blocks import LONG, SPAN, size_of_all

HASH_BYTES = 48
"""Of one hash object, as the allocator rounds it. Each request makes its own, and each server may keep another's."""
ENTRY_BYTES = 120 + HASH_BYTES
"""Of one distinct hash, at most: the object, and its place in a dict just after it grew."""
SHELF_BYTES = 400
"""Of a server without its blocks."""
PURGE_STEP = 512
"""Hashes of servers that left which are removed with each record."""


class _Shelf:
    """One server's blocks."""

    __slots__ = ("bit", "capacity", "counted_bytes", "order", "size", "used")

    def __init__(self, bit: int, capacity: int) -> None:
        self.bit = bit
        self.capacity = capacity
        self.order: deque[int] = deque()
        self.used: set[int] = set()
        self.size = 0
        """What is held, in blocks as `capacity` counts them; one hash may stand for several."""
        self.counted_bytes = 0

    def bytes_now(self) -> int:
        own = SHELF_BYTES + self.bit.__sizeof__()
        hashes = HASH_BYTES * (len(self.order) + len(self.used))
        return own + self.order.__sizeof__() + self.used.__sizeof__() + hashes


class PrefixIndex:
    """Blocks by server slot. A slot is a small integer; it is given out again only when no bit of it is left."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._holders: dict[int, int] = {}
        self._shelves: dict[int, _Shelf] = {}
        self._leaving: list[tuple[int, _Shelf]] = []
        self._free: list[int] = []
        self._slot_count = 0
        self._shelf_bytes = 0
        self._hand: Iterator[int] = iter(())

    @property
    def bytes(self) -> int:
        """Memory that the index takes, at most."""
        mask_bytes = 28 + 4 * (self._slot_count // 30 + 1)
        return len(self._holders) * (ENTRY_BYTES + mask_bytes) + self._shelf_bytes

    @property
    def block_count(self) -> int:
        """Distinct hashes."""
        return len(self._holders)

    @property
    def slots(self) -> int:
        """Upper end of the slots in use."""
        return self._slot_count

    def blocks_of(self, slot: int) -> int:
        """Blocks held for one server."""
        return self._shelves[slot].size

    def join(self, capacity: int) -> int:
        """A slot for a server whose cache holds `capacity` blocks; empty."""
        self._purge(PURGE_STEP)
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._slot_count
            self._slot_count += 1
        shelf = self._shelves[slot] = _Shelf(1 << slot, capacity)
        self._count(shelf)
        return slot

    def resize(self, slot: int, capacity: int) -> None:
        """The server's cache turned out to hold so many blocks."""
        shelf = self._shelves[slot]
        shelf.capacity = capacity
        self._evict(shelf, shelf.size - capacity)
        self._count(shelf)

    def leave(self, slot: int) -> None:
        """The server is gone or its cache is empty: it matches nothing any more. Its blocks go bit by bit."""
        self._leaving.append((slot, self._shelves.pop(slot)))
        self._purge(PURGE_STEP)

    def match(self, hashes: Sequence[int], among: int) -> list[tuple[int, int]]:
        """Which of the servers in the bit mask `among` hold the first blocks, without a gap: pairs of a count of hashes
        > 0 and the mask of the servers that match exactly so many. Servers that match nothing are in none."""
        found: list[tuple[int, int]] = []
        if not among:
            return found
        get = self._holders.get
        count = 0
        for block in hashes:
            still = get(block, 0) & among
            if still != among:
                if count:
                    found.append((count, among ^ still))
                among = still
                if not still:
                    return found
            count += 1
        if count:
            found.append((count, among))
        return found

    def record(self, slot: int, hashes: Sequence[int], held: int = 0) -> None:
        """The server was sent a prompt of these blocks, of which it held the first `held` by `match`."""
        shelf = self._shelves[slot]
        holders, used, bit = self._holders, shelf.used, shelf.bit
        get = holders.get
        new = []
        for block in reversed(hashes[held:] if held else hashes):
            mask = get(block)
            if mask is None:
                holders[block] = bit
                new.append(block)
            elif mask & bit:
                used.add(block)
            else:
                holders[block] = mask | bit
                new.append(block)
        if held:
            used.update(hashes[:held])
        shelf.order.extend(new)
        shelf.size += size_of_all(new)
        if shelf.size > shelf.capacity:
            self._evict(shelf, shelf.size - shelf.capacity)
        self._count(shelf)
        if self._leaving:
            self._purge(PURGE_STEP)
        if self.bytes > self.max_bytes:
            self._shrink()

    def _count(self, shelf: _Shelf) -> None:
        size = shelf.bytes_now()
        self._shelf_bytes += size - shelf.counted_bytes
        shelf.counted_bytes = size

    def _evict(self, shelf: _Shelf, size: int) -> None:
        """Remove the blocks that were unused for longest. A used one is passed over once, which its use paid for."""
        left = size
        order, used, keep = shelf.order, shelf.used, ~shelf.bit
        holders = self._holders
        while left > 0 and order:
            block = order.popleft()
            if block in used:
                used.discard(block)
                order.append(block)
                continue
            rest = holders[block] & keep
            if rest:
                holders[block] = rest
            else:
                del holders[block]
            left -= SPAN if block & LONG else 1
        shelf.size -= size - left

    def _shrink(self) -> None:
        """Take from one server after the other until the bytes fit."""
        self._purge(1 << 60)
        while self.bytes > self.max_bytes and self._holders:
            slot = next(self._hand, None)
            if slot is None:
                self._hand = iter(tuple(self._shelves))
                continue
            shelf = self._shelves.get(slot)
            if shelf is not None and shelf.order:
                self._evict(shelf, max(64, shelf.size // 16))
                shelf.used = set(shelf.used)
                self._count(shelf)

    def _purge(self, count: int) -> None:
        """Remove up to `count` hashes of servers that left; a slot is free when its last bit is gone."""
        while self._leaving and count > 0:
            slot, shelf = self._leaving[-1]
            shelf.used.clear()
            before = len(shelf.order)
            self._evict(shelf, count)
            count -= before - len(shelf.order)
            if not shelf.order:
                self._leaving.pop()
                self._free.append(slot)
                self._shelf_bytes -= shelf.counted_bytes
            else:
                self._count(shelf)

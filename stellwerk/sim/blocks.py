"""KV memory of one simulated server: reference-counted blocks, found again by their hash, evicted oldest first.

Follows vLLM's block pool: a block that nobody uses keeps its content until its memory is needed, and counts as free.
"""

from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """`count` blocks. A block is empty, idle (cached, unused) or held by one or more sequences.

    Hashes identify a block's tokens and everything before them; equal hashes mean equal prefixes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._empty = list(range(count - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._holders = [0] * count
        self._hash_of: dict[int, int] = {}
        self._by_hash: dict[int, int] = {}
        self.evictions = 0

    @property
    def available(self) -> int:
        """Blocks that can be taken: empty ones and idle ones."""
        return len(self._empty) + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self.count - len(self._empty) - len(self._idle)

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """The blocks of the longest cached prefix, at most `limit` of them. Takes nothing."""
        found = []
        by_hash = self._by_hash
        for i in range(min(limit, len(hashes))):
            block = by_hash.get(hashes[i])
            if block is None:
                break
            found.append(block)
        return found

    def take(self, cached: Sequence[int], fresh: int) -> list[int] | None:
        """Hold the blocks `cached` (from `match`) and `fresh` new ones; None, if memory is short (nothing changes)."""
        holders, empty = self._holders, self._empty
        idle = [block for block in cached if holders[block] == 0]
        if len(empty) + len(self._idle) - len(idle) < fresh:
            return None
        for block in idle:
            del self._idle[block]
        for block in cached:
            holders[block] += 1
        taken = list(cached)
        for _ in range(fresh):
            block = empty.pop() if empty else self._evict()
            holders[block] = 1
            taken.append(block)
        return taken

    def _evict(self) -> int:
        block, _ = self._idle.popitem(last=False)
        del self._by_hash[self._hash_of.pop(block)]
        self.evictions += 1
        return block

    def seal(self, block: int, block_hash: int) -> None:
        """A held block is full: it can be found from now on. The first block with a hash keeps it."""
        if block not in self._hash_of and block_hash not in self._by_hash:
            self._hash_of[block] = block_hash
            self._by_hash[block_hash] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Let go of a sequence's blocks. Its last blocks are evicted first: a prefix is worth more than its tail."""
        holders = self._holders
        for block in reversed(blocks):
            holders[block] -= 1
            if holders[block] > 0:
                continue
            if block in self._hash_of:
                self._idle[block] = None
            else:
                self._empty.append(block)

    def check(self) -> None:
        """Raise AssertionError if the books do not balance; for tests, O(count)."""
        held = {block for block, n in enumerate(self._holders) if n}
        assert all(n >= 0 for n in self._holders), "a block was released twice"
        assert len(self._empty) == len(set(self._empty)), "a block is empty twice"
        assert not held & set(self._empty), "a held block is empty"
        assert not held & self._idle.keys(), "a held block is idle"
        assert len(held) + len(self._empty) + len(self._idle) == self.count, "a block is lost"
        assert self._by_hash == {h: b for b, h in self._hash_of.items()}, "the index disagrees with the blocks"
        assert self._idle.keys() <= self._hash_of.keys(), "an idle block has no hash"

"""Prefix affinity for a fleet: looks a request's prompts up in the prefix index, and enters them once it is dispatched.

Owns the index and the slots of the fleet's members in it. A member that leaves, or whose server restarted, loses its
slot and with it all its blocks.
"""

import numpy as np
from msgspec import Struct

from stellwerk.model.candidates import Candidates
from stellwerk.model.fleet import Fleet, Floats, Member
from stellwerk.model.request import Request
from stellwerk.schedule.blocks import BYTES_PER_TOKEN, MIN_BLOCK_TOKENS, chains, count_of, seed_of, size_of
from stellwerk.schedule.plugin import Plugin
from stellwerk.schedule.prefix import PrefixIndex

FEW = 32
"""Up to so many servers are taken out of a bit mask one by one."""
MAX_SEEDS = 4096


class ApproxPrefixCacheProducer(Plugin, frozen=True):
    """Approximate prefix matching by what was sent where (upstream's names and defaults)."""

    auto_tune: bool = True
    """Take block size and capacity from the servers' metrics pages where they tell."""
    block_size_tokens: int = 16
    """At least 64 are used."""
    max_prefix_tokens_to_match: int = 131_072
    max_prefix_blocks_to_match: int = 2048
    """Applies when `maxPrefixTokensToMatch` is 0; both 0: no bound but that of the index."""
    lru_capacity_per_server: int = 31_250
    """Blocks remembered per server when its page does not tell."""

    def __post_init__(self) -> None:
        for name, value in (
            ("blockSizeTokens", self.block_size_tokens),
            ("lruCapacityPerServer", self.lru_capacity_per_server),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.max_prefix_tokens_to_match < 0 or self.max_prefix_blocks_to_match < 0:
            raise ValueError("maxPrefixTokensToMatch and maxPrefixBlocksToMatch must not be negative")


class Lookup(Struct, gc=False):
    """A request's blocks, and who holds how many of them."""

    chains: list[list[int]]
    block_tokens: int
    block_count: int
    matched: Floats | None
    """Matched blocks per row of the fleet; None: nobody matches any."""


class PrefixAffinity:
    """The index together with the members it speaks about."""

    def __init__(self, settings: ApproxPrefixCacheProducer, max_bytes: int) -> None:
        self.settings = settings
        self.index = PrefixIndex(max_bytes)
        self._members: dict[int, Member] = {}
        self._version = 0
        self._rows: tuple[int, Fleet | None, np.ndarray[tuple[int], np.dtype[np.intp]]] = (
            -1,
            None,
            np.zeros(0, np.intp),
        )
        self._seeds: dict[str, int] = {}

    def adopt(self, fleet: Fleet) -> None:
        """The fleet changed: members that left lose their slots, new ones get one."""
        for member in fleet.left:
            self.forget(member)
        for member in fleet.members:
            if self._members.get(member.slot) is not member:
                self._join(member)

    def forget(self, member: Member) -> None:
        """The member's cache is empty or gone."""
        if self._members.get(member.slot) is member:
            del self._members[member.slot]
            self.index.leave(member.slot)
            member.slot = -1
            self._version += 1
            if member.row >= 0:
                self._join(member)

    def learned(self, member: Member) -> None:
        """The member's metrics page told its cache's size."""
        if member.slot >= 0:
            self.index.resize(member.slot, self._capacity(member))

    def look_up(self, request: Request, candidates: Candidates, target_model: str | None) -> Lookup:
        """Hash the prompts and match them among the candidates."""
        block_tokens = self._block_tokens(candidates)
        limit = self._limit(block_tokens)
        found = chains(
            request.prompts, self._seed(target_model or "", request.cache_salt), block_tokens * BYTES_PER_TOKEN, limit
        )
        among = self._among(candidates)
        matched: Floats | None = None
        block_count = 0
        for hashes in found:
            block_count += size_of(len(hashes))
            for count, mask in self.index.match(hashes, among):
                if matched is None:
                    matched = np.zeros(len(candidates.fleet.members))
                self._add(matched, mask, size_of(count), candidates.fleet)
        return Lookup(found, block_tokens, block_count, matched)

    def dispatched(self, member: Member, lookup: Lookup) -> None:
        """The request went to this member, whose cache will hold its prompts."""
        slot = member.slot
        if slot < 0:
            return
        held = 0
        if lookup.matched is not None and len(lookup.chains) == 1 and member.row >= 0:
            held = count_of(int(lookup.matched[member.row]))
        for hashes in lookup.chains:
            self.index.record(slot, hashes, held)

    def _join(self, member: Member) -> None:
        member.slot = self.index.join(self._capacity(member))
        self._members[member.slot] = member
        self._version += 1

    def _capacity(self, member: Member) -> int:
        sample = member.sample
        if self.settings.auto_tune and sample is not None and sample.block_count and sample.block_size_tokens:
            tokens = sample.block_count * sample.block_size_tokens
            return max(1, tokens // max(MIN_BLOCK_TOKENS, sample.block_size_tokens))
        return self.settings.lru_capacity_per_server

    def _block_tokens(self, candidates: Candidates) -> int:
        size = self.settings.block_size_tokens
        if self.settings.auto_tune and candidates.members:
            sample = candidates.members[0].sample
            if sample is not None and sample.block_size_tokens:
                size = sample.block_size_tokens
        return max(MIN_BLOCK_TOKENS, size)

    def _limit(self, block_tokens: int) -> int:
        tokens = self.settings.max_prefix_tokens_to_match
        return tokens // block_tokens if tokens > 0 else self.settings.max_prefix_blocks_to_match or 1 << 30

    def _seed(self, model: str, salt: bytes) -> int:
        if salt:
            return seed_of(model, salt)
        seed = self._seeds.get(model)
        if seed is None:
            if len(self._seeds) >= MAX_SEEDS:
                self._seeds.clear()
            seed = self._seeds[model] = seed_of(model, b"")
        return seed

    def _among(self, candidates: Candidates) -> int:
        """The candidates as a bit mask of slots."""
        version, mask = candidates.kept.get("prefix", (-1, 0))
        if version != self._version:
            mask = sum(1 << member.slot for member in candidates.members if member.slot >= 0)
            candidates.kept["prefix"] = (self._version, mask)
        return int(mask)

    def _add(self, matched: Floats, mask: int, count: int, fleet: Fleet) -> None:
        if mask.bit_count() <= FEW:
            members = self._members
            while mask:
                low = mask & -mask
                matched[members[low.bit_length() - 1].row] += count
                mask ^= low
            return
        packed = np.frombuffer(mask.to_bytes((mask.bit_length() + 7) // 8, "little"), dtype=np.uint8)
        slots = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
        matched[self._row_of_slot(fleet)[slots]] += count

    def _row_of_slot(self, fleet: Fleet) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        version, of, rows = self._rows
        if version != self._version or of is not fleet:
            rows = np.zeros(self.index.slots, dtype=np.intp)
            for slot, member in self._members.items():
                rows[slot] = member.row
            self._rows = (self._version, fleet, rows)
        return rows

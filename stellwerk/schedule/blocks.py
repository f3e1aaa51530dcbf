"""Prompts as chains of block hashes: equal leading hashes mean equal leading bytes, for the same model and salt.

Each block's hash is seeded with the hash of the block before it, and the first with a hash of the target model and
the cache salt. A short last block counts, as upstream does.

Behind the first `FINE_BLOCKS` a block is `SPAN` times as long and counts for as many: where a prompt is long already,
a finer match is worth little, and costs as much. The last bit of a hash says which of the two its block is, so whoever
holds nothing but hashes can still count what they stand for.
"""

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

BYTES_PER_TOKEN = 4
MIN_BLOCK_TOKENS = 64
"""Smaller engine blocks are not followed: the index would cost more than the finer match is worth (upstream agrees)."""
FINE_BLOCKS = 64
SPAN = 4
MAX_HASHES = 8192
"""Of one request, over all its prompts."""
LONG = 1
"""The bit of a hash that says so."""

_FINE = ~LONG


def seed_of(model: str, salt: bytes) -> int:
    """Where the chains of a model's prompts begin."""
    return int(xxh3_64_intdigest(model.encode(errors="surrogatepass") + b"\0" + salt))


def size_of(count: int) -> int:
    """How many blocks the first `count` hashes of a chain stand for."""
    return count if count <= FINE_BLOCKS else FINE_BLOCKS + (count - FINE_BLOCKS) * SPAN


def count_of(size: int) -> int:
    """How many hashes of a chain stand for `size` blocks, at least: the other way round."""
    return size if size <= FINE_BLOCKS else FINE_BLOCKS + -(-(size - FINE_BLOCKS) // SPAN)


def size_of_all(hashes: Iterable[int]) -> int:
    """How many blocks these hashes, of any chains, stand for together."""
    return sum([SPAN if each & LONG else 1 for each in hashes])


def chain(prompt: bytes | memoryview, seed: int, block_bytes: int, limit: int) -> list[int]:
    """Hashes of the prompt's first `limit` blocks, and of as few more as the last hash stands for."""
    end = min(len(prompt), block_bytes * size_of(count_of(limit)))
    text = prompt if isinstance(prompt, bytes) else bytes(prompt[:end])
    digest = xxh3_64_intdigest
    hashes: list[int] = []
    append = hashes.append
    fine_end = min(end, block_bytes * FINE_BLOCKS)
    for start in range(0, fine_end, block_bytes):
        seed = digest(text[start : start + block_bytes], seed) & _FINE
        append(seed)
    long_bytes = block_bytes * SPAN
    for start in range(fine_end, end, long_bytes):
        seed = digest(text[start : start + long_bytes], seed) | LONG
        append(seed)
    return hashes


def chains(prompts: Iterable[bytes | memoryview], seed: int, block_bytes: int, limit: int) -> list[list[int]]:
    """One chain per prompt that is not empty, each as `chain` makes it, together of at most `MAX_HASHES`."""
    result = []
    left = MAX_HASHES
    for prompt in prompts:
        hashes = chain(prompt, seed, block_bytes, min(limit, size_of(left)))
        if hashes:
            result.append(hashes)
            left -= len(hashes)
            if left <= 0:
                break
    return result

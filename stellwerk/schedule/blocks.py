"""Prompts as chains of block hashes: equal leading hashes mean equal leading bytes, for the same model and salt.

Each block's hash is seeded with the hash of the block before it, and the first with a hash of the target model and
the cache salt. A short last block counts, as upstream does.
"""

from collections.abc import Iterable

from xxhash import xxh3_64_intdigest

BYTES_PER_TOKEN = 4
MIN_BLOCK_TOKENS = 64
"""Smaller engine blocks are not followed: the index would cost more than the finer match is worth (upstream agrees)."""
MAX_BLOCKS = 8192
"""Of one request, over all its prompts."""


def seed_of(model: str, salt: bytes) -> int:
    """Where the chains of a model's prompts begin."""
    return int(xxh3_64_intdigest(model.encode(errors="surrogatepass") + b"\0" + salt))


def chain(prompt: bytes | memoryview, seed: int, block_bytes: int, limit: int) -> list[int]:
    """Hashes of the prompt's blocks, at most `limit`. 150 ns per block of 256 bytes."""
    end = min(len(prompt), block_bytes * limit)
    text = prompt if isinstance(prompt, bytes) else bytes(prompt[:end])
    digest = xxh3_64_intdigest
    hashes: list[int] = []
    append = hashes.append
    for start in range(0, end, block_bytes):
        seed = digest(text[start : start + block_bytes], seed)
        append(seed)
    return hashes


def chains(prompts: Iterable[bytes | memoryview], seed: int, block_bytes: int, limit: int) -> list[list[int]]:
    """One chain per prompt that is not empty, each of at most `limit` blocks, together at most `MAX_BLOCKS`."""
    result = []
    left = MAX_BLOCKS
    for prompt in prompts:
        hashes = chain(prompt, seed, block_bytes, min(limit, left))
        if hashes:
            result.append(hashes)
            left -= len(hashes)
            if left <= 0:
                break
    return result

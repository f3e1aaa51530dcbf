"""A tokenizer that needs no vocabulary: a token is four bytes of UTF-8, the last one padded with zeros.

Four bytes to a token is what real tokenizers average on English and code. A prompt is kept as its *token bytes* (a
multiple of four bytes), so counting is a division and hashing a block is hashing a slice. Texts that share a prefix
share tokens, and an answer of four-byte words (see `stellwerk.sim.answers`) costs the same tokens when it comes back in
the next turn of a chat.
"""

import sys
from array import array
from collections.abc import Sequence

import xxhash

TOKEN_BYTES = 4
VOCABULARY = 1 << 32


def encode(text: str) -> bytes:
    """Token bytes of a text; lone surrogates, which JSON can carry, are kept."""
    raw = text.encode("utf-8", "surrogatepass")
    return raw + bytes(-len(raw) % TOKEN_BYTES)


def from_ids(ids: Sequence[int]) -> bytes:
    """Token bytes of token ids. Raises TypeError or OverflowError for what is not an id in [0, 2**32)."""
    words = array("I", ids)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def to_ids(token_bytes: bytes) -> list[int]:
    """The ids behind token bytes."""
    words = array("I", token_bytes)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tolist()


def decode(token_bytes: bytes) -> str:
    """The text behind token bytes, without the padding; bytes that are not UTF-8 become U+FFFD."""
    return token_bytes.replace(b"\0", b"").decode("utf-8", "replace")


def count(token_bytes: bytes) -> int:
    """How many tokens."""
    return len(token_bytes) // TOKEN_BYTES


def block_hashes(token_bytes: bytes, block_size: int, seed: int) -> list[int]:
    """A 64-bit hash per full block of `block_size` tokens, each covering all before it. `seed`: adapter and salt."""
    width = block_size * TOKEN_BYTES
    view = memoryview(token_bytes)
    hashes = []
    block_hash = seed
    for start in range(0, len(token_bytes) - width + 1, width):
        block_hash = xxhash.xxh3_64_intdigest(view[start : start + width], block_hash)
        hashes.append(block_hash)
    return hashes


def seed_of(*parts: str | bytes) -> int:
    """A 64-bit seed of a few names."""
    digest = xxhash.xxh3_64()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(4, "little") + raw)
    return digest.intdigest()

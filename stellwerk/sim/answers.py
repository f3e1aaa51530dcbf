"""What a simulated model says: words of four bytes, one token each, cut from one long fixed text.

The start is drawn from a hash of model, prompt and seed, so the same question gets the same answer from every server.
"""

import math
from statistics import NormalDist

import xxhash
from msgspec import Struct

_WORDS = (
    "the and for you can set run one two key map log red sea sky sun ice oak elm fox owl bee ant cat dog hen cow pig "
    "may say ask see try use get put add cut fit fix let win own pay low new old big hot dry wet raw sum out off now "
    "not yet but any all few far way day air arc art axe bar bay bed box bus cap car cup ear egg end eye fan gap gas "
)
_LENGTH = 1 << 14


def _long_text() -> str:
    picks = (xxhash.xxh3_64_intdigest(i.to_bytes(4, "little")) % (len(_WORDS) // 4) for i in range(_LENGTH))
    return "".join(_WORDS[4 * pick : 4 * pick + 4] for pick in picks)


_TEXT = _long_text()


class AnswerLength(Struct, frozen=True):
    """Log-normal number of tokens of an answer that ends by itself."""

    mean_tokens: float = 128.0
    spread: float = 0.6
    """Standard deviation of the logarithm; 0: every answer has the mean length."""


class Answer(Struct, frozen=True):
    """The whole answer, known when the request arrives."""

    text: str
    tokens: int
    finish_reason: str
    """`stop` or `length`."""
    stop_reason: str | None = None
    """The stop string that ended it."""

    def piece(self, start: int, end: int) -> str:
        """Text of the tokens [start, end)."""
        return self.text[4 * start : 4 * end]


class AnswerLimits(Struct, frozen=True):
    """What the request says about length."""

    max_tokens: int
    min_tokens: int = 0
    ignores_end: bool = False
    stops: tuple[str, ...] = ()


def answer(key: int, length: AnswerLength, limits: AnswerLimits) -> Answer:
    """The answer for a 64-bit `key`; 1 to `limits.max_tokens` tokens."""
    wanted = limits.max_tokens if limits.ignores_end else max(_natural_length(key, length), limits.min_tokens)
    tokens = max(1, min(wanted, limits.max_tokens))
    reason = "stop" if tokens == wanted and not limits.ignores_end else "length"
    text = _slice(key % _LENGTH, tokens)
    cuts = [(at, stop) for stop in limits.stops if stop and (at := text.find(stop, 4 * limits.min_tokens)) >= 0]
    if cuts:
        at, stop = min(cuts)
        return Answer(text[:at], -(-(at + len(stop)) // 4), "stop", stop)
    return Answer(text, tokens, reason)


def _natural_length(key: int, length: AnswerLength) -> int:
    if length.spread <= 0:
        return max(1, round(length.mean_tokens))
    share = ((key >> 12) + 0.5) / (1 << 52)
    location = math.log(max(length.mean_tokens, 1.0)) - length.spread**2 / 2
    return max(1, round(math.exp(location + length.spread * NormalDist().inv_cdf(share))))


def _slice(start: int, tokens: int) -> str:
    text = _TEXT[4 * start : 4 * (start + tokens)]
    while len(text) < 4 * tokens:
        text += _TEXT[: 4 * tokens - len(text)]
    return text

"""What a server's `GET /v1/models` names: base models and adapters, bounded in count and length.

vLLM and SGLang write an adapter's base model into `parent`; other engines list base models only.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

MAX_MODELS = 4096
MAX_NAME_BYTES = 256


class Unreadable(Struct, frozen=True, gc=False):
    """The answer is not a list of models. `reason` is short and quotes nothing of the answer."""

    reason: str


class _List(Struct):
    data: list[msgspec.Raw]


class _Card(Struct):
    id: str
    parent: str | None = None


_LIST = msgspec.json.Decoder(_List)
_CARD = msgspec.json.Decoder(_Card)


def read(body: bytes) -> Mapping[str, str | None] | Unreadable:
    """Model to its parent (None: a base model). An entry that is no model, or whose name is empty or too long, is left
    out; never raises."""
    try:
        cards = _LIST.decode(body).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Unreadable("the answer is not a JSON list of models")
    if len(cards) > MAX_MODELS:
        return Unreadable(f"{len(cards)} models are listed, at most {MAX_MODELS} are read")
    models: dict[str, str | None] = {}
    for raw in cards:
        try:
            card = _CARD.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if _is_name(card.id):
            is_adapter = card.parent is not None and card.parent != card.id and _is_name(card.parent)
            models.setdefault(card.id, card.parent if is_adapter else None)
    return models


def _is_name(text: str) -> bool:
    return 0 < len(text.encode(errors="surrogatepass")) <= MAX_NAME_BYTES

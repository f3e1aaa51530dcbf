"""From a request's method and path to the API it speaks.

The path's last segments decide, so a prefix in front of the API (`/team-a/v1/chat/completions`) and a query string
change nothing. What is not listed here is `Api.OTHER` and passes through unread.
"""

from urllib.parse import unquote

from stellwerk.model.request import Api

_BY_SUFFIX: dict[tuple[str, ...], Api] = {
    ("chat", "completions"): Api.CHAT,
    ("chat", "completions", "render"): Api.CHAT,
    ("completions",): Api.COMPLETIONS,
    ("completions", "render"): Api.COMPLETIONS,
    ("embeddings",): Api.EMBEDDINGS,
    ("pooling",): Api.EMBEDDINGS,
    ("classify",): Api.EMBEDDINGS,
    ("responses",): Api.RESPONSES,
    ("messages",): Api.MESSAGES,
    ("messages", "count_tokens"): Api.COUNT_TOKENS,
    ("rerank",): Api.RERANK,
    ("score",): Api.SCORE,
    ("tokenize",): Api.TOKENIZE,
    ("detokenize",): Api.TOKENIZE,
    ("audio", "transcriptions"): Api.AUDIO,
    ("audio", "translations"): Api.AUDIO,
    ("audio", "speech"): Api.AUDIO,
    ("images", "generations"): Api.IMAGES,
    ("images", "edits"): Api.IMAGES,
    ("images", "variations"): Api.IMAGES,
}
_LONGEST_SUFFIX = max(map(len, _BY_SUFFIX))
_USUAL = {f"/v1/{'/'.join(suffix)}": api for suffix, api in _BY_SUFFIX.items()}
_MODELS = ("v1", "models")


def classify(method: str, path: str) -> Api:
    """The API of `path` (as received, query string included). Every API but the list of models is called by POST."""
    if method == "POST":
        return _USUAL.get(path) or _by_suffix(_segments(path))
    if method == "GET":
        return _about_models(_segments(path))
    return Api.OTHER


def model_name(path: str) -> str:
    """NAME of `/v1/models/NAME`: it may hold slashes, and percent escapes are decoded (invalid UTF-8 becomes U+FFFD).

    Empty if the path is no such path.
    """
    segments = _segments(path)
    start = _models_at(segments)
    return "" if start is None else unquote("/".join(segments[start + 2 :]))


def _segments(path: str) -> list[str]:
    return [segment for segment in path.partition("?")[0].split("/") if segment]


def _by_suffix(segments: list[str]) -> Api:
    tail = tuple(segments[-_LONGEST_SUFFIX:])
    for start in range(len(tail)):
        if api := _BY_SUFFIX.get(tail[start:]):
            return api
    return Api.OTHER


def _about_models(segments: list[str]) -> Api:
    start = _models_at(segments)
    if start is None:
        return Api.OTHER
    return Api.MODELS if len(segments) == start + 2 else Api.MODEL


def _models_at(segments: list[str]) -> int | None:
    """Where `v1/models` first stands; what follows it is a name, which may itself hold `v1/models`."""
    for index in range(len(segments) - 1):
        if (segments[index], segments[index + 1]) == _MODELS:
            return index
    return None

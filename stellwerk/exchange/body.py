"""From a request's head and body to the engine's `Request`, or to the reason why it has none.

Reads what routing needs and nothing else. Lenient about fields that only the server needs, strict about what could make
the server read another model than was read here.
"""

import re
from collections.abc import Mapping

import msgspec
from msgspec.json import Decoder
from msgspec.structs import replace

from stellwerk.exchange import multipart, paths, structure, surrogates
from stellwerk.exchange.content import DECODERS, Content
from stellwerk.exchange.head import Head
from stellwerk.exchange.limits import BodyLimits
from stellwerk.exchange.rewrite import BYTE_ORDER_MARK, NO_NAME, last_name
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api, Request

# Headers that say what the caller wants: the name, and the older one that it outranks.
_OBJECTIVE = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
_FAIRNESS = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
_OVERRIDE = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
_TTFT = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
_TPOT = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
_WISHES = frozenset((*_OBJECTIVE, *_FAIRNESS, *_OVERRIDE, *_TTFT, *_TPOT))
_FORM_APIS = frozenset((Api.AUDIO, Api.IMAGES))
_MAX_NAME_CHARACTERS = 256
"""Of a name in a header, which becomes a key of queues and of metrics."""
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?")
_NOTHING = Content()


def read(head: Head, api: Api, body: bytes, limits: BodyLimits) -> Request | Refused:
    """`body` is b"" if there is none. A body of an API that is not known here is not looked into."""
    if len(body) > limits.max_body_bytes:
        return _too_large(len(body), limits)
    content = _content(head, api, body, limits)
    if isinstance(content, Refused):
        return content
    refused = _judge_model(content.model, limits)
    if refused is not None:
        return refused
    return _request(head, api, len(body), content)


def _content(head: Head, api: Api, body: bytes, limits: BodyLimits) -> Content | Refused:
    decoder = DECODERS.get(api)
    if decoder is None:
        return Content(model=paths.model_name(head.path)) if api is Api.MODEL else _NOTHING
    content_type = head.headers.get("content-type", "")
    if multipart.is_form(content_type) and api in _FORM_APIS:
        return _form(body, content_type, limits)
    return _json(decoder, body, head, content_type, limits)


def _json(
    decoder: Decoder[Content], body: bytes, head: Head, content_type: str, limits: BodyLimits
) -> Content | Refused:
    if not body:
        return _malformed("the request has no body: send a JSON object")
    text = body.removeprefix(BYTE_ORDER_MARK)
    try:
        content = decoder.decode(text)
    except RecursionError:
        return _too_deep(limits)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _encoded(head) or _with_halves(error, decoder, text, content_type, limits)
    return _too_deep(limits) if structure.exceeds_depth(text, limits.max_body_depth) else content


def _with_halves(
    error: Exception, decoder: Decoder[Content], text: bytes, content_type: str, limits: BodyLimits
) -> Content | Refused:
    """`text` was refused for `error`. If it has halves of surrogate pairs, it is read from a copy that has none, which
    only the model cannot be: another name would be read here than there."""
    copy: bytes | None = None
    try:
        copy = surrogates.replaced(text)
        content = None if copy is None else decoder.decode(copy)
    except RecursionError:
        return _too_deep(limits)
    except (msgspec.DecodeError, UnicodeDecodeError) as another:
        return _undecodable(another, text, content_type)
    if copy is None or content is None:
        return _undecodable(error, text, content_type)
    start, end = last_name(copy) or NO_NAME
    if copy[start:end] != text[start:end]:
        return _malformed("model holds half of a surrogate pair, such as \\ud83d alone: send whole characters", "model")
    return _too_deep(limits) if structure.exceeds_depth(copy, limits.max_body_depth) else content


def _form(body: bytes, content_type: str, limits: BodyLimits) -> Content | Refused:
    fields = multipart.fields(body, content_type, limits.max_multipart_parts)
    if isinstance(fields, multipart.Malformed):
        return _malformed(f"the body is not valid multipart/form-data: {fields.why}")
    values: dict[str, bytes] = {}
    for field in fields:
        if field.name not in ("model", "stream"):
            continue
        if field.is_file:
            return _malformed(f"{field.name} is sent as a file: send it as a plain form field", field.name)
        if field.end - field.start > limits.max_model_bytes:
            return _model_too_long(limits) if field.name == "model" else _malformed("stream is no boolean", "stream")
        values[field.name] = body[field.start : field.end]
    try:
        model = values["model"].decode() if "model" in values else None
    except UnicodeDecodeError:
        return _malformed("model is not valid UTF-8", "model")
    stream = msgspec.Raw(b'"' + values.get("stream", b"").strip().lower() + b'"')
    return Content(model=model, stream=stream)


def _judge_model(model: str | None, limits: BodyLimits) -> Refused | None:
    if model is None:
        return None
    if not model:
        return _malformed("model is empty: name the model to use", "model")
    size = len(model) if model.isascii() else len(model.encode("utf-8", "replace"))
    return _model_too_long(limits) if size > limits.max_model_bytes else None


def _request(head: Head, api: Api, size_bytes: int, content: Content) -> Request:
    prompts, prompt_tokens = content.prompts()
    request = Request(
        id=head.id,
        api=api,
        method=head.method,
        path=head.path,
        received_at=head.received_at,
        model=content.model,
        is_stream=content.is_stream,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        max_output_tokens=content.max_output_tokens(),
        cache_salt=content.salt,
        size_bytes=size_bytes,
    )
    return request if _WISHES.isdisjoint(head.headers) else _with_wishes(request, head.headers)


def _with_wishes(request: Request, headers: Mapping[str, str]) -> Request:
    return replace(
        request,
        objective=_name(headers, _OBJECTIVE),
        fairness_id=_name(headers, _FAIRNESS),
        model_override=_name(headers, _OVERRIDE),
        ttft_slo_seconds=_seconds(headers, _TTFT),
        tpot_slo_seconds=_seconds(headers, _TPOT),
    )


def _name(headers: Mapping[str, str], names: tuple[str, str]) -> str | None:
    """The value of the header; None if there is none, or if it is too long to be a name."""
    value = headers.get(names[0]) or headers.get(names[1])
    if not value:
        return None
    if not value.isascii():
        value = value.encode("latin-1", "replace").decode("utf-8", "replace")
    return value if len(value) <= _MAX_NAME_CHARACTERS else None


def _seconds(headers: Mapping[str, str], names: tuple[str, str]) -> float | None:
    """Milliseconds in a header, as seconds. A value that is no positive decimal number counts as missing."""
    for name in names:
        value = headers.get(name)
        if value is not None and _NUMBER.fullmatch(value) and (number := float(value)) > 0:
            return number / 1000
    return None


def _malformed(message: str, param: str | None = None) -> Refused:
    return Refused(Reason.MALFORMED_BODY, message, param)


def _encoded(head: Head) -> Refused | None:
    coding = head.headers.get("content-encoding", "identity")
    if coding == "identity":
        return None
    return _malformed(f"the body is encoded ({coding[:32]!r}): send plain JSON, without Content-Encoding")


def _undecodable(error: Exception, text: bytes, content_type: str) -> Refused:
    """What the parser minded, in our words; where it stands, but never what."""
    if isinstance(error, UnicodeDecodeError):
        return _malformed("model is not valid UTF-8", "model")
    reason = str(error)
    if isinstance(error, surrogates.TooManyHalves):
        return _malformed(f"the body {reason}")
    if isinstance(error, msgspec.ValidationError):
        found = reason.rpartition("got `")[2].partition("`")[0]
        if reason.endswith("$.model`"):
            return _malformed(f"model is of type {found}: send a string", "model")
        return _malformed(f"the body is of JSON type {found}: send a JSON object")
    if text[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in text[:4]:
        return _malformed("the body is not valid JSON: it is UTF-16 or UTF-32; send UTF-8")
    reason = reason.removeprefix("JSON is malformed: ").replace(
        "Input data was truncated", "it ends too early, or within an escape"
    )
    hint = "" if "json" in content_type.lower() else f"; its content type is {content_type[:80]!r}"
    return _malformed(f"the body is not valid JSON: {reason}{hint}")


def _too_large(size: int, limits: BodyLimits) -> Refused:
    message = f"the body has {size} bytes, more than the {limits.max_body_bytes} allowed (max-body-bytes)"
    return Refused(Reason.BODY_TOO_LARGE, message)


def _too_deep(limits: BodyLimits) -> Refused:
    return _malformed(f"the body nests deeper than the {limits.max_body_depth} levels allowed (max-body-depth)")


def _model_too_long(limits: BodyLimits) -> Refused:
    return _malformed(f"model is longer than the {limits.max_model_bytes} bytes allowed (max-model-bytes)", "model")

"""Hostile bodies by the thousand, against Python's own parser: what is accepted must be read as the server reads it."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from stellwerk.exchange.limits import BodyLimits
from stellwerk.exchange.rewrite import with_model
from stellwerk.model.outcome import Refused
from stellwerk.model.reason import Reason
from stellwerk.model.request import Api, Request
from tests.kit.bodies import FORM, form, part, reading
from tests.kit.json_text import Pairs, written

LIMITS = BodyLimits(max_body_bytes=4096, max_body_depth=12, max_model_bytes=24)
APIS = [api for api in Api if api not in (Api.MODELS, Api.MODEL, Api.OTHER)]
KEYS = [
    "model",
    "model",
    "Model",
    "messages",
    "prompt",
    "input",
    "stream",
    "tools",
    "max_tokens",
    "cache_salt",
    'x"model',
]
HALF = "<half>"
"""Stands for half of a surrogate pair, which Python does not encode."""
TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"'", b"/*", b"\n", b"\r\n--", b"\r\n\r\n"),
    *(b'"model"', b'"model":"b"', b'"mod\\u0065l":"c"', b"--Xy-Z_1", b"--Xy-Z_1--\r\n"),
    *(b"\\ud800", b"\\udfff", b'"\\ud83d"', b"\\u0000", b"\xff", b"\xed\xa0\x80", b"\0", b"\xef\xbb\xbf"),
    *(b"1e999", b"NaN", b"-", b"0", b"9" * 400, b"null", b"true", b"[" * 14),
]


def value(chance: Random, depth: int) -> Any:
    kind = chance.randrange(10 if depth else 7)
    if kind < 3:
        return chance.choice(["llama", "a", "", "model", '"model":"x"', "é" * 13, "\\", "[{", "😀", HALF])
    if kind < 7:
        return chance.choice([None, True, False, 0, -1, 7, 10**30, 1.5])
    if kind == 7:
        return [value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return pairs(chance, depth - 1)


def pairs(chance: Random, depth: int) -> Pairs:
    return Pairs((chance.choice(KEYS), value(chance, depth)) for _ in range(chance.randrange(5)))


def mutated(body: bytes, chance: Random) -> bytes:
    for _ in range(chance.randrange(4)):
        at, end = chance.randrange(len(body) + 1), chance.randrange(1, 6)
        match chance.randrange(5):
            case 0:
                body = body[:at] + chance.choice(TOKENS) + body[at:]
            case 1:
                body = body[:at] + body[at + end :]
            case 2:
                body = body[:at] + bytes([chance.randrange(256)]) + body[at + 1 :]
            case 3:
                body = body[:at] + body[at : at + 20] + body[at:]
            case _:
                body = body[: at + len(body) // 2]
    return body


def json_bodies(seed: int, count: int) -> Iterator[tuple[bytes, Api]]:
    chance = Random(seed)
    for _ in range(count):
        sent = pairs(chance, 4)
        sent.insert(chance.randrange(len(sent) + 1), ("model", chance.choice(["llama", "b", 7])))
        text = written(sent, chance).replace(HALF, chance.choice(["\\ud83d", "\\ude00"]))
        body = mutated(text.encode(), chance)
        if chance.random() < 0.02:
            body = body.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]))
        yield body, chance.choice(APIS)


def forms(seed: int, count: int) -> Iterator[bytes]:
    chance = Random(seed)
    for _ in range(count):
        names = [chance.choice(["model", "model", "stream", "file", ""]) for _ in range(chance.randrange(4))]
        values = [chance.choice([b"llama", b"", b"true", *TOKENS]) for _ in names]
        yield mutated(
            form(
                *[part(name, each, chance.choice([None, None, "f"])) for name, each in zip(names, values, strict=True)]
            ),
            chance,
        )


def judge(body: bytes, api: Api) -> bool:
    """Whether the body was accepted. Fails the test if Python's parser reads another model than we did."""
    found = reading(body, api, limits=LIMITS)
    if isinstance(found, Refused):
        assert found.reason in (Reason.MALFORMED_BODY, Reason.BODY_TOO_LARGE)
        assert len(found.message) < 300
        return False
    edited = with_model(body, "application/json", "target")
    try:
        theirs = json.loads(body)
    except ValueError:
        return True
    assert theirs.get("model") == found.model, body
    assert json.loads(edited) == {**theirs, "model": "target"}, body
    return True


def judge_form(body: bytes) -> bool:
    found = reading(body, Api.AUDIO, FORM, limits=LIMITS)
    edited = with_model(body, FORM, "target")
    if isinstance(found, Request) and found.model is not None:
        again = reading(edited, Api.AUDIO, FORM, limits=LIMITS)
        assert isinstance(again, Request)
        assert again.model == "target"
    return isinstance(found, Request)


def test_some_malformed_bodies_are_refused_or_read_as_the_server_reads_them() -> None:
    accepted = sum(judge(body, api) for body, api in json_bodies(seed=1, count=3000))
    assert 300 < accepted < 2700
    accepted = sum(judge_form(body) for body in forms(seed=2, count=1000))
    assert 100 < accepted < 900


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_a_hundred_thousand_malformed_bodies_are_refused_or_read_as_the_server_reads_them() -> None:
    for body, api in json_bodies(seed=3, count=75_000):
        judge(body, api)
    for body in forms(seed=4, count=25_000):
        judge_form(body)

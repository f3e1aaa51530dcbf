"""Header blocks to checked heads, and which of them are remembered."""

import pytest
from hpack.hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.edge.grpc.frames import ConnectionFault, ErrorCode
from stellwerk.edge.grpc.head import HeadReader, timeout_seconds
from tests.kit.http2 import head

ENVOY = (*head("/envoy.service.ext_proc.v3.ExternalProcessor/Process"), ("x-envoy-internal", "true"))
PATH = b"\x04\x0c/without/idx"
"""`:path` as Envoy writes it: a literal that does not go to the table."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1S", 1.0),
        (b"99999999H", 99_999_999 * 3600.0),
        (b"2M", 120.0),
        (b"250m", 0.25),
        (b"0u", 0.0),
        (b"7n", 7e-9),
        (b"", None),
        (b"S", None),
        (b"100000000S", None),
        (b"-1S", None),
        (b"1.5S", None),
        (b"1 S", None),
        (b"1s", None),
        ("٣S".encode(), None),
        (b"\xb2S", None),
    ],
)
def test_grpc_timeout_is_eight_digits_and_a_unit(text: bytes, seconds: float | None) -> None:
    assert timeout_seconds(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_block_that_changes_nothing_is_decoded_once() -> None:
    reader = HeadReader(65_536)
    encoder = Encoder()
    first, second = encoder.encode(ENVOY), encoder.encode(ENVOY)
    assert reader.request(first) is not reader.request(second)
    assert reader.request(second) is reader.request(second)
    assert reader.request(b"\x83\x86" + PATH) is reader.request(b"\x83\x86" + PATH)


def test_what_was_remembered_is_forgotten_when_the_table_moves() -> None:
    reader = HeadReader(65_536)
    encoder = Encoder()
    reader.request(encoder.encode([*ENVOY, ("x-trace", "one")]))
    repeated = encoder.encode([*ENVOY, ("x-trace", "one")])
    before = reader.request(repeated)
    assert reader.request(repeated) is before
    reader.request(encoder.encode([*ENVOY, ("x-trace", "two")]))
    after = reader.request(repeated)
    assert after.fields != before.fields


@settings(deadline=None, max_examples=100)
@given(
    rounds=st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "x", "y" * 30, "z" * 2000])), max_size=4),
        max_size=12,
    ),
    sizes=st.lists(st.sampled_from([None, None, None, 0, 100, 4096]), min_size=12, max_size=12),
)
def test_remembering_never_changes_what_a_block_means(
    rounds: list[list[tuple[str, str]]], sizes: list[int | None]
) -> None:
    encoder, reader, plain = Encoder(), HeadReader(65_536), Decoder()
    for fields, size in zip(rounds, sizes, strict=False):
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode([(":method", "POST"), *fields])
        assert reader.request(block).fields == tuple(plain.decode(block, raw=True))


def test_undecodable_blocks_are_compression_errors() -> None:
    for block in (
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xc0",
        b"\x00\x01",
        b"\x00\x81\xff\x00",
        b"\x3f\xe2\x1f",
        b"\x40",
    ):
        with pytest.raises(ConnectionFault) as caught:
            HeadReader(65_536).request(block)
        assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_header_names_and_values_are_not_quoted_in_complaints() -> None:
    reader = HeadReader(65_536)
    encoder = Encoder()
    found = reader.request(encoder.encode([*head(), ("authorization", "Bearer key\n")]))
    assert found.malformed is not None
    assert "key" not in found.malformed
    assert "authorization" not in found.malformed

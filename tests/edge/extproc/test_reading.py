"""What is read out of a request message, odd ones included."""

import pytest
from envoy.config.core.v3 import base_pb2 as core
from google.protobuf import struct_pb2

from stellwerk.edge.extproc import reading

HINT = "x-gateway-destination-endpoint-subset"


def metadata(namespace: str, key: str, value: object) -> core.Metadata:
    made = core.Metadata()
    made.filter_metadata[namespace].update({key: value})
    return made


def subset(value: object) -> tuple[str, ...] | None:
    return reading.subset(metadata("envoy.lb.subset_hint", HINT, value).filter_metadata)


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        (["10.0.0.1:80", "[::1]:81"], ("10.0.0.1:80", "[::1]:81")),
        ("10.0.0.1:80, 10.0.0.2:80,,", ("10.0.0.1:80", "10.0.0.2:80")),
        ([], ()),
        ("", ()),
        (" , ", ()),
        ([1, None, {"a": 1}, "10.0.0.1:80"], ("10.0.0.1:80",)),
        (7, ()),
        (True, ()),
        (None, ()),
        ({"a": "b"}, ()),
    ],
)
def test_a_hint_is_a_list_or_a_string_and_anything_else_names_nobody(value: object, addresses: tuple[str, ...]) -> None:
    assert subset(value) == addresses


def test_no_hint_is_no_restriction() -> None:
    assert reading.subset(core.Metadata().filter_metadata) is None
    assert reading.subset(metadata("envoy.lb.subset_hint", "another-key", "x").filter_metadata) is None
    assert reading.subset(metadata("envoy.lb", HINT, "x").filter_metadata) is None


def test_a_value_that_is_not_set_is_an_unusable_hint() -> None:
    made = core.Metadata()
    made.filter_metadata["envoy.lb.subset_hint"].fields[HINT].CopyFrom(struct_pb2.Value())
    assert reading.subset(made.filter_metadata) == ()


@pytest.mark.parametrize(
    ("value", "address"), [("10.0.0.1:80", "10.0.0.1:80"), ("x" * 65, None), (7, None), ("", None)]
)
def test_the_server_that_answered(value: object, address: str | None) -> None:
    made = metadata("envoy.lb", "x-gateway-destination-endpoint-served", value)
    assert reading.served(made.filter_metadata) == address


def test_headers_are_lower_case_latin_1_and_the_first_of_a_name_counts() -> None:
    headers = [
        core.HeaderValue(key="X-One", raw_value=b"\xff"),
        core.HeaderValue(key="x-one", raw_value=b"second"),
        core.HeaderValue(key=":path", value="/v1"),
        core.HeaderValue(key="x-empty"),
        core.HeaderValue(),
    ]
    assert reading.header_map(headers) == {"x-one": "\xff", ":path": "/v1", "x-empty": "", "": ""}


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-1", "abc-1"), (None, "made"), ("", "made"), ("x" * 257, "made"), ("a\nb", "made"), ("é", "made")],
)
def test_a_request_id_is_kept_if_it_is_short_and_printable(given: str | None, kept: str) -> None:
    headers = {} if given is None else {"x-request-id": given}
    assert reading.head(headers, lambda: "made", 3.0).id == kept


def test_a_head_of_nothing_is_a_head() -> None:
    made = reading.head({}, lambda: "made", 3.0)
    assert (made.method, made.path, made.received_at) == ("", "", 3.0)

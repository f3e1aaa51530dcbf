import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.exchange.multipart import MAX_PART_HEADER_BYTES, Field, Malformed, fields, is_form
from tests.kit.bodies import BOUNDARY, FORM, form, part

B = BOUNDARY.encode()


def found(body: bytes, content_type: str = FORM, max_parts: int = 8) -> list[tuple[str, bool, bytes]]:
    parts = fields(body, content_type, max_parts)
    assert isinstance(parts, tuple), parts
    return [(part.name, part.is_file, body[part.start : part.end]) for part in parts]


def why(body: bytes, content_type: str = FORM, max_parts: int = 8) -> str:
    malformed = fields(body, content_type, max_parts)
    assert isinstance(malformed, Malformed)
    return malformed.why


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=x", True),
        ("Multipart/Form-Data;boundary=x", True),
        ("multipart/form-data", True),
        ("multipart/form-data ; boundary=x", True),
        ("multipart/form-datax", False),
        ("multipart/mixed; boundary=x", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_a_content_type_announces_a_form(content_type: str, expected: bool) -> None:
    assert is_form(content_type) is expected


def test_fields_and_files_are_found_in_order() -> None:
    body = form(part("model", b"whisper"), part("file", b"\0\1", "a.wav"), part("empty", b""))

    assert found(body) == [("model", False, b"whisper"), ("file", True, b"\0\1"), ("empty", False, b"")]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.binary(max_size=30), st.booleans()), max_size=8))
@settings(deadline=None, max_examples=100)
def test_values_come_back_as_they_were_sent(sent: list[tuple[str, bytes, bool]]) -> None:
    body = form(*[part(name, value, "f" if is_file else None) for name, value, is_file in sent])

    assert found(body) == [(name, is_file, value) for name, value, is_file in sent]


@pytest.mark.parametrize(
    "value",
    [
        b"\r\n--",
        b"\r\n--" + B + b"x",
        b"\r\n-" + B,
        b"--" + B + b"x\r\n",
        b"x--" + B + b"--\r\n",
        b"\n--" + B + b"\r\n",
        b"\r\n\r\n",
    ],
)
def test_data_that_looks_like_a_boundary_is_data(value: bytes) -> None:
    assert found(form(part("file", value, "f"), part("model", b"m"))) == [("file", True, value), ("model", False, b"m")]


@pytest.mark.parametrize("preamble", [b"", b"\r\n", b"hello\r\n", b"--" + B + b"x\r\n"])
@pytest.mark.parametrize("epilogue", [b"", b"bye", b"\r\n--" + B + b"\r\n" + part("model", b"x")])
def test_preamble_and_epilogue_are_skipped(preamble: bytes, epilogue: bytes) -> None:
    assert found(preamble + form(part("model", b"m")) + epilogue) == [("model", False, b"m")]


def test_a_part_that_is_cut_off_does_not_count() -> None:
    body = form(part("a", b"1"), part("model", b"m"))

    for end in range(body.index(b"\r\n\r\nm") + 4, len(body) - 4):
        assert found(body[:end]) == [("a", False, b"1")], end
    for end in range(body.index(b"\r\n\r\nm") + 4):
        parts = fields(body[:end], FORM, 8)
        assert isinstance(parts, Malformed) or parts == (), end


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="model"',
        "form-data; name=model",
        'form-data;name="model"',
        'FORM-DATA ; NAME = "model"',
        'form-data; x="a;b\\"c"; name="mo\\del"',
    ],
)
def test_a_disposition_is_read_in_all_its_spellings(disposition: str) -> None:
    body = f"--{BOUNDARY}\r\ncontent-DISPOSITION:{disposition}\r\nX-Other: y\r\n\r\nm\r\n--{BOUNDARY}--".encode()

    assert found(body) == [("model", False, b"m")]


@pytest.mark.parametrize("head", ["", "X: y\r\n", "Content-Disposition: form-data\r\n"])
def test_a_part_without_a_name_is_skipped(head: str) -> None:
    body = f"--{BOUNDARY}\r\n{head}\r\nm\r\n--{BOUNDARY}--".encode()

    assert found(body) == []


@pytest.mark.parametrize(
    "head",
    [
        "Content-Disposition: form-data;\r\n name=model",
        "Content-Disposition : form-data; name=model",
        "Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=model",
        "Content-Disposition: form-data; name=a; name=model",
        'Content-Disposition: form-data; name="model',
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name*0=mo; name*1=del",
        "Content-Disposition: form-data; name=model\nX: y",
        "Content-Disposition: form-data; name=model\r\nContent-Transfer-Encoding: base64",
        "no colon",
        "X: " + "y" * MAX_PART_HEADER_BYTES,
    ],
)
def test_heads_that_parsers_read_differently_are_refused(head: str) -> None:
    assert why(f"--{BOUNDARY}\r\n{head}\r\n\r\nm\r\n--{BOUNDARY}--".encode())


@pytest.mark.parametrize("after", [b" \r\n", b"\t\r\n", b"\n", b"\rx"])
def test_a_boundary_line_that_goes_on_is_refused(after: bytes) -> None:
    assert why(b"--" + B + after + b"Content-Disposition: form-data; name=model\r\n\r\nm\r\n--" + B + b"--")
    assert why(part("a", b"1") + b"--" + B + after + part("b", b"2"))


def test_a_value_that_starts_with_the_boundary_is_refused() -> None:
    assert why(f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=a\r\n\r\n--{BOUNDARY}--".encode())


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 201,
        f"multipart/form-data; boundary={BOUNDARY}; boundary=other",
        f"multipart/form-data; boundary*=utf-8''{BOUNDARY}",
        f"multipart/form-data; boundary={BOUNDARY}; charset=utf-16",
        f'multipart/form-data; boundary="{BOUNDARY}',
        f"multipart/form-data; {BOUNDARY}",
    ],
)
def test_a_content_type_without_one_clear_boundary_is_refused(content_type: str) -> None:
    assert why(form(part("model", b"m")), content_type)


@pytest.mark.parametrize(
    "content_type",
    [f'multipart/form-data; boundary="{BOUNDARY}"', f"multipart/form-data;charset=UTF-8;Boundary={BOUNDARY} ; "],
)
def test_a_boundary_may_be_quoted(content_type: str) -> None:
    assert found(form(part("model", b"m")), content_type) == [("model", False, b"m")]


def test_the_number_of_parts_is_bounded() -> None:
    assert len(found(form(*[part("a", b"1")] * 8))) == 8
    assert "max-multipart-parts" in why(form(*[part("a", b"1")] * 9))


def test_a_boundary_all_over_the_data_is_refused() -> None:
    assert why(form(part("a", (b"\r\n--" + B + b"x") * 1000)))


@given(st.binary(max_size=60), st.text(st.characters(max_codepoint=255), max_size=30))
@settings(deadline=None, max_examples=200)
def test_nothing_raises(noise: bytes, parameters: str) -> None:
    for body in (noise, part("a", noise), form(part("a", b"1")).replace(b"\r\n", noise[:3])):
        for content_type in (FORM, "multipart/form-data;" + parameters):
            parts = fields(body, content_type, 8)
            assert isinstance(parts, Malformed) or all(isinstance(each, Field) for each in parts)

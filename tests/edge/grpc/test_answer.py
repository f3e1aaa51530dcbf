"""Header blocks of answers, read back by an independent decoder."""

import urllib.parse

from hpack.hpack import Decoder
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.edge.grpc import answer
from stellwerk.edge.grpc.frames import DEFAULT_FRAME_BYTES
from stellwerk.edge.grpc.status import Status


def decoded(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(block)}


@settings(deadline=None, max_examples=100)
@given(status=st.sampled_from(Status), message=st.text(max_size=2_000), http=st.sampled_from([200, 405, 415, 431]))
def test_every_status_and_message_can_be_read_by_a_client(status: Status, message: str, http: int) -> None:
    block = answer.only(status, message, http)
    assert len(block) < DEFAULT_FRAME_BYTES
    fields = decoded(block)
    assert fields[":status"] == str(http)
    assert fields["grpc-status"] == str(int(status))
    text = fields.get("grpc-message", "")
    assert text.isascii()
    assert text.isprintable()
    whole = message[: answer.MAX_MESSAGE_CHARACTERS].encode("utf-8", "replace").decode()
    assert urllib.parse.unquote(text) == whole


def test_an_answer_without_a_message_has_only_its_status() -> None:
    assert decoded(answer.closing(Status.OK, "")) == {"grpc-status": "0"}
    assert decoded(answer.OPENING) == {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-accept-encoding": "identity,gzip",
    }

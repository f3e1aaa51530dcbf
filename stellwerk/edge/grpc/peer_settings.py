"""A SETTINGS frame of the peer, read and checked (RFC 9113, section 6.5.2)."""

from stellwerk.edge.grpc.frames import (
    DEFAULT_FRAME_BYTES,
    ENABLE_PUSH,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_BYTES,
    MAX_FRAME_SIZE,
    MAX_WINDOW,
    SETTING,
    ConnectionFault,
    ErrorCode,
)


def read(payload: bytes) -> dict[int, int]:
    """Values by identifier, the last of each. Raises `ConnectionFault` for one that is out of its range."""
    if len(payload) % SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a length that is no multiple of 6")
    values: dict[int, int] = {}
    for name, value in SETTING.iter_unpack(payload):
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        if name == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        if name == MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value <= MAX_FRAME_BYTES:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
        values[name] = value
    return values

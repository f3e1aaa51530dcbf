"""The proxy's end of ext_proc for tests: one request through a picker, over a real connection, with grpcio."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEALTH = "/grpc.health.v1.Health/Check"
DESTINATION = "x-gateway-destination-endpoint"
CHAT = {":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json"}
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello"}]}'
_DUPLEX = 4
_HEALTH_NAMES = {1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


@dataclass
class Pick:
    """What the picker said about one request."""

    endpoints: list[str] = field(default_factory=list)
    """In order of preference; none when it was refused."""
    status: int = 200
    """HTTP status of a refusal."""
    answer_headers: dict[str, str] = field(default_factory=dict)
    """Set on the answer, when it was played."""


def channel(port: int, certificate: bytes | None = None) -> grpc.Channel:
    """To a picker on loopback; with the certificate that it shows, over TLS."""
    if certificate is None:
        return grpc.insecure_channel(f"127.0.0.1:{port}")
    options = [("grpc.ssl_target_name_override", "localhost")]
    return grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(certificate), options)


def health(port: int, service: str = "", certificate: bytes | None = None) -> str:
    """What a health check says: SERVING, NOT_SERVING, or the name of the error."""
    with channel(port, certificate) as connection:
        check = connection.unary_unary(HEALTH)
        name = service.encode()
        try:
            answer: bytes = check(b"\x0a" + bytes([len(name)]) + name if name else b"", timeout=5)
        except grpc.RpcError as error:
            return str(error.code().name)
        return _HEALTH_NAMES[answer[1]]


def pick(
    connection: grpc.Channel,
    headers: Mapping[str, str] | None = None,
    body: bytes = BODY,
    subset: Sequence[str] | str | None = None,
    served: str | None = None,
) -> Pick:
    """One request, and with `served` the head of its answer. Raises grpc.RpcError when the stream breaks."""
    call = connection.stream_stream(
        METHOD, request_serializer=_serialize, response_deserializer=pb.ProcessingResponse.FromString
    )
    messages = [_headers({**CHAT, **(headers or {})}, not body, subset)]
    messages += [pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=True))] if body else []
    if served is not None:
        messages.append(_answer(served))
    found = Pick()
    for response in call(iter(messages), timeout=20):
        if response.HasField("immediate_response"):
            found.status = response.immediate_response.status.code
            break
        if response.HasField("request_headers"):
            common = response.request_headers.response
            found.endpoints = _mutated(common).get(DESTINATION, "").split(",")
            if served is None:
                break
        elif response.HasField("response_headers"):
            found.answer_headers = _mutated(response.response_headers.response)
            break
    return found


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _mutated(common: Any) -> dict[str, str]:
    pairs = common.header_mutation.set_headers
    return {one.header.key: (one.header.raw_value or one.header.value.encode()).decode() for one in pairs}


def _headers(pairs: Mapping[str, str], is_last: bool, subset: Sequence[str] | str | None) -> Any:
    listed = [core.HeaderValue(key=name, raw_value=value.encode()) for name, value in pairs.items()]
    request = pb.ProcessingRequest(
        request_headers=pb.HttpHeaders(headers=core.HeaderMap(headers=listed), end_of_stream=is_last),
        protocol_config=pb.ProtocolConfiguration(request_body_mode=_DUPLEX, response_body_mode=_DUPLEX),
    )
    if subset is not None:
        hint = request.metadata_context.filter_metadata["envoy.lb.subset_hint"]
        hint.update({"x-gateway-destination-endpoint-subset": subset if isinstance(subset, str) else list(subset)})
    return request


def _answer(served: str) -> Any:
    listed = [core.HeaderValue(key=":status", raw_value=b"200")]
    request = pb.ProcessingRequest(response_headers=pb.HttpHeaders(headers=core.HeaderMap(headers=listed)))
    request.metadata_context.filter_metadata["envoy.lb"].update({f"{DESTINATION}-served": served})
    return request

"""A picker for tests of Envoy's configuration: answers, dies or hangs at a chosen message. Runs as its own process.

`python -m tests.kit.scripted_picker SOCKET SCRIPT`, where SCRIPT is JSON: `pools` (model name to pool and destination
list) and `fault` (one of FAULTS). What the access log brings is printed, one JSON object per line.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from grpc import aio

FAULTS = ("none", "die-headers", "die-body", "die-response", "hang-headers", "hang-body", "hang-response", "garbage")
_SERVING = b"\x08\x01"


class ScriptedPicker:
    """Serves ext_proc, access log and health."""

    def __init__(self, script: dict[str, Any]) -> None:
        self._fault: str = script.get("fault", "none")
        self._pools: dict[str, list[str]] = script["pools"]

    async def process(
        self, requests: AsyncIterator[pb.ProcessingRequest], context: object
    ) -> AsyncIterator[pb.ProcessingResponse]:
        headers: dict[str, str] = {}
        async for request in requests:
            stage = {"request_headers": "headers", "request_body": "body"}.get(
                request.WhichOneof("request") or "", "response"
            )
            if self._fault == f"die-{stage}":
                os._exit(1)
            if self._fault == f"hang-{stage}":
                await asyncio.sleep(3600)
            if stage == "headers":
                headers = {each.key: each.raw_value.decode() for each in request.request_headers.headers.headers}
                print(json.dumps({"headers": headers}), flush=True)
                if request.request_headers.end_of_stream:
                    yield self._decision("", headers, on_headers=True)
                else:
                    yield pb.ProcessingResponse(request_headers=pb.HeadersResponse())
            elif stage == "body":
                yield self._decision(json.loads(request.request_body.body)["model"], headers, on_headers=False)
            elif request.WhichOneof("request") == "response_headers":
                yield self._on_answer(request)
            else:
                print(json.dumps({"answer_bytes": len(request.response_body.body)}), flush=True)
                yield pb.ProcessingResponse(response_body=pb.BodyResponse())

    def _on_answer(self, request: pb.ProcessingRequest) -> pb.ProcessingResponse:
        headers = {each.key: each.raw_value.decode() for each in request.response_headers.headers.headers}
        answer = pb.ProcessingResponse(response_headers=pb.HeadersResponse())
        if "json" in headers.get("content-type", "") and int(headers.get("content-length", 1 << 30)) <= 65536:
            answer.mode_override.response_body_mode = 2
        return answer

    def _decision(self, model: str, headers: dict[str, str], on_headers: bool) -> pb.ProcessingResponse:
        answer = pb.ProcessingResponse()
        if model not in self._pools:
            refusal = answer.immediate_response
            refusal.status.code = 404
            refusal.body = b'{"error":{"message":"from the picker"}}'
            refusal.headers.set_headers.add(header=HeaderValue(key="content-type", raw_value=b"application/json"))
            return answer
        pool, destination = self._pools[model]
        common = (answer.request_headers if on_headers else answer.request_body).response
        common.clear_route_cache = True
        if self._fault != "garbage":
            common.header_mutation.set_headers.add(header=HeaderValue(key="x-stellwerk-pool", raw_value=pool.encode()))
        common.header_mutation.set_headers.add(
            header=HeaderValue(key="x-gateway-destination-endpoint", raw_value=destination.encode())
        )
        metadata = answer.dynamic_metadata.fields
        metadata["envoy.lb"].struct_value.fields["x-gateway-destination-endpoint"].string_value = destination
        metadata["stellwerk"].struct_value.fields["ticket"].string_value = "1-7"
        return answer

    async def access_logs(
        self, messages: AsyncIterator[als_pb2.StreamAccessLogsMessage], context: object
    ) -> als_pb2.StreamAccessLogsResponse:
        async for message in messages:
            for entry in message.http_logs.log_entry:
                served = entry.common_properties.upstream_remote_address.socket_address
                print(
                    json.dumps(
                        {
                            "log": dict(entry.common_properties.custom_tags),
                            "path": entry.request.path,
                            "status": entry.response.response_code.value,
                            "served": served.port_value,
                            "details": entry.response.response_code_details,
                        }
                    ),
                    flush=True,
                )
        return als_pb2.StreamAccessLogsResponse()


async def _check(request: bytes, context: object) -> bytes:
    return _SERVING


async def _serve(socket: str, script: dict[str, Any]) -> None:
    picker = ScriptedPicker(script)
    server = aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    process = grpc.stream_stream_rpc_method_handler(
        picker.process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
    )
    logs = grpc.stream_unary_rpc_method_handler(
        picker.access_logs,
        als_pb2.StreamAccessLogsMessage.FromString,
        als_pb2.StreamAccessLogsResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": process}),
            grpc.method_handlers_generic_handler(
                "envoy.service.accesslog.v3.AccessLogService", {"StreamAccessLogs": logs}
            ),
            grpc.method_handlers_generic_handler(
                "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(_check)}
            ),
        )
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    print(json.dumps({"serving": socket}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], json.loads(sys.argv[2])))

"""An endpoint picker that is not ours, as a process of its own would be: gRPC over TLS with a certificate nobody knows.

`FULL` follows the endpoint picker protocol. `EARLY` does what upstream's lightweight picker does with a body: it
answers each piece at once, and the headers after the last.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from grpc import aio

from tests.kit.gateway_objects import certificate

SERVED = "x-conformance-test-served-endpoint"
_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_DESTINATION = "x-gateway-destination-endpoint"


class Manner(Enum):
    """How bodies are answered."""

    FULL = "full"
    EARLY = "early"


class ForeignPicker(threading.Thread):
    """Always names `destinations`. `bodies` are the request bodies it was shown, `modes` what the proxy said."""

    def __init__(self, destinations: Sequence[str], manner: Manner = Manner.FULL) -> None:
        super().__init__(daemon=True)
        self.port = 0
        self.bodies: list[bytes] = []
        self.modes: list[int] = []
        self.pools: list[str] = []
        self._destination = ",".join(destinations)
        self._manner = manner
        self._loop = asyncio.new_event_loop()
        self._serving = threading.Event()
        self._ending = asyncio.Event()

    def run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def end(self) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join(10)

    def await_start(self) -> None:
        """Until `port` is known."""
        assert self._serving.wait(10)

    async def _serve(self) -> None:
        server = aio.server()
        process = grpc.stream_stream_rpc_method_handler(
            self._process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Process": process}),))
        chain, key = certificate("picker.invalid")
        self.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)]))
        await server.start()
        self._serving.set()
        await self._ending.wait()
        await server.stop(0)

    async def _process(
        self, requests: AsyncIterator[pb.ProcessingRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ProcessingResponse]:
        self.pools += [value for key, value in context.invocation_metadata() or () if key == "x-stellwerk-pool"]
        body = b""
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "request_headers":
                self.modes.append(request.protocol_config.request_body_mode)
                if request.request_headers.end_of_stream:
                    yield self._decision()
            elif kind == "request_body":
                body += request.request_body.body
                is_last = request.request_body.end_of_stream
                if is_last:
                    self.bodies.append(body)
                    yield self._decision()
                if self._manner is Manner.EARLY:
                    yield pb.ProcessingResponse(request_body=pb.BodyResponse())
                elif is_last:
                    yield _streamed(body, is_request=True)
            elif kind == "response_headers":
                yield _with_served(request)
            elif kind == "response_body":
                yield _streamed(request.response_body.body, request.response_body.end_of_stream)

    def _decision(self) -> pb.ProcessingResponse:
        answer = pb.ProcessingResponse()
        common = answer.request_headers.response
        common.clear_route_cache = True
        header = HeaderValue(key=_DESTINATION, raw_value=self._destination.encode())
        common.header_mutation.set_headers.add(header=header)
        metadata = answer.dynamic_metadata.fields["envoy.lb"].struct_value
        metadata.fields[_DESTINATION].string_value = self._destination
        return answer


def _streamed(chunk: bytes, is_last: bool = True, is_request: bool = False) -> pb.ProcessingResponse:
    answer = pb.ProcessingResponse()
    half = answer.request_body if is_request else answer.response_body
    half.response.body_mutation.streamed_response.body = chunk
    half.response.body_mutation.streamed_response.end_of_stream = is_last
    return answer


def _with_served(request: pb.ProcessingRequest) -> pb.ProcessingResponse:
    served = "missing"
    metadata = request.metadata_context.filter_metadata
    if "envoy.lb" in metadata:
        served = dict(metadata["envoy.lb"]).get("x-gateway-destination-endpoint-served", served)
    answer = pb.ProcessingResponse()
    header = HeaderValue(key=SERVED, raw_value=served.encode())
    answer.response_headers.response.header_mutation.set_headers.add(header=header)
    return answer


@contextmanager
def foreign_picker(destinations: Sequence[str], manner: Manner = Manner.FULL) -> Iterator[ForeignPicker]:
    """A running one."""
    picker = ForeignPicker(destinations, manner)
    picker.start()
    picker.await_start()
    try:
        yield picker
    finally:
        picker.end()

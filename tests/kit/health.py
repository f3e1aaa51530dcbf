"""Messages of `grpc.health.v1` as protobuf's runtime reads them, which shares nothing with what writes ours."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

_FIELD = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    """health.proto as far as List goes; states are numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="tests/health.proto", package="tests.health", syntax="proto3")
    state = file.message_type.add(name="HealthCheckResponse")
    state.field.add(name="status", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_INT32)
    listed = file.message_type.add(name="HealthListResponse")
    entry = listed.nested_type.add(name="StatusesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=_FIELD.LABEL_OPTIONAL,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".tests.health.HealthCheckResponse",
    )
    listed.field.add(
        name="statuses",
        number=1,
        label=_FIELD.LABEL_REPEATED,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".tests.health.HealthListResponse.StatusesEntry",
    )
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
_ListResponse = message_factory.GetMessageClass(_pool.FindMessageTypeByName("tests.health.HealthListResponse"))


def listed_states(message: bytes) -> dict[str, int]:
    """Name and `ServingStatus` of each service in a HealthListResponse."""
    response: Any = _ListResponse.FromString(message)
    assert len(UnknownFieldSet(response)) == 0
    return {name: state.status for name, state in response.statuses.items()}

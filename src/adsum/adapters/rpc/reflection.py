"""gRPC's server reflection: tells a caller that knows nothing which services there are, and their messages.

Versions 1 and 1alpha have the same messages under two names.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from adsum.adapters.rpc.method import Method, Streaming
from adsum.proto import user_pb2
from adsum.wire.rpc import Metadata, RpcRefused, StatusCode

FILES: tuple[Any, ...] = (user_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, pb.DESCRIPTOR)
"""Where the services are described."""

SERVICES = tuple(service.full_name for file in FILES for service in file.services_by_name.values())


def methods() -> dict[str, Method]:
    """The methods by path."""
    return {
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo": Streaming(_answers)
        for version in ("v1", "v1alpha")
    }


async def _answers(requests: AsyncIterator[bytes], _metadata: Metadata) -> AsyncGenerator[bytes, None]:
    async for body in requests:
        try:
            request = pb.ServerReflectionRequest.FromString(body)
        except DecodeError:
            raise RpcRefused(StatusCode.INVALID_ARGUMENT, "the request is not a ServerReflectionRequest") from None
        answer = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        _fill(answer, request)
        yield answer.SerializeToString()


def _fill(answer: pb.ServerReflectionResponse, request: pb.ServerReflectionRequest) -> None:
    if request.HasField("list_services"):
        answer.list_services_response.service.extend(pb.ServiceResponse(name=name) for name in SERVICES)
        return
    try:
        if request.HasField("file_by_filename"):
            file = Default().FindFileByName(request.file_by_filename)
        elif request.HasField("file_containing_symbol"):
            file = Default().FindFileContainingSymbol(request.file_containing_symbol)
        else:
            _fail(answer, StatusCode.UNIMPLEMENTED, "there are no extensions here")
            return
    except KeyError:
        _fail(answer, StatusCode.NOT_FOUND, "unknown here")
        return
    answer.file_descriptor_response.file_descriptor_proto.extend(found.serialized_pb for found in _with_needed(file))


def _fail(answer: pb.ServerReflectionResponse, code: StatusCode, message: str) -> None:
    answer.error_response.error_code, answer.error_response.error_message = code, message


def _with_needed(file: FileDescriptor) -> Iterator[FileDescriptor]:
    yield file
    for needed in file.dependencies:
        yield from _with_needed(needed)

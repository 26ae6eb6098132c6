"""gRPC's server reflection: tells a caller that knows nothing which services there are, and their messages.

Versions 1 and 1alpha have the same messages under two names. There are no extensions here.
"""

from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from adsum.adapters.rpc.method import Method, Streaming
from adsum.adapters.rpc.symbols import Symbols, moved, with_needed
from adsum.proto import user_pb2
from adsum.wire.rpc import Metadata, RpcRefused, StatusCode

_V1 = moved(pb.DESCRIPTOR, "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1")
"""Python's library has the older version alone."""

SYMBOLS = Symbols((*with_needed((user_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, pb.DESCRIPTOR)), _V1))


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
        try:
            _fill(answer, request)
        except KeyError:
            _fail(answer, StatusCode.NOT_FOUND, "unknown here")
        yield answer.SerializeToString()


def _fill(answer: pb.ServerReflectionResponse, request: pb.ServerReflectionRequest) -> None:
    """Answer one question; raises `KeyError` for a name that is unknown here."""
    match request.WhichOneof("message_request"):
        case "list_services":
            answer.list_services_response.service.extend(pb.ServiceResponse(name=name) for name in SYMBOLS.services)
        case "file_by_filename":
            answer.file_descriptor_response.file_descriptor_proto.extend(SYMBOLS.file(request.file_by_filename))
        case "file_containing_symbol":
            files = SYMBOLS.file_of(request.file_containing_symbol)
            answer.file_descriptor_response.file_descriptor_proto.extend(files)
        case "file_containing_extension":
            raise KeyError(request.file_containing_extension.containing_type)
        case "all_extension_numbers_of_type":
            SYMBOLS.check_message(request.all_extension_numbers_of_type)
            answer.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
        case _:
            _fail(answer, StatusCode.INVALID_ARGUMENT, "the request asks nothing")


def _fail(answer: pb.ServerReflectionResponse, code: StatusCode, message: str) -> None:
    answer.error_response.error_code, answer.error_response.error_message = code, message

"""Errors as OpenIM's Go services send them on gRPC.

OpenIM puts its own numeric code (1001, ...) into `grpc-status`, the error's name
into `grpc-message`, and both again, with an `openim.protobuf.ErrorInfo` that tells
the cause, into `grpc-status-details-bin`. Its Go clients read `status.Code()` and
the first detail.

The two codes must be equal. grpc-go (1.68 and 1.85 were tried) turns any other
answer into code 13, "grpc-status-details-bin mismatch", and loses the detail, so
a standard code beside OpenIM's in the details is no way out. A caller on gRPC's C
core, such as Python, sees a code above 16 as UNKNOWN, from OpenIM as from us, and
finds the number in the details.
"""

from google.protobuf.any_pb2 import Any

from adsum.domain.errors import AdsumError, ArgumentError, InternalError, StoreError
from adsum.proto.errinfo_pb2 import ErrorInfo
from adsum.proto.status_pb2 import Status
from adsum.wire.rpc import RpcRefused, StatusCode


class OperationIdMissing(ArgumentError):
    """No metadata `operationID`. OpenIM answers gRPC's own code 3 there, without a detail."""

    code, name = StatusCode.INVALID_ARGUMENT.value, "operationID error"


def refusal(error: AdsumError) -> RpcRefused:
    """How to answer this error. One that has no detail to tell goes without `ErrorInfo`."""
    # OpenIM answers a failing store like any defect of its own: 500.
    kind: type[AdsumError] = InternalError if isinstance(error, StoreError) else type(error)
    if not error.told:
        return RpcRefused(kind.code, kind.name)
    info = Any()
    info.Pack(ErrorInfo(cause=error.told))
    status = Status(code=kind.code, message=kind.name, details=[info])
    return RpcRefused(kind.code, kind.name, status.SerializeToString())

"""Errors as OpenIM's Go services send them on gRPC, with what other clients need beside it.

OpenIM puts its own numeric code (1001, ...) into `grpc-status`, and that, the error's name and an
`openim.protobuf.ErrorInfo` that tells the cause into `grpc-status-details-bin`. Go clients read the details
alone: `status.Code()`, the name as message, and the cause in the first detail.

The two codes must be equal. grpc-go (1.68 and 1.85 were tried) turns any other
answer into code 13, "grpc-status-details-bin mismatch", and loses the detail, so
a standard code in the details or in `grpc-status` is no way out. A caller on gRPC's C
core, such as Python, sees a code above 16 as UNKNOWN, from OpenIM as from us. So the whole reason
is in `grpc-message`, which such clients show, and the trailer `adsum-grpc-code` names the standard code.
"""

from google.protobuf.any_pb2 import Any

from adsum.domain.errors import (
    AdsumError,
    ArgumentError,
    ConnectionArgumentError,
    DataError,
    InternalError,
    NetworkError,
    NotServed,
    PermissionDenied,
    StoreError,
    TokenError,
    TooManyConnections,
)
from adsum.proto.errinfo_pb2 import ErrorInfo
from adsum.proto.status_pb2 import Status
from adsum.wire.rpc import RpcRefused, StatusCode

_STANDARD: dict[type[AdsumError], StatusCode] = {
    AdsumError: StatusCode.INTERNAL,
    ArgumentError: StatusCode.INVALID_ARGUMENT,
    ConnectionArgumentError: StatusCode.INVALID_ARGUMENT,
    DataError: StatusCode.INVALID_ARGUMENT,
    NetworkError: StatusCode.UNAVAILABLE,
    NotServed: StatusCode.NOT_FOUND,
    PermissionDenied: StatusCode.PERMISSION_DENIED,
    StoreError: StatusCode.UNAVAILABLE,
    TokenError: StatusCode.UNAUTHENTICATED,
    TooManyConnections: StatusCode.RESOURCE_EXHAUSTED,
}
"""gRPC's code of an error: that of the nearest kind."""


class OperationIdMissing(ArgumentError):
    """No metadata `operationID`. OpenIM answers gRPC's own code 3 there, without a detail."""

    code, name = StatusCode.INVALID_ARGUMENT.value, "operationID error"


def refusal(error: AdsumError) -> RpcRefused:
    """How to answer this error. One that has no detail to tell goes without `ErrorInfo`."""
    # OpenIM answers a failing store like any defect of its own: 500.
    kind: type[AdsumError] = InternalError if isinstance(error, StoreError) else type(error)
    standard = None if kind.code <= max(StatusCode) else standard_code(error)
    if not error.told:
        return RpcRefused(kind.code, kind.name, standard=standard)
    info = Any()
    info.Pack(ErrorInfo(cause=error.told))
    status = Status(code=kind.code, message=kind.name, details=[info])
    return RpcRefused(kind.code, f"{kind.name}: {error.told}", status.SerializeToString(), standard)


def standard_code(error: AdsumError) -> StatusCode:
    """The code that gRPC itself has for an error."""
    return next(_STANDARD[kind] for kind in type(error).__mro__ if kind in _STANDARD)

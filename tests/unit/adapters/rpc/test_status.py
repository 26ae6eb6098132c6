"""Errors as gRPC statuses."""

import pytest

from adsum.adapters.rpc.status import OperationIdMissing, refusal
from adsum.domain.errors import (
    AdsumError,
    ArgumentError,
    InternalError,
    LeaseLost,
    NetworkError,
    PermissionDenied,
    StoreError,
    TokenKicked,
    TooManyWatches,
)
from adsum.proto.errinfo_pb2 import ErrorInfo
from adsum.proto.status_pb2 import Status
from adsum.wire.rpc import StatusCode


@pytest.mark.parametrize(
    ("error", "code", "name", "standard"),
    [
        (ArgumentError("why"), 1001, "ArgsError", "INVALID_ARGUMENT"),
        (PermissionDenied("why"), 1002, "NoPermissionError", "PERMISSION_DENIED"),
        (TokenKicked("why"), 1506, "TokenKickedError", "UNAUTHENTICATED"),
        (TooManyWatches("why"), 1601, "ConnOverMaxNumLimit", "RESOURCE_EXHAUSTED"),
        (NetworkError("why"), 90004, "NetworkError", "UNAVAILABLE"),
        (StoreError("why"), 500, "ServerInternalError", "UNAVAILABLE"),
        (LeaseLost("why"), 500, "ServerInternalError", "UNAVAILABLE"),
        (InternalError("why"), 500, "ServerInternalError", "INTERNAL"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, AdsumError) else None,
)
def test_status_line_and_details_agree(error: AdsumError, code: int, name: str, standard: str) -> None:
    refused = refusal(error)
    assert (refused.code, refused.message) == (code, f"{name}: {error.told}")
    assert refused.standard is StatusCode[standard]
    status = Status.FromString(refused.details)
    assert (status.code, status.message) == (code, name)
    assert status.details[0].type_url == "type.googleapis.com/openim.protobuf.ErrorInfo"
    assert ErrorInfo.FromString(status.details[0].value) == ErrorInfo(cause=error.told)


def test_an_error_without_detail_has_no_error_info() -> None:
    refused = refusal(OperationIdMissing())
    assert (refused.code, refused.message, refused.details) == (3, "operationID error", b"")
    assert refused.standard is None

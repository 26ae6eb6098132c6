"""The one error tree: every code is OpenIM's, and says whose fault it is."""

from collections.abc import Iterator

import pytest

from adsum.domain import errors
from adsum.domain.errors import AdsumError, Fault

TABLE = [
    (500, "ServerInternalError", Fault.US, False, errors.InternalError),
    (1001, "ArgsError", Fault.PEER, False, errors.ArgumentError),
    (1002, "NoPermissionError", Fault.PEER, False, errors.PermissionDenied),
    (1004, "RecordNotFoundError", Fault.PEER, False, errors.NotServed),
    (1501, "TokenExpiredError", Fault.PEER, False, errors.TokenExpired),
    (1502, "TokenInvalidError", Fault.PEER, False, errors.TokenInvalid),
    (1503, "TokenMalformedError", Fault.PEER, False, errors.TokenMalformed),
    (1504, "TokenNotValidYetError", Fault.PEER, False, errors.TokenNotValidYet),
    (1505, "TokenUnknownError", Fault.PEER, False, errors.TokenUnknown),
    (1506, "TokenKickedError", Fault.PEER, False, errors.TokenKicked),
    (1507, "TokenNotExistError", Fault.PEER, False, errors.TokenNotExist),
    (1601, "ConnOverMaxNumLimit", Fault.WORLD, True, errors.TooManyConnections),
    (1602, "ConnArgsErr", Fault.PEER, False, errors.ConnectionArgumentError),
    (90002, "DatabaseError", Fault.WORLD, True, errors.StoreError),
    (90004, "NetworkError", Fault.WORLD, True, errors.NetworkError),
    (90007, "DataError", Fault.PEER, False, errors.DataError),
]


def tree(root: type[AdsumError] = AdsumError) -> Iterator[type[AdsumError]]:
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


@pytest.mark.parametrize(
    ("code", "name", "fault", "retry", "kind"), TABLE, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_error_has_the_documented_facts(
    code: int,
    name: str,
    fault: Fault,
    retry: bool,  # noqa: FBT001
    kind: type[AdsumError],
) -> None:
    """Code, short name, whose fault, and whether to try again."""
    assert (kind.code, kind.name, kind.fault, kind.retry) == (code, name, fault, retry)


def test_the_table_has_every_error() -> None:
    """No error bears a code that is not documented, and none is documented with two names."""
    documented = {(code, name) for code, name, *_ in TABLE}
    ours = {(kind.code, kind.name) for kind in tree() if kind.__module__ == errors.__name__}
    assert ours == documented
    assert len({code for code, _ in documented}) == len(documented)


def test_kinds_of_one_code_are_kin() -> None:
    """Only an error and what derives from it share a code, so a code says the same to every client."""
    first: dict[int, type[AdsumError]] = {}
    for kind in tree():
        assert issubclass(kind, first.setdefault(kind.code, kind)) or kind.__module__ != errors.__name__


def test_a_token_error_ends_reconnecting() -> None:
    """Codes 1501 to 1507, on which OpenIM's SDKs give up, are exactly the token errors."""
    codes = {kind.code for kind in tree(errors.TokenError)}
    assert codes == set(range(1501, 1508))
    assert not any(kind.retry for kind in tree(errors.TokenError))


def test_an_error_has_a_detail_for_people() -> None:
    """Without one, its short name will do."""
    assert str(errors.ArgumentError("userID is empty")) == "userID is empty"
    assert errors.ArgumentError("userID is empty").detail == "userID is empty"
    assert str(errors.ArgumentError()) == "ArgsError"
    assert errors.ArgumentError().detail == ""


def test_a_lost_lease_is_a_failure_of_the_store() -> None:
    """Whoever catches store errors catches it too."""
    assert issubclass(errors.LeaseLost, errors.StoreError)


def test_a_frame_error_knows_its_close_code() -> None:
    """1007 (bad data) unless it says otherwise."""
    assert errors.FrameError("x").close_code == 1007
    assert errors.FrameError("x", 1009).close_code == 1009


def test_callers_read_the_detail_but_nothing_of_the_store() -> None:
    """Its address is in what the operator reads."""
    assert errors.ArgumentError("why").told == "why"
    for failure in (errors.StoreError, errors.LeaseLost):
        error = failure("10.0.0.1:6379: connection refused")
        assert error.told == "the store cannot be reached"
        assert error.detail == str(error) == "10.0.0.1:6379: connection refused"

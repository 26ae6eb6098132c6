"""The one error tree.

Every error a caller can meet derives from `AdsumError` and knows its code, its
short public name, whose fault it is and whether trying again can help. The
answers on WebSocket, gRPC and HTTP are all derived from these four facts.

The codes and names are OpenIM's (v3.8), so that its SDKs act on them: its Go
SDK, for one, stops reconnecting on 1501 to 1507.
"""

from enum import Enum
from typing import ClassVar


class Fault(Enum):
    """Whose fault an error is."""

    PEER = "peer"  # the caller sent something wrong; the same call fails again
    US = "us"  # a defect of ours
    WORLD = "world"  # a store, a network or a limit; may pass


class AdsumError(Exception):
    """Base of every error that reaches a caller.

    `detail` is a sentence for the person who reads it: what was wrong and what
    to do. It must never hold a token or a secret.
    """

    code: ClassVar[int] = 500
    name: ClassVar[str] = "ServerInternalError"
    fault: ClassVar[Fault] = Fault.US
    retry: ClassVar[bool] = False

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.name)
        self.detail = detail

    @property
    def told(self) -> str:
        """The detail as callers read it."""
        return self.detail


class InternalError(AdsumError):
    """A defect of ours; the log has the trace."""


class ArgumentError(AdsumError):
    """A request that can never succeed as it stands."""

    code, name, fault = 1001, "ArgsError", Fault.PEER


class PermissionDenied(AdsumError):
    """The caller is known but may not do this."""

    code, name, fault = 1002, "NoPermissionError", Fault.PEER


class NotServed(AdsumError):
    """Asked for something this service does not have, such as message operations."""

    code, name, fault = 1004, "RecordNotFoundError", Fault.PEER


class TokenError(AdsumError):
    """Base of the token errors; a client must log in again, not retry."""

    code, name, fault = 1505, "TokenUnknownError", Fault.PEER


class TokenExpired(TokenError):
    """The token's `exp` has passed."""

    code, name = 1501, "TokenExpiredError"


class TokenInvalid(TokenError):
    """A good token, but of another user or platform than the one it is used for."""

    code, name = 1502, "TokenInvalidError"


class TokenMalformed(TokenError):
    """Not a JWT at all, or one without the claims needed."""

    code, name = 1503, "TokenMalformedError"


class TokenNotValidYet(TokenError):
    """The token's `nbf` or `iat` lies in the future."""

    code, name = 1504, "TokenNotValidYetError"


class TokenUnknown(TokenError):
    """The signature does not match, or the algorithm is not HS256."""

    code, name = 1505, "TokenUnknownError"


class TokenKicked(TokenError):
    """A later login ended this token by the multi-login policy."""

    code, name = 1506, "TokenKickedError"


class TokenNotExist(TokenError):
    """The issuer no longer knows this token.

    A signed token carries no such fact: only an authenticator that asks the
    issuer raises this.
    """

    code, name = 1507, "TokenNotExistError"


class TooManyConnections(AdsumError):
    """A connection limit, of the gateway or of the user, is reached."""

    code, name, fault, retry = 1601, "ConnOverMaxNumLimit", Fault.WORLD, True


class TooManyWatches(TooManyConnections):
    """The limit of watched users of this node, over all watchers, is reached."""


class TooManyStatuses(TooManyConnections):
    """The store holds as many statuses set by calls as it may; those that are there can be renewed."""

    def __init__(self) -> None:
        super().__init__(
            "the limit of statuses set by calls is reached: set users offline, or raise max_timed_statuses"
        )


class ConnectionArgumentError(AdsumError):
    """The WebSocket handshake lacks a parameter or has a bad one."""

    code, name, fault = 1602, "ConnArgsErr", Fault.PEER


class StoreError(AdsumError):
    """The store failed or did not answer in time.

    Where the store is and what it said is for the operator: the log and `/readyz` have it.
    """

    code, name, fault, retry = 90002, "DatabaseError", Fault.WORLD, True

    @property
    def told(self) -> str:
        """Nothing of the store."""
        return "the store cannot be reached"


class LeaseLost(StoreError):
    """The holder's lease has ended; it must take a new incarnation and write again."""


class NetworkError(AdsumError):
    """A call to another service failed or did not answer in time."""

    code, name, fault, retry = 90004, "NetworkError", Fault.WORLD, True


class DataError(AdsumError):
    """Bytes that do not decode to what they should be."""

    code, name, fault = 90007, "DataError", Fault.PEER


class FrameError(DataError):
    """A client's frame breaks the protocol; the connection closes.

    `close_code` is the WebSocket close code (RFC 6455 section 7.4.1).
    """

    def __init__(self, detail: str, close_code: int = 1007) -> None:
        super().__init__(detail)
        self.close_code = close_code

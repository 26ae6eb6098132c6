"""The two messages of the wire and the identifiers that say what they mean.

Every binary frame carries one `Request` (client to server) or one `Response`
(server to client, also for pushes).
"""

from dataclasses import dataclass
from enum import IntEnum


class Op(IntEnum):
    """`reqIdentifier` of OpenIM v3.8."""

    NEWEST_SEQ = 1001
    PULL_MESSAGES = 1002
    SEND_MESSAGE = 1003
    SEND_SIGNAL = 1004
    PULL_BY_SEQ = 1005
    CONVERSATION_MAX_READ = 1006
    PULL_CONVERSATION_LAST = 1007
    PUSH_MESSAGE = 2001
    KICKED = 2002
    LOGOUT = 2003
    BACKGROUND = 2004
    WATCH = 2005
    DATA_ERROR = 3001


@dataclass(slots=True, init=False)
class Request:
    """What a client sends. `op` is any 32-bit integer, known to `Op` or not."""

    op: int
    token: str
    send_id: str
    operation_id: str
    msg_incr: str
    data: bytes

    def __init__(
        self,
        op: int = 0,
        token: str = "",
        send_id: str = "",
        operation_id: str = "",
        msg_incr: str = "",
        data: bytes = b"",
    ) -> None:
        self.op = op
        self.token = token
        self.send_id = send_id
        self.operation_id = operation_id
        self.msg_incr = msg_incr
        self.data = data


@dataclass(slots=True, init=False)
class Response:
    """What the server sends: an answer echoes `op`, `msg_incr` and `operation_id`; a push leaves the last two empty."""

    op: int
    msg_incr: str
    operation_id: str
    err_code: int
    err_msg: str
    data: bytes

    def __init__(
        self,
        op: int = 0,
        msg_incr: str = "",
        operation_id: str = "",
        err_code: int = 0,
        err_msg: str = "",
        data: bytes = b"",
    ) -> None:
        self.op = op
        self.msg_incr = msg_incr
        self.operation_id = operation_id
        self.err_code = err_code
        self.err_msg = err_msg
        self.data = data

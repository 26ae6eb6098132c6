"""One connection as a client speaks it, without any I/O: frames in, events out, frames to send.

Invariant: no bytes from the server raise anything but `DataError` (`FrameError`
included), and an answer that nobody waits for changes nothing. Time is an
argument, in milliseconds of a clock that never steps.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from adsum.client.errors import ServerError
from adsum.wire.frames import Codec
from adsum.wire.handshake import Handshake, build_query
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import UserStatus, decode_tips, encode_watch

PING_INTERVAL_MS = 24_000
"""As OpenIM's Go SDK: the server gives a connection up after 30 s without a frame."""

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Of a frame from the server, before and after decompression."""

MAX_REQUEST_BYTES = 40_000
"""Of user IDs in one request, which leaves room in the 51,200 bytes a server takes in a message."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who connects, on which platform, with which token, and how the frames are written."""

    user_id: str
    platform_id: int
    token: str = field(repr=False)
    background: bool = False
    codec: Codec = Codec("go", gzip=True)  # noqa: RUF009 -- a named tuple, immutable

    def query(self, operation_id: str) -> str:
        """The query string of a handshake."""
        handshake = Handshake(
            user_id=self.user_id,
            token=self.token,
            platform_id=self.platform_id,
            operation_id=operation_id,
            background=self.background,
            gzip=self.codec.gzip,
            sdk_type=self.codec.kind,
        )
        return build_query(handshake)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the request of that `msg_incr`: data, or the error it was refused with."""

    msg_incr: str
    data: bytes
    error: ServerError | None


@dataclass(frozen=True, slots=True)
class Push:
    """Users whose platforms changed, each with all platforms they are online on now."""

    statuses: tuple[UserStatus, ...]


@dataclass(frozen=True, slots=True)
class Kicked:
    """Another login ended this one; the server closes, and the token is of no use any more."""


Event: TypeAlias = Answer | Push | Kicked


class Outgoing(NamedTuple):
    """A request's number, which its answer bears, and its frame."""

    msg_incr: str
    frame: bytes


class Beat(Enum):
    """What to do when a heartbeat is due."""

    PING = "ping"
    DEAD = "dead"  # nothing at all was heard since the last ping


class ClientProtocol:
    """One connection, from its handshake on. `next_operation_id` names requests for the server's log."""

    def __init__(self, login: Login, next_operation_id: Callable[[], str], now_ms: int) -> None:
        self._login = login
        self._next_operation_id = next_operation_id
        self._count = 0
        self._asked: dict[str, int] = {}
        self._heard_ms = now_ms
        self._pinged_ms = now_ms

    def ask(self, op: Op, data: bytes = b"") -> Outgoing:
        """A request to send now; its answer will come as an `Answer`."""
        self._count += 1
        msg_incr = str(self._count)
        self._asked[msg_incr] = op
        request = Request(
            op=op,
            send_id=self._login.user_id,
            operation_id=self._next_operation_id(),
            msg_incr=msg_incr,
            data=data,
        )
        return Outgoing(msg_incr, self._login.codec.encode_request(request))

    def forget(self, msg_incr: str) -> None:
        """Wait no longer for an answer."""
        self._asked.pop(msg_incr, None)

    def receive(self, frame: bytes) -> Event | None:
        """What a binary frame says, None if nothing of interest; raises `DataError` if it is none."""
        response = self._login.codec.decode_response(frame, MAX_FRAME_BYTES)
        if response.op == Op.KICKED:
            return Kicked()
        if response.msg_incr:
            if self._asked.pop(response.msg_incr, None) is None:
                return None
            error = ServerError(response.err_code, "", response.err_msg) if response.err_code else None
            return Answer(response.msg_incr, response.data, error)
        if response.op == Op.WATCH:
            return Push(tuple(decode_tips(response.data)))
        return None

    # Heartbeats

    @property
    def beat_due_ms(self) -> int:
        """When to call `beat` next."""
        return self._pinged_ms + PING_INTERVAL_MS

    def heard(self, now_ms: int) -> None:
        """Anything at all came from the server."""
        self._heard_ms = now_ms

    def beat(self, now_ms: int) -> Beat:
        """A heartbeat is due: what to do."""
        if self._heard_ms < self._pinged_ms:
            return Beat.DEAD
        self._pinged_ms = now_ms
        return Beat.PING


def watch_portions(subscribe: Iterable[str], unsubscribe: Iterable[str] = ()) -> Iterator[bytes]:
    """The data of the requests that subscribe to and unsubscribe from users, each short enough for a server."""
    adding: list[str] = []
    dropping: list[str] = []
    size = 0
    for user_id, users in (*((user, adding) for user in subscribe), *((user, dropping) for user in unsubscribe)):
        length = len(user_id.encode("utf-8", "replace")) + 4
        if size and size + length > MAX_REQUEST_BYTES:
            yield encode_watch(adding, dropping)
            adding.clear()
            dropping.clear()
            size = 0
        users.append(user_id)
        size += length
    if size:
        yield encode_watch(adding, dropping)


def refusal(body: bytes) -> ServerError | None:
    """The error in the JSON body that refuses a handshake; None if it is something else."""
    try:
        content = json.loads(body)
        return ServerError(int(content["errCode"]), str(content["errMsg"]), str(content.get("errDlt") or ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

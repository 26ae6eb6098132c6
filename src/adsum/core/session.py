"""One connection: what is known of it, and what each of its messages means.

`interpret` turns a request into a command; the gateway performs it. Nothing here
talks to anyone.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from adsum.domain.errors import ArgumentError, FrameError, NotServed
from adsum.domain.identity import Identity
from adsum.domain.platforms import Platform
from adsum.domain.presence import Cause
from adsum.wire.frames import Codec
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import decode_background, decode_watch

POLICY_VIOLATION = 1008
"""The close code for a request OpenIM's gateway closes on too (RFC 6455 section 7.4.1)."""


class Link(Protocol):
    """One client's connection, as the gateway sees it. No call ever waits or raises."""

    def send_binary(self, payload: bytes) -> None:
        """Send one binary message."""
        ...

    def send_text(self, payload: bytes) -> None:
        """Send one text message (UTF-8)."""
        ...

    def send_ping(self) -> None:
        """Send a protocol ping."""
        ...

    def send_pong(self, payload: bytes) -> None:
        """Send a protocol pong."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Say goodbye (RFC 6455 close code) once all that is unwritten is out; nothing more is heard of it."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...

    def unwritten_bytes(self) -> int:
        """Bytes accepted for sending that the operating system has not taken."""
        ...


class Phase(Enum):
    """Where a connection is in its life."""

    OPEN = "open"
    GONE = "gone"


OPEN = Phase.OPEN
"""By itself, because looking an enum's member up takes longer than comparing with it."""


class Session:
    """One client's connection.

    `watching` and `owed` are sets kept in order (dicts of None): the users this
    connection watches, and those whose present state it must still be told. Both
    are None while empty, because most connections of a large service have neither.
    `questions` about users are under way to the store. `opened_ms` is by this process's
    clock, `login_ms` by the store's, 0 before the store told; `login_after_ms` is that of the
    latest login this one ended here; `login_told` says whether the store knows of this one or is being
    told, `login_tried` whether it may know it by another time.
    """

    __slots__ = (
        "background",
        "codec",
        "conn_id",
        "heard_ms",
        "identity",
        "link",
        "login_after_ms",
        "login_ms",
        "login_told",
        "login_tried",
        "opened_ms",
        "owed",
        "phase",
        "pinged_ms",
        "platform",
        "questions",
        "slot",
        "stalled",
        "user_id",
        "watching",
    )

    def __init__(self, conn_id: str, user_id: str, platform: Platform, codec: Codec, identity: Identity) -> None:
        self.conn_id = conn_id
        self.user_id = user_id
        self.platform = platform
        self.codec = codec
        self.identity = identity
        self.background = False
        self.link: Link | None = None
        self.phase = OPEN
        self.heard_ms = 0
        self.pinged_ms = 0
        self.slot = 0
        self.stalled = False
        self.questions = 0
        self.opened_ms = 0
        self.login_ms = 0
        self.login_after_ms = 0
        self.login_told = False
        self.login_tried = False
        self.watching: dict[str, None] | None = None
        self.owed: dict[str, None] | None = None

    @property
    def cause(self) -> Cause:
        """This connection as the cause of a write."""
        return Cause(self.conn_id, self.background)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with success and no data."""


@dataclass(frozen=True, slots=True)
class Background:
    """Note whether the app is in the background, then answer."""

    background: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Start and end watching users; answer with the state of those in `add`."""

    add: tuple[str, ...]
    drop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Logout:
    """Answer, then close."""


Command: TypeAlias = Answer | Background | Watch | Logout

_MESSAGE_OPS = (
    Op.PULL_MESSAGES,
    Op.SEND_MESSAGE,
    Op.SEND_SIGNAL,
    Op.PULL_BY_SEQ,
    Op.CONVERSATION_MAX_READ,
    Op.PULL_CONVERSATION_LAST,
)
_ANSWER, _LOGOUT = Answer(), Logout()
_BACKGROUND = {background: Background(background) for background in (False, True)}


def interpret(request: Request, user_id: str) -> Command:
    """What a request of the connection of `user_id` asks for.

    Raises `FrameError` for what ends the connection (in OpenIM too: a foreign
    sendID, an unknown identifier), `ArgumentError`, `DataError` or `NotServed` for
    what is answered with an error.
    """
    if request.send_id != user_id:
        raise FrameError("sendID is not the user of this connection", POLICY_VIOLATION)
    op = request.op
    if op == Op.BACKGROUND:
        return _BACKGROUND[decode_background(request.data).background]
    if op == Op.WATCH:
        asked = decode_watch(request.data)
        return Watch(tuple(dict.fromkeys(asked.subscribe)), tuple(dict.fromkeys(asked.unsubscribe)))
    if op == Op.NEWEST_SEQ:
        # Clients ask this after every connect and hold everything else back
        # until it is answered; a presence service has no messages to number.
        return _ANSWER
    if op == Op.LOGOUT:
        return _LOGOUT
    if op in _MESSAGE_OPS:
        raise NotServed(f"request {op} is about messages, and this service has presence only")
    raise FrameError(f"unknown reqIdentifier {op}", POLICY_VIOLATION)


def check_watch(command: Watch, watched: int, most: int, max_user_id_bytes: int) -> None:
    """Raise `ArgumentError` if a connection that would then watch `watched` users may not do this."""
    for user_id in command.add:
        if not user_id:
            raise ArgumentError("a user ID to subscribe to is empty")
        if len(user_id.encode()) > max_user_id_bytes:
            raise ArgumentError(f"a user ID to subscribe to is longer than {max_user_id_bytes} bytes")
    if watched > most:
        raise ArgumentError(f"one connection can watch {most} users, and would watch {watched}")

"""What each connection is owed, and the frames that pay it.

A connection is owed users, not states: the state goes in when the frame is made.
So a slow connection has no queue of old states, only a set of users bounded by
what it watches, and hears the newest of each once it reads again.

Frames are made once for each codec and set of users, however many connections
they go to.
"""

from collections.abc import Iterable, Iterator

from adsum.core.known import KnownTable
from adsum.core.session import Session
from adsum.wire.frames import Codec
from adsum.wire.messages import Op, Response

MAX_PUSH_BYTES = 48 * 1024
"""The most a push carries: below the 51,200 bytes that OpenIM's gateway itself accepts in a message."""


def owe(session: Session, user_id: str) -> bool:
    """Note that a connection must be told of a user; True if it was owed that user already."""
    if session.owed is None:
        session.owed = {user_id: None}
        return False
    known = user_id in session.owed
    session.owed[user_id] = None
    return known


class Press:
    """Makes push frames from the present states in a table, each once while it lives: one turn of the loop."""

    def __init__(self, table: KnownTable) -> None:
        self._table = table
        self._frames: dict[tuple[Codec, tuple[str, ...]], bytes] = {}

    def frames(self, session: Session) -> Iterator[bytes]:
        """Frames for what a connection is owed; each is paid when the next is asked for, or the last taken."""
        while session.owed:
            users = self._portion(session.owed)
            for user_id in users:
                del session.owed[user_id]
            session.owed = session.owed or None
            frame = self.frame(session.codec, users)
            if frame:
                yield frame

    def _portion(self, owed: Iterable[str]) -> tuple[str, ...]:
        size = 0
        users: list[str] = []
        for user_id in owed:
            user = self._table.get(user_id)
            size += len(user.elem) if user else 0
            if size > MAX_PUSH_BYTES and users:
                break
            users.append(user_id)
        return tuple(users)

    def frame(self, codec: Codec, users: tuple[str, ...]) -> bytes:
        """The frame that tells of these users, small enough for one; empty if nothing is known of any."""
        frame = self._frames.get((codec, users))
        if frame is None:
            watched = [user for user_id in users if (user := self._table.get(user_id))]
            data = b"".join([user.elem for user in watched])
            frame = codec.encode_response(Response(op=Op.WATCH, data=data)) if watched else b""
            self._frames[codec, users] = frame
        return frame

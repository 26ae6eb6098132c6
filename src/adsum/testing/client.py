"""A client's connection: asks to watch, and remembers the last word on each user it watches."""

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum

from adsum.core.session import Session
from adsum.domain.errors import AdsumError
from adsum.testing.node import Node
from adsum.wire.frames import Codec
from adsum.wire.handshake import Handshake
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import decode_tips, encode_watch

CODEC = Codec("js", gzip=False)
LIMIT = 1 << 20
ASK_AGAIN_S = 0.5

Heard = Callable[["Connection", str, int], None]


class State(Enum):
    """Where a connection is in its life, as the client sees it."""

    OPENING = "opening"
    OPEN = "open"
    OVER = "over"


class Connection:
    """One connection of a user's device to one node; a `Link` for the node.

    `watched` are users whom the node has promised to tell of; `heard` is called with
    each word: user and platforms; `over` when the node has ended the connection.
    """

    def __init__(
        self,
        name: str,
        node: Node,
        user_id: str,
        platform_id: int,
        token: str,
        heard: Heard,
        over: Callable[["Connection"], None],
    ) -> None:
        self.name = name
        self.token = token
        self.node = node
        self.user_id = user_id
        self.platform_id = platform_id
        self.state = State.OPENING
        self.kicked = False
        self.opened_s: float | None = None
        self.session: Session | None = None
        self.watched: dict[str, None] = {}
        self.subscribed: dict[str, None] = {}
        """The same, by its user's subscriptions."""
        self.words: dict[str, int] = {}
        self.places: dict[str, int] = {}
        """Where in each user's history the last word stands; the checker's."""
        self._heard = heard
        self._over = over
        self._asked: dict[str, tuple[str, ...]] = {}
        self._serial = 0

    # The client's side

    def open(self) -> None:
        """Connect; called in the node's process."""
        if not self.node.ready or self.state is not State.OPENING:
            self.state = State.OVER
            return
        try:
            session = self.node.gateway.admit(
                Handshake(self.user_id, self.token, self.platform_id, "op", sdk_type="js"), None
            )
        except AdsumError:
            self.state = State.OVER
            return
        self.session, self.state = session, State.OPEN
        self.opened_s = asyncio.get_running_loop().time()
        self._admitted(session)
        self.node.reckon(self.user_id)

    def _admitted(self, session: Session) -> None:
        """The node lets it in."""
        self.node.gateway.opened(session, self)

    def leave(self) -> None:
        """Close, as the client does; called in the node's process."""
        if self.session is not None:
            self.state = State.OVER
            self.node.gateway.closed(self.session)
            self.node.reckon(self.user_id)

    def watch(self, user_ids: Sequence[str]) -> None:
        """Ask to be told of users; called in the node's process."""
        if self.session is None or self.state is not State.OPEN:
            return
        self._serial += 1
        serial = str(self._serial)
        self._asked[serial] = tuple(user_ids)
        request = Request(Op.WATCH, "", self.user_id, "op", serial, encode_watch(user_ids))
        self.node.gateway.binary(self.session, CODEC.encode_request(request))

    def unwatch(self, user_ids: Sequence[str]) -> None:
        """Ask to be told of users no longer; called in the node's process."""
        if self.session is None or self.state is not State.OPEN:
            return
        for user_id in user_ids:
            self.watched.pop(user_id, None)
            self.forget(user_id)
        for serial, asked in list(self._asked.items()):
            # What was asked before is dropped by this; the answer comes, and says nothing of what will be told.
            self._asked[serial] = tuple(user_id for user_id in asked if user_id not in user_ids)
        request = Request(Op.WATCH, "", self.user_id, "op", "", encode_watch((), user_ids))
        self.node.gateway.binary(self.session, CODEC.encode_request(request))

    def forget(self, user_id: str) -> None:
        """Whatever was told of a user is no longer of interest, unless it is watched some other way."""
        if user_id not in self.watched and user_id not in self.subscribed:
            self.words.pop(user_id, None)
            self.places.pop(user_id, None)

    def stall(self) -> None:
        """Take nothing more for a while; called in the node's process."""
        if self.session is not None and self.state is State.OPEN:
            self.node.gateway.stalled(self.session)

    def take_again(self) -> None:
        """Take what comes; called in the node's process."""
        if self.session is not None and self.state is State.OPEN:
            self.node.gateway.writable(self.session)

    # The node's side

    def send_binary(self, payload: bytes) -> None:
        """A frame of the node."""
        if self.state is not State.OPEN or self.node.gone:
            return
        response = CODEC.decode_response(payload, LIMIT)
        if response.op == Op.KICKED:
            self.kicked = True
        if response.op != Op.WATCH:
            return
        asked = self._asked.pop(response.msg_incr, None)
        if response.err_code:
            if asked:
                self.node.process.call_later(ASK_AGAIN_S, self.watch, asked)
            return
        for status in decode_tips(response.data):
            if response.msg_incr and status.user_id not in (asked or ()):
                continue
            self._heard(self, status.user_id, sum(1 << platform_id for platform_id in status.platform_ids))
        self.watched.update(dict.fromkeys(asked or ()))

    def close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the node's words
        """The node says goodbye; the client closes at once."""
        self.state = State.OVER
        self.node.reckon(self.user_id)
        self.node.process.call_later(0.01, self.leave)
        self._over(self)

    def abort(self) -> None:
        """The node drops the connection."""
        self.state = State.OVER
        self.node.reckon(self.user_id)
        self._over(self)

    def send_text(self, payload: bytes) -> None:
        """Nothing comes of it."""

    def send_ping(self) -> None:
        """Nothing comes of it."""

    def send_pong(self, payload: bytes) -> None:
        """Nothing comes of it."""

    def unwritten_bytes(self) -> int:
        """None ever."""
        return 0

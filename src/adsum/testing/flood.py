"""A client that sends all it can, through the production's connection: frames without end, for as long as it is read.

Work takes no simulated time. So each look at the clock of a node's turns counts as some, and what is
judged is how much of a flood is worked off in one turn of the loop.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from adsum.adapters.turns import SLICE_S, TURN_S, Turns
from adsum.adapters.ws.budgets import Budgets
from adsum.adapters.ws.connection import Connection as Server
from adsum.adapters.ws.connection import Port
from adsum.core.budget import Share
from adsum.core.session import Session
from adsum.testing.client import Connection, Heard, State
from adsum.testing.node import Node
from adsum.wire.websocket import CLOSE, PING, client_frame

LOOK_S = SLICE_S / 10
"""What a look at the clock counts as; there is one after each frame."""

LOOKS_A_TURN = 2 * round((2 * TURN_S + 4 * SLICE_S) / LOOK_S)
"""The most for all floods of a node in a turn of the loop: of those in line, those read again, and some that are new.

Twice that, because what begins in the middle of one turn is counted until the middle of the next.
"""

FLOOD = client_frame(PING, b"", b"mask") * 500
SHARE = Share(burst_s=0.2, patience_s=1)


class FairNode:
    """What flooding clients of one node share there: its turns and budgets. Complains of a turn that is too long."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self.port = Port(Turns(self._look), Budgets(SHARE), lambda transport: transport.abort())
        self._complain = complain
        self._looks = 0
        self._looks_before = 0

    def _look(self) -> float:
        if self._looks == self._looks_before:
            asyncio.get_running_loop().call_soon(self._turned)
        self._looks += 1
        if self._looks - self._looks_before == LOOKS_A_TURN + 1:
            self._complain(f"more than {LOOKS_A_TURN} frames of floods in a turn of the loop")
        return self._looks * LOOK_S

    def _turned(self) -> None:
        self._looks_before = self._looks


class Flooder(Connection):
    """A connection of a client that floods; asyncio's transport for the production's connection, too."""

    def __init__(
        self,
        name: str,
        node: Node,
        user_id: str,
        platform_id: int,
        token: str,
        heard: Heard,
        over: Callable[[Connection], None],
        fair: FairNode,
    ) -> None:
        super().__init__(name, node, user_id, platform_id, token, heard, over)
        self._fair = fair
        self._server: Server | None = None
        self._reading = True
        self._sending = False
        self._aborted = False
        self.told_to_go = False
        """Whether the node ended it for what it sends."""

    def open(self) -> None:
        """Connect, and begin; called in the node's process."""
        super().open()
        if self._server is not None:
            self._send_on()

    def _admitted(self, session: Session) -> None:
        """The node lets it in, by the production's connection."""
        transport = cast("asyncio.Transport", self)
        self._server = Server(self.node.gateway, session, transport, 1_000, self._fair.port)
        self._server.opened(b"")

    def lost(self) -> None:
        """Its node has died."""
        self._over(self)

    def leave(self) -> None:
        """End it, as the client does; called in the node's process."""
        super().leave()
        self.abort()

    def _send_on(self) -> None:
        if self._reading and not self._sending and not self._aborted:
            self._sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._sending = False
        if self._reading and not self._aborted and self._server is not None:
            self._server.data_received(FLOOD)
            self._send_on()

    # As the transport of the node's connection

    def write(self, data: bytes) -> None:
        """Something of the node: of interest is its goodbye."""
        if data[0] & 0xF == CLOSE and self.state is State.OPEN:
            self.told_to_go = b"too much work" in data
            self.state = State.OVER
            self.node.reckon(self.user_id)
            self._over(self)

    def pause_reading(self) -> None:
        """Take nothing for now."""
        self._reading = False

    def resume_reading(self) -> None:
        """There is more at once."""
        self._reading = True
        self._send_on()

    def write_eof(self) -> None:
        """The goodbye was the last."""

    def is_closing(self) -> bool:
        """Whether it has ended."""
        return self._aborted

    def get_write_buffer_size(self) -> int:
        """All is taken at once."""
        return 0

    def abort(self) -> None:
        """The connection ends now."""
        if self._aborted:
            return
        self._aborted = True
        if self.state is State.OPEN:
            self.state = State.OVER
            self.node.reckon(self.user_id)
            self._over(self)
        if self._server is not None:
            asyncio.get_running_loop().call_soon(self._server.connection_lost, None)

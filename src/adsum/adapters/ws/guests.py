"""Connections that are not open yet, and those that never will be.

The handshake is answered as OpenIM's clients expect: a refusal is HTTP 200 with a
JSON body, or, for a client that asked for `isMsgResp`, an upgrade, one text frame
and a close. A load balancer that has only this port can ask `/livez` and `/readyz` here.

Invariant: a guest has no task and no timer of its own, and is dropped when its time is up.
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import cast

from adsum.adapters.listener import (
    descriptor_of,
    end_sending,
    first_spare_file,
    last_spare_files,
    websocket_files,
)
from adsum.adapters.turns import Turns
from adsum.adapters.ws.budgets import Budgets
from adsum.adapters.ws.connection import Connection, Host, Port
from adsum.core.budget import Share
from adsum.core.session import POLICY_VIOLATION
from adsum.core.wheel import Wheel
from adsum.domain.errors import AdsumError, InternalError, TooManyConnections
from adsum.domain.platforms import PlatformRegistry
from adsum.ports import PortLoad
from adsum.service.each import each
from adsum.wire.handshake import SUCCESS_BODY, parse_handshake, refusal_body, wants_text_outcome
from adsum.wire.upgrade import (
    Probe,
    UpgradeError,
    UpgradeRequest,
    accepting_response,
    http_response,
    parse_probe,
    parse_request,
    split_request,
)
from adsum.wire.websocket import CLOSE, TEXT, goodbye, server_frame

log = logging.getLogger(__name__)

LINGER_MS = 2_000
"""How long a client that was refused has to read why and hang up.

If we hung up while it still sends, the system would take back what it has not read.
"""

MAX_DISCARDED_BYTES = 1_048_576
"""Of what it still sends then; a client that sends more is dropped at once."""

MAX_ROOM = 512
"""Sockets that are left to those who are told that there is no room; an eighth, if there are few.

So many may come in one turn of the loop, and all hear it.
"""

TICKS = 8
"""Turns of the wheel in a handshake's time, which may last one of them longer."""


class Guests:
    """All guests of one server, and the one timer for their times."""

    def __init__(
        self,
        host: Host,
        platforms: PlatformRegistry,
        handshake_timeout_ms: int,
        max_message_bytes: int,
        turns: Turns,
        share: Share,
        ready: Callable[[], bool],
        rpc_connections: int,
        turned_away: Callable[[str], None],
    ) -> None:
        self._host = host
        self._ready = ready
        self._platforms = platforms
        self._handshake_timeout_ms = handshake_timeout_ms
        self._max_message_bytes = max_message_bytes
        self._tick_ms = max(1, handshake_timeout_ms // TICKS)
        self._wheel: Wheel[Guest] = Wheel(self._tick_ms, 0)
        self._timer: asyncio.TimerHandle | None = None
        self.turns = turns
        self._port = Port(turns, Budgets(share), self.outlast)
        self._rpc_connections = rpc_connections
        self._turned_away = turned_away
        self._most_sockets = self._first_spare_file = self._last_spare_files = inf
        self._asking: dict[Guest, None] = {}
        self._answered: dict[Guest, None] = {}

    def begin(self) -> None:
        """Reckon how many sockets there may be; to be called before the first, when the limit of open files is set."""
        self._most_sockets = websocket_files(self._rpc_connections)
        self._first_spare_file, self._last_spare_files = first_spare_file(), last_spare_files()

    def arrive(self) -> asyncio.Protocol:
        """The protocol of a connection that was accepted."""
        return cast("asyncio.Protocol", Guest(self, self._handshake_timeout_ms))

    def expect(self, guest: "Guest", within_ms: int) -> int:
        """Drop a guest unless it leaves the wheel in time; its slot."""
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_later(self._tick_ms / 1000, self._turn)
        return self._wheel.put(guest, int(loop.time() * 1000) + within_ms)

    def forget(self, guest: "Guest", slot: int) -> None:
        """A guest is one no longer."""
        self._wheel.remove(guest, slot)

    def accepted(self, guest: "Guest", transport: asyncio.Transport) -> bool:
        """There is a guest more; with all sockets taken one has to give way. Whether its descriptor is a spare one."""
        self._port.sockets += 1
        self._asking[guest] = None
        # Asked for once: uvloop makes an object for each who asks for the socket.
        descriptor = descriptor_of(transport)
        if self._port.sockets > self._most_sockets or descriptor >= self._last_spare_files:
            self._give_way()
        return descriptor >= self._first_spare_file

    def _give_way(self) -> None:
        """End one: its answer is with the system already, which passes it on. Else one that has none."""
        if not self._answered:
            self._turned_away("displaced")
        crowd = self._answered or self._asking
        oldest = next(iter(crowd))
        del crowd[oldest]
        oldest.drop()

    def asked(self, guest: "Guest") -> None:
        """A guest's request is complete."""
        self._asking.pop(guest, None)

    def answered(self, guest: "Guest") -> None:
        """A guest has its answer, and has only to hang up."""
        self._asking.pop(guest, None)
        self._answered[guest] = None

    def ended(self, guest: "Guest") -> None:
        """A guest's socket is no more."""
        self._port.sockets -= 1
        self._asking.pop(guest, None)
        self._answered.pop(guest, None)

    @property
    def load(self) -> PortLoad:
        """What there is of the port, and what is kept for it."""
        return PortLoad(self._port.sockets, self._port.kept_bytes, len(self._asking))

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        each("dropping a connection", self._wheel.turn(int(loop.time() * 1000)), self._time_is_up)
        self._timer = loop.call_later(self._tick_ms / 1000, self._turn) if self._wheel else None

    def _time_is_up(self, guest: "Guest") -> None:
        if guest in self._asking:
            self._turned_away("silent")
        guest.drop()

    def receive(self, request: UpgradeRequest, transport: asyncio.Transport, *, spare: bool) -> Connection | None:
        """Answer a handshake: with a connection, which is open then, or None for a refusal.

        `spare`: it has one of the last descriptors, which are not for connections.
        """
        query = request.query
        try:
            handshake = parse_handshake(query, {"compression": request.header(b"compression") or ""}, self._platforms)
            self._check_room(handshake.user_id, spare=spare)
            session = self._host.admit(handshake, request.header(b"origin"))
        except AdsumError as error:
            refusal = error
        except Exception:
            log.exception("a handshake failed")
            refusal = InternalError("the handshake failed here, and the log says why")
        else:
            first = server_frame(TEXT, SUCCESS_BODY) if handshake.send_response else b""
            transport.write(accepting_response(request.key) + first)
            return Connection(self._host, session, transport, self._max_message_bytes, self._port)
        self._host.refused(refusal)
        transport.write(_refusal(request, refusal_body(refusal), as_frame=wants_text_outcome(query)))
        return None

    def tell(self, probe: Probe, transport: asyncio.Transport) -> None:
        """Answer a load balancer; why this service is not ready is for the HTTP port to say."""
        ready = probe.name == "livez" or self._ready()
        name = "alive" if probe.name == "livez" else "ready"
        body = b'{"%b":%b}' % (name.encode(), b"true" if ready else b"false")
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        answer = http_response(status, "application/json", body)
        transport.write(answer if probe.with_body else answer.removesuffix(body))

    def reject(self, error: UpgradeError, transport: asyncio.Transport) -> None:
        """Answer a request that opens no WebSocket."""
        self._host.refused(error)
        transport.write(http_response(error.status, "text/plain; charset=utf-8", f"{error.detail}\n".encode()))

    def _check_room(self, user_id: str, *, spare: bool) -> None:
        most = self._most_sockets
        if spare or self._port.sockets > most - min(MAX_ROOM, most / 8):
            raise TooManyConnections("this process has hardly any file descriptor left: raise its limit (ulimit -n)")
        # Before its token is looked at: that is the work.
        if self._port.budgets.is_told_to_go(user_id):
            raise TooManyConnections("this user asked for too much work, for too long: come back later")

    def outlast(self, transport: asyncio.Transport) -> None:
        """A connection has ended, but not all that was sent is taken: drop it when its time is up."""
        guest = Guest(self, LINGER_MS)
        guest.dismissed(transport)
        transport.set_protocol(cast("asyncio.Protocol", guest))
        # It may be in line, where it would not come to an end.
        transport.resume_reading()


def _refusal(request: UpgradeRequest, body: bytes, *, as_frame: bool) -> bytes:
    if not as_frame:
        return http_response(HTTPStatus.OK, "application/json; charset=utf-8", body)
    farewell = server_frame(CLOSE, goodbye(POLICY_VIOLATION))
    return accepting_response(request.key) + server_frame(TEXT, body) + farewell


class Guest:
    """A connection until its handshake is complete, and one that was refused until it ends.

    An `asyncio.Protocol` in all but its base: event loops only call the methods, and with
    a foreign base the class could not be compiled.
    """

    __slots__ = (
        "_discarded",
        "_guests",
        "_received",
        "_refused",
        "_slot",
        "_spare",
        "_transport",
        "_waiting",
        "_within_ms",
    )

    def __init__(self, guests: Guests, within_ms: int) -> None:
        self._guests = guests
        self._within_ms = within_ms
        self._received = b""
        self._refused = self._waiting = self._spare = False
        self._discarded = 0
        self._slot = 0
        self._transport: asyncio.Transport | None = None

    # From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It was accepted."""
        self._transport = cast("asyncio.Transport", transport)
        self._slot = self._guests.expect(self, self._within_ms)
        self._spare = self._guests.accepted(self, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """It has ended."""
        self._transport = None
        self._guests.forget(self, self._slot)
        self._guests.ended(self)

    def eof_received(self) -> None:
        """The client has ended its side: so does the transport then."""

    def pause_writing(self) -> None:
        """What was said is said, whether it is taken or not."""

    def resume_writing(self) -> None:
        """The same."""

    def data_received(self, data: bytes) -> None:
        """A piece of the request, or what a client sends that was refused."""
        if self._transport is None:
            return
        if self._refused:
            self._discard(len(data))
            return
        self._received += data
        turns = self._guests.turns
        if turns.is_spent():
            self._waiting = True
            self._transport.pause_reading()
            turns.wait(self, 0)
            return
        began = turns.now()
        self._hear(self._transport)
        turns.spend(turns.now() - began)

    def _hear(self, transport: asyncio.Transport) -> None:
        """Answer the request, if it is whole."""
        try:
            found = split_request(self._received)
            if found is None:
                return
            head, rest = found
            self._guests.asked(self)
            probe = parse_probe(head)
            if probe is not None:
                self._guests.tell(probe, transport)
                self._linger(transport)
                return
            request = parse_request(head)
        except UpgradeError as error:
            self._guests.reject(error, transport)
            self._linger(transport)
            return
        connection = self._guests.receive(request, transport, spare=self._spare)
        if connection is None:
            self._linger(transport)
            return
        self._guests.forget(self, self._slot)
        transport.set_protocol(cast("asyncio.Protocol", connection))
        connection.opened(rest)

    # In the line of turns

    def read_on(self, until: float) -> bool:  # noqa: ARG002 - a handshake is short
        """Go on with what came: it is a guest no longer then."""
        self._waiting = False
        if self._transport is not None:
            self._transport.resume_reading()
            self._hear(self._transport)
        return False

    def charge(self, work_s: float) -> float:  # noqa: ARG002 - it is not known whose work it is
        """Its turn is all that a guest waits for, and it comes once."""
        return 0 if self._waiting else inf

    def read_more(self) -> None:
        """What is read after its turn is read for another, or thrown away."""

    # Ending

    def dismissed(self, transport: asyncio.Transport) -> None:
        """Only what was sent on it has still to go."""
        self._refused = True
        self._transport = transport
        self._slot = self._guests.expect(self, self._within_ms)

    def drop(self) -> None:
        """The time is up."""
        if self._transport is not None:
            self._transport.abort()

    def _linger(self, transport: asyncio.Transport) -> None:
        self._refused, self._received = True, b""
        self._guests.answered(self)
        end_sending(transport)
        self._guests.forget(self, self._slot)
        self._slot = self._guests.expect(self, LINGER_MS)

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MAX_DISCARDED_BYTES:
            self.drop()

"""The gateway: who may connect, what connections ask, when they end.

It owns the connection table and speaks to clients only through their `Link`. All
of it runs in callbacks of the event loop; an idle connection has no task, queue or
timer, only its place in the timer wheel.

Invariant: what the flusher is told to write follows the registry at once, so a
connection that comes and goes leaves nothing behind.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from adsum.core.logins import LoginLedger
from adsum.core.origins import Origins
from adsum.core.seldom import Seldom
from adsum.core.session import (
    OPEN,
    POLICY_VIOLATION,
    Background,
    Link,
    Logout,
    Phase,
    Session,
    Watch,
    check_watch,
    interpret,
)
from adsum.core.wheel import Wheel
from adsum.domain.errors import (
    AdsumError,
    ConnectionArgumentError,
    FrameError,
    InternalError,
    PermissionDenied,
    StoreError,
    TokenInvalid,
    TokenKicked,
    TooManyConnections,
)
from adsum.domain.identity import Identity
from adsum.domain.platforms import PlatformRegistry
from adsum.ports import Authenticator, Clock, Meter
from adsum.service.each import each
from adsum.service.flusher import Flusher
from adsum.service.forever import end, forever
from adsum.service.watching import SESSIONS_A_TURN, Watching
from adsum.wire.handshake import Handshake
from adsum.wire.heartbeat import answer_heartbeat
from adsum.wire.messages import Op, Request, Response

log = logging.getLogger(__name__)

WEB = "Web"
"""The class whose clients cannot send protocol pings, so that the server pings them (OpenIM does so too).

Neither can those of `sdkType=js`: OpenIM's JavaScript SDK runs on other platforms too, as in Electron.
"""

MIN_TICK_MS, MAX_TICK_MS = 50, 1_000
STOOD_STILL_MS = 500
"""A tick this much too late says that the process was suspended or the loop blocked."""

MAX_QUESTIONS = 16
"""Subscribe requests of one connection that may wait for the store at a time."""

MAX_SHOWN = 100
"""Characters of what a client said, in a line of the log."""

NORMAL_CLOSURE = 1000
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Limits and times of connections."""

    origins: Origins = field(default_factory=Origins)
    max_message_bytes: int = 51_200
    max_unwritten_bytes: int = 1_048_576
    max_user_id_bytes: int = 256
    max_watched_per_connection: int = 20_000
    heartbeat_timeout_ms: int = 30_000
    web_ping_interval_ms: int = 27_000


class Gateway:
    """All client connections of this process. `kicked` is called with each session that a login ended."""

    def __init__(
        self,
        ledger: LoginLedger,
        flusher: Flusher,
        watching: Watching,
        authenticator: Authenticator,
        platforms: PlatformRegistry,
        clock: Clock,
        meter: Meter,
        options: GatewayOptions,
        next_conn_id: Callable[[], str],
        kicked: Callable[[Session], None],
    ) -> None:
        self._registry = ledger.registry
        self._ledger = ledger
        self._flusher = flusher
        self._watching = watching
        watching.broken = self.broken
        self._authenticator = authenticator
        self._platforms = platforms
        self._clock = clock
        self._meter = meter
        self._options = options
        self._max_message_bytes = options.max_message_bytes
        self._next_conn_id = next_conn_id
        self._kicked = kicked
        self._tick_ms = _tick_ms(options)
        self._wheel: Wheel[Session] = Wheel(self._tick_ms, clock.monotonic_ms())
        self._reads: set[asyncio.Task[None]] = set()
        self._refused_origins = Seldom()
        self._store_failures = Seldom()
        self._ticker: asyncio.Task[None] | None = None
        self.draining = False

    # A connection's life

    def admit(self, handshake: Handshake, origin: str | None) -> Session:
        """The session of a handshake that may go on; raises the `AdsumError` to refuse it with."""
        options = self._options
        if self.draining:
            raise TooManyConnections("this gateway is shutting down: connect to another")
        if origin is not None and not options.origins.admit(origin):
            self._note_origin(origin)
            raise PermissionDenied("this origin may not connect")
        if len(handshake.user_id.encode()) > options.max_user_id_bytes:
            raise ConnectionArgumentError(f"sendID is longer than {options.max_user_id_bytes} bytes")
        identity = self._identify(handshake)
        platform = self._platforms.get(handshake.platform_id)
        session = Session(self._next_conn_id(), handshake.user_id, platform, handshake.codec, identity)
        session.background = handshake.background
        self._registry.check_room(session)
        return session

    def refused(self, error: AdsumError) -> None:
        """Count a handshake that was refused."""
        self._meter.refused(error.name)
        log.debug("a handshake was refused: %s (%s)", error.detail, error.name)

    def opened(self, session: Session, link: Link) -> None:
        """The handshake of an admitted session is complete."""
        session.link = link
        session.opened_ms = session.heard_ms = session.pinged_ms = self._clock.monotonic_ms()
        self._wait(session)
        self._meter.connections(opened=1, closed=0)
        # Between the handshake's two halves a login elsewhere may have ended the token.
        if self._ledger.is_ended(session.identity.digest):
            self.kick(session)
            return
        kicked = self._registry.add(session)
        self._flusher.changed(session.user_id, session.cause)
        for other in kicked:
            self.kick(other)
        self._watching.connected(session)

    def closed(self, session: Session) -> None:
        """The connection is gone, whoever ended it."""
        if session.phase is OPEN:
            self._meter.closing("client")
            self._end(session)

    # What arrives

    def binary(self, session: Session, payload: bytes) -> None:
        """A binary message: one request. Raises `FrameError` for what is none, or none that may be."""
        session.heard_ms = self._clock.monotonic_ms()
        if session.phase is OPEN:
            self._serve(session, session.codec.decode_request(payload, self._max_message_bytes))

    def text(self, session: Session, payload: bytes) -> None:
        """A text message: a heartbeat. Raises `FrameError` for what is none."""
        if self._hears(session):
            answer = answer_heartbeat(payload)
            if answer is not None and self._has_room(session, len(answer)):
                assert session.link is not None
                session.link.send_text(answer)

    def ping(self, session: Session, payload: bytes) -> None:
        """A protocol ping."""
        if self._hears(session) and self._has_room(session, len(payload)):
            assert session.link is not None
            session.link.send_pong(payload)

    def pong(self, session: Session) -> None:
        """A protocol pong: the client lives."""
        self._hears(session)

    def violated(self, session: Session, error: FrameError) -> None:
        """The client broke a protocol or a limit."""
        self._say_goodbye(session, error.close_code, error.detail, "frame")

    def flooded(self, session: Session, words: str) -> None:
        """The client asks for too much, these words say of what."""
        self._say_goodbye(session, POLICY_VIOLATION, words, "flood")

    def stalled(self, session: Session) -> None:
        """The client does not take what was sent: hold pushes back."""
        session.stalled = True

    def writable(self, session: Session) -> None:
        """The client takes data again: push what it is owed."""
        session.stalled = False
        self._watching.writable(session)

    # The whole gateway

    def start(self) -> None:
        """Start the one timer that serves all connections."""
        self._ticker = asyncio.create_task(forever("looking after heartbeats", self._tick), name="heartbeats")

    async def drain(self, duration_ms: int) -> None:
        """Admit nobody, and say goodbye to all, spread evenly over `duration_ms` so that they don't return at once."""
        self.draining = True
        sessions = self._registry.all_sessions()
        started_ms = self._clock.monotonic_ms()
        for index, session in enumerate(sessions):
            due_ms = started_ms + duration_ms * index // len(sessions)
            early_ms = due_ms - self._clock.monotonic_ms()
            if early_ms > 0 or index % SESSIONS_A_TURN == 0:
                await asyncio.sleep(max(0, early_ms) / 1000)
            each("draining a connection", (session,), self._restart, self.broken)

    def _restart(self, session: Session) -> None:
        self._say_goodbye(session, SERVICE_RESTART, "the service restarts: connect again", "drain")

    async def stop(self) -> None:
        """Drop whatever is left."""
        await self.drain(0)
        await end([*self._reads, *([self._ticker] if self._ticker else [])])

    # Deciding

    def _identify(self, handshake: Handshake) -> Identity:
        identity = self._authenticator.verify(handshake.token)
        if identity.user_id != handshake.user_id or identity.platform_id != handshake.platform_id:
            raise TokenInvalid("the token is of another user or platform than sendID and platformID say")
        if self._ledger.is_ended(identity.digest):
            raise TokenKicked("a later login ended this token: log in again")
        return identity

    def _note_origin(self, origin: str) -> None:
        """Log a refused origin, and how many were refused since the last such line."""
        count = self._refused_origins.due(self._clock.monotonic_ms())
        if count:
            log.warning(
                "%d connections of origins that are not listed were refused; to admit the last: origins = [..., %s]",
                count,
                ascii(origin[:MAX_SHOWN]),
            )

    def _hears(self, session: Session) -> bool:
        """Note that something arrived; False if the session is past listening."""
        session.heard_ms = self._clock.monotonic_ms()
        return session.phase is OPEN

    def _serve(self, session: Session, request: Request) -> None:
        try:
            command = interpret(request, session.user_id)
            if isinstance(command, Watch):
                self._watch(session, request, command)
                return
            if isinstance(command, Background):
                session.background = command.background
            self._answer(session, request)
            if isinstance(command, Logout):
                self._say_goodbye(session, NORMAL_CLOSURE, "logged out", "logout")
        except FrameError:
            raise
        except AdsumError as error:
            self._answer(session, request, error=error)

    def _answer(self, session: Session, request: Request, data: bytes = b"", error: AdsumError | None = None) -> None:
        response = Response(request.op, request.msg_incr, request.operation_id, 0, "", data)
        if error is not None:
            response.err_code, response.err_msg = error.code, error.told or error.name
        self._send(session, session.codec.encode_response(response))

    def _send(self, session: Session, frame: bytes) -> None:
        link = session.link
        if session.phase is OPEN and link is not None and (not session.stalled or self._has_room(session, len(frame))):
            link.send_binary(frame)

    def _has_room(self, session: Session, size: int) -> bool:
        """Whether this much more may be sent; a client that leaves too much unread is dropped."""
        if not session.stalled or session.link is None:
            return session.link is not None
        if session.link.unwritten_bytes() + size <= self._options.max_unwritten_bytes:
            return True
        self._meter.closing("slow")
        self._drop(session)
        return False

    # Watching

    def _watch(self, session: Session, request: Request, command: Watch) -> None:
        options = self._options
        watching = session.watching or {}
        kept = len(watching) - sum(user_id in watching for user_id in {*command.drop, *command.add})
        watched = kept + len(command.add)
        check_watch(command, watched, options.max_watched_per_connection, options.max_user_id_bytes)
        if session.questions >= MAX_QUESTIONS:
            raise TooManyConnections(f"{MAX_QUESTIONS} subscribe requests of this connection are waiting: slow down")
        self._watching.unwatch(session, command.drop)
        if not command.add:
            self._answer(session, request)
            return
        self._watching.begin(session, command.add)
        self._spawn(self._answer_watch(session, request, command))

    async def _answer_watch(self, session: Session, request: Request, command: Watch) -> None:
        try:
            data = await self._watching.answer(session, command.add)
        except AdsumError as error:
            if isinstance(error, StoreError) and (count := self._store_failures.due(self._clock.monotonic_ms())):
                log.warning("the store failed %d subscribe requests; the last: %s", count, error)
            self._answer(session, request, error=error)
        except Exception:
            log.exception("a subscribe request failed")
            self._answer(session, request, error=InternalError("this failed here, and the log says why"))
        else:
            self._answer(session, request, data)
        finally:
            if session.phase is not OPEN:
                self._watching.gone(session)

    def _spawn(self, read: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(read)
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    # Ending

    def kick(self, session: Session) -> None:
        """Tell a session that a login ended it, and end it."""
        each("kicking a connection", (session,), self._kick, self.broken)

    def _kick(self, session: Session) -> None:
        self._ledger.end(session)
        self._send(session, session.codec.encode_response(Response(op=Op.KICKED)))
        self._say_goodbye(session, NORMAL_CLOSURE, "kicked by a login elsewhere", "kicked")
        self._kicked(session)

    def broken(self, session: Session) -> None:
        """Something failed here for a session: end it, so that its client comes back; raises nothing."""
        each("saying goodbye", (session,), self._end_for_defect, self._drop)

    def _end_for_defect(self, session: Session) -> None:
        self._say_goodbye(session, INTERNAL_ERROR, "this failed here, and the log says why", "defect")

    def _say_goodbye(self, session: Session, code: int, reason: str, why: str) -> None:
        if session.phase is not OPEN:
            return
        if why == "frame":
            log.debug("connection %s of %.100r broke the protocol: %s", session.conn_id, session.user_id, reason)
        assert session.link is not None
        session.link.close(code, reason)
        self._meter.closing(why)
        self._end(session)

    def _drop(self, session: Session) -> None:
        link = session.link
        self._end(session)
        if link is not None:
            link.abort()

    def _end(self, session: Session) -> None:
        """Forget a session that is open, and count it as a connection of its user no longer."""
        if session.phase is not OPEN:
            return
        if self._registry.remove(session):
            self._flusher.changed(session.user_id, session.cause)
        self._watching.gone(session)
        session.phase = Phase.GONE
        session.link = None
        self._wheel.remove(session, session.slot)
        self._meter.connections(opened=0, closed=1)

    # Heartbeats

    async def _tick(self) -> None:
        slept_ms = self._clock.monotonic_ms()
        await asyncio.sleep(self._tick_ms / 1000)
        now_ms = self._clock.monotonic_ms()
        if now_ms - slept_ms > 2 * self._tick_ms + STOOD_STILL_MS:
            # This process stood still, and uvloop runs timers before it reads: what clients
            # said meanwhile must be heard before their silence is judged.
            await asyncio.sleep(self._tick_ms / 1000)
            now_ms = self._clock.monotonic_ms()
        due = self._wheel.turn(now_ms)
        for start in range(0, len(due), SESSIONS_A_TURN):
            if start:
                await asyncio.sleep(0)
            portion = due[start : start + SESSIONS_A_TURN]
            each("looking after a connection", portion, lambda session: self._look(session, now_ms), self.broken)

    def _look(self, session: Session, now_ms: int) -> None:
        """A session's time in the wheel is up: end it, ping it, or let it wait on."""
        options = self._options
        if session.phase is Phase.GONE:
            return
        if now_ms - session.heard_ms >= options.heartbeat_timeout_ms:
            self._meter.closing("timeout")
            self._drop(session)
        else:
            if _needs_pings(session) and now_ms - session.pinged_ms >= options.web_ping_interval_ms:
                session.pinged_ms = now_ms
                assert session.link is not None
                session.link.send_ping()
            self._wait(session)

    def _wait(self, session: Session) -> None:
        due_ms = session.heard_ms + self._options.heartbeat_timeout_ms
        if _needs_pings(session):
            due_ms = min(due_ms, session.pinged_ms + self._options.web_ping_interval_ms)
        session.slot = self._wheel.put(session, due_ms)


def _needs_pings(session: Session) -> bool:
    return session.platform.kind == WEB or session.codec.kind == "js"


def _tick_ms(options: GatewayOptions) -> int:
    """How often the wheel turns: so that a client pinged a tick late can still answer before its time is up."""
    slack_ms = options.heartbeat_timeout_ms - options.web_ping_interval_ms
    return min(MAX_TICK_MS, max(MIN_TICK_MS, slack_ms // 2))

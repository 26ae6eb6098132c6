"""Watching users: by a connection (2005) or, for all their connections, by a subscriber.

Changes are gathered for one turn of the event loop, so several changes for one
watcher go in one frame and a frame for many watchers is made once. A connection
that does not read is left owing until it does.

Invariant: a watcher that reads hears, as the last word on each user it watches,
the newest state the feed or the store told this process.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adsum.core.known import Subscriber, Watcher
from adsum.core.outbox import Press, owe
from adsum.core.session import OPEN, Session
from adsum.domain.errors import ArgumentError, TooManyWatches
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Status
from adsum.ports import Meter
from adsum.service.states import States
from adsum.wire.protobuf import encode_elem

SESSIONS_A_TURN = 1_000
"""Connections written to, or ended, before other work of the loop gets its turn: about 10 ms of writing."""


log = logging.getLogger(__name__)


def _unended(_session: Session) -> None:
    """For when no gateway has connections."""


@dataclass(frozen=True, slots=True)
class WatchingLimits:
    """Subscribers in all, users each may be subscribed to, and (watcher, user) pairs in all."""

    max_subscribers: int = 100_000
    max_watched_per_subscriber: int = 20_000
    max_watches: int = 10_000_000


class Watching:
    """Who is watched by whom in this process, and the pushes to them."""

    def __init__(
        self,
        states: States,
        sessions_of: Callable[[str], Iterable[Session]],
        meter: Meter,
        limits: WatchingLimits,
    ) -> None:
        self.table = states.table
        states.news = self._touch
        self._states = states
        self._sessions_of = sessions_of
        self._meter = meter
        self._limits = limits
        self.broken: Callable[[Session], None] = _unended
        """Called with a connection that could not be pushed to: it is to end."""
        self._subscribers: dict[str, Subscriber] = {}
        self._touched: dict[str, None] = {}
        self._ready: dict[Session, None] = {}
        self._scheduled = False

    # Connections

    async def answer(self, session: Session, user_ids: Sequence[str]) -> bytes:
        """The encoded states of all these users, to answer with after `begin`.

        Raises `StoreError` if the store can't be read; the watching of those not known ends then.
        """
        states = await self._answer(session, user_ids)
        elems: list[bytes] = []
        for user_id in user_ids:
            user = self.table.get(user_id)
            elems.append(user.elem if user else encode_elem(user_id, ids_of(states[user_id])))
        return b"".join(elems)

    def unwatch(self, session: Session, user_ids: Sequence[str]) -> None:
        """End a connection's watching of users."""
        self.table.unwatch(session, user_ids)
        self._forgive(session, user_ids)

    def connected(self, session: Session) -> None:
        """Tell a subscriber's new connection the states it is subscribed to: it may have missed changes."""
        subscriber = self._subscribers.get(session.user_id)
        if subscriber is not None:
            for user_id in subscriber.watching or ():
                if self.table.get(user_id):
                    owe(session, user_id)
            self._make_ready(session)

    def gone(self, session: Session) -> None:
        """Forget a connection and all it watched."""
        self.table.forget(session)
        session.owed = None
        self._ready.pop(session, None)

    def writable(self, session: Session) -> None:
        """A connection reads again: pay what it is owed."""
        if session.owed:
            self._make_ready(session)

    # Subscribers (ports of the API)

    async def subscribe(self, subscriber: str, user_ids: Sequence[str]) -> list[Status]:
        """Add subscriptions; the present state of each user asked.

        Raises `ArgumentError` past a limit, `StoreError` if the store can't be read.
        """
        known = self._subscribers.get(subscriber)
        limits = self._limits
        if known is None and len(self._subscribers) >= limits.max_subscribers:
            raise ArgumentError(f"there are {limits.max_subscribers} subscribers, the limit: cancel others first")
        watching = (known and known.watching) or {}
        if len({*watching, *user_ids}) > limits.max_watched_per_subscriber:
            raise ArgumentError(f"one user can be subscribed to {limits.max_watched_per_subscriber} users at most")
        watcher = self._subscribers.setdefault(subscriber, Subscriber(subscriber))
        try:
            self.begin(watcher, user_ids)
            states = await self._answer(watcher, user_ids)
        finally:
            self._drop_idle(subscriber)
        return [Status(user_id, self._mask(user_id, states)) for user_id in user_ids]

    def cancel(self, subscriber: str, user_ids: Sequence[str]) -> None:
        """Remove subscriptions; those that don't exist are ignored."""
        watcher = self._subscribers.get(subscriber)
        if watcher is not None:
            self.table.unwatch(watcher, user_ids)
            self._drop_idle(subscriber)
            for session in self._sessions_of(subscriber):
                self._forgive(session, user_ids)

    async def subscriptions(self, subscriber: str) -> list[Status]:
        """The present state of every user subscribed to."""
        watcher = self._subscribers.get(subscriber)
        user_ids = list((watcher and watcher.watching) or ())
        states = await self._read_unknown(user_ids)
        return [Status(user_id, self._mask(user_id, states)) for user_id in user_ids]

    def _drop_idle(self, subscriber: str) -> None:
        watcher = self._subscribers.get(subscriber)
        if watcher is not None and not watcher.watching:
            del self._subscribers[subscriber]

    # Both

    def begin(self, watcher: Watcher, user_ids: Sequence[str]) -> None:
        """Have a watcher watch users from now on.

        What a connection asks next comes after this, even while `answer` is still under way.
        Raises `TooManyWatches`.
        """
        before = watcher.watching or {}
        begun = [user_id for user_id in user_ids if user_id not in before]
        if self.table.links + len(begun) > self._limits.max_watches:
            raise TooManyWatches(f"{self._limits.max_watches} watches, the limit of this node, are in use: try later")
        self._states.forget_doubtful(begun)
        self.table.watch(watcher, user_ids)
        watcher.questions += 1

    async def _answer(self, watcher: Watcher, user_ids: Sequence[str]) -> dict[str, int]:
        try:
            return await self._read_unknown(user_ids)
        except BaseException:
            # Also where the caller has given up: who gets no answer watches nobody new. But while
            # another question is under way, it may be answered.
            if watcher.questions == 1:
                watching = watcher.watching or ()
                self.table.unwatch(watcher, [user_id for user_id in watching if not self.table.get(user_id)])
            raise
        finally:
            watcher.questions -= 1

    async def _read_unknown(self, user_ids: Sequence[str]) -> dict[str, int]:
        """The platforms of these users, read where nothing was known."""
        masks = {user_id: user.mask for user_id in user_ids if (user := self.table.get(user_id))}
        self._meter.lookups(len(masks), 0)
        unknown = [user_id for user_id in user_ids if user_id not in masks]
        if unknown:
            masks.update(zip(unknown, await self._states.read(unknown), strict=True))
        return masks

    def _mask(self, user_id: str, states: dict[str, int]) -> int:
        user = self.table.get(user_id)
        return user.mask if user else states[user_id]

    # Pushing

    def _forgive(self, session: Session, user_ids: Iterable[str]) -> None:
        """A connection is not owed whom it no longer watches, neither itself nor by its user's subscription."""
        owed = session.owed
        if not owed:
            return
        subscriber = self._subscribers.get(session.user_id)
        subscribed = (subscriber and subscriber.watching) or {}
        for user_id in user_ids:
            if user_id not in subscribed and user_id not in (session.watching or {}):
                owed.pop(user_id, None)
        session.owed = owed or None

    def _touch(self, user_id: str) -> None:
        self._touched[user_id] = None
        self._schedule()

    def _make_ready(self, session: Session) -> None:
        self._ready[session] = None
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        touched, self._touched = self._touched, {}
        press, frames, merged = Press(self.table), 0, 0
        # A user alone need not be gathered with others.
        at_once = SESSIONS_A_TURN if len(touched) == 1 else 0
        for user_id in touched:
            for session in self._who_watch(user_id):
                if frames < at_once and session.owed is None and not session.stalled:
                    try:
                        frames += _send(session, press.frame(session.codec, (user_id,)))
                    except Exception as error:  # noqa: BLE001 - logged
                        self._failed(session, error)
                else:
                    merged += owe(session, user_id)
                    self._ready[session] = None
        for session in list(self._ready)[: SESSIONS_A_TURN - frames]:
            del self._ready[session]
            try:
                frames += _pay(session, press)
            except Exception as error:  # noqa: BLE001 - logged
                self._failed(session, error)
        self._meter.pushed(frames, merged)
        if self._ready:
            self._schedule()

    def _failed(self, session: Session, error: Exception) -> None:
        # What it missed it is told when it has come back.
        log.error("pushing to a connection failed", exc_info=error)
        self.broken(session)

    def _who_watch(self, user_id: str) -> Iterable[Session]:
        """The connections that must hear of a user, each once."""
        user = self.table.get(user_id)
        sessions: dict[Session, None] = {}
        for watcher in (user and user.watchers) or ():
            if isinstance(watcher, Subscriber):
                sessions.update(dict.fromkeys(self._sessions_of(watcher.user_id)))
            else:
                sessions[watcher] = None
        return sessions


def _send(session: Session, frame: bytes) -> int:
    """Send a frame to a connection that is open; how many went out."""
    link = session.link
    if session.phase is not OPEN or link is None:
        return 0
    link.send_binary(frame)
    return 1


def _pay(session: Session, press: Press) -> int:
    """Send what a connection is owed while it reads; how many frames went out."""
    sent = 0
    frames = press.frames(session)
    # Sending may stall the connection; what is still owed then waits for it to read.
    while session.phase is OPEN and not session.stalled and (frame := next(frames, None)) is not None:
        sent += _send(session, frame)
    return sent

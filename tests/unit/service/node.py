"""A gateway's services without its sockets: connections are registered and forgotten by hand."""

from adsum.adapters.memory import MemoryStore
from adsum.core.logins import LoginLedger
from adsum.core.opids import OpIds
from adsum.core.registry import Registry
from adsum.core.session import Session
from adsum.core.writer import Writer, WriterOptions
from adsum.domain.login import LoginPolicy
from adsum.domain.presence import FeedEntry
from adsum.ports import Clock, Store
from adsum.service.flusher import Flusher
from adsum.service.keeper import Keeper, KeeperOptions
from tests.support.faulty import FaultyStore
from tests.support.sessions import PLATFORMS, make_session
from tests.support.world import RecordingMeter

QUICK = WriterOptions(lanes=2, batch_users=10, retry_min_ms=1, retry_max_ms=2)


class Node:
    """One gateway. Renewals and sweeps are milliseconds apart."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        name: str = "n",
        options: WriterOptions = QUICK,
        max_wait_ms: int = 60_000,
        lease_ttl_ms: int = 15,
        policy: LoginPolicy = LoginPolicy.KICK_NOBODY,
    ) -> None:
        self.store = store
        self.meter = RecordingMeter()
        self.registry = Registry(policy, 1_000_000, 1_000_000)
        next_op_id = OpIds(f"{name}-op")
        self.writer = Writer("", options, 0, next_op_id)
        self.ledger = LoginLedger(policy, PLATFORMS, self.registry)
        self.flusher = Flusher(
            self.writer,
            self.ledger,
            store,
            clock,
            self.meter,
            max_wait_ms,
            lambda: 0.5,
            lambda *_: None,
        )
        self.keeper = Keeper(
            store, self.flusher, clock, self.meter, KeeperOptions(lease_ttl_ms, 2), OpIds(name), next_op_id
        )

    async def start(self) -> None:
        await self.keeper.start()
        self.flusher.start()

    async def stop(self) -> None:
        await self.flusher.stop()
        await self.keeper.stop()

    def connect(self, user_id: str, platform_id: int = 1) -> Session:
        session = make_session(user_id, platform_id)
        self.registry.add(session)
        self.flusher.changed(user_id, session.cause)
        return session

    def disconnect(self, session: Session) -> None:
        self.registry.remove(session)
        self.flusher.changed(session.user_id, session.cause)

    def masks(self) -> dict[str, int]:
        """Who is connected here."""
        return {user_id: self.registry.mask(user_id) for user_id in self.registry.users()}


class World:
    """A store with faults, its true state, and everything its feed ever told."""

    def __init__(self, clock: Clock, partitions: int = 4, history: int = 1_000) -> None:
        self.truth = MemoryStore(clock, partitions=partitions, timed_ttl_ms=60_000, history=history)
        self.store = FaultyStore(self.truth)
        self.entries: list[FeedEntry] = []
        self.truth.follow(self.entries.append)

    async def masks(self) -> dict[str, int]:
        """Who is online, as the store has it."""
        return dict((await self.truth.page(0, 1_000_000)).users)

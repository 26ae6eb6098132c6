"""One node: all its services, put together over one store, and their way to start and to stop.

What a node needs from outside it is given. The simulation runs this very class, so what
it finds of how services work together is true of the product.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random

from adsum.core.feed import FeedCursor
from adsum.core.logins import LoginLedger
from adsum.core.opids import OpIds
from adsum.core.registry import Registry
from adsum.core.session import Session
from adsum.core.writer import Writer, WriterOptions
from adsum.domain.login import LoginPolicy
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import HoldBatch
from adsum.ports import Authenticator, Clock, FeedListener, Meter, Snapshot, Store
from adsum.service.audit import HoldAudit
from adsum.service.consumer import ConsumerOptions, FeedConsumer
from adsum.service.flusher import Flusher
from adsum.service.gateway import Gateway, GatewayOptions
from adsum.service.heldback import HeldBack
from adsum.service.keeper import Keeper, KeeperOptions
from adsum.service.logins import Logins
from adsum.service.presence import Presence, PresenceLimits
from adsum.service.projection import Projector
from adsum.service.relay import Relay
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits
from adsum.service.webhooks import Webhooks

log = logging.getLogger(__name__)

AUDIT_LEASES = 8
"""For so long as so many leases last, all that is held here takes to be compared with the store."""

SETTLE_MS = 2_000
"""How long a node that stops waits for its last writes, and each consumer for what it has under way."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node is set to; connections in all and of one user, and users that queries keep in memory at most."""

    policy: LoginPolicy
    max_connections: int
    max_connections_per_user: int
    query_cache_users: int
    flush_max_wait_ms: int
    writer: WriterOptions
    keeper: KeeperOptions
    watching: WatchingLimits
    gateway: GatewayOptions
    presence: PresenceLimits
    look_interval_ms: int = 1_000
    consumer_margin_ms: int = 0
    """What a consumer of the feed sends has ended so long after, for better or worse."""


class Node:
    """The services of one node. `name` is its own, never used again; `chance` shards writes and spreads retries.

    Used once: `start`, `drain`, `stop`.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        clock: Clock,
        meter: Meter,
        authenticator: Authenticator,
        platforms: PlatformRegistry,
        options: NodeOptions,
        chance: Random,
        webhooks: Webhooks | None = None,
        projector: Projector | None = None,
    ) -> None:
        self.name = name
        self.leaving = False
        """It still takes clients, but is about to stop: better send them elsewhere."""
        self.store = store
        self.clock = clock
        self.webhooks = webhooks
        self.projector = projector
        self._next_op_id = next_op_id = OpIds(name)
        self._ends = AsyncExitStack()
        # Who is connected here, and its way into the store.
        self.registry = Registry(options.policy, options.max_connections, options.max_connections_per_user)
        self.writer = Writer("", options.writer, chance.getrandbits(64), next_op_id)
        self.ledger = ledger = LoginLedger(options.policy, platforms, self.registry)
        self.flusher = Flusher(
            self.writer,
            ledger,
            store,
            clock,
            meter,
            options.flush_max_wait_ms,
            chance.random,
            self._written,
        )
        self.keeper = Keeper(store, self.flusher, clock, meter, options.keeper, OpIds(name), next_op_id)
        self.audit = HoldAudit(store, self.registry, self.flusher, meter, options.keeper.lease_ttl_ms * AUDIT_LEASES)
        # The store's feed, and what it keeps true here.
        self.states = States(store, self._sound, meter, options.query_cache_users)
        self.watching = Watching(self.states, self.registry.sessions, meter, options.watching)
        self.held_back = HeldBack(self.registry, self.states.table, self._is_to_write_again, self.states.news)
        self.states.news = self.held_back.news
        self.logins = Logins(ledger, self.flusher, store.partitions, self._kick)
        targets = {"webhooks": webhooks, "projection": projector}
        self.consumers: Sequence[FeedConsumer] = [
            FeedConsumer(role, store, self.keeper, target, meter, ConsumerOptions(margin_ms=options.consumer_margin_ms))
            for role, target in targets.items()
            if target
        ]
        # By two thirds of a lease every living node has found out, by a write or a renewal, and written.
        grace_ms = options.keeper.lease_ttl_ms * 2 // 3
        self.relay = Relay(
            store,
            self._listeners(),
            self._resync,
            meter,
            options.look_interval_ms,
            self._interrupted,
            grace_ms,
            self.audit.lost,
        )
        # What clients and servers ask.
        self.gateway = Gateway(
            ledger,
            self.flusher,
            self.watching,
            authenticator,
            platforms,
            clock,
            meter,
            options.gateway,
            OpIds(name),
            self._kicked,
        )
        self.presence = Presence(store, self.states, self.watching, platforms, options.presence, next_op_id)

    async def start(self) -> None:
        """Start one service after the other, and note how each ends: in the reverse order.

        Raises `StoreError` if the store can't be reached, `ArgumentError` if it was made with
        other settings; `stop` ends what was started.
        """
        ends = self._ends
        ends.push_async_callback(self.store.close)
        await self.store.open()
        if self.webhooks:
            self.webhooks.start()
            ends.push_async_callback(self.webhooks.stop, SETTLE_MS)
        if self.projector:
            self.projector.start()
            ends.push_async_callback(self.projector.stop)
        ends.push_async_callback(self.relay.stop)
        await self.relay.start()
        await self.keeper.start()
        ends.push_async_callback(self.keeper.stop)
        for consumer in self.consumers:
            await consumer.start()
            ends.push_async_callback(consumer.stop, SETTLE_MS)
        self.flusher.start()
        ends.push_async_callback(self.flusher.stop)
        self.audit.start()
        ends.push_async_callback(self.audit.stop)
        self.gateway.start()
        ends.push_async_callback(self.gateway.stop)

    async def drain(self, duration_ms: int) -> None:
        """Say goodbye to all connections, spread over `duration_ms`, and write the last changes."""
        await self.gateway.drain(duration_ms)
        if not await self.flusher.settle(SETTLE_MS):
            log.warning("not all changes could be written; the others end with the lease")

    async def stop(self) -> None:
        """Tell the last changes, give up the lease, end."""
        await self._ends.aclose()

    def snapshot(self) -> Snapshot:
        """What is known at this moment."""
        now_ms = self.clock.monotonic_ms()
        table = self.states.table
        return Snapshot(
            self.writer.dirty_users,
            [now_ms - flight.taken_ms if flight else 0 for flight in self.writer.flights],
            table.links,
            table.watched_users,
            table.hot_users,
            self.webhooks.waiting if self.webhooks else 0,
            {consumer.role: len(consumer.owned) for consumer in self.consumers},
            self.projector.waiting if self.projector else 0,
            self.projector.lag_ms if self.projector else 0,
        )

    def _listeners(self) -> list[FeedListener]:
        return [self.states.on_feed, self.logins.on_feed, *(consumer.on_feed for consumer in self.consumers)]

    def _written(self, batch: HoldBatch, told_ms: Mapping[str, int]) -> None:
        self.logins.written(batch, told_ms)
        self.held_back.written(batch.states)

    def _is_to_write_again(self) -> bool:
        """Whether the store may have let go of what is held here."""
        return not self.keeper.held or self.flusher.lease_lost.is_set() or not self.flusher.rewritten

    def _sound(self) -> FeedCursor | None:
        return self.relay.sound()

    async def _resync(self, partition: int, *, restarted: bool) -> None:
        await self.states.resync(partition, restarted=restarted)
        # Not before: others who tell again as well must find this node listening.
        await self.logins.missed(partition)

    def _interrupted(self) -> None:
        self.relay.read_lost(self.states.interrupted())
        # Whatever the store has lost: a new name and everything written again mends it.
        self.flusher.lease_lost.set()

    def _kick(self, session: Session) -> None:
        self.gateway.kick(session)

    def _kicked(self, session: Session) -> None:
        if self.webhooks:
            self.webhooks.on_kick(session.user_id, session.platform.id, self._next_op_id())

"""One gateway of the simulation: the production's node, as a process that can die.

Simulated are what is outside: its store's connection, its clients, the receiver of its
webhooks. Heartbeats are not: the simulation ends connections itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from adsum.core.writer import WriterOptions
from adsum.domain.errors import StoreError, TokenMalformed
from adsum.domain.identity import Identity
from adsum.domain.login import LoginPolicy
from adsum.domain.platforms import PRESETS, PlatformRegistry, ids_of
from adsum.domain.presence import FeedEntry
from adsum.ports import Clock, FeedListener, Hook, HookSink, Meter, Projection
from adsum.service import node as service
from adsum.service.gateway import GatewayOptions
from adsum.service.keeper import KeeperOptions
from adsum.service.presence import PresenceLimits
from adsum.service.projection import Projector, ProjectorOptions
from adsum.service.target import Owned
from adsum.service.watching import WatchingLimits
from adsum.service.webhooks import WebhookOptions, Webhooks
from adsum.testing.hooks import Receiver
from adsum.testing.loop import LoopClock, Process, VirtualLoop
from adsum.testing.store import SimulatedStore
from adsum.testing.trouble import Trouble

PLATFORMS = PlatformRegistry(PRESETS["openim"])
LOTS = 1_000_000
NEVER_MS = 10**9
"""Silence that ends a connection: it is the simulation that ends them."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Sizes and times of a node, as configuration has them; `store_timeout_ms` bounds each call of the store."""

    writer: WriterOptions
    keeper: KeeperOptions
    policy: LoginPolicy
    flush_max_wait_ms: int
    look_interval_ms: int
    store_timeout_ms: int
    query_cache_users: int
    hook_most_s: float = 0.02
    """The longest that a webhook takes to be answered."""
    max_attempts: int = 1_000

    def services(self) -> service.NodeOptions:
        """The same, as the services take it."""
        return service.NodeOptions(
            policy=self.policy,
            max_connections=LOTS,
            max_connections_per_user=LOTS,
            query_cache_users=self.query_cache_users,
            flush_max_wait_ms=self.flush_max_wait_ms,
            writer=self.writer,
            keeper=self.keeper,
            watching=WatchingLimits(LOTS, LOTS),
            gateway=GatewayOptions(heartbeat_timeout_ms=NEVER_MS),
            presence=PresenceLimits(),
            look_interval_ms=self.look_interval_ms,
            consumer_margin_ms=self.store_timeout_ms,
        )


class NoMeter:
    """Counts nothing."""

    def connections(self, opened: int, closed: int) -> None:
        """Connections opened and closed."""

    def refused(self, reason: str) -> None:
        """A handshake refused."""

    def closing(self, reason: str) -> None:
        """A connection begins to end."""

    def turned_away(self, port: str, reason: str) -> None:
        """A connection had to go."""

    def changes(self, online: int, offline: int) -> None:
        """Users that came online and went offline."""

    def query(self, method: str, outcome: str, seconds: float) -> None:
        """One call of the API."""

    def batch(self, lane: int, users: int, waited_ms: float, took_ms: float, *, ok: bool) -> None:
        """One write of a lane."""

    def store_read(self, operation: str, outcome: str, seconds: float) -> None:
        """One read of the store."""

    def renewal(self, *, ok: bool) -> None:
        """One renewal of the lease tried."""

    def lookups(self, hits: int, misses: int) -> None:
        """Users asked for."""

    def feed_gap(self) -> None:
        """The feed of a partition had a hole."""

    def repaired(self, sign: str, users: int) -> None:
        """Users that the store had forgotten."""

    def pushed(self, frames: int, merged: int) -> None:
        """Frames pushed to watchers."""

    def hook(self, outcome: str) -> None:
        """A webhook's outcome."""

    def projected(self, users: int, *, ok: bool) -> None:
        """One write of the projection."""

    def feed_lost(self, role: str) -> None:
        """Entries of the feed that a consumer had not seen are no longer kept."""


class SpokenTokens:
    """An authenticator that believes what a token says: `USER/PLATFORM/SERIAL`."""

    def verify(self, token: str) -> Identity:
        """The identity a token claims."""
        try:
            user_id, platform_id, _ = token.split("/")
            return Identity(user_id, int(platform_id), token.encode(), 0)
        except ValueError:
            raise TokenMalformed("not USER/PLATFORM/SERIAL") from None


class Told:
    """What a node's relay passed on, and whether it did so whole and in order."""

    def __init__(self, name: str, complain: Callable[[str], None]) -> None:
        self.gaps: dict[int, None] = {}
        """Partitions that were read anew because their feed could not be had whole."""
        self.own: dict[tuple[int, int], None] = {}
        """Partition and version of each entry of this node's own writes that the relay passed on."""
        self._prefix = f"{name}-"
        self._complain = complain
        self._versions: dict[int, int] = {}

    def on_feed(self, entry: FeedEntry) -> None:
        """Take note of an entry; a `FeedListener`."""
        last = self._versions.get(entry.partition)
        if last is not None and entry.before != last:
            self._complain(f"the relay told partition {entry.partition}: {entry.before}->{entry.version} after {last}")
        self._versions[entry.partition] = entry.version
        if entry.op_id.startswith(self._prefix):
            self.own[entry.partition, entry.version] = None

    def gap(self, partition: int) -> None:
        """What was missed of a partition is read anew: the chain begins again."""
        self.gaps[partition] = None
        self._versions.pop(partition, None)


class _Webhooks(Webhooks):
    """Webhooks that tell what they could not be handed."""

    def __init__(
        self,
        passed_over: Callable[[int, int, int], None],
        sink: HookSink,
        meter: Meter,
        clock: Clock,
        platforms: PlatformRegistry,
        options: WebhookOptions,
        jitter: Callable[[], float],
    ) -> None:
        super().__init__(sink, meter, clock, platforms, options, jitter)
        self._passed_over = passed_over

    def lost(self, owned: Owned, position: int, version: int) -> None:
        """Entries are no longer kept."""
        super().lost(owned, position, version)
        self._passed_over(owned.partition, position, version)


class Node(service.Node):
    """A gateway process: `name` is its own, never used again."""

    webhooks: Webhooks
    projector: Projector

    def __init__(
        self,
        loop: VirtualLoop,
        process: Process,
        store: SimulatedStore,
        options: NodeOptions,
        chance: Random,
        trouble: Trouble,
        complain: Callable[[str], None],
        hear: Callable[[Hook], None],
        passed_over: Callable[[int, int, int], None],
        copy: Projection,
    ) -> None:
        clock, meter = LoopClock(loop, chance.randrange(1_000_000)), NoMeter()
        self.process = process
        self.trouble = trouble
        self.ready = False
        """Whether it has started, and has not begun to stop."""
        self.held: dict[tuple[str, int], float] = {}
        """Since when each user has been connected on each platform here."""
        self.options = options
        self.receiver = Receiver(chance, options.hook_most_s, hear)
        self.told = Told(process.name, lambda what: complain(f"{process.name}: {what}"))
        self.line = store
        self.own_clock = clock
        self._loop = loop
        hooks = WebhookOptions(retry_min_ms=50, retry_max_ms=1_000, max_attempts=options.max_attempts, concurrency=4)
        super().__init__(
            process.name,
            store,
            clock,
            meter,
            SpokenTokens(),
            PLATFORMS,
            options.services(),
            chance,
            _Webhooks(passed_over, self.receiver, meter, clock, PLATFORMS, hooks, chance.random),
            Projector(store, copy, clock, meter, ProjectorOptions(), chance.random),
        )

    async def begin(self) -> None:
        """Start as the service does; a node that can't, dies."""
        try:
            await self.start()
        except StoreError:
            self.die()
            return
        self.ready = True

    async def leave(self) -> None:
        """Stop as the service does, then die."""
        self.ready = False
        await self.drain(0)
        await self.stop()
        self.die()

    def die(self) -> None:
        """Be gone at once, with all that is connected."""
        self.ready = False
        self.line.sever()
        self.process.kill()
        self.held.clear()

    @property
    def gone(self) -> bool:
        """Whether it is dead, or dying."""
        return self.line.severed

    def reckon(self, user_id: str) -> None:
        """A user's connections here may have changed: note since when which platform is held."""
        mask = self.registry.mask(user_id)
        for user, platform_id in [key for key in self.held if key[0] == user_id]:
            if not mask >> platform_id & 1:
                del self.held[user, platform_id]
        for platform_id in ids_of(mask):
            self.held.setdefault((user_id, platform_id), self._loop.time())

    def _listeners(self) -> list[FeedListener]:
        return [self.told.on_feed, *super()._listeners()]

    async def _resync(self, partition: int, *, restarted: bool) -> None:
        self.told.gap(partition)
        await super()._resync(partition, restarted=restarted)

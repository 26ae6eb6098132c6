"""Gateways, a network that loses, doubles and reorders, a store and a follower, in any order hypothesis thinks of.

After everything has come to rest, the store holds exactly what is connected and
what is set until a deadline, the feed folds to the same, and a follower that
missed half of it knows the same.
"""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adsum.adapters.memory import MemoryStore
from adsum.core.feed import FeedCursor, Verdict
from adsum.core.opids import OpIds
from adsum.core.partition import user_hash
from adsum.core.registry import Registry
from adsum.core.session import Session
from adsum.core.writer import Flight, Writer, WriterOptions
from adsum.domain.errors import LeaseLost
from adsum.domain.login import LoginPolicy
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Cause, FeedEntry, HoldBatch, HoldState, TimedEdit
from tests.support.sessions import make_session
from tests.support.world import ManualClock, fold

T = TypeVar("T")

PARTITIONS = 2
HISTORY = 6
LANES = 2
LEASE_MS = 300
RETRY_MS = 20
TIMED_MS = 1_000

GATEWAYS = st.integers(0, 1)
USERS = st.sampled_from(["ada", "bob", "cyd", "dan", "eve", "fay"])
PLATFORMS = st.sampled_from([1, 2, 5])
MASKS = st.sampled_from([0, 1 << 1, 1 << 5, 1 << 1 | 1 << 5])


def done(call: Coroutine[Any, Any, T]) -> T:
    """The result of a call that never waits, as none of the memory store's does."""
    try:
        call.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("the memory store waited")


@dataclass
class Sent:
    """A batch on the network, and what came of it if it arrived."""

    flight: Flight
    outcome: str = "unknown"


class Gateway:
    """One gateway: who is connected, what must be written, what was sent."""

    def __init__(self, name: str, store: MemoryStore, clock: ManualClock, policy: LoginPolicy) -> None:
        self.name, self.store, self.clock = name, store, clock
        self.incarnations = 0
        self.registry = Registry(policy, 1_000, 1_000)
        self.sessions: list[Session] = []
        options = WriterOptions(LANES, batch_users=2, retry_min_ms=5, retry_max_ms=RETRY_MS)
        self.writer = Writer("", options, 11, OpIds(name))
        self.sent: list[Sent | None] = [None] * LANES
        self.join()

    def join(self) -> None:
        self.incarnations += 1
        holder = f"{self.name}-{self.incarnations}"
        done(self.store.grant(holder, LEASE_MS))
        self.writer.rejoin(holder, self.registry.users(), self.clock.now_ms)

    def renew(self) -> None:
        if not done(self.store.renew(self.writer.holder, LEASE_MS)):
            self.join()

    def connect(self, session: Session) -> None:
        for kicked in self.registry.add(session):
            self.sessions.remove(kicked)
            self.writer.mark(kicked.user_id, kicked.cause, self.clock.now_ms)
        self.sessions.append(session)
        self.writer.mark(session.user_id, session.cause, self.clock.now_ms)

    def disconnect(self, session: Session) -> None:
        self.sessions.remove(session)
        assert self.registry.remove(session)
        self.writer.mark(session.user_id, session.cause, self.clock.now_ms)

    def send(self, lane: int) -> Sent | None:
        flight = self.writer.take(lane, self.clock.now_ms, self._state)
        if flight is None:
            return None
        self.sent[lane] = Sent(flight)
        return self.sent[lane]

    def _state(self, user_id: str, cause: Cause, _now_ms: int) -> HoldState:
        return HoldState(user_id, self.registry.mask(user_id), cause)

    def answer(self, lane: int) -> None:
        """Take note of what came of the lane's batch, if it arrived; else give it up."""
        sent = self.sent[lane]
        if sent is None:
            return
        self.sent[lane] = None
        if sent.outcome == "written":
            self.writer.acknowledged(lane)
            return
        self.writer.failed(lane, self.clock.now_ms, 0.5)
        if sent.outcome == "refused" and sent.flight.batch.holder == self.writer.holder:
            self.join()


class Follower:
    """Folds what it hears of the feed, catches up on holes, and reads anew what is no longer kept."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.cursor = FeedCursor([0] * PARTITIONS)
        self.masks: dict[str, int] = {}
        self.deaf = False
        store.follow(self.arrived)

    def arrived(self, entry: FeedEntry) -> None:
        if not self.deaf and self.cursor.admit(entry) is Verdict.NEXT:
            self.apply(entry)

    def apply(self, entry: FeedEntry) -> None:
        for change in entry.changes:
            assert self.masks.get(change.user_id, 0) == change.before
            self.masks[change.user_id] = change.after

    def catch_up(self, partition: int) -> None:
        entries = done(self.store.changes_since(partition, self.cursor.version(partition)))
        if entries is None:
            here = {user for user in self.masks if user_hash(user) % PARTITIONS == partition}
            listed = dict(done(self.store.page(0, 1_000)).users)
            here |= {user for user in listed if user_hash(user) % PARTITIONS == partition}
            self.masks.update((user, listed.get(user, 0)) for user in here)
            assert self.cursor.advance(partition, done(self.store.versions())[partition])
            return
        for entry in entries:
            self.apply(entry)
        assert self.cursor.advance(partition, entries[-1].version if entries else self.cursor.version(partition))

    def online(self) -> dict[str, int]:
        return {user: mask for user, mask in self.masks.items() if mask}


class World(RuleBasedStateMachine):
    """All of it."""

    policy = LoginPolicy.KICK_SAME_PLATFORM

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(1)
        self.store = MemoryStore(self.clock, partitions=PARTITIONS, timed_ttl_ms=TIMED_MS, history=HISTORY)
        self.entries: list[FeedEntry] = []
        self.store.follow(self.entries.append)
        self.follower = Follower(self.store)
        self.births = 0
        self.gateways = [self.born() for _ in range(2)]
        self.network: list[Sent] = []
        self.deadlines: dict[tuple[str, int], int] = {}

    def born(self) -> Gateway:
        self.births += 1
        return Gateway(f"g{self.births}", self.store, self.clock, self.policy)

    # Clients

    @rule(index=GATEWAYS, user=USERS, platform=PLATFORMS, token=st.sampled_from(["", "t1"]))
    def connect(self, index: int, user: str, platform: int, token: str) -> None:
        self.gateways[index].connect(make_session(user, platform, token and f"{token}-{user}-{platform}"))

    @rule(index=GATEWAYS, which=st.integers(0, 20))
    def disconnect(self, index: int, which: int) -> None:
        gateway = self.gateways[index]
        if gateway.sessions:
            gateway.disconnect(gateway.sessions[which % len(gateway.sessions)])

    @rule(user=USERS, online=MASKS, offline=MASKS)
    def set_by_api(self, user: str, online: int, offline: int) -> None:
        for platform in ids_of(offline):
            self.deadlines.pop((user, platform), None)
        for platform in ids_of(online):
            self.deadlines[user, platform] = self.clock.now_ms + TIMED_MS
        done(self.store.write_timed("api", [TimedEdit(user, online, offline)]))

    # Writes, on a network that may do anything

    @rule(index=GATEWAYS, lane=st.integers(0, LANES - 1))
    def send(self, index: int, lane: int) -> None:
        if sent := self.gateways[index].send(lane):
            self.network.append(sent)

    @precondition(lambda self: self.network)
    @rule(which=st.integers(0, 20), stays=st.booleans())
    def arrive(self, which: int, stays: bool) -> None:  # noqa: FBT001
        """A batch arrives, in any order; if a copy stays on the network, it may arrive again."""
        which %= len(self.network)
        sent = self.network[which] if stays else self.network.pop(which)
        sent.outcome = self.write(sent.flight.batch)

    @precondition(lambda self: self.network)
    @rule(which=st.integers(0, 20))
    def get_lost(self, which: int) -> None:
        self.network.pop(which % len(self.network))

    @rule(index=GATEWAYS, lane=st.integers(0, LANES - 1))
    def answer_or_give_up(self, index: int, lane: int) -> None:
        self.gateways[index].answer(lane)

    def write(self, batch: HoldBatch) -> str:
        before, heard = self.listed(), len(self.entries)
        try:
            done(self.store.write_holds(batch))
        except LeaseLost:
            assert self.listed() == before
            assert len(self.entries) == heard
            return "refused"
        return "written"

    # Time, leases, crashes

    @rule(ms=st.sampled_from([1, 10, 100, LEASE_MS, TIMED_MS]))
    def time_passes(self, ms: int) -> None:
        self.clock.advance(ms)

    @rule(index=GATEWAYS)
    def renew(self, index: int) -> None:
        self.gateways[index].renew()

    @rule()
    def sweep(self) -> None:
        done(self.store.sweep("sweep"))

    @rule(index=GATEWAYS)
    def crash(self, index: int) -> None:
        """All connections break, nothing is given up, and another process starts in its place."""
        self.gateways[index] = self.born()

    @rule(index=GATEWAYS)
    def stop(self, index: int) -> None:
        done(self.store.release(self.gateways[index].writer.holder, "stop"))
        self.gateways[index] = self.born()

    # The follower

    @rule()
    def lose_or_find_the_feed(self) -> None:
        self.follower.deaf = not self.follower.deaf

    @rule(partition=st.integers(0, PARTITIONS - 1))
    def catch_up(self, partition: int) -> None:
        self.follower.catch_up(partition)

    # What must be

    def listed(self) -> dict[str, int]:
        return dict(done(self.store.page(0, 1_000)).users)

    def connected_or_set(self) -> dict[str, int]:
        masks: dict[str, int] = {}
        for gateway in self.gateways:
            for session in gateway.sessions:
                masks[session.user_id] = masks.get(session.user_id, 0) | 1 << session.platform.id
        for (user, platform), deadline in self.deadlines.items():
            if deadline > self.clock.now_ms:
                masks[user] = masks.get(user, 0) | 1 << platform
        return masks

    @invariant()
    def the_feed_folds_to_the_store(self) -> None:
        assert fold(self.entries) == self.listed()

    @invariant()
    def counters_are_a_recount(self) -> None:
        census = done(self.store.census())
        listed = self.listed()
        assert census.online == len(listed)
        counts = {i: sum(mask >> i & 1 for mask in listed.values()) for i in (1, 2, 5)}
        assert census.by_platform == {i: count for i, count in counts.items() if count}

    @invariant()
    def a_follower_at_the_newest_version_knows_the_state(self) -> None:
        if done(self.store.versions()) == [self.follower.cursor.version(i) for i in range(PARTITIONS)]:
            assert self.follower.online() == self.listed()

    @rule()
    def come_to_rest(self) -> None:
        """Everyone goes on, the network delivers what is still on it, and the dead are swept."""
        late = list(self.network)
        self.until_clean()
        for _ in range(4):
            self.clock.advance(LEASE_MS // 3)
            self.until_clean()
        done(self.store.sweep("sweep"))
        assert self.listed() == self.connected_or_set()
        versions = done(self.store.versions())
        for sent in late:
            self.write(sent.flight.batch)
        assert done(self.store.versions()) == versions, "a batch that lands after its user was written changes nothing"
        for partition in range(PARTITIONS):
            self.follower.catch_up(partition)
        assert self.follower.online() == self.listed()
        self.network.clear()

    def until_clean(self) -> None:
        for _ in range(50):
            for gateway in self.gateways:
                gateway.renew()
                for lane in range(LANES):
                    gateway.answer(lane)
                    if sent := gateway.send(lane):
                        sent.outcome = self.write(sent.flight.batch)
            if all(gateway.writer.clean for gateway in self.gateways):
                return
            self.clock.advance(RETRY_MS)
        raise AssertionError("gateways never finish writing")

    def teardown(self) -> None:
        self.come_to_rest()
        for gateway in self.gateways:
            for session in list(gateway.sessions):
                gateway.disconnect(session)
        self.clock.advance(TIMED_MS)
        self.come_to_rest()
        assert self.listed() == {}
        for partition in self.store._partitions:
            assert not any(partition._buckets)
            assert not partition._deadlines
            assert set(partition._lanes) <= {gateway.writer.holder for gateway in self.gateways}


class OtherPolicy(World):
    """The same with logins that kick more."""

    policy = LoginPolicy.PC_AND_ONE_OTHER


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=150, stateful_step_count=50)
TestOtherPolicy = OtherPolicy.TestCase
TestOtherPolicy.settings = settings(max_examples=40, stateful_step_count=40)

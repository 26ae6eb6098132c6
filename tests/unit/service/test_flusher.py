"""The flusher: everything gets to the store, whatever the store does."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.adapters.clock import SystemClock
from adsum.adapters.memory import MemoryStore
from adsum.core.writer import WriterOptions
from adsum.domain.presence import HoldBatch
from tests.support.waiting import turns, until
from tests.support.world import IOS, WEB, changes_of
from tests.unit.service.node import Node, World

LEASE_MS = 60_000
IOS_ID, WEB_ID = 1, 5


@pytest.fixture
def world() -> World:
    return World(SystemClock())


@pytest_asyncio.fixture
async def node(world: World) -> AsyncIterator[Node]:
    node = Node(world.store, SystemClock(), lease_ttl_ms=LEASE_MS)
    await node.start()
    yield node
    await node.stop()


async def settled(node: Node) -> None:
    await until(lambda: node.writer.clean)


async def test_a_change_is_written_at_once(world: World, node: Node) -> None:
    """An idle gateway's change is in the store within a few turns of the loop: nothing waits for a tick."""
    node.connect("u", IOS_ID)
    await turns()
    assert await world.masks() == {"u": IOS}


async def test_one_who_comes_and_goes_at_once_is_not_seen(world: World, node: Node) -> None:
    """A client that leaves within a turn of its handshake leaves nothing, and nobody hears of it."""
    for i in range(500):
        node.disconnect(node.connect(f"u{i}"))
    await settled(node)
    assert await world.masks() == {}
    assert world.entries == []


async def test_a_burst_goes_in_full_batches(world: World, node: Node) -> None:
    """While a lane writes, what changes is gathered: 500 changes at once are about 50 writes of 10 users."""
    for i in range(500):
        node.connect(f"u{i}")
    await settled(node)
    sizes = [users for _, users, _ in node.meter.batches]
    assert sum(sizes) == 500
    assert max(sizes) == 10
    assert len(sizes) <= 52
    assert len(await world.masks()) == 500


async def test_the_cause_of_a_change_gets_to_the_feed(world: World, node: Node) -> None:
    """The connection whose coming or going led to the write is named."""
    session = node.connect("u")
    session.background = True
    await settled(node)
    node.disconnect(session)
    await settled(node)
    came, went = changes_of(world.entries, "u")
    assert (came.cause.conn_id, went.cause.conn_id) == (session.conn_id, session.conn_id)
    assert went.cause.background


@pytest.mark.parametrize("fault", ["failing", "losing", "broken"])
async def test_while_the_store_fails_nothing_is_lost(world: World, node: Node, fault: str) -> None:
    """Writes that fail, whose answer is lost, or that raise what they must not, are tried until they are in."""
    sessions = [node.connect(f"before-{i}") for i in range(30)]
    await settled(node)
    getattr(world.store, fault).add("write_holds")
    for session in sessions[::2]:
        node.disconnect(session)
    for i in range(30):
        node.connect(f"during-{i}", WEB_ID)
    failed = world.store.calls["write_holds"]
    await until(lambda: world.store.calls["write_holds"] > failed + 20)
    assert not node.writer.clean
    getattr(world.store, fault).clear()
    await settled(node)
    assert await world.masks() == node.masks()
    assert len(node.masks()) == 45
    assert {ok for *_, ok in node.meter.batches} == {True, False}


async def test_a_store_that_comes_back_needs_no_new_change(world: World, node: Node) -> None:
    """A lane retries by itself, even if nothing else ever happens on it."""
    world.store.failing.add("write_holds")
    node.connect("u")
    await until(lambda: world.store.calls["write_holds"] >= 3)
    world.store.failing.clear()
    await settled(node)
    assert await world.masks() == {"u": IOS}


class TickingClock:
    """A clock that has moved on whenever it is looked at again."""

    def __init__(self) -> None:
        self.now_ms = 0

    def monotonic_ms(self) -> int:
        self.now_ms += 1
        return self.now_ms

    def unix_ms(self) -> int:
        return 0


async def test_a_retry_that_comes_due_between_two_looks_at_the_clock_is_not_missed(world: World) -> None:
    """However the clock moves while the lane decides, it does not go to sleep with work that is due."""
    for wait_ms in range(1, 8):
        options = WriterOptions(lanes=1, retry_min_ms=2 * wait_ms, retry_max_ms=2 * wait_ms)
        node = Node(world.store, TickingClock(), f"n{wait_ms}", options, lease_ttl_ms=LEASE_MS)
        await node.start()
        world.store.failing.add("write_holds")
        node.connect(f"u{wait_ms}")
        failed = world.store.calls["write_holds"]
        await until(lambda failed=failed: world.store.calls["write_holds"] > failed + 1)  # type: ignore[misc]
        world.store.failing.clear()
        await until(lambda node=node: node.writer.clean)  # type: ignore[misc]
        await node.stop()


async def test_a_slow_write_is_given_up_and_lands_late_without_harm(world: World) -> None:
    """A write given up is done again by the next; when it lands after that one, it changes nothing."""
    node = Node(world.store, SystemClock(), max_wait_ms=2, lease_ttl_ms=LEASE_MS)
    await node.start()
    slow = world.store.hold("write_holds")
    session = node.connect("u", IOS_ID)
    await slow.arrived.wait()
    node.disconnect(session)
    node.connect("u", WEB_ID)
    await settled(node)
    assert await world.masks() == {"u": WEB}
    await slow.land()
    assert await world.masks() == {"u": WEB}
    assert [(change.before, change.after) for change in changes_of(world.entries, "u")] == [(0, WEB)]
    assert [ok for *_, ok in node.meter.batches] == [False, True]
    await node.stop()


async def test_a_write_given_up_that_did_land_is_written_again(world: World) -> None:
    """Its outcome is unknown, so its users go again; that is no second change."""
    node = Node(world.store, SystemClock(), max_wait_ms=2, lease_ttl_ms=LEASE_MS)
    await node.start()
    slow = world.store.hold("write_holds")
    node.connect("u")
    await slow.perform()
    await settled(node)
    assert await world.masks() == {"u": IOS}
    assert len(changes_of(world.entries, "u")) == 1
    await node.stop()


async def test_one_slow_lane_holds_no_other_back(world: World, node: Node) -> None:
    """A user of another lane is written while one lane waits for the store."""
    first, second = "u0", next(f"u{i}" for i in range(100) if node.writer.lane_of(f"u{i}") != node.writer.lane_of("u0"))
    slow = world.store.hold("write_holds")
    node.connect(first)
    await slow.arrived.wait()
    node.connect(second)
    await until(lambda: changes_of(world.entries, second))
    assert not changes_of(world.entries, first)
    slow.answer()
    await settled(node)
    assert set(await world.masks()) == {first, second}


async def test_a_lane_has_one_write_in_flight(world: World) -> None:
    """Changes made while a write waits go with the next, after it is answered."""
    node = Node(world.store, SystemClock(), options=WriterOptions(lanes=1), lease_ttl_ms=LEASE_MS)
    await node.start()
    slow = world.store.hold("write_holds")
    session = node.connect("u")
    await slow.arrived.wait()
    node.disconnect(session)
    node.connect("v")
    await turns()
    assert world.store.calls["write_holds"] == 1
    slow.answer()
    await settled(node)
    assert await world.masks() == {"v": IOS}
    await node.stop()


async def test_settling_says_whether_all_is_written(world: World, node: Node) -> None:
    """It waits for the writes under way, but not longer than it may."""
    assert await node.flusher.settle(0)
    slow = world.store.hold("write_holds")
    node.connect("u")
    assert not await node.flusher.settle(3)
    slow.answer()
    assert await node.flusher.settle(10_000)


async def test_stopping_does_not_wait_for_the_store(world: World) -> None:
    """A flusher ends in the middle of a write that never answers, in the middle of a retry, and before it ever ran."""
    for fault in ("hold", "fail", "none"):
        node = Node(world.store, SystemClock(), fault, lease_ttl_ms=LEASE_MS)
        await node.start()
        if fault == "hold":
            slow = world.store.hold("write_holds")
            node.connect("u")
            await slow.arrived.wait()
        elif fault == "fail":
            world.store.failing.add("write_holds")
            node.connect("u")
            await until(lambda: world.store.calls["write_holds"] > 2)
        await node.stop()
        world.store.failing.clear()


async def test_batches_are_of_the_present_holder(world: World, node: Node) -> None:
    """After a rejoin, everyone connected is written under the new name."""
    sessions = [node.connect(f"u{i}") for i in range(50)]
    await settled(node)
    node.disconnect(sessions[0])
    await world.truth.grant("second", LEASE_MS)
    node.flusher.rejoin("second")
    await settled(node)
    await world.truth.release("n-1", "op")
    assert await world.masks() == node.masks()
    assert len(node.masks()) == 49


async def test_concurrent_churn_ends_true(world: World, node: Node) -> None:
    """Many users coming and going under a store that now and then fails: the last state is the registry's."""
    here = []
    for step in range(400):
        here.append(node.connect(f"u{step * 7 % 60}", 1 + step % 5))
        if step % 3:
            node.disconnect(here.pop(step * 5 % len(here)))
        if step % 50 == 0:
            world.store.losing ^= {"write_holds"}
        if step % 70 == 0:
            world.store.failing ^= {"write_holds"}
        if step % 4 == 0:
            await asyncio.sleep(0)
    world.store.losing.clear()
    world.store.failing.clear()
    await settled(node)
    assert await world.masks() == node.masks()


async def test_batches_reach_the_store_in_order(world: World, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a lane, sequences arrive rising."""
    seen: dict[int, list[int]] = {}
    write = world.truth.write_holds

    async def recorded(batch: HoldBatch) -> None:
        seen.setdefault(batch.lane, []).append(batch.seq)
        await write(batch)

    monkeypatch.setattr(MemoryStore, "write_holds", staticmethod(recorded))
    for i in range(100):
        node.connect(f"u{i}")
        await asyncio.sleep(0)
    await settled(node)
    assert len(seen) == 2
    assert all(seqs == sorted(set(seqs)) for seqs in seen.values())

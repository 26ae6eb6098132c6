"""The keeper: a lease kept, lost and taken anew, and what that does to users."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.domain.errors import StoreError
from tests.support.waiting import turns, until
from tests.support.world import IOS, ManualClock, changes_of, hold_batch
from tests.unit.service.node import Node, World

LEASE_MS = 15
RETRY_MS = 2
"""The longest a write waits to be tried again."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def world(clock: ManualClock) -> World:
    return World(clock)


@pytest_asyncio.fixture
async def node(world: World, clock: ManualClock) -> AsyncIterator[Node]:
    node = Node(world.store, clock, lease_ttl_ms=LEASE_MS)
    await node.start()
    yield node
    await node.stop()


async def renewed(world: World, times: int = 1) -> None:
    """Wait for so many further renewals."""
    sought = world.store.calls["renew"] + times
    await until(lambda: world.store.calls["renew"] >= sought)


async def swept(world: World, times: int = 2) -> None:
    """Wait for so many further sweeps."""
    sought = world.store.calls["sweep"] + times
    await until(lambda: world.store.calls["sweep"] >= sought)


async def a_lease_passes(world: World, clock: ManualClock) -> None:
    """As long as a lease, renewed all the while: from then on what others left is swept."""
    for _ in range(4):
        await renewed(world)
        clock.advance(LEASE_MS // 3)
    await renewed(world)


async def former_ended(node: Node) -> None:
    """Wait until nothing is held under the node's former names."""
    await until(lambda: not node.keeper._former)


async def test_a_node_starts_with_a_lease(world: World, node: Node) -> None:
    """Once started it may write, and says that its lease is held."""
    assert node.keeper.held
    assert node.keeper.holder == node.writer.holder == "n-1"
    assert world.store.calls["grant"] == 1


async def test_a_store_that_fails_at_the_start_is_told_to_whoever_starts(world: World, clock: ManualClock) -> None:
    """Nobody serves without a first lease."""
    world.store.failing.add("grant")
    node = Node(world.store, clock)
    with pytest.raises(StoreError):
        await node.keeper.start()
    await node.stop()


async def test_renewal_keeps_the_lease_for_any_time(world: World, clock: ManualClock, node: Node) -> None:
    """Many leases' worth of time later it is still the first, and its users never went."""
    node.connect("u")
    for _ in range(12):
        await renewed(world)
        clock.advance(LEASE_MS // 3)
    assert node.keeper.held
    assert node.keeper.holder == "n-1"
    assert await world.masks() == {"u": IOS}
    assert len(world.entries) == 1
    assert set(node.meter.renewals) == {True}


async def test_renewals_do_not_cost_by_user(world: World, node: Node) -> None:
    """A renewal writes no user."""
    for i in range(100):
        node.connect(f"u{i}")
    await until(lambda: node.writer.clean)
    writes = world.store.calls["write_holds"]
    await renewed(world, 5)
    assert world.store.calls["write_holds"] == writes


async def lose(clock: ManualClock, node: Node) -> None:
    """Let the lease end, and wait until the node has noticed."""
    before = node.keeper.holder
    clock.advance(LEASE_MS)
    await until(lambda: node.keeper.holder != before)


async def test_a_lost_lease_is_no_offline(world: World, clock: ManualClock, node: Node) -> None:
    """Renewal finds the lease gone: a new name, everything written again, the old swept, and nobody hears a thing."""
    sessions = [node.connect(f"u{i}") for i in range(200)]
    await until(lambda: node.writer.clean)
    heard = len(world.entries)
    await lose(clock, node)
    await until(lambda: node.writer.clean)
    await former_ended(node)
    assert node.keeper.held
    assert await world.masks() == node.masks()
    assert len(world.entries) == heard
    for session in sessions:
        node.disconnect(session)
    await until(lambda: node.writer.clean)
    assert await world.masks() == {}, "the old name holds nothing any more"


async def test_a_write_that_finds_the_lease_gone_has_it_renewed_at_once(
    world: World, clock: ManualClock, node: Node
) -> None:
    """The node does not wait for its next renewal to take a new lease, and the change gets in."""
    node.connect("u")
    await until(lambda: node.writer.clean)
    held = world.store.hold("renew")
    await held.arrived.wait()
    clock.advance(LEASE_MS)
    node.connect("v")
    await until(node.flusher.lease_lost.is_set)
    held.answer()
    await until(lambda: node.keeper.holder == "n-2" and node.writer.clean)
    await former_ended(node)
    assert await world.masks() == {"u": IOS, "v": IOS}
    assert [change.after for change in changes_of(world.entries, "u")] == [IOS]


async def test_former_names_end_although_something_always_waits(world: World, clock: ManualClock, node: Node) -> None:
    """A busy gateway is never without a write under way: enough that all held before is written again."""
    node.connect("u")
    await until(lambda: node.writer.clean)
    world.store.failing.add("release")
    await lose(clock, node)
    await until(lambda: node.writer.clean)
    held = world.store.hold("write_holds")
    node.connect("v")
    await held.arrived.wait()
    world.store.failing.clear()
    await former_ended(node)
    assert not node.writer.clean
    assert await world.masks() == {"u": IOS}
    held.answer()


async def test_a_sweep_that_asked_nothing_says_nothing_of_the_store(world: World, node: Node) -> None:
    """While renewals fail the store's trouble stays told."""
    world.store.failing.add("renew")
    await until(lambda: node.keeper.trouble == "renew fails")
    sweeps = world.store.calls["sweep"]
    await node.keeper._noting(node.keeper._sweep)
    assert world.store.calls["sweep"] == sweeps
    assert node.keeper.trouble == "renew fails"
    world.store.failing.clear()
    await until(lambda: not node.keeper.trouble)


async def test_nothing_is_swept_until_all_is_written_again(world: World, clock: ManualClock, node: Node) -> None:
    """With the lease lost and the store refusing writes, the old holds stay until the new ones are there."""
    node.connect("u")
    await until(lambda: node.writer.clean)
    world.store.failing.add("write_holds")
    await lose(clock, node)
    sweeps = world.store.calls["sweep"]
    await renewed(world, 5)
    assert world.store.calls["sweep"] <= sweeps + 1, "one may have been under way"
    assert await world.masks() == {"u": IOS}
    world.store.failing.clear()
    clock.advance(RETRY_MS)
    await until(lambda: node.writer.clean)
    await former_ended(node)
    assert await world.masks() == {"u": IOS}
    assert len(world.entries) == 1


async def test_one_who_left_while_the_lease_was_lost_goes_with_the_old_name(
    world: World, clock: ManualClock, node: Node
) -> None:
    """A user disconnected around the change of names goes offline once."""
    session, _ = node.connect("gone"), node.connect("here")
    await until(lambda: node.writer.clean)
    world.store.failing.add("write_holds")
    node.disconnect(session)
    await lose(clock, node)
    world.store.failing.clear()
    clock.advance(RETRY_MS)
    await until(lambda: node.writer.clean)
    await former_ended(node)
    assert await world.masks() == {"here": IOS}
    assert [change.after for change in changes_of(world.entries, "gone")] == [IOS, 0]
    assert [change.after for change in changes_of(world.entries, "here")] == [IOS]


@pytest.mark.parametrize("fault", ["failing", "losing", "broken"])
async def test_a_store_that_fails_for_a_while_costs_nothing(
    world: World, clock: ManualClock, node: Node, fault: str
) -> None:
    """Renewals and sweeps that fail are tried again; what has not expired meanwhile is as it was."""
    await a_lease_passes(world, clock)
    node.connect("u")
    await until(lambda: node.writer.clean)
    faults = getattr(world.store, fault)
    faults |= {"renew", "sweep", "grant"}
    await renewed(world, 5)
    faults.clear()
    await swept(world)
    await until(lambda: node.meter.renewals and node.meter.renewals[-1])
    assert node.keeper.holder == "n-1"
    assert await world.masks() == {"u": IOS}
    assert len(world.entries) == 1


@pytest.mark.parametrize("fault", ["failing", "losing", "broken"])
async def test_a_lease_lost_with_the_store_is_taken_again_with_it(
    world: World, clock: ManualClock, node: Node, fault: str
) -> None:
    """While no new lease can be had, it is asked for again and again; then everything is written."""
    node.connect("u")
    await until(lambda: node.writer.clean)
    faults = getattr(world.store, fault)
    faults |= {"renew", "grant", "write_holds", "sweep"}
    clock.advance(LEASE_MS)
    assert not node.keeper.held
    node.connect("v")
    tried = world.store.calls["renew"] + 3
    await until(lambda: world.store.calls["renew"] >= tried or world.store.calls["grant"] >= 3)
    faults.clear()
    clock.advance(RETRY_MS)
    await until(lambda: node.keeper.held and node.writer.clean)
    await former_ended(node)
    assert await world.masks() == {"u": IOS, "v": IOS}
    assert [change.after for change in changes_of(world.entries, "u")] == [IOS]


async def test_a_lease_known_to_be_gone_is_not_renewed_but_taken_anew(
    world: World, clock: ManualClock, node: Node
) -> None:
    """If the store fails just when a new lease is asked for, the next try asks for that, not for a renewal."""
    world.store.failing.add("grant")
    clock.advance(LEASE_MS)
    await until(lambda: world.store.calls["grant"] >= 2)
    renewals = world.store.calls["renew"]
    await until(lambda: world.store.calls["grant"] >= 5)
    assert world.store.calls["renew"] == renewals
    world.store.failing.clear()
    await until(lambda: node.keeper.held)


async def test_a_node_without_a_lease_sweeps_nobody(world: World, clock: ManualClock, node: Node) -> None:
    """One that cannot tell whether it lives leaves its own holds, and everyone's, alone."""
    node.connect("u")
    await until(lambda: node.writer.clean)
    world.store.failing |= {"renew", "grant"}
    clock.advance(LEASE_MS)
    sweeps = world.store.calls["sweep"]
    await renewed(world, 5)
    assert world.store.calls["sweep"] <= sweeps + 1, "one may have been under way"
    assert await world.masks() == {"u": IOS}
    world.store.failing.clear()


async def test_others_have_time_to_come_back_too(world: World, clock: ManualClock, node: Node) -> None:
    """Who lost its lease sweeps nobody for as long as a lease lasts: what ended its own may have ended all."""
    other = Node(world.store, clock, "other", lease_ttl_ms=LEASE_MS * 10)
    await other.start()
    other.connect("theirs")
    await until(lambda: other.writer.clean)
    for task in [*other.flusher._tasks, *other.keeper._tasks]:
        task.cancel()
    clock.advance(LEASE_MS * 10)
    await until(lambda: node.keeper.holder == "n-2")
    sweeps = world.store.calls["sweep"]
    await renewed(world, 5)
    assert world.store.calls["sweep"] <= sweeps + 1, "one may have been under way"
    assert await world.masks() == {"theirs": IOS}
    for _ in range(3):
        clock.advance(LEASE_MS // 3)
        await renewed(world)
    await swept(world)
    assert await world.masks() == {}


async def test_another_nodes_dead_are_swept(world: World, clock: ManualClock, node: Node) -> None:
    """A gateway that crashes leaves its users to the others, who tell each offline once."""
    crashed = Node(world.store, clock, "crashed", lease_ttl_ms=LEASE_MS * 10)
    await crashed.start()
    crashed.connect("theirs")
    node.connect("ours")
    await until(lambda: crashed.writer.clean and node.writer.clean)
    for task in [*crashed.flusher._tasks, *crashed.keeper._tasks]:
        task.cancel()
    for _ in range(10 * 3 + 3):
        await renewed(world)
        clock.advance(LEASE_MS // 3)
    await swept(world)
    assert await world.masks() == {"ours": IOS}
    assert [change.after for change in changes_of(world.entries, "theirs")] == [IOS, 0]
    assert [change.after for change in changes_of(world.entries, "ours")] == [IOS]


async def test_stopping_takes_the_users_along(world: World, clock: ManualClock) -> None:
    """A node that stops ends its holds at once."""
    node = Node(world.store, clock)
    await node.start()
    node.connect("u")
    await until(lambda: node.writer.clean)
    await node.stop()
    assert await world.masks() == {}
    assert [change.after for change in changes_of(world.entries, "u")] == [IOS, 0]


async def test_stopping_while_the_store_fails_is_quiet(world: World, clock: ManualClock) -> None:
    """The lease ends by itself then."""
    node = Node(world.store, clock)
    await node.start()
    node.connect("u")
    await until(lambda: node.writer.clean)
    world.store.failing.add("release")
    await node.stop()
    assert await world.masks() == {"u": IOS}
    clock.advance(LEASE_MS)
    await world.truth.sweep("op")
    assert await world.masks() == {}


async def test_stopping_does_not_wait_for_a_store_that_hangs(world: World, clock: ManualClock) -> None:
    """A renewal and a sweep under way are given up."""
    node = Node(world.store, clock, lease_ttl_ms=LEASE_MS)
    await node.start()
    await a_lease_passes(world, clock)
    renewal, sweep = world.store.hold("renew"), world.store.hold("sweep")
    await asyncio.gather(renewal.arrived.wait(), sweep.arrived.wait())
    await node.stop()
    await turns()
    assert await world.masks() == {}


@pytest.mark.usefixtures("node")
async def test_a_node_that_starts_leaves_others_the_time_to_write(world: World, clock: ManualClock) -> None:
    """The store may just have come back after an outage that ended all leases: whoever lives writes again first."""
    await world.truth.grant("other", 1)
    await world.truth.write_holds(hold_batch("other", 1, {"v": IOS}))
    clock.advance(1)
    await renewed(world, 3)
    assert world.store.calls["sweep"] == 0
    assert await world.masks() == {"v": IOS}
    await a_lease_passes(world, clock)
    await swept(world)
    assert await world.masks() == {}

"""The comparison of what is held here with what the store has."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.core.partition import partition_of
from adsum.service import audit
from adsum.service.audit import HoldAudit
from tests.support.waiting import until
from tests.support.world import ManualClock
from tests.unit.service.node import Node, World

LEASE_MS = 60_000
USERS = [f"u{n}" for n in range(100)]


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "STEP_S", 0.001)


@pytest.fixture
def world() -> World:
    return World(ManualClock())


@pytest_asyncio.fixture
async def node(world: World) -> AsyncIterator[Node]:
    node = Node(world.store, ManualClock(), lease_ttl_ms=LEASE_MS)
    await node.start()
    yield node
    await node.stop()


@pytest_asyncio.fixture
async def audited(world: World, node: Node) -> AsyncIterator[HoldAudit]:
    """The audit of a node whose users the store has all acknowledged."""
    for user in USERS:
        node.connect(user)
    await until(lambda: node.writer.clean)
    one = HoldAudit(world.store, node.registry, node.flusher, node.meter, round_ms=4)
    one.start()
    yield one
    await one.stop()


async def forget(world: World, node: Node) -> None:
    """Have the store lose everything the node holds, though not its lease."""
    await world.truth.release(node.keeper.holder, "op")
    await world.truth.grant(node.keeper.holder, LEASE_MS)


@pytest.mark.usefixtures("audited")
async def test_what_the_store_has_forgotten_is_written_again(world: World, node: Node) -> None:
    """Every user, in portions; and only once, because then nothing is missing."""
    await forget(world, node)
    assert await world.masks() == {}
    await until(lambda: node.meter.repairs["comparison"] == len(USERS) and node.writer.clean)
    assert await world.masks() == node.masks()
    reads = world.store.calls["read"]
    await until(lambda: world.store.calls["read"] > reads + len(USERS) // audit.LEAST_PORTION)
    assert node.meter.repairs["comparison"] == len(USERS)


async def test_users_of_a_lost_partition_are_written_again_at_once(
    world: World, node: Node, audited: HoldAudit
) -> None:
    """All of them, and nobody else's."""
    there = {user for user in USERS if partition_of(user, world.store.partitions) == 2}
    await forget(world, node)
    world.store.failing.add("read")
    audited.lost(2)
    await until(lambda: node.meter.repairs["loss"] > 0 and node.writer.clean)
    assert set(await world.masks()) == there
    assert node.meter.repairs["loss"] == len(there)


@pytest.mark.usefixtures("audited")
async def test_what_is_on_its_way_to_the_store_is_not_missing_there(world: World, node: Node) -> None:
    """A user whose write is waiting or under way is compared later."""
    held = world.store.hold("write_holds")
    node.connect("late")
    await held.arrived.wait()
    reads = world.store.calls["read"]
    await until(lambda: world.store.calls["read"] > reads + 2 * len(USERS) // audit.LEAST_PORTION)
    assert not node.meter.repairs
    held.answer()
    await until(lambda: node.writer.clean)


@pytest.mark.usefixtures("audited")
async def test_a_user_of_another_node_too_is_not_missing(world: World, node: Node) -> None:
    """What others hold of the same users neither hides what is lost here nor is a loss."""
    other = Node(world.store, ManualClock(), name="other", lease_ttl_ms=LEASE_MS)
    await other.start()
    other.connect("u0", platform_id=5)
    await until(lambda: other.writer.clean)
    await forget(world, node)
    await until(lambda: node.meter.repairs["comparison"] == len(USERS) and node.writer.clean)
    assert (await world.masks())["u0"] == node.masks()["u0"] | 1 << 5
    await other.stop()


@pytest.mark.usefixtures("audited")
async def test_a_store_that_fails_is_compared_with_later(world: World, node: Node) -> None:
    world.store.failing.add("read")
    reads = world.store.calls["read"]
    await forget(world, node)
    await until(lambda: world.store.calls["read"] > reads)
    world.store.failing.clear()
    await until(lambda: node.meter.repairs["comparison"] == len(USERS))

"""Versions and the feed: gap-proof, because whoever missed something can see it and ask."""

from adsum.domain.presence import TimedEdit
from adsum.ports import Store
from tests.contract.engine import LEASE_MS, Engine
from tests.contract.follower import Follower
from tests.support.world import IOS, WEB, hold_batch


async def write(store: Store, user_id: str, mask: int) -> None:
    """Make the timed platforms of a user those of the mask (IOS and WEB are known here)."""
    await store.write_timed(f"op-{user_id}-{mask}", [TimedEdit(user_id, mask, IOS | WEB)])


async def test_an_empty_store_is_at_version_0(store: Store) -> None:
    """Every partition starts at 0, and nothing has changed since."""
    assert await store.versions() == [0] * store.partitions
    for partition in range(store.partitions):
        assert await store.changes_since(partition, 0) == []


async def test_a_version_grows_where_something_changed(engine: Engine) -> None:
    """A write touches the versions only of the partitions whose users changed."""
    store = await engine.open(partitions=16)
    for i in range(40):
        before = await store.versions()
        await write(store, f"user-{i}", IOS)
        grown = [after - earlier for earlier, after in zip(before, await store.versions(), strict=True)]
        assert sum(growth > 0 for growth in grown) == 1
        assert sum(growth == 0 for growth in grown) == 15
    settled = await store.versions()
    for i in range(40):
        await write(store, f"user-{i}", IOS)
    assert await store.versions() == settled


async def test_a_reading_says_its_version(engine: Engine) -> None:
    """A reading carries its partition's version: as new as the entry that last told of the user, or newer."""
    store = await engine.open(partitions=1)
    await write(store, "u", IOS)
    await write(store, "v", WEB)
    (newest,) = await store.versions()
    assert await store.read(["u", "v", "nobody"]) == [(IOS, newest), (WEB, newest), (0, newest)]


async def test_changes_since_are_what_followers_heard(store: Store, feed: Follower) -> None:
    """Asked from any version on, the feed is the same as it was told live, in order."""
    for i in range(30):
        await write(store, f"user-{i % 10}", IOS if i % 3 else WEB)
    heard = await feed.entries()
    for partition in range(store.partitions):
        told = [entry for entry in heard if entry.partition == partition]
        for seen, version in enumerate([0, *(entry.version for entry in told)]):
            assert await store.changes_since(partition, version) == told[seen:]


async def test_what_is_no_longer_kept_is_said(engine: Engine) -> None:
    """Asked for more than is kept, the store answers None rather than a feed with a hole."""
    store = await engine.open(partitions=1, history=8)
    feed = Follower(store)
    for i in range(100):
        await write(store, "u", IOS if i % 2 else WEB)
    told = await feed.entries()
    answers = [await store.changes_since(0, version) for version in [0, *(entry.version for entry in told)]]
    assert answers[0] is None
    lost = sum(answer is None for answer in answers)
    assert answers[lost:] == [told[seen:] for seen in range(lost, len(told) + 1)], "what is kept is the newest part"
    assert len(told) - lost >= 8


async def test_a_version_of_the_future_is_not_of_this_store(store: Store) -> None:
    """Whoever asks after a version the store never had is told that it knows nothing, not that nothing changed."""
    await write(store, "u", IOS)
    for partition, version in enumerate(await store.versions()):
        assert await store.changes_since(partition, version) == []
        assert await store.changes_since(partition, version + 1) is None


async def test_one_who_unfollows_hears_no_more(store: Store) -> None:
    """Following ends when told to, for that follower alone, and ending it twice is nothing."""
    leaver, stayer = Follower(store), Follower(store)
    await write(store, "u", IOS)
    assert len(await leaver.entries()) == 1
    leaver.stop()
    leaver.stop()
    await write(store, "u", 0)
    assert len(await stayer.entries()) == 2
    assert len(leaver.heard) == 1


async def test_unfollowing_after_the_store_is_closed_is_nothing(store: Store) -> None:
    """In whatever order a service takes itself apart, nothing is raised."""
    follower = Follower(store)
    await store.close()
    follower.stop()


async def test_the_feed_folds_to_the_state(engine: Engine) -> None:
    """Every kind of write in any mixture: the changes from empty on are exactly who is online now."""
    store = await engine.open(partitions=2, timed_ttl_ms=10_000)
    feed = Follower(store)
    await store.grant("a", LEASE_MS)
    await store.grant("b", LEASE_MS * 2)
    for seq in range(1, 20):
        users = {f"user-{seq * 7 % 13}": IOS, f"user-{seq % 13}": 0, f"user-{seq * 3 % 13}": WEB}
        await store.write_holds(hold_batch("b" if seq % 2 else "a", seq, users))
        await store.write_timed("t", [TimedEdit(f"user-{seq * 5 % 13}", IOS, WEB)])
        await engine.pass_time(700)
        await store.sweep("s")
    await engine.pass_time(LEASE_MS)
    await store.sweep("s")
    names = [f"user-{i}" for i in range(13)]
    state = {name: reading.mask for name, reading in zip(names, await store.read(names), strict=True) if reading.mask}
    assert state
    assert await feed.fold() == state

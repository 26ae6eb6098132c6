"""Platforms set by the API, which hold until a deadline."""

import asyncio

import pytest

from adsum.domain.errors import TooManyStatuses
from adsum.domain.presence import Cause, Change, TimedEdit
from adsum.ports import Store
from tests.contract.engine import LEASE_MS, TIMED_TTL_MS, Engine
from tests.contract.follower import Follower
from tests.support.world import ANDROID, IOS, WEB, hold_batch


async def mask(store: Store, user_id: str) -> int:
    return (await store.read([user_id]))[0].mask


async def test_set_online_and_offline(store: Store, feed: Follower) -> None:
    """Platforms come and go as they are set, one change each."""
    await store.write_timed("1", [TimedEdit("u", IOS | WEB, 0)])
    await store.write_timed("2", [TimedEdit("u", 0, WEB)])
    await store.write_timed("3", [TimedEdit("u", 0, IOS)])
    assert await feed.steps("u") == [(0, IOS | WEB), (IOS | WEB, IOS), (IOS, 0)]


async def test_the_operation_and_the_cause_are_in_the_feed(store: Store, feed: Follower) -> None:
    """A set call is named in the change it makes, with the connection its caller gave."""
    await store.write_timed("rpc-9", [TimedEdit("u", IOS, 0, Cause("conn", background=True))])
    (entry,) = await feed.entries()
    assert entry.op_id == "rpc-9"
    assert entry.changes[0].cause == Cause("conn", background=True)


async def test_offline_of_what_nobody_set_is_nothing(store: Store, feed: Follower) -> None:
    """Letting go of nothing is no change and leaves no record."""
    await store.write_timed("1", [TimedEdit("u", 0, IOS)])
    assert await feed.entries() == []
    assert (await store.page(0, 10)).users == ()


async def test_online_wins_over_offline_of_the_same_platform(engine: Engine, store: Store, feed: Follower) -> None:
    """Letting go comes first, so a platform named both ways is held, and its deadline is new."""
    await store.write_timed("1", [TimedEdit("u", IOS | WEB, 0)])
    await engine.pass_time(TIMED_TTL_MS // 2)
    await store.write_timed("2", [TimedEdit("u", IOS, IOS | WEB)])
    assert await feed.steps("u") == [(0, IOS | WEB), (IOS | WEB, IOS)]
    await engine.pass_time(TIMED_TTL_MS // 2)
    await store.sweep("sweep")
    assert await mask(store, "u") == IOS
    await engine.pass_time(TIMED_TTL_MS // 2)
    await store.sweep("sweep")
    assert await mask(store, "u") == 0


async def test_edits_apply_in_order_and_show_once(store: Store, feed: Follower) -> None:
    """Edits of one user in one call follow each other; the feed has the outcome only."""
    edits = [TimedEdit("u", IOS, 0), TimedEdit("u", WEB, IOS), TimedEdit("v", IOS, 0), TimedEdit("v", 0, IOS)]
    await store.write_timed("1", edits)
    assert await feed.steps("u") == [(0, WEB)]
    assert await feed.steps("v") == []


async def test_a_passed_deadline_is_one_change(engine: Engine, store: Store, feed: Follower) -> None:
    """Platforms set together end together, once, in an entry that bears the sweep's name."""
    await store.write_timed("1", [TimedEdit("u", IOS | WEB, 0), TimedEdit("v", IOS, 0)])
    await engine.pass_time(TIMED_TTL_MS)
    await store.sweep("sweep-1")
    await store.sweep("sweep-2")
    assert await feed.steps("u") == [(0, IOS | WEB), (IOS | WEB, 0)]
    assert await feed.steps("v") == [(0, IOS), (IOS, 0)]
    assert {entry.op_id for entry in await feed.entries()} == {"1", "sweep-1"}
    assert (await store.census()).online == 0


async def test_setting_again_renews(engine: Engine, store: Store, feed: Follower) -> None:
    """Setting a platform that is held already starts its time anew and is no change."""
    await store.write_timed("1", [TimedEdit("u", IOS | WEB, 0)])
    await engine.pass_time(TIMED_TTL_MS - 1_000)
    await store.write_timed("2", [TimedEdit("u", IOS, 0)])
    await engine.pass_time(1_000)
    await store.sweep("sweep")
    assert await feed.steps("u") == [(0, IOS | WEB), (IOS | WEB, IOS)]
    await engine.pass_time(TIMED_TTL_MS - 1_000)
    await store.sweep("sweep")
    assert await mask(store, "u") == 0


async def test_a_deadline_let_go_of_does_not_come_back(engine: Engine, store: Store, feed: Follower) -> None:
    """A platform set offline and online again ends by its new deadline, not by its old one."""
    await store.write_timed("1", [TimedEdit("u", IOS, 0)])
    await engine.pass_time(TIMED_TTL_MS // 2)
    await store.write_timed("2", [TimedEdit("u", 0, IOS)])
    await store.write_timed("3", [TimedEdit("u", IOS, 0)])
    await engine.pass_time(TIMED_TTL_MS // 2)
    await store.sweep("sweep")
    assert await mask(store, "u") == IOS
    await engine.pass_time(TIMED_TTL_MS // 2)
    await store.sweep("sweep")
    assert await feed.steps("u") == [(0, IOS), (IOS, 0), (0, IOS), (IOS, 0)]


async def test_a_gateway_and_a_set_call_hold_the_same_platform(engine: Engine, store: Store, feed: Follower) -> None:
    """Neither the set call's offline nor its deadline takes what a gateway holds, nor the other way round."""
    await store.grant("a", TIMED_TTL_MS * 10)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await store.write_timed("1", [TimedEdit("u", IOS | ANDROID, 0)])
    await store.write_timed("2", [TimedEdit("u", 0, IOS)])
    assert await mask(store, "u") == IOS | ANDROID
    await store.write_timed("3", [TimedEdit("u", IOS, 0)])
    await engine.pass_time(TIMED_TTL_MS)
    await store.sweep("sweep")
    assert await mask(store, "u") == IOS
    await store.write_timed("4", [TimedEdit("u", IOS, 0)])
    await store.write_holds(hold_batch("a", 2, {"u": 0}))
    assert await mask(store, "u") == IOS
    await store.write_timed("5", [TimedEdit("u", 0, IOS)])
    assert await feed.steps("u") == [(0, IOS), (IOS, IOS | ANDROID), (IOS | ANDROID, IOS), (IOS, 0)]


async def test_a_sweep_ends_leases_and_deadlines(engine: Engine, store: Store, feed: Follower) -> None:
    """A user whose last two holds end by one sweep goes offline, whichever of them ends first."""
    await store.grant("a", LEASE_MS)
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    await store.write_timed("1", [TimedEdit("u", WEB, 0)])
    await engine.pass_time(max(LEASE_MS, TIMED_TTL_MS))
    await store.sweep("sweep")
    assert await mask(store, "u") == 0
    assert await feed.fold() == {}


async def test_a_timed_hold_needs_no_lease(engine: Engine, store: Store) -> None:
    """No gateway's end takes what the API set."""
    await store.grant("a", LEASE_MS)
    await store.write_timed("1", [TimedEdit("u", IOS, 0)])
    await engine.pass_time(LEASE_MS)
    await store.sweep("sweep")
    await store.release("a", "goodbye")
    assert await mask(store, "u") == IOS


async def test_an_entry_tells_each_user_s_own_change_and_cause(store: Store, feed: Follower) -> None:
    """Where some of a call change in one way, some in another, and some not at all."""
    names = [f"user-{number}" for number in range(60)]
    await store.write_timed("1", [TimedEdit(user, IOS, 0) for user in names[:40]])
    edits = [TimedEdit(user, 0, IOS, Cause(f"c-{user}", background=True)) for user in names[:20]]
    edits += [TimedEdit(user, IOS, 0, Cause(f"c-{user}")) for user in names[20:]]
    await store.write_timed("2", edits)
    told = [change for entry in await feed.entries() if entry.op_id == "2" for change in entry.changes]
    gone = {Change(user, IOS, 0, Cause(f"c-{user}", background=True)) for user in names[:20]}
    come = {Change(user, 0, IOS, Cause(f"c-{user}")) for user in names[40:]}
    assert set(told) == gone | come
    assert len(told) == len(gone | come)


async def test_many_edits_in_one_call(store: Store, feed: Follower) -> None:
    """Ten thousand users set in one call are all online."""
    await store.write_timed("1", [TimedEdit(f"user-{i}", IOS, 0) for i in range(10_000)])
    assert (await store.census()).online == 10_000
    assert len(await feed.fold()) == 10_000


async def test_statuses_set_by_calls_are_bounded(engine: Engine) -> None:
    """With no room a new one is refused, and its edit does nothing; what is held can be renewed, and ended for room."""
    store = await engine.open(partitions=1, max_timed=3)
    await store.write_timed("1", [TimedEdit("u", IOS | WEB, 0), TimedEdit("v", IOS, 0)])
    with pytest.raises(TooManyStatuses, match="max_timed_statuses"):
        await store.write_timed("2", [TimedEdit("new", IOS, 0), TimedEdit("v", WEB | ANDROID, IOS)])
    assert [await mask(store, user_id) for user_id in ("u", "v", "new")] == [IOS | WEB, IOS, 0]
    with pytest.raises(TooManyStatuses):
        await store.write_timed("3", [TimedEdit("new", IOS, 0), TimedEdit("u", IOS | WEB, 0), TimedEdit("v", WEB, IOS)])
    assert [await mask(store, user_id) for user_id in ("u", "v", "new")] == [IOS | WEB, WEB, 0]
    await store.write_timed("4", [TimedEdit("v", 0, WEB)])
    await store.write_timed("5", [TimedEdit("new", IOS, 0)])
    assert (await store.census()).by_platform == {1: 2, 5: 1}
    await engine.pass_time(TIMED_TTL_MS)
    await store.sweep("6")
    await store.write_timed("7", [TimedEdit(user_id, IOS, 0) for user_id in "abc"])
    assert (await store.census()).online == 3


async def test_who_shares_a_trip_is_not_refused_for_another(engine: Engine) -> None:
    store = await engine.open(partitions=1, max_timed=1)
    await store.write_timed("1", [TimedEdit("u", IOS, 0)])
    renewed, refused = await asyncio.gather(
        store.write_timed("2", [TimedEdit("u", IOS, 0)]),
        store.write_timed("3", [TimedEdit("new", IOS, 0)]),
        return_exceptions=True,
    )
    assert renewed is None
    assert isinstance(refused, TooManyStatuses)

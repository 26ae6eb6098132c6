"""Reading, listing and counting."""

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adsum.domain.errors import ArgumentError
from adsum.domain.presence import TimedEdit
from adsum.ports import Store
from tests.contract.engine import ENGINES, LEASE_MS, Engine, EngineMaker
from tests.support.redis import SharedCluster
from tests.support.world import ANDROID, IOS, WEB, hold_batch

USER_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


async def set_online(store: Store, user_ids: Iterable[str], mask: int = IOS) -> None:
    await store.write_timed("op", [TimedEdit(user_id, mask, 0) for user_id in user_ids])


async def walk(store: Store, limit: int) -> list[tuple[str, int]]:
    """Every user of a full walk, in the order shown."""
    shown: list[tuple[str, int]] = []
    cursor = 0
    while True:
        page = await store.page(cursor, limit)
        shown += page.users
        if page.next_cursor == 0:
            return shown
        cursor = page.next_cursor


async def test_reading_keeps_order_and_duplicates(store: Store) -> None:
    """Answers come in the order asked, once for each time asked, offline and unknown users included."""
    await set_online(store, ["ada"], IOS | WEB)
    await set_online(store, ["bob"], ANDROID)
    asked = ["nobody", "bob", "ada", "bob", "some body", "ada"]
    assert [reading.mask for reading in await store.read(asked)] == [0, ANDROID, IOS | WEB, ANDROID, 0, IOS | WEB]
    assert await store.masks(asked) == [0, ANDROID, IOS | WEB, ANDROID, 0, IOS | WEB]
    assert await store.read([]) == []
    assert await store.masks([]) == []


async def test_reading_leaves_nothing_behind(store: Store) -> None:
    """Asking after users who never were online makes no record of them."""
    ghosts = [f"ghost-{i}" for i in range(1_000)]
    await store.read(ghosts)
    await store.masks(ghosts)
    assert await walk(store, 100) == []
    assert (await store.census()).online == 0


async def test_reading_many(store: Store) -> None:
    """Ten thousand users are one question."""
    users = [f"user-{i}" for i in range(10_000)]
    await set_online(store, users[::2])
    online = [IOS if i % 2 == 0 else 0 for i in range(10_000)]
    assert [reading.mask for reading in await store.read(users)] == online
    assert await store.masks(users) == online
    # Those who ask at the same moment may be more than a call to the store is to ask for.
    several = await asyncio.gather(*(store.masks(users[start:]) for start in range(4)))
    assert several == [online[start:] for start in range(4)]


async def test_an_empty_store_is_one_empty_page(store: Store) -> None:
    """Cursor 0 starts, and ends at once where nobody is online."""
    page = await store.page(0, 10)
    assert (page.users, page.next_cursor) == ((), 0)


@pytest.mark.parametrize("limit", [1, 7, 100, 5_000])
async def test_a_walk_shows_everyone_with_their_platforms(store: Store, limit: int) -> None:
    """While nothing changes, a walk shows each user once, whatever the size of its pages."""
    users = [f"user-{i}" for i in range(700)]
    await set_online(store, users[:350], IOS)
    await set_online(store, users[300:], WEB)
    expected = {user_id: (IOS if i < 350 else 0) | (WEB if i >= 300 else 0) for i, user_id in enumerate(users)}
    shown = await walk(store, limit)
    assert len(shown) == 700
    assert dict(shown) == expected


async def test_pages_are_about_as_long_as_asked(engine: Engine) -> None:
    """Of 20,000 users online, a page of 1,000 has at least that and not a half more; only the last has fewer."""
    store = await engine.open(partitions=4)
    await set_online(store, (f"user-{i}" for i in range(20_000)))
    cursor, sizes = 0, []
    while True:
        page = await store.page(cursor, 1_000)
        sizes.append(len(page.users))
        if not page.next_cursor:
            break
        cursor = page.next_cursor
    assert sum(sizes) == 20_000
    assert all(1_000 <= size <= 1_500 for size in sizes[:-1])
    assert sizes[-1] <= 1_500


@pytest.mark.parametrize("cursor", [-1, -(2**63), 2**63 - 1, 2**64])
async def test_a_cursor_no_page_gave_is_an_error(store: Store, cursor: int) -> None:
    """A bad cursor is refused, not taken for some place or other."""
    with pytest.raises(ArgumentError):
        await store.page(cursor, 10)


async def test_a_walk_under_way_survives_that_everybody_leaves(store: Store) -> None:
    """A cursor stays good whatever happens to the users around it."""
    users = [f"user-{i}" for i in range(500)]
    await set_online(store, users)
    cursor = (await store.page(0, 50)).next_cursor
    await store.write_timed("op", [TimedEdit(user_id, 0, IOS) for user_id in users])
    while cursor:
        page = await store.page(cursor, 50)
        assert page.users == ()
        cursor = page.next_cursor


@pytest.mark.parametrize("make_engine", ENGINES, ids=lambda engine: engine.__name__)
@given(
    stayers=st.sets(USER_IDS, max_size=60),
    comings=st.lists(st.tuples(st.booleans(), st.sampled_from([f"guest-{i}" for i in range(40)])), max_size=80),
    limit=st.integers(1, 30),
)
@settings(max_examples=60)
def test_a_walk_shows_everyone_who_stays_and_nobody_offline(
    make_engine: EngineMaker, cluster: SharedCluster, stayers: set[str], comings: list[tuple[bool, str]], limit: int
) -> None:
    """Whoever is online throughout a walk is shown, and each page shows only users online at that moment."""

    async def scenario() -> None:
        engine = make_engine(cluster)
        store = await engine.open(partitions=2)
        stay = {f"stay-{user_id}" for user_id in stayers}
        await set_online(store, stay)
        guests: set[str] = set()
        shown: set[str] = set()
        moves = iter(comings)
        cursor = 0
        while True:
            page = await store.page(cursor, limit)
            assert {status.user_id for status in page.users} <= stay | guests
            assert all(status.mask for status in page.users)
            shown |= {status.user_id for status in page.users}
            if not page.next_cursor:
                break
            cursor = page.next_cursor
            for _, (comes, guest) in zip(range(3), moves, strict=False):
                await store.write_timed("op", [TimedEdit(guest, IOS, 0) if comes else TimedEdit(guest, 0, IOS)])
                (guests.add if comes else guests.discard)(guest)
        assert stay <= shown
        await engine.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("make_engine", ENGINES, ids=lambda engine: engine.__name__)
@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "timed", "sweep"]),
            st.sampled_from("uvwxyz"),
            st.sampled_from([0, IOS, WEB, IOS | WEB, 1 << 62]),
        ),
        max_size=40,
    )
)
@settings(max_examples=60)
def test_the_census_is_what_a_recount_gives(
    make_engine: EngineMaker, cluster: SharedCluster, writes: list[tuple[str, str, int]]
) -> None:
    """After any writes and expiries, the counters equal a count of the users listed."""

    async def scenario() -> None:
        engine = make_engine(cluster)
        store = await engine.open(partitions=2, timed_ttl_ms=3_000)
        for holder in ("a", "b"):
            await store.grant(holder, 8_000)
        for seq, (who, user_id, mask) in enumerate(writes, 1):
            match who:
                case "timed":
                    await store.write_timed("op", [TimedEdit(user_id, mask, IOS | WEB)])
                case "sweep":
                    await engine.pass_time(1_000)
                    await store.sweep("op")
                case _ if await store.renew(who, 8_000):
                    await store.write_holds(hold_batch(who, seq, {user_id: mask}))
                case _:
                    await store.sweep("op")
                    await store.grant(who, 8_000)
            listed = dict(await walk(store, 10))
            census = await store.census()
            assert census.online == len(listed)
            recount = {i: sum(mask >> i & 1 for mask in listed.values()) for i in range(1, 63)}
            assert census.by_platform == {i: count for i, count in recount.items() if count}
        await engine.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("make_engine", ENGINES, ids=lambda engine: engine.__name__)
@given(user_ids=st.lists(USER_IDS, min_size=1, max_size=20, unique=True))
@settings(max_examples=50)
def test_any_text_is_a_user_id(make_engine: EngineMaker, cluster: SharedCluster, user_ids: list[str]) -> None:
    """IDs are any UTF-8 text: spaces, zero bytes, braces, emoji; no two are ever confused or altered."""

    async def scenario() -> None:
        engine = make_engine(cluster)
        store = await engine.open(partitions=3)
        heard: dict[str, int] = {}

        await store.grant("a", LEASE_MS)
        await store.write_holds(hold_batch("a", 1, dict.fromkeys(user_ids[::2], IOS)))
        await set_online(store, user_ids[1::2], WEB)
        expected = {user_id: WEB if i % 2 else IOS for i, user_id in enumerate(user_ids)}
        assert [reading.mask for reading in await store.read(user_ids)] == list(expected.values())
        assert await store.masks(user_ids) == list(expected.values())
        assert dict(await walk(store, 5)) == expected
        for partition in range(store.partitions):
            for entry in await store.changes_since(partition, 0) or ():
                heard.update((change.user_id, change.after) for change in entry.changes)
        assert heard == expected
        await engine.close()

    asyncio.run(scenario())

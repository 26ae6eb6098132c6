"""Each partition has one consumer at a time in each role, which goes on where the last one had come to."""

import pytest

from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import LeaseLost
from adsum.domain.presence import TimedEdit
from adsum.ports import Store
from tests.contract.engine import LEASE_MS, Engine
from tests.support.world import IOS, WEB

ROLE = "webhooks"


async def bid(store: Store, holder: str, *, take: bool = True, done: int = 0, partition: int = 0) -> Claim:
    (claim,) = await store.claim(ROLE, holder, [Bid(partition, take, done)])
    return claim


async def write(store: Store, times: int) -> list[int]:
    """Change a user of the only partition; the versions that makes, the one before them first."""
    versions = await store.versions()
    for i in range(times):
        await store.write_timed("op", [TimedEdit("u", WEB if i % 2 else IOS, IOS | WEB)])
        versions += await store.versions()
    return versions


@pytest.fixture
async def one(engine: Engine) -> Store:
    """A store of one partition, in which a and b have leases."""
    store = await engine.open(partitions=1)
    await store.grant("a", LEASE_MS)
    await store.grant("b", LEASE_MS * 2)
    return store


async def test_a_new_role_begins_at_the_present(one: Store) -> None:
    """What happened before anybody consumed is not told of."""
    *_, present = await write(one, 3)
    assert await bid(one, "a") == Claim(present, present, 1, free=False)


async def test_giving_up_what_nobody_bid_for_does_not_begin_a_role(one: Store) -> None:
    """A consumer that stops gives up all partitions, also those it never came to."""
    await one.disown(ROLE, "a", {0: 0})
    *_, present = await write(one, 3)
    assert await bid(one, "a") == Claim(present, present, 1, free=False)


async def test_the_first_keeps_what_it_took(one: Store) -> None:
    """The second is told that it is not the owner, and both that they are two."""
    assert (await bid(one, "a")).cursor is not None
    second = await bid(one, "b")
    assert (second.cursor, second.free, second.contenders) == (None, False, 2)
    first = await bid(one, "a")
    assert (first.cursor, first.contenders) == (0, 2)


async def test_who_only_looks_takes_nothing(one: Store) -> None:
    """A bidder that has its share is counted, and sees what is free."""
    assert await bid(one, "a", take=False) == Claim(None, 0, 1, free=True)
    assert (await bid(one, "b")).cursor == 0
    assert await bid(one, "a", take=False) == Claim(None, 0, 2, free=False)


async def test_what_is_done_stays_done(one: Store) -> None:
    """The cursor moves on with what the owner has done, and never back."""
    await bid(one, "a")
    versions = await write(one, 4)
    assert (await bid(one, "a", done=versions[3])).cursor == versions[3]
    assert (await bid(one, "a", done=versions[2])).cursor == versions[3]
    assert (await bid(one, "a")) == Claim(versions[3], versions[4], 1, free=False)


async def test_only_the_owner_moves_the_cursor(one: Store) -> None:
    """One that was superseded and does not know it yet changes nothing."""
    await bid(one, "a")
    versions = await write(one, 2)
    await bid(one, "b", done=versions[2])
    await one.disown(ROLE, "b", {0: versions[2]})
    assert (await bid(one, "a")).cursor == versions[0]


async def test_a_version_the_partition_never_had_is_ignored(one: Store) -> None:
    """It is of a past that the store has lost: everything since the cursor is still to be done."""
    await bid(one, "a")
    *_, present = await write(one, 2)
    assert (await bid(one, "a", done=present + 1)).cursor == 0


async def test_what_is_done_stays_done_when_the_feed_forgets_it(engine: Engine) -> None:
    """Of the entries no longer kept, the last one's version is still known: the first that is kept follows it."""
    store = await engine.open(partitions=1, history=100)
    await store.grant("a", LEASE_MS)
    await bid(store, "a")
    # Redis forgets by the hundred.
    versions = await write(store, 350)
    kept = [version for version in versions if await store.changes_since(0, version) is not None]
    assert len(kept) < len(versions)
    oldest = kept[0]
    assert (await bid(store, "a", done=oldest)).cursor == oldest


async def test_the_next_goes_on_where_the_dead_had_come_to(engine: Engine, one: Store) -> None:
    """An owner is one while its lease lives, swept or not; then it is not counted either."""
    await bid(one, "a")
    versions = await write(one, 3)
    await bid(one, "a", done=versions[2])
    await engine.pass_time(LEASE_MS)
    assert await bid(one, "b") == Claim(versions[2], versions[3], 1, free=False)


async def test_one_without_a_lease_cannot_bid(engine: Engine, one: Store) -> None:
    """Nor does it disturb the owner by giving up what it has no more."""
    await bid(one, "a")
    await engine.pass_time(LEASE_MS)
    await bid(one, "b")
    for holder in ("a", "nobody"):
        with pytest.raises(LeaseLost):
            await bid(one, holder)
        await one.disown(ROLE, holder, {0: 0})
    assert (await bid(one, "b")).cursor == 0


async def test_giving_up_frees_the_partition(one: Store) -> None:
    """With a last word on what is done; whoever left is counted no longer."""
    await bid(one, "a")
    versions = await write(one, 2)
    await bid(one, "b")
    await one.disown(ROLE, "a", {0: versions[1]})
    assert await bid(one, "b", take=False) == Claim(None, versions[2], 1, free=True)
    assert await bid(one, "b") == Claim(versions[1], versions[2], 1, free=False)
    await one.disown(ROLE, "a", {0: versions[2]})
    assert (await bid(one, "b")).cursor == versions[1]


async def test_a_released_holder_owns_nothing(one: Store) -> None:
    """A node that says goodbye to the store need say nothing more."""
    await bid(one, "a")
    await one.release("a", "goodbye")
    assert (await bid(one, "b")) == Claim(0, 0, 1, free=False)


async def test_roles_are_strangers(one: Store) -> None:
    """Each has its own owner and cursor."""
    await bid(one, "a")
    versions = await write(one, 2)
    (other,) = await one.claim("projection", "b", [Bid(0, take=True)])
    assert other == Claim(versions[2], versions[2], 1, free=False)
    assert (await bid(one, "a")) == Claim(versions[0], versions[2], 1, free=False)


async def test_answers_come_in_the_order_asked(store: Store) -> None:
    """Many partitions are one question."""
    await store.grant("a", LEASE_MS)
    await store.grant("b", LEASE_MS)
    await store.claim(ROLE, "a", [Bid(1, take=True), Bid(3, take=True)])
    claims = await store.claim(ROLE, "b", [Bid(p, take=True) for p in (3, 2, 1, 0)])
    assert [claim.cursor for claim in claims] == [None, 0, None, 0]


async def test_claims_leave_the_census_alone(one: Store) -> None:
    """What roles keep in the partition's state is not taken for a count."""
    await one.write_timed("op", [TimedEdit("u", IOS, 0)])
    await bid(one, "a")
    census = await one.census()
    assert (census.online, census.by_platform) == (1, {1: 1})


async def test_a_partition_can_be_listed_alone(engine: Engine) -> None:
    """Each user is in the listing of one partition, and all of them are in some."""
    store = await engine.open(partitions=4)
    users = {f"user-{i}" for i in range(500)}
    await store.write_timed("op", [TimedEdit(user, IOS, 0) for user in sorted(users)])
    found: list[str] = []
    for partition in range(4):
        mine: set[str] = set()
        cursor = 0
        while True:
            page = await store.page_of(partition, cursor, 50)
            mine |= {user for user, mask in page.users if mask == IOS}
            cursor = page.next_cursor
            if not cursor:
                break
        found += mine
    assert sorted(found) == sorted(users)

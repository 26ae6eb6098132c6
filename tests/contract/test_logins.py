"""What a store tells of logins: when they were, and to whom they matter."""

from adsum.domain.presence import HoldBatch, HoldState, Login, OwnLogin
from adsum.ports import Store
from tests.contract.engine import LEASE_MS
from tests.contract.follower import Follower
from tests.support.world import ANDROID, IOS, WEB, hold_batch

PHONES = IOS | ANDROID


def login_batch(holder: str, seq: int, mask: int, login: OwnLogin) -> HoldBatch:
    """One login of the user u."""
    return HoldBatch(holder, 0, seq, f"op-{holder}-{seq}", (HoldState("u", mask, logins=(login,)),))


def ios_login(token: str = "t1", kicked: int = PHONES, age_ms: int = 0, at_ms: int = 0) -> OwnLogin:
    return OwnLogin(1, token, kicked, age_ms, at_ms=at_ms)


async def grant(store: Store, *holders: str) -> None:
    for holder in holders:
        await store.grant(holder, LEASE_MS)


async def test_the_time_of_logins_never_goes_back(store: Store) -> None:
    """Whatever gateway writes, the store's time that it tells never goes back."""
    await grant(store, "a", "b")
    batches = [login_batch(holder, seq, IOS, ios_login()) for seq in range(1, 6) for holder in ("a", "b")]
    times = [(await store.write_holds(batch))["u"] for batch in batches]
    assert times == sorted(times)
    assert times[0] > 0


async def test_a_login_is_told_where_another_holder_has_what_it_ends(store: Store, feed: Follower) -> None:
    """The entry names the login, its token and when it was, also if nobody's platforms change."""
    await grant(store, "a", "b")
    await store.write_holds(login_batch("a", 1, IOS, ios_login("of-a")))
    told_ms = await store.write_holds(login_batch("b", 1, IOS, ios_login("of-b", age_ms=250)))
    first, second = await feed.entries()
    assert first.logins == ()
    assert second.changes == ()
    assert second.op_id == "op-b-1"
    assert second.logins == (Login("u", 1, "of-b", told_ms["u"] - 250),)


async def test_a_login_that_ends_nothing_is_told_to_nobody(store: Store, feed: Follower) -> None:
    """Neither platforms it leaves alone, nor its own holder's, nor those of set calls make it news."""
    await grant(store, "a", "b")
    await store.write_holds(hold_batch("a", 1, {"u": WEB}))
    await store.write_holds(login_batch("b", 1, PHONES, ios_login()))
    await store.write_holds(login_batch("b", 2, PHONES, OwnLogin(2, "t2", PHONES, 0)))
    assert [entry.logins for entry in await feed.entries()] == [(), ()]


async def test_a_login_is_never_before_one_it_has_ended(store: Store, feed: Follower) -> None:
    """However long it waited to be written: its gateway has acted on the order."""
    await grant(store, "a", "b")
    await store.write_holds(hold_batch("a", 1, {"u": ANDROID}))
    login = ios_login(age_ms=60_000)._replace(after_ms=1 << 50)
    told_ms = await store.write_holds(login_batch("b", 1, IOS, login))
    assert (await feed.entries())[-1].logins[0].at_ms == login.when(told_ms["u"]) == (1 << 50) + 1


async def test_a_login_told_again_keeps_its_time(store: Store, feed: Follower) -> None:
    """It is told like the first time, with the time it had."""
    await grant(store, "a", "b")
    await store.write_holds(hold_batch("a", 1, {"u": ANDROID}))
    assert await store.write_holds(login_batch("b", 1, IOS, ios_login(age_ms=5, at_ms=1_700_000_000_000))) == {}
    assert (await feed.entries())[-1].logins == (Login("u", 1, "t1", 1_700_000_000_000),)


async def test_high_platforms_meet_too(store: Store, feed: Follower) -> None:
    """Platform IDs beyond 31, which an engine may keep apart, count like others."""
    await grant(store, "a", "b")
    high = 1 << 62
    await store.write_holds(hold_batch("a", 1, {"u": high}))
    await store.write_holds(login_batch("b", 1, IOS, ios_login(kicked=IOS | high)))
    assert (await feed.entries())[-1].logins[0].platform_id == 1


async def test_ended_tokens_are_told(store: Store, feed: Follower) -> None:
    """With the state of their user, even if that did not change; nothing of them stays for later writes."""
    await grant(store, "a")
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    states = (HoldState("u", IOS, ended_tokens=("ab12", "cd34")), HoldState("v", 0, ended_tokens=("ef56",)))
    assert await store.write_holds(HoldBatch("a", 0, 2, "op", states)) == {}
    await store.write_holds(hold_batch("a", 3, {"u": WEB}))
    entries = await feed.entries()
    told = [ended for entry in entries for ended in entry.ended_tokens]
    assert sorted(told) == [("u", "ab12"), ("u", "cd34"), ("v", "ef56")]


async def test_what_is_told_of_logins_can_be_caught_up_with(store: Store, feed: Follower) -> None:
    """A follower who missed the entry finds all of it in the feed."""
    await grant(store, "a", "b")
    await store.write_holds(login_batch("a", 1, IOS, ios_login()))
    states = (HoldState("u", IOS, logins=(ios_login("t2"),), ended_tokens=("ab",)),)
    await store.write_holds(HoldBatch("b", 0, 1, "op", states))
    heard = await feed.entries()
    assert heard[-1].logins
    assert heard[-1].ended_tokens
    assert await store.changes_since(heard[0].partition, 0) == heard


async def test_a_batch_that_comes_twice_tells_once(store: Store, feed: Follower) -> None:
    """The second time it is ignored, and no time is told."""
    await grant(store, "a", "b")
    await store.write_holds(hold_batch("a", 1, {"u": IOS}))
    batch = login_batch("b", 1, IOS, ios_login())
    assert "u" in await store.write_holds(batch)
    assert await store.write_holds(batch) == {}
    assert sum(len(entry.logins) for entry in await feed.entries()) == 1


async def test_many_users_log_in_at_once(store: Store, feed: Follower) -> None:
    """A batch over all partitions: each user's time is told, and those who meet somebody are told of."""
    await grant(store, "a", "b")
    users = [f"u{i}" for i in range(100)]
    await store.write_holds(hold_batch("a", 1, dict.fromkeys(users[:50], IOS)))
    states = tuple(HoldState(user, IOS, logins=(ios_login(f"t-{user}"),)) for user in users)
    told_ms = await store.write_holds(HoldBatch("b", 0, 1, "op", states))
    assert told_ms.keys() == set(users)
    told = {login.user_id: login.at_ms for entry in await feed.entries() for login in entry.logins}
    assert told == {user: told_ms[user] for user in users[:50]}

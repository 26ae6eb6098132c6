"""States from memory: true while the feed is, read again where it is in doubt, once for all who ask."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.core.feed import FeedCursor
from adsum.core.known import Known
from adsum.core.opids import OpIds
from adsum.domain.errors import ArgumentError, StoreError
from adsum.domain.platforms import PRESETS, PlatformRegistry
from adsum.domain.presence import FeedEntry, Status, TimedEdit
from adsum.proto import user_pb2 as pb
from adsum.service import states as states_module
from adsum.service.presence import OnlineEdit, Presence, PresenceLimits
from adsum.service.relay import Relay
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits
from tests.support.compiled import replaces_a_method
from tests.support.faulty import FaultyStore
from tests.support.waiting import turns, until
from tests.support.world import IOS, WEB, ManualClock, RecordingMeter
from tests.unit.service.node import World

MAX_HOT = 10
LOOK_MS = 3_600_000
LIMITS = PresenceLimits(max_user_id_bytes=16, max_users=10_000)


class Desk:
    """Presence over states, which a relay keeps true, from a store with faults."""

    def __init__(self, world: World, max_hot: int = MAX_HOT, limits: PresenceLimits = LIMITS) -> None:
        self.world = world
        self.store: FaultyStore = world.store
        self.meter = RecordingMeter()
        self.states = States(world.store, self._sound, self.meter, max_hot)
        self.watching = Watching(self.states, lambda _user_id: (), self.meter, WatchingLimits())
        self.presence = Presence(
            world.store, self.states, self.watching, PlatformRegistry(PRESETS["openim"]), limits, OpIds("op")
        )
        self.relay = Relay(world.store, [self.states.on_feed], self.states.resync, self.meter, LOOK_MS)

    def _sound(self) -> FeedCursor | None:
        return self.relay.sound()

    @property
    def reads(self) -> int:
        """How many trips to the store there were."""
        return self.store.calls["read"]

    async def set(self, mask: int, *user_ids: str) -> None:
        """Make these users' platforms the mask (of IOS and WEB), by another node."""
        await self.world.truth.write_timed("elsewhere", [TimedEdit(user_id, mask, IOS | WEB) for user_id in user_ids])

    async def ask(self, *user_ids: str) -> list[int]:
        """What a query answers."""
        return (await self.presence.query(user_ids)).masks

    async def note(self, *user_ids: str) -> None:
        """Ask once, which does not count as one of the `reads`: who is asked for again is to be known."""
        await self.ask(*user_ids)
        self.store.calls.clear()

    async def know(self, *user_ids: str) -> None:
        """Ask twice: who is asked for again is kept in memory."""
        for _ in range(2):
            await self.ask(*user_ids)

    def at_once(self, *user_ids: str) -> list[Status] | None:
        """What is answered without waiting, if anything is."""
        encoded = self.presence.known_entries(user_ids)
        if encoded is None:
            return None
        statuses = []
        for entry in pb.getUserStatusResp.FromString(encoded).statusList:
            assert entry.status == bool(entry.platformIDs)
            statuses.append(Status(entry.userID, sum(1 << platform_id for platform_id in entry.platformIDs)))
        return statuses

    def asking(self, *user_ids: str) -> "asyncio.Task[list[int]]":
        return asyncio.create_task(self.ask(*user_ids))


def held_entries() -> list[object]:
    """The entries of the feed that anybody still holds."""
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, states_module._Heard)]


@pytest.fixture
def world() -> World:
    return World(ManualClock(), partitions=2, history=8)


@pytest_asyncio.fixture
async def desk(world: World) -> AsyncIterator[Desk]:
    desk = Desk(world)
    await desk.relay.start()
    yield desk
    await desk.relay.stop()


# From memory


async def test_who_was_asked_for_is_known(desk: Desk) -> None:
    """A third query needs no store, names repeated users too, and follows every change."""
    await desk.set(IOS, "u")
    for _ in range(2):
        assert await desk.ask("u", "v", "u") == [IOS, 0, IOS]
    desk.store.failing.add("read")
    for mask in (IOS, WEB, 0, IOS | WEB):
        await desk.set(mask, "u")
        assert await desk.ask("v", "u", "u") == [0, mask, mask]
    assert (desk.meter.hits, desk.meter.misses) == (8, 6)


async def test_an_answer_from_memory_needs_no_waiting(desk: Desk) -> None:
    """Known users are answered at once, encoded; one unknown among them and there is no answer."""
    await desk.set(IOS | WEB, "u")
    await desk.ask("u", "v")
    assert desk.at_once("u") is None, "asked for once only"
    await desk.ask("u", "v")
    assert desk.at_once("v", "u") == [Status("v", 0), Status("u", IOS | WEB)]
    assert desk.at_once("u", "w") is None


async def test_what_is_bad_is_refused_by_either_way(desk: Desk) -> None:
    """A bad ID is never known; an empty or too long list is refused as without a cache."""
    for user_ids in ([], [""], ["x" * 17], ["u"] * 10_001):
        with pytest.raises(ArgumentError):
            await desk.presence.query(user_ids)
    assert desk.at_once() is None
    assert desk.at_once("", "x" * 17) is None
    with pytest.raises(ArgumentError):
        desk.at_once(*["u"] * 10_001)
    assert desk.states.table.hot_users == 0


async def test_who_is_asked_for_once_takes_nobodys_room(desk: Desk) -> None:
    """However many they are: they are answered, and those asked for again stay."""
    await desk.set(IOS, "u")
    await desk.know("u")
    for start in range(0, 1_000, 8):
        await desk.ask(*(f"x{i}" for i in range(start, start + 8)))
    assert [user.user_id for user in desk.states.table.hot()] == ["u"]
    assert desk.at_once("u") == [Status("u", IOS)]


async def test_a_watched_user_is_known_without_being_asked_for(desk: Desk) -> None:
    """What watching keeps true, queries use."""
    await desk.presence.subscribe("s", ["u"])
    await desk.set(IOS, "u")
    desk.store.failing.add("read")
    assert await desk.ask("u") == [IOS]
    await desk.presence.cancel("s", ["u"])
    assert await desk.ask("u") == [IOS], "and is the last asked for when watching ends"


async def test_who_is_hot_needs_no_reading_to_be_watched(desk: Desk) -> None:
    """A watcher is answered from memory as well."""
    await desk.set(IOS, "u")
    await desk.know("u")
    desk.store.failing.add("read")
    assert await desk.presence.subscribe("s", ["u"]) == [Status("u", IOS)]
    assert (desk.states.table.watched_users, desk.states.table.hot_users) == (1, 0)


async def test_without_a_cache_every_query_reads(world: World) -> None:
    """Hot users off: the watched are still known."""
    desk = Desk(world, max_hot=0)
    await desk.relay.start()
    await desk.presence.subscribe("s", ["w"])
    for reads in (2, 3):
        assert await desk.ask("u", "w") == [0, 0]
        assert desk.reads == reads
    assert desk.states.table.hot_users == 0
    await desk.relay.stop()


async def test_the_bound_holds_whatever_is_asked(desk: Desk) -> None:
    """Whoever is asked for, and however often, as many are hot as there is room for: the last of them."""
    users = [f"u{i}" for i in range(10_000)]
    await desk.set(IOS, *users)
    for _ in range(3):
        assert await desk.ask(*users) == [IOS] * 10_000
        assert desk.states.table.hot_users <= MAX_HOT
    for start in range(0, 100, MAX_HOT // 2):
        await desk.know(*users[start : start + MAX_HOT // 2])
    users = users[:100]
    assert [user.user_id for user in desk.states.table.hot()] == users[-MAX_HOT:]
    desk.store.failing.add("read")
    assert await desk.ask(*users[-MAX_HOT:]) == [IOS] * MAX_HOT


# Readings and the feed


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_change_that_crosses_a_reading_is_not_missed(desk: Desk, when: str) -> None:
    """Whether the reading saw it or not, memory has it afterwards."""
    await desk.note("u")
    held = desk.store.hold("read")
    asking = desk.asking("u")
    await held.arrived.wait()
    if when == "before":
        await desk.set(IOS, "u")
    await held.perform()
    if when == "after":
        await desk.set(IOS, "u")
    held.answer()
    await asking
    desk.store.failing.add("read")
    assert await desk.ask("u") == [IOS]


async def test_a_feed_that_lags_behind_a_reading_takes_nothing_back(desk: Desk) -> None:
    """Entries older than what was read are no news."""
    desk.store.feed_held = True
    for mask in (IOS, 0, WEB):
        await desk.set(mask, "u")
    for _ in range(2):
        assert await desk.ask("u") == [WEB]
    seen: list[list[int]] = []
    deliver = desk.states.on_feed

    def watch(entry: FeedEntry) -> None:
        deliver(entry)
        seen.append([status.mask for status in desk.at_once("u") or ()])

    desk.relay._listeners = [watch]
    desk.store.deliver_feed()
    await turns()
    assert seen == [[WEB]] * 3


# Merging


async def test_those_who_miss_at_once_share_a_reading(desk: Desk) -> None:
    """However many ask for a user who is being read to be known, one reading serves all."""
    await desk.set(IOS, "u", "v")
    await desk.note("u", "v")
    held = desk.store.hold("read")
    first = desk.asking("u", "v")
    await held.perform()
    others = [desk.asking("v", "u") for _ in range(20)]
    await turns()
    held.answer()
    assert await first == [IOS, IOS]
    assert await asyncio.gather(*others) == [[IOS, IOS]] * 20
    assert desk.reads == 1


async def test_those_who_ask_first_at_once_make_few_readings(desk: Desk) -> None:
    """A first question teaches nothing; the second does, and serves all who ask while it is under way."""
    await desk.set(IOS, "u")
    first_held, second_held = desk.store.hold("read"), desk.store.hold("read")
    first = desk.asking("u")
    await first_held.perform()
    others = [desk.asking("u") for _ in range(20)]
    await second_held.perform()
    first_held.answer()
    second_held.answer()
    assert await asyncio.gather(first, *others) == [[IOS]] * 21
    assert desk.reads == 3, "the first again, because memory gets to know by another reading than its own"
    assert desk.at_once("u") == [Status("u", IOS)]


async def test_a_first_answer_that_comes_late_is_not_taken_back(desk: Desk) -> None:
    """By what a later question, answered earlier, has had memory know."""
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.arrived.wait()
    assert await desk.ask("u") == [0]
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    held.answer()
    assert await first == [IOS]
    assert await desk.ask("u") == [IOS]


async def test_an_answer_beside_one_that_teaches_is_not_taken_back(desk: Desk) -> None:
    """Where one of two users read together is to be known, and the other is asked for again meanwhile."""
    await desk.note("again")
    held = desk.store.hold("read")
    first = desk.asking("again", "u")
    await held.arrived.wait()
    second = desk.asking("u")
    await turns()
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    held.answer()
    assert await first == [0, IOS]
    assert await second == [IOS]
    assert await desk.ask("u") == [IOS]


async def test_a_first_question_that_is_read_twice_gives_nobody_room(desk: Desk) -> None:
    """Because memory got to know one of its users meanwhile: the others were asked for once."""
    held = desk.store.hold("read")
    first = desk.asking("u", "v", "w")
    await held.arrived.wait()
    await desk.ask("u")
    held.answer()
    assert await first == [0, 0, 0]
    assert [user.user_id for user in desk.states.table.hot()] == ["u"]


async def test_a_later_reading_is_the_newest_though_it_is_forgotten_who_was_noted(desk: Desk) -> None:
    """In doubt, one asked for before reads again: memory then takes nothing back of what that has told."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.perform()
    await desk.ask(*(f"x{i}" for i in range(MAX_HOT + 1)))
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    desk.store.session = 0
    assert await desk.ask("u") == [IOS]
    desk.store.session = 1
    held.answer()
    assert await first == [0]
    assert await desk.ask("u") == [IOS]


async def test_what_the_first_of_two_readings_told_is_not_taken_back(desk: Desk) -> None:
    """The feed is slow: while the second is under way, memory must not answer what was before the first."""
    await desk.know("u")
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    desk.store.session = 0
    first, second = desk.store.hold("read"), desk.store.hold("read")
    told = desk.asking("u")
    await first.perform()
    under_way = desk.asking("u")
    await second.arrived.wait()
    desk.store.session = 1
    first.answer()
    assert await told == [IOS]
    assert desk.at_once("u") is None
    second.answer()
    assert await under_way == [IOS]


async def test_one_who_joins_hears_of_what_changed_meanwhile(desk: Desk) -> None:
    """A change between the reading and the joining comes by the feed, and is in the answer."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.perform()
    await desk.set(IOS, "u")
    second = desk.asking("u")
    await turns()
    held.answer()
    assert await first == [0]
    assert await second == [IOS]
    assert desk.reads == 1


async def test_one_who_joins_need_not_be_there_when_the_reading_ends(desk: Desk) -> None:
    """While another reading of theirs is under way."""
    await desk.note("u", "v")
    first_held = desk.store.hold("read")
    first = desk.asking("u")
    await first_held.perform()
    second_held = desk.store.hold("read")
    second = desk.asking("u", "v")
    await second_held.perform()
    first_held.answer()
    assert await first == [0]
    second_held.answer()
    assert await second == [0, 0]
    assert desk.reads == 2


async def test_one_who_joins_reads_on_where_the_reading_is_given_up(desk: Desk) -> None:
    """A caller that goes away takes nobody with it."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.arrived.wait()
    second, third = desk.asking("u"), desk.asking("u")
    await turns()
    second.cancel()
    first.cancel()
    assert await third == [0]
    assert desk.reads == 2


async def test_those_who_joined_a_reading_that_fails_fail_too(desk: Desk) -> None:
    """At once, with the store's error; the user is unknown as before."""
    await desk.note("u")
    held = desk.store.hold("read")
    desk.store.losing.add("read")
    asking = [desk.asking("u") for _ in range(3)]
    await held.arrived.wait()
    held.answer()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError] * 3
    assert desk.reads == 1
    assert desk.states.table.hot_users == 0


async def test_who_gets_room_meanwhile_takes_nothing_from_those_who_wait(desk: Desk) -> None:
    """One who is being read needs no room to be kept true."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.perform()
    second = desk.asking("u")
    await turns()
    await desk.know(*(f"x{i}" for i in range(MAX_HOT)))
    await desk.set(IOS, "u")
    held.answer()
    assert await first == [0]
    assert await second == [IOS]
    assert desk.reads == 3


async def test_one_who_begins_to_be_watched_while_read_is_taught(desk: Desk) -> None:
    """With what the feed told between the beginning of the reading and that of the watching."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.perform()
    await desk.set(IOS, "u")
    watching = asyncio.create_task(desk.presence.subscribe("s", ["u"]))
    await turns()
    held.answer()
    assert await first == [0]
    assert await watching == [Status("u", IOS)]
    assert desk.reads == 1


async def test_what_the_feed_told_is_not_kept_longer_than_a_reading_takes(desk: Desk) -> None:
    """Entries are held for readings under way, and by nobody else."""
    await desk.note("u")
    held = desk.store.hold("read")
    asking = desk.asking("u")
    await held.perform()
    for mask in (IOS, WEB):
        await desk.set(mask, "x")
    assert len(held_entries()) == 3
    held.answer()
    await asking
    del asking
    assert len(held_entries()) == 1, "the last, to which the next is hung"


# Doubt


async def test_a_partition_that_catches_up_is_read(desk: Desk) -> None:
    """From the hole on until it is filled, answers come from the store."""
    await desk.know("u")
    held = desk.store.hold("changes_since")
    desk.store.drops = lambda _: True
    await desk.set(IOS, "u")
    desk.store.drops = lambda _: False
    await desk.set(IOS | WEB, "u")
    await held.arrived.wait()
    assert await desk.ask("u") == [IOS | WEB]
    assert desk.at_once("u") is None
    held.answer()
    await until(lambda: not desk.relay.behind)
    assert desk.at_once("u") == [Status("u", IOS | WEB)]


async def test_in_doubt_everybody_has_a_reading_of_their_own(desk: Desk) -> None:
    """What was read before one asked is no answer where the feed may not make it good."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.perform()
    desk.store.session = 0
    await desk.set(IOS, "u")
    assert await desk.ask("u") == [IOS]
    held.answer()
    assert await first == [0]


async def test_one_who_joined_is_read_anew_where_doubt_has_come_up(desk: Desk) -> None:
    """The joining was right when it was asked, and is no more."""
    await desk.note("u")
    held = desk.store.hold("read")
    first = desk.asking("u")
    await held.perform()
    second = desk.asking("u")
    await turns()
    desk.store.drops = lambda _: True
    await desk.set(IOS, "u")
    desk.store.session = 2
    held.answer()
    assert await first == [0]
    assert await second == [IOS]


async def test_answers_never_go_back_when_doubt_ends(desk: Desk) -> None:
    """What the store has told is not taken back by a memory that the feed has yet to bring there."""
    await desk.know("u")
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    desk.store.session = 0
    assert await desk.ask("u") == [IOS]
    desk.store.session = 1
    assert await desk.ask("u") == [IOS]
    desk.store.deliver_feed()
    desk.store.failing.add("read")
    assert await desk.ask("u") == [IOS]


async def test_a_partition_read_anew_forgets_who_was_only_asked_for(desk: Desk) -> None:
    """The feed does not tell what they missed; the watched are read."""
    await desk.presence.subscribe("s", ["watched"])
    await desk.know("u", "v")
    desk.store.drops = lambda _: True
    await desk.set(IOS, "u", "v", "watched")
    desk.store.drops = lambda _: False
    for partition in range(2):
        await desk.states.resync(partition, restarted=False)
    assert desk.states.table.hot_users == 0
    assert desk.at_once("watched") == [Status("watched", IOS)]
    assert await desk.ask("u", "v") == [IOS, IOS]


@replaces_a_method
async def test_partitions_read_anew_at_once_are_one_walk_through_the_table(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has everybody, and there may be thousands of partitions."""
    users = [f"watched-{number}" for number in range(20)]
    await desk.presence.subscribe("s", users)
    desk.store.drops = lambda _: True
    await desk.set(IOS, *users)
    walks, watched = [], desk.states.table.watched

    def counted() -> list[Known]:
        walks.append(0)
        return watched()

    monkeypatch.setattr(desk.states.table, "watched", counted)
    await asyncio.gather(*(desk.states.resync(partition, restarted=False) for partition in range(2)))
    assert len(walks) == 1
    assert desk.at_once(*users) == [Status(user_id, IOS) for user_id in users]


async def test_a_reading_from_before_a_partition_was_read_anew_teaches_nobody(desk: Desk) -> None:
    """Who asked is answered, and the next one reads."""
    await desk.ask("u")
    held = desk.store.hold("read")
    asking = desk.asking("u")
    await held.perform()
    for partition in range(2):
        await desk.states.resync(partition, restarted=False)
    desk.store.drops = lambda _: True
    await desk.set(IOS, "u")
    held.answer()
    assert await asking == [0]
    assert await desk.ask("u") == [IOS]


async def test_after_an_interruption_nothing_known_before_is_answered(desk: Desk) -> None:
    """The store may have lost what it told: the hot are forgotten, the watched are asked of the store."""
    await desk.presence.subscribe("s", ["watched"])
    await desk.know("u")
    desk.store.drops = lambda _: True
    await desk.set(IOS, "u", "watched")
    newest = desk.states.interrupted()
    assert list(newest.values()) == [0], "the watched user was read at version 0"
    assert await desk.ask("u", "watched") == [IOS, IOS]


async def test_what_was_read_ahead_of_the_feed_is_read_anew_after_an_interruption(desk: Desk) -> None:
    """A watched user read from a past that is lost is mended, though no version shows it."""
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    await desk.presence.subscribe("s", ["u"])
    await desk.set(0, "u")
    news: list[str] = []
    desk.states.news = news.append
    desk.relay.read_lost(desk.states.interrupted())
    await until(lambda: news)
    assert await desk.presence.subscriptions("s") == [Status("u", 0)]


async def test_one_who_begins_to_watch_in_doubt_is_read(desk: Desk) -> None:
    """A hot user's state from before the doubt is not what a watcher begins with."""
    await desk.know("u")
    desk.store.feed_held = True
    await desk.set(IOS, "u")
    desk.store.session = 0
    assert await desk.presence.subscribe("s", ["u"]) == [Status("u", IOS)]


# Writes


@pytest.mark.parametrize("watched", [False, True])
async def test_a_write_is_seen_by_the_next_query(desk: Desk, *, watched: bool) -> None:
    """Before the feed tells of it, and without going back when an earlier change comes late."""
    if watched:
        await desk.presence.subscribe("s", ["u"])
    await desk.know("u")
    desk.store.feed_held = True
    await desk.set(WEB, "u")
    await desk.presence.set_online([OnlineEdit("u", "c", [1], [5])])
    assert await desk.ask("u") == [IOS]
    await desk.presence.set_online([OnlineEdit("u", "c", [5], [1])])
    assert desk.at_once("u") is None
    assert await desk.ask("u") == [WEB]
    desk.store.deliver_feed()
    desk.store.failing.add("read")
    assert await desk.ask("u") == [WEB]


@pytest.mark.parametrize("watched", [False, True])
async def test_a_reading_from_before_a_write_is_no_answer_after_it(desk: Desk, *, watched: bool) -> None:
    """It is under way when the write ends, and who asks then does not join it."""
    await desk.ask("u")
    if watched:
        await desk.presence.subscribe("s", ["u"])
        desk.states.written(["u"])
    desk.store.feed_held = True
    held = desk.store.hold("read")
    early = desk.asking("u")
    await held.perform()
    await desk.presence.set_online([OnlineEdit("u", "c", [1], [])])
    late = desk.asking("u")
    await turns()
    held.answer()
    assert await early == [0]
    assert await late == [IOS]
    assert await desk.ask("u") == [IOS]


async def test_a_write_without_an_answer_may_have_been_carried_out(desk: Desk) -> None:
    """Its users are read, too."""
    await desk.know("u")
    desk.store.feed_held = True
    desk.store.losing.add("write_timed")
    with pytest.raises(StoreError):
        await desk.presence.set_online([OnlineEdit("u", "c", [1], [])])
    assert await desk.ask("u") == [IOS]


# The store fails


async def test_a_query_fails_with_the_store(desk: Desk) -> None:
    """In doubt memory answers nothing, and the store's error is the caller's."""
    await desk.know("u")
    desk.store.session = 0
    desk.store.failing.add("read")
    with pytest.raises(StoreError):
        await desk.ask("u")


async def test_where_it_is_wanted_what_was_known_last_is_answered(world: World) -> None:
    """It says so; a user of whom nothing is known fails the query."""
    desk = Desk(world, limits=PresenceLimits(stale_queries=True))
    await desk.relay.start()
    await desk.set(IOS, "u")
    for _ in range(2):
        assert not (await desk.presence.query(["u"])).stale
    desk.store.session = 0
    desk.store.failing.add("read")
    answer = await desk.presence.query(["u", "u"])
    assert answer == ([IOS] * 2, True)
    with pytest.raises(StoreError):
        await desk.presence.query(["u", "unknown"])
    await desk.relay.stop()

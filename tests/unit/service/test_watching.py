"""Watching: the last word is always the truth, however questions and changes cross."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_asyncio

from adsum.core.feed import FeedCursor
from adsum.core.registry import Registry
from adsum.core.session import Phase, Session
from adsum.domain.errors import ArgumentError, StoreError, TooManyWatches
from adsum.domain.login import LoginPolicy
from adsum.domain.presence import Status, TimedEdit
from adsum.service import states as states_module
from adsum.service import watching as watching_module
from adsum.service.relay import Relay
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits
from adsum.wire.frames import CODECS, Codec
from tests.support.faulty import FaultyStore
from tests.support.sessions import RecordingLink, last_words, link_up, make_session, pushes, tips
from tests.support.waiting import turns, until
from tests.support.world import IOS, WEB, ManualClock, RecordingMeter
from tests.unit.service.node import World

IOS_ONLY, WEB_ONLY, OFFLINE = (1,), (5,), ()
LIMITS = WatchingLimits(max_subscribers=3, max_watched_per_subscriber=5, max_watches=10_000)


class Hub:
    """Watching, fed by a relay from a store with faults, for connections with links that remember."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store: FaultyStore = world.store
        self.meter = RecordingMeter()
        self.registry = Registry(LoginPolicy.KICK_NOBODY, 100_000, 100_000)
        self.states = States(world.store, self._sound, self.meter, max_hot=0)
        self.watching = Watching(self.states, self.registry.sessions, self.meter, LIMITS)
        self.relay = Relay(world.store, [self.states.on_feed], self.states.resync, self.meter)

    def _sound(self) -> FeedCursor | None:
        return self.relay.sound()

    def connect(self, user_id: str = "watcher", codec: Codec = CODECS[0]) -> tuple[Session, RecordingLink]:
        session = make_session(user_id, codec=codec)
        link = link_up(session)
        self.registry.add(session)
        self.watching.connected(session)
        return session, link

    def disconnect(self, session: Session) -> None:
        session.phase = Phase.GONE
        self.registry.remove(session)
        self.watching.gone(session)
        session.link = None

    async def watch(self, session: Session, *user_ids: str) -> dict[str, tuple[int, ...]]:
        """Watch, and what was answered."""
        self.watching.begin(session, user_ids)
        return tips(await self.watching.answer(session, user_ids))

    async def set(self, mask: int, *user_ids: str) -> None:
        """Make these users' platforms the mask (of IOS and WEB)."""
        await self.world.truth.write_timed("op", [TimedEdit(user_id, mask, IOS | WEB) for user_id in user_ids])

    def assert_empty(self) -> None:
        """Nothing is kept of those who left."""
        watching = self.watching
        assert (watching.table.watched_users, watching.table.links) == (0, 0)
        assert not watching._subscribers
        assert not watching._ready
        assert not watching._touched


@pytest.fixture
def world() -> World:
    return World(ManualClock(), partitions=2, history=8)


@pytest_asyncio.fixture
async def hub(world: World) -> AsyncIterator[Hub]:
    hub = Hub(world)
    await hub.relay.start()
    yield hub
    await hub.relay.stop()


# Answers


async def test_an_answer_names_every_user_asked(hub: Hub) -> None:
    """Online, offline and unknown users are all in the answer; nothing is pushed for it."""
    await hub.set(IOS, "on")
    await hub.set(IOS, "off")
    await hub.set(0, "off")
    session, link = hub.connect()
    assert await hub.watch(session, "on", "off", "never") == {"on": IOS_ONLY, "off": OFFLINE, "never": OFFLINE}
    await turns()
    assert link.binary == []


async def test_a_known_user_needs_no_question(hub: Hub) -> None:
    """Whoever is watched here already is answered from what the feed keeps true."""
    (first, _), (second, _) = hub.connect(), hub.connect()
    await hub.watch(first, "u")
    await hub.set(WEB, "u")
    hub.store.failing.add("read")
    assert await hub.watch(second, "u") == {"u": WEB_ONLY}


async def test_changes_are_pushed_until_watching_ends(hub: Hub) -> None:
    """A watcher hears each state that lasted, and none after it stopped watching."""
    session, link = hub.connect()
    await hub.watch(session, "u", "v")
    for mask in (IOS, IOS | WEB, 0):
        await hub.set(mask, "u")
        await turns()
    assert pushes(session, link) == [{"u": (1,)}, {"u": (1, 5)}, {"u": ()}]
    hub.watching.unwatch(session, ["u"])
    await hub.set(IOS, "u")
    await turns()
    assert len(link.binary) == 3
    assert list(session.watching or ()) == ["v"]


async def test_changes_at_once_go_in_one_frame(hub: Hub) -> None:
    """Whatever changes within a turn of the loop, a watcher gets one frame with the newest states."""
    session, link = hub.connect()
    await hub.watch(session, "u", "v", "w")
    await hub.set(IOS, "u", "v")
    await hub.set(WEB, "u")
    await hub.set(WEB, "w")
    await turns()
    assert pushes(session, link) == [{"u": WEB_ONLY, "v": IOS_ONLY, "w": WEB_ONLY}]


async def test_frames_are_made_once_for_all(hub: Hub) -> None:
    """A hundred watchers of one codec are sent the same bytes object; each of four codecs gets its own."""
    links = []
    for i in range(100):
        session, link = hub.connect(f"w{i}", CODECS[i % 4])
        await hub.watch(session, "u")
        links.append(link)
    await hub.set(IOS, "u")
    await until(lambda: all(link.binary for link in links))
    assert len({id(link.binary[0]) for link in links}) == 4
    assert hub.meter.frames == 100


async def test_ten_thousand_at_once_are_all_heard(hub: Hub) -> None:
    """One client that watches 10,000 users who all come online at once hears of every one."""
    users = [f"user-{i}" for i in range(10_000)]
    session, link = hub.connect()
    await hub.watch(session, *users)
    await hub.set(IOS, *users)
    await turns()
    assert last_words(session, link) == dict.fromkeys(users, IOS_ONLY)
    assert len(link.binary) < 20


async def test_more_watchers_than_one_turn_serves_are_all_served(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop serves a portion of the connections at a time, and the others right after."""
    monkeypatch.setattr(watching_module, "SESSIONS_A_TURN", 7)
    watchers = [hub.connect(f"w{i}") for i in range(50)]
    for session, _ in watchers:
        await hub.watch(session, "u")
    await hub.set(IOS, "u")
    await turns(2)
    await hub.set(WEB, "u")
    await turns()
    assert all(last_words(session, link) == {"u": WEB_ONLY} for session, link in watchers)


# Races of a question with changes


@pytest.mark.parametrize("watched_before", [False, True])
@pytest.mark.parametrize("when", ["before", "during", "both"])
async def test_a_change_that_crosses_the_answer_is_never_lost(hub: Hub, *, watched_before: bool, when: str) -> None:
    """A change before the reading, or between the reading and its answer: the last word is the newest state."""
    await hub.set(IOS, "u")
    if watched_before:
        other, _ = hub.connect("other")
        hub.watching.begin(other, ["u"])
    session, link = hub.connect()
    held = hub.store.hold("read")
    asking = asyncio.create_task(hub.watch(session, "u", "v"))
    await held.arrived.wait()
    if when in {"before", "both"}:
        await hub.set(WEB, "u")
        await turns()
    await held.perform()
    if when in {"during", "both"}:
        await hub.set(0, "u")
        await hub.set(WEB, "u", "v")
        await turns()
    held.answer()
    answer = await asking
    await turns()
    words = {**last_words(session, link), **answer}
    assert words == {"u": WEB_ONLY, "v": OFFLINE if when == "before" else WEB_ONLY}
    await hub.set(IOS, "u")
    await turns()
    assert last_words(session, link)["u"] == IOS_ONLY


async def test_a_feed_that_lags_behind_the_reading_takes_nothing_back(hub: Hub) -> None:
    """Entries older than what was read arrive later, and are no news."""
    hub.store.feed_held = True
    for mask in (IOS, WEB, IOS, 0):
        await hub.set(mask, "u")
    session, link = hub.connect()
    assert await hub.watch(session, "u") == {"u": OFFLINE}
    hub.store.deliver_feed()
    await turns()
    assert link.binary == []
    await hub.set(WEB, "u")
    await turns()
    assert pushes(session, link) == [{"u": WEB_ONLY}]


async def test_those_who_ask_at_once_share_a_reading(hub: Hub) -> None:
    """One reading answers all who ask while it is under way, and what changes meanwhile they all hear."""
    first, first_link = hub.connect("first")
    second, second_link = hub.connect("second")
    held = hub.store.hold("read")
    asking = [asyncio.create_task(hub.watch(session, "u")) for session in (first, second)]
    await held.perform()
    hub.store.feed_held = True
    await hub.set(IOS, "u")
    held.answer()
    assert await asyncio.gather(*asking) == [{"u": OFFLINE}, {"u": OFFLINE}]
    assert hub.store.calls["read"] == 1
    hub.store.deliver_feed()
    await turns()
    assert [last_words(first, first_link), last_words(second, second_link)] == [{"u": IOS_ONLY}, {"u": IOS_ONLY}]


async def test_an_old_reading_is_no_answer_for_one_who_asks_later(hub: Hub) -> None:
    """A reading taken before everyone stopped watching a user is not used for those who watch them after."""
    first, _ = hub.connect("first")
    old = hub.store.hold("read")
    asked_first = asyncio.create_task(hub.watch(first, "u"))
    await old.perform()
    hub.watching.unwatch(first, ["u"])
    await hub.set(IOS, "u")
    second, _ = hub.connect("second")
    hub.store.failing.add("read")
    hub.watching.begin(second, ["u"])
    old.answer()
    await asked_first
    hub.store.failing.clear()
    third, _ = hub.connect("third")
    assert await hub.watch(third, "u") == {"u": IOS_ONLY}


async def test_nobody_is_told_of_a_user_of_whom_nothing_is_known(hub: Hub) -> None:
    """A change of a user who is dropped and watched anew before it is told makes no false offline."""
    first, _ = hub.connect("first")
    second, link = hub.connect("second")
    await hub.watch(first, "u")
    await hub.set(IOS, "u")
    hub.watching.unwatch(first, ["u"])
    hub.watching.begin(second, ["u"])
    await turns()
    assert link.binary == []
    assert tips(await hub.watching.answer(second, ["u"])) == {"u": IOS_ONLY}


async def test_what_a_connection_asks_next_comes_next(hub: Hub) -> None:
    """One who watches and stops watching in a breath watches nobody, and one who then watches again does."""
    session, link = hub.connect()
    hub.watching.begin(session, ["u"])
    asking = asyncio.create_task(hub.watching.answer(session, ["u"]))
    hub.watching.unwatch(session, ["u"])
    await asking
    assert session.watching is None
    assert hub.watching.table.watched_users == 0
    await hub.watch(session, "u")
    await hub.set(IOS, "u")
    await turns()
    assert last_words(session, link) == {"u": IOS_ONLY}


async def test_watching_ends_while_it_is_answered(hub: Hub) -> None:
    """A user dropped during the question is still in the answer, and never pushed."""
    await hub.set(IOS, "u")
    session, link = hub.connect()
    held = hub.store.hold("read")
    asking = asyncio.create_task(hub.watch(session, "u"))
    await held.perform()
    hub.watching.unwatch(session, ["u"])
    held.answer()
    assert await asking == {"u": IOS_ONLY}
    await hub.set(WEB, "u")
    await turns()
    assert link.binary == []
    hub.assert_empty()


async def test_a_failed_question_leaves_what_was_before(hub: Hub) -> None:
    """The store can't be read: the new users are not watched, the earlier ones still are."""
    session, link = hub.connect()
    await hub.watch(session, "old")
    hub.store.failing.add("read")
    with pytest.raises(StoreError):
        await hub.watch(session, "old", "new")
    assert list(session.watching or ()) == ["old"]
    await hub.set(IOS, "old", "new")
    await turns()
    assert last_words(session, link) == {"old": IOS_ONLY}


async def test_a_question_given_up_leaves_what_was_before(hub: Hub) -> None:
    """A caller that is gone before its answer has subscribed to nobody."""
    held = hub.store.hold("read")
    asking = asyncio.create_task(hub.watching.subscribe("s", ["u"]))
    await held.arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    hub.assert_empty()


async def test_of_two_questions_about_a_user_one_may_be_given_up(hub: Hub) -> None:
    """Whoever was answered is watching, whatever became of an earlier question about the same user."""
    session, link = hub.connect()
    held = hub.store.hold("read")
    first = asyncio.create_task(hub.watch(session, "u"))
    second = asyncio.create_task(hub.watch(session, "u"))
    await held.perform()
    first.cancel()
    assert await second == {"u": OFFLINE}
    assert first.cancelled()
    await hub.set(IOS, "u")
    await turns()
    assert last_words(session, link) == {"u": IOS_ONLY}


async def test_two_questions_about_a_user_may_both_fail(hub: Hub) -> None:
    """Who was answered by neither is not watched."""
    session, _ = hub.connect()
    await hub.watch(session, "old")
    hub.store.losing.add("read")
    held = hub.store.hold("read")
    asking = [asyncio.create_task(hub.watch(session, "u", name)) for name in ("v", "w")]
    await held.arrived.wait()
    held.answer()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreError, StoreError]
    assert list(session.watching or ()) == ["old"]


# Slow watchers


async def test_a_watcher_that_does_not_read_is_owed_the_newest_only(hub: Hub) -> None:
    """However much happens meanwhile, one that reads again hears one state of each user: the present one."""
    session, link = hub.connect()
    await hub.watch(session, "u", "v", "w")
    session.stalled = True
    for i in range(100):
        await hub.set(IOS if i % 2 else WEB, "u")
        await hub.set(0 if i % 2 else WEB, "v")
        await turns(3)
    assert link.binary == []
    assert len(session.owed or ()) == 2
    assert hub.meter.merged > 100
    session.stalled = False
    hub.watching.writable(session)
    await turns()
    assert pushes(session, link) == [{"u": IOS_ONLY, "v": OFFLINE}]
    assert session.owed is None


async def test_a_watcher_that_stalls_half_way_gets_the_rest_later(hub: Hub) -> None:
    """A connection that fills up during a push goes on where it stopped, with the states of then."""
    users = [f"user-{i}" for i in range(5_000)]
    session, link = hub.connect()
    await hub.watch(session, *users)

    def stall() -> None:
        session.stalled = True

    link.on_send = stall
    await hub.set(IOS, *users)
    await turns()
    assert len(link.binary) == 1
    heard = set(last_words(session, link))
    await hub.set(WEB, *users)
    while session.owed:
        session.stalled = False
        hub.watching.writable(session)
        await turns()
    assert last_words(session, link) == dict.fromkeys(users, WEB_ONLY)
    assert heard < set(users)


async def test_a_watcher_that_reads_again_with_nothing_owed_gets_nothing(hub: Hub) -> None:
    """Being writable is no reason for a frame."""
    session, link = hub.connect()
    await hub.watch(session, "u")
    hub.watching.writable(session)
    await turns()
    assert link.binary == []


async def test_a_slow_watcher_is_not_owed_whom_it_stopped_watching(hub: Hub) -> None:
    """What is owed is bounded by what is watched: watching others instead does not add up."""
    others, _ = hub.connect("others")
    session, link = hub.connect()
    session.stalled = True
    for i in range(20):
        await hub.watch(others, f"u{i}")
        await hub.watch(session, f"u{i}", "kept")
        await hub.set(WEB if i % 2 else IOS, f"u{i}", "kept")
        await turns(3)
        hub.watching.unwatch(session, [f"u{i}"])
        assert set(session.owed or ()) <= set(session.watching or ())
    session.stalled = False
    hub.watching.writable(session)
    await turns()
    assert last_words(session, link) == {"kept": WEB_ONLY}


async def test_one_who_watches_in_two_ways_is_owed_until_both_end(hub: Hub) -> None:
    """A connection hears of whom it watches or its user is subscribed to, when one of the two has ended."""
    session, link = hub.connect("s")
    await hub.watch(session, "u", "v")
    await hub.watching.subscribe("s", ["u", "v"])
    session.stalled = True
    await hub.set(IOS, "u", "v")
    await turns()
    hub.watching.unwatch(session, ["u"])
    hub.watching.cancel("s", ["v"])
    session.stalled = False
    hub.watching.writable(session)
    await turns()
    assert last_words(session, link) == {"u": IOS_ONLY, "v": IOS_ONLY}


# Connections that end


async def test_nothing_is_left_of_a_watcher_that_is_gone(hub: Hub) -> None:
    """With changes pending, a push under way or debts unpaid, whoever goes leaves nothing and hears nothing."""
    session, link = hub.connect()
    await hub.watch(session, "u", "v")
    session.stalled = True
    await hub.set(IOS, "u")
    await turns()
    await hub.set(WEB, "u")
    hub.disconnect(session)
    await turns()
    hub.watching.writable(session)
    await turns()
    assert link.binary == []
    assert session.owed is None
    assert session.watching is None
    hub.assert_empty()


async def test_a_watcher_that_ends_within_a_push_disturbs_no_other(hub: Hub) -> None:
    """A link that closes its connection while being written to ends that connection's frames only."""
    users = [f"user-{i}" for i in range(5_000)]
    session, link = hub.connect("ends")
    stayer, stayer_link = hub.connect("stays")
    await hub.watch(session, *users)
    await hub.watch(stayer, *users)
    link.on_send = lambda: hub.disconnect(session)
    await hub.set(IOS, *users)
    await turns()
    assert len(link.binary) == 1
    assert last_words(stayer, stayer_link) == dict.fromkeys(users, IOS_ONLY)
    hub.disconnect(stayer)
    hub.assert_empty()


async def test_a_connection_that_is_gone_is_told_nothing(hub: Hub) -> None:
    """After the goodbye no frame goes out."""
    session, link = hub.connect()
    await hub.watch(session, "u")
    session.phase = Phase.GONE
    await hub.set(IOS, "u")
    await turns()
    assert link.binary == []


# Holes in the feed


async def test_lost_entries_are_made_good(hub: Hub) -> None:
    """Whatever part of the feed is lost, the watcher's last words are the truth once one entry shows the hole."""
    session, link = hub.connect()
    users = [f"u{i}" for i in range(20)]
    await hub.watch(session, *users)
    hub.store.drops = lambda entry: entry.version % 3 != 0
    for i in range(30):
        await hub.set(IOS if i % 2 else WEB, *users[i % 20 :: 3])
        await turns(2)
    await until(lambda: not hub.relay.behind)
    hub.store.drops = lambda _: False
    for mask in (IOS, WEB):
        await hub.set(mask, *users[:10])
    await until(lambda: not hub.relay.behind)
    await turns()
    truth = await hub.world.masks()
    expected = {user: tuple(i for i in (1, 5) if truth.get(user, 0) >> i & 1) for user in users}
    assert last_words(session, link) == expected


async def test_a_trimmed_feed_is_made_good_by_reading(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """With more missed than the store keeps, the watched users are read anew, in portions, and the differences told."""
    monkeypatch.setattr(states_module, "READ_USERS", 3)
    session, link = hub.connect()
    users = [f"u{i}" for i in range(20)]
    await hub.set(IOS, "u0", "u1", "u2", "u3")
    await hub.watch(session, *users)
    hub.store.drops = lambda _: True
    for i in range(20):
        await hub.set(WEB if i % 2 else IOS, "noise", *users[10:])
    await hub.set(0, "u0", "u1")
    hub.store.drops = lambda _: False
    await hub.set(IOS, "noise", *(f"more-{i}" for i in range(10)))
    await until(lambda: not hub.relay.behind)
    await turns()
    assert last_words(session, link) == {**dict.fromkeys(users[10:], WEB_ONLY), "u0": OFFLINE, "u1": OFFLINE}


async def test_one_who_leaves_while_a_partition_is_read_anew(hub: Hub) -> None:
    """Users no longer watched when the reading comes back are ignored."""
    session, _ = hub.connect()
    await hub.set(IOS, "u")
    await hub.watch(session, "u")
    held = hub.store.hold("read")
    partition = next(entry.partition for entry in hub.world.entries)
    reading = asyncio.create_task(hub.states.resync(partition, restarted=False))
    await held.perform()
    hub.disconnect(session)
    held.answer()
    await reading
    hub.assert_empty()


# Subscribers


async def test_a_subscriber_hears_on_every_connection(hub: Hub) -> None:
    """A change goes to all connections of the subscriber, whichever its codec, and to nobody else's."""
    links = [hub.connect("s", codec) for codec in CODECS]
    _, stranger = hub.connect("x")
    assert await hub.watching.subscribe("s", ["u", "v"]) == [Status("u", 0), Status("v", 0)]
    await hub.set(IOS, "u")
    await turns()
    assert all(pushes(session, link) == [{"u": IOS_ONLY}] for session, link in links)
    assert stranger.binary == []


async def test_one_who_watches_in_two_ways_hears_once(hub: Hub) -> None:
    """A change of a user whom a connection watches, and its user is subscribed to, is one frame for it."""
    session, link = hub.connect("watcher")
    await hub.watch(session, "u")
    await hub.watching.subscribe("watcher", ["u"])
    await hub.set(IOS, "u")
    await turns()
    assert pushes(session, link) == [{"u": IOS_ONLY}]
    assert hub.meter.frames == 1


async def test_a_subscription_outlives_connections(hub: Hub) -> None:
    """A subscriber who was away is told the present states on the next connection, and every change after."""
    await hub.watching.subscribe("s", ["u", "v"])
    await hub.set(IOS, "u")
    session, link = hub.connect("s")
    await turns()
    assert pushes(session, link) == [{"u": IOS_ONLY, "v": OFFLINE}]
    hub.disconnect(session)
    await hub.set(WEB, "u")
    session, link = hub.connect("s")
    await turns()
    assert pushes(session, link) == [{"u": WEB_ONLY, "v": OFFLINE}]


async def test_the_present_states_are_in_the_answers(hub: Hub) -> None:
    """Subscribing answers each user asked, in order, repeated or not; the list names every subscription."""
    await hub.set(IOS, "on")
    assert await hub.watching.subscribe("s", ["off", "on", "off"]) == [("off", 0), ("on", IOS), ("off", 0)]
    await hub.set(WEB, "off")
    await turns()
    assert await hub.watching.subscriptions("s") == [("off", WEB), ("on", IOS)]
    assert await hub.watching.subscriptions("nobody") == []


async def test_cancelling_ends_the_pushes(hub: Hub) -> None:
    """Subscriptions that don't exist are ignored; with the last one the subscriber is forgotten."""
    _, link = hub.connect("s")
    await hub.watching.subscribe("s", ["u", "v"])
    hub.watching.cancel("s", ["u", "w"])
    hub.watching.cancel("nobody", ["u"])
    await hub.set(IOS, "u")
    await turns()
    assert link.binary == []
    assert await hub.watching.subscriptions("s") == [("v", 0)]
    hub.watching.cancel("s", ["v"])
    hub.assert_empty()


async def test_what_was_cancelled_is_owed_no_more(hub: Hub) -> None:
    """A slow connection is not told afterwards of whom its user's subscription has ended."""
    session, link = hub.connect("s")
    other, _ = hub.connect("other")
    await hub.watch(other, "u")
    await hub.watching.subscribe("s", ["u"])
    session.stalled = True
    await hub.set(IOS, "u")
    await turns()
    hub.watching.cancel("s", ["u"])
    session.stalled = False
    hub.watching.writable(session)
    await turns()
    assert link.binary == []
    assert session.owed is None


async def test_a_subscription_that_ends_while_it_is_answered(hub: Hub) -> None:
    """Cancelled before its answer, it is answered and not kept; one made meanwhile is."""
    held = hub.store.hold("read")
    asking = asyncio.create_task(hub.watching.subscribe("s", ["u"]))
    await held.arrived.wait()
    hub.watching.cancel("s", ["u"])
    assert await hub.watching.subscribe("s", ["v"]) == [("v", 0)]
    held.answer()
    assert await asking == [("u", 0)]
    assert await hub.watching.subscriptions("s") == [("v", 0)]


async def test_a_failed_subscription_leaves_nothing(hub: Hub) -> None:
    """The store can't be read: neither the subscription nor the subscriber is kept."""
    hub.store.failing.add("read")
    with pytest.raises(StoreError):
        await hub.watching.subscribe("s", ["u"])
    hub.assert_empty()


async def test_subscribers_are_limited(hub: Hub) -> None:
    """Past the limit a newcomer is refused, while those there may go on; whoever leaves makes room."""
    for i in range(3):
        await hub.watching.subscribe(f"s{i}", ["u"])
    with pytest.raises(ArgumentError):
        await hub.watching.subscribe("s3", ["u"])
    await hub.watching.subscribe("s0", ["v"])
    hub.watching.cancel("s1", ["u"])
    await hub.watching.subscribe("s3", ["u"])


async def test_watches_are_limited_over_all_watchers(hub: Hub) -> None:
    """Past the node's limit nothing more is watched, by anyone; what is watched stays, and leaving makes room."""
    first, _ = hub.connect("first")
    second, _ = hub.connect("second")
    await hub.watch(first, *(f"u{number}" for number in range(9_999)))
    with pytest.raises(TooManyWatches):
        await hub.watch(second, "u1", "u2")
    with pytest.raises(TooManyWatches):
        await hub.watching.subscribe("subscriber", ["u1", "u2"])
    await hub.watch(second, "u1")
    hub.disconnect(first)
    await hub.watch(second, "u1", "u2")
    hub.disconnect(second)
    hub.assert_empty()


async def test_subscriptions_of_one_are_limited(hub: Hub) -> None:
    """Only new users count; a refused call adds nobody."""
    await hub.watching.subscribe("s", ["a", "b", "c"])
    await hub.watching.subscribe("s", ["a", "b", "c", "d", "d"])
    with pytest.raises(ArgumentError):
        await hub.watching.subscribe("s", ["e", "f"])
    assert [status.user_id for status in await hub.watching.subscriptions("s")] == ["a", "b", "c", "d"]
    await hub.watching.subscribe("s", ["e"])


# All together


def platforms(mask: int) -> tuple[int, ...]:
    return tuple(i for i in (1, 5) if mask >> i & 1)


async def churn(hub: Hub, users: list[str], watchers: Iterable[tuple[Session, RecordingLink]], steps: int) -> None:
    """Changes, questions and stalls in a fixed disorder."""
    sessions = [session for session, _ in watchers]
    for step in range(steps):
        await hub.set((0, IOS, WEB, IOS | WEB)[step * 7 % 4], *users[step % len(users) :: 5])
        session = sessions[step * 3 % len(sessions)]
        if step % 3 == 0:
            session.stalled = not session.stalled
            if not session.stalled:
                hub.watching.writable(session)
        if step % 5 == 0:
            hub.watching.unwatch(session, users[step % 7 :: 7])
        if step % 4 == 0:
            await turns(1 + step % 3)


async def test_every_last_word_is_the_truth(hub: Hub) -> None:
    """Under changes, holes, stalls and questions in any order, all watchers end up knowing what the store knows."""
    users = [f"u{i}" for i in range(25)]
    watchers = [hub.connect(f"w{i}", CODECS[i % 4]) for i in range(6)]
    answers: list[dict[str, tuple[int, ...]]] = []
    for session, _ in watchers:
        answers.append(await hub.watch(session, *users))
    hub.store.drops = lambda entry: entry.version % 5 == 0
    await churn(hub, users, watchers, 200)
    hub.store.drops = lambda _: False
    await hub.set(IOS, *users[::2])
    await hub.set(WEB, *users[::2], *(f"x{i}" for i in range(20)))
    await until(lambda: not hub.relay.behind)
    for session, _ in watchers:
        session.stalled = False
        hub.watching.writable(session)
    await turns()
    truth = await hub.world.masks()
    for (session, link), answer in zip(watchers, answers, strict=True):
        words = {**answer, **last_words(session, link)}
        for user in session.watching or ():
            assert words[user] == platforms(truth.get(user, 0))
    for session, _ in watchers:
        hub.disconnect(session)
    hub.assert_empty()

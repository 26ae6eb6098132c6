"""Webhooks as a service: what is told, in which order, and what becomes of what cannot be told."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

import pytest

from adsum.adapters.memory import MemoryStore
from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.core.consuming import Course
from adsum.domain.errors import ArgumentError, NetworkError
from adsum.domain.platforms import PRESETS, PlatformRegistry, mask_of
from adsum.domain.presence import Cause, Change, FeedEntry
from adsum.ports import Hook
from adsum.service.consumer import ConsumerOptions, FeedConsumer
from adsum.service.target import Handed, Owned
from adsum.service.webhooks import KICK_COMMAND, OFFLINE_COMMAND, ONLINE_COMMAND, WebhookOptions, Webhooks

PLATFORMS = PlatformRegistry(PRESETS["openim"])
OPTIONS = WebhookOptions(retry_min_ms=1, retry_max_ms=4)
UNIX_MS = 1_700_000_000_000


class WallClock:
    """The loop's own time."""

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def unix_ms(self) -> int:
        return UNIX_MS


class Sink:
    """A receiver that records; `answer` may raise, and `gate` holds everything back while it is closed."""

    def __init__(self) -> None:
        self.tried: list[Hook] = []
        self.delivered: list[Hook] = []
        self.answer: Callable[[Hook], None] = lambda _hook: None
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0
        self.most_at_once = 0
        self.closed = False

    async def deliver(self, hook: Hook) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.tried.append(hook)
            await self.gate.wait()
            await asyncio.sleep(0)
            self.answer(hook)
            self.delivered.append(hook)
        finally:
            self.at_once -= 1

    async def close(self) -> None:
        self.closed = True

    def told(self) -> list[tuple[str, str, int]]:
        """What was delivered: user, kind of event, platform ID."""
        kinds = {ONLINE_COMMAND: "on", OFFLINE_COMMAND: "off", KICK_COMMAND: "kick"}
        return [(hook.user_id, kinds[hook.command], int(str(hook.body["platformID"]))) for hook in self.delivered]


class CountingMeter(PrometheusMeter):
    """The real one, which also keeps what was counted where a test can read it."""

    def __init__(self) -> None:
        super().__init__()
        self.hooks: Counter[str] = Counter()

    def hook(self, outcome: str) -> None:
        super().hook(outcome)
        self.hooks[outcome] += 1


class GoodLease:
    """A lease that is good until told otherwise."""

    holder = ""
    held = True

    def held_for(self, _ms: int) -> bool:
        return self.held


class World:
    """Webhooks with their surroundings; `build` changes the options."""

    def __init__(self) -> None:
        self.sink = Sink()
        self.meter = CountingMeter()
        self.webhooks = self.build(OPTIONS)

    def build(self, options: WebhookOptions) -> Webhooks:
        self.webhooks = Webhooks(self.sink, self.meter, WallClock(), PLATFORMS, options, lambda: 0.5)
        self.lease = GoodLease()
        store = MemoryStore(WallClock(), partitions=1)
        self.consumer = FeedConsumer("webhooks", store, self.lease, self.webhooks, self.meter, ConsumerOptions())
        self.course = Course(0, 0, 0)
        return self.webhooks

    def tell(self, entry: FeedEntry) -> None:
        """As the consumer does."""
        self.course.hand(entry.version)
        self.webhooks.take(Handed(Owned(self.consumer, self.course), entry))

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not done():  # noqa: ASYNC110 -- any condition at all
                await asyncio.sleep(0.001)

    async def until_idle(self) -> None:
        await self.until(lambda: self.webhooks.waiting == 0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.webhooks.stop(0)
    assert world.webhooks.waiting == 0
    assert world.sink.at_once == 0
    assert world.sink.closed


def entry(*changes: Change, op_id: str = "op-1", version: int = 1) -> FeedEntry:
    return FeedEntry(0, 0, version, op_id, changes)


def change(user_id: str, before: Iterable[int], after: Iterable[int]) -> Change:
    return Change(user_id, mask_of(before), mask_of(after), Cause("conn-1", background=True))


def fail_times(times: int, error: Exception) -> Callable[[Hook], None]:
    left = Counter[int]()

    def answer(hook: Hook) -> None:
        left[id(hook)] += 1
        if left[id(hook)] <= times:
            raise error

    return answer


async def test_bodies_have_openims_fields(world: World) -> None:
    world.webhooks.start()
    world.tell(entry(change("alice", [5], [1])))
    world.webhooks.on_kick("alice", 2, "op-2")
    await world.until_idle()
    offline, online, kick = world.sink.delivered
    assert [(hook.command, hook.user_id, hook.operation_id) for hook in world.sink.delivered] == [
        (OFFLINE_COMMAND, "alice", "op-1"),
        (ONLINE_COMMAND, "alice", "op-1"),
        (KICK_COMMAND, "alice", "op-2"),
    ]
    base = {"userID": "alice", "seq": UNIX_MS}
    state = {"status": 1, "onlinePlatformIDs": [1]}
    assert offline.body == base | {
        "callbackCommand": "callbackAfterUserOfflineCommand",
        "operationID": "op-1",
        "platformID": 5,
        "platform": "Web",
        "connID": "conn-1",
        **state,
    }
    assert online.body == base | {
        "callbackCommand": "callbackAfterUserOnlineCommand",
        "operationID": "op-1",
        "platformID": 1,
        "platform": "IOS",
        "connID": "conn-1",
        "isAppBackground": True,
        **state,
    }
    assert kick.body == base | {
        "callbackCommand": "callbackAfterUserKickOffCommand",
        "operationID": "op-2",
        "platformID": 2,
        "platform": "Android",
    }


async def test_only_what_differs_is_told_and_what_went_comes_first(world: World) -> None:
    world.webhooks.start()
    world.tell(entry(change("a", [1, 2, 3], [2, 4, 5]), change("b", [], [7]), change("c", [9], [])))
    await world.until_idle()
    told = world.sink.told()
    assert [event for event in told if event[0] == "a"] == [
        ("a", "off", 1), ("a", "off", 3), ("a", "on", 4), ("a", "on", 5)
    ]  # fmt: skip
    assert [event for event in told if event[0] != "a"] == [("b", "on", 7), ("c", "off", 9)]


async def test_a_platform_unknown_here_has_no_name(world: World) -> None:
    world.webhooks.start()
    world.tell(entry(change("a", [], [40])))
    await world.until_idle()
    assert world.sink.delivered[0].body["platform"] == ""


@pytest.mark.parametrize("kind", ["online", "offline", "kick"])
async def test_each_event_can_be_switched_off(world: World, kind: str) -> None:
    world.build(replace(OPTIONS, **{kind: False}))
    world.webhooks.start()
    world.tell(entry(change("a", [1], [2])))
    world.webhooks.on_kick("a", 3, "op")
    await world.until_idle()
    kinds = {"online": "on", "offline": "off", "kick": "kick"}
    assert {event[1] for event in world.sink.told()} == set(kinds.values()) - {kinds[kind]}


async def test_what_happens_before_the_start_is_told_after_it(world: World) -> None:
    world.tell(entry(change("a", [], [1])))
    await asyncio.sleep(0)
    assert world.sink.tried == []
    world.webhooks.start()
    await world.until_idle()
    assert world.sink.told() == [("a", "on", 1)]


async def test_order_is_kept_per_user_through_failures_while_others_go_on(world: World) -> None:
    world.build(replace(OPTIONS, concurrency=3))
    world.sink.answer = fail_times(2, NetworkError("away"))
    world.webhooks.start()
    users = [f"user-{i}" for i in range(20)]
    for platform_id in range(1, 12):
        world.tell(entry(*(change(user, [], [platform_id]) for user in users)))
    await world.until_idle()
    for user in users:
        assert [event[2] for event in world.sink.told() if event[0] == user] == list(range(1, 12))
    assert world.sink.most_at_once == 3
    assert world.meter.hooks == {"sent": 220, "retried": 440}


async def test_a_user_whose_hooks_fail_holds_up_nobody_else(world: World) -> None:
    def answer(hook: Hook) -> None:
        if hook.user_id == "a":
            raise NetworkError("away")

    world.build(replace(OPTIONS, concurrency=1, retry_min_ms=60_000, retry_max_ms=60_000))
    world.sink.answer = answer
    world.webhooks.start()
    world.tell(entry(change("a", [], [1]), change("b", [], [1]), change("c", [], [1])))
    await world.until(lambda: len(world.sink.delivered) == 2)
    assert world.webhooks.waiting == 1


async def test_a_hook_is_given_up_after_its_last_attempt(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.build(replace(OPTIONS, max_attempts=3))
    world.sink.answer = fail_times(3, NetworkError("status 503"))
    world.webhooks.start()
    with caplog.at_level(logging.WARNING, "adsum"):
        world.tell(entry(change("a", [], [1])))
        await world.until_idle()
    assert world.meter.hooks == {"retried": 2, "failed": 1}
    assert "webhooks failed: 1 (status 503)" in caplog.text


async def test_a_refused_hook_is_not_tried_again_and_the_next_goes(world: World) -> None:
    world.sink.answer = fail_times(1, ArgumentError("refused"))
    world.webhooks.start()
    world.tell(entry(change("a", [1], [2])))
    await world.until_idle()
    assert world.meter.hooks == {"failed": 2}
    assert len(world.sink.tried) == 2


async def test_a_defect_of_the_sink_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.sink.answer = fail_times(1, RuntimeError("defect"))
    world.webhooks.start()
    world.tell(entry(change("a", [], [1])))
    await world.until_idle()
    world.sink.answer = lambda _hook: None
    world.tell(entry(change("a", [], [2])))
    await world.until_idle()
    assert world.sink.told() == [("a", "on", 2)]
    assert world.meter.hooks == {"failed": 1, "sent": 1}
    assert "RuntimeError: defect" in caplog.text


async def test_a_full_queue_takes_no_entries_until_it_is_half_empty(world: World) -> None:
    world.build(replace(OPTIONS, queue=10))
    world.sink.gate.clear()
    world.webhooks.start()
    rooms = []
    for i in range(1, 11):
        rooms.append(world.webhooks.room)
        world.tell(entry(change(f"user-{i}", [], [1]), version=i))
    rooms.append(world.webhooks.room)
    assert rooms == [True] * 10 + [False]
    world.sink.gate.set()
    await world.until(lambda: world.webhooks.waiting <= 5)
    assert world.webhooks.room
    await world.until_idle()
    assert world.meter.hooks == {"sent": 10}


async def test_a_full_queue_drops_kicks_counts_and_logs_briefly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.build(replace(OPTIONS, queue=10))
    world.sink.gate.clear()
    world.webhooks.start()
    with caplog.at_level(logging.WARNING, "adsum"):
        for i in range(1_000):
            world.webhooks.on_kick(f"user-{i}", 1, "op")
        assert world.webhooks.waiting == 10
        assert world.meter.hooks == {"dropped": 990}
        assert len(caplog.records) == 1
        world.sink.gate.set()
        await world.webhooks.stop(20_000)
    assert sorted(event[0] for event in world.sink.told()) == [f"user-{i}" for i in range(10)]
    counts = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert counts == [1, 989]


async def test_an_entry_is_done_when_its_last_hook_is_over(world: World) -> None:
    """Delivered, refused or given up; one without hooks at once, but not before those ahead of it."""
    world.build(replace(OPTIONS, max_attempts=2))
    world.sink.gate.clear()
    world.webhooks.start()
    world.tell(entry(change("a", [], [1]), change("b", [], [1]), version=1))
    world.tell(entry(version=2))
    assert world.course.done == 0
    errors = {"a": NetworkError("away"), "b": ArgumentError("refused")}

    def answer(hook: Hook) -> None:
        raise errors[hook.user_id]

    world.sink.answer = answer
    world.sink.gate.set()
    await world.until_idle()
    assert world.course.done == 2
    assert world.course.clear
    assert world.meter.hooks == {"retried": 1, "failed": 2}


async def test_what_is_another_nodes_by_now_is_not_sent(world: World) -> None:
    """Kicks are still this node's to tell."""
    world.build(replace(OPTIONS, concurrency=1))
    world.sink.gate.clear()
    world.webhooks.start()
    world.webhooks.on_kick("z", 1, "op")
    world.tell(entry(change("a", [], [1]), version=1))
    world.webhooks.on_kick("a", 1, "op")
    world.course.dropped = True
    world.sink.gate.set()
    await world.until_idle()
    assert world.sink.told() == [("z", "kick", 1), ("a", "kick", 1)]


async def test_stopping_delivers_what_it_can(world: World) -> None:
    world.sink.answer = fail_times(2, NetworkError("away"))
    world.webhooks.start()
    world.tell(entry(*(change(f"user-{i}", [], [1, 2]) for i in range(50))))
    await world.webhooks.stop(20_000)
    assert len(world.sink.delivered) == 100
    assert world.meter.hooks["dropped"] == 0


async def test_stopping_drops_what_it_cannot_deliver(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.sink.gate.clear()
    world.webhooks.start()
    world.tell(entry(*(change(f"user-{i}", [], [1]) for i in range(50))))
    with caplog.at_level(logging.WARNING, "adsum"):
        await world.webhooks.stop(10)
    assert world.meter.hooks == {"dropped": 50}
    assert sum(int(str(record.args[1])) for record in caplog.records if isinstance(record.args, tuple)) == 50
    world.webhooks.on_kick("a", 1, "op")
    assert world.meter.hooks == {"dropped": 51}


async def test_an_idle_service_has_neither_task_nor_timer(world: World) -> None:
    world.webhooks.start()
    tasks = asyncio.all_tasks()
    world.tell(entry(change("a", [], [1, 2])))
    assert len(asyncio.all_tasks()) == len(tasks) + 1
    await world.until(lambda: asyncio.all_tasks() == tasks)
    assert world.sink.told() == [("a", "on", 1), ("a", "on", 2)]


async def test_many_reasons_make_few_lines(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def answer(hook: Hook) -> None:
        raise ArgumentError(f"refused with errCode {hook.user_id}")

    world.sink.answer = answer
    world.webhooks.start()
    with caplog.at_level(logging.WARNING, "adsum"):
        world.tell(entry(*(change(str(i), [], [1]) for i in range(100))))
        await world.until_idle()
        await world.webhooks.stop(0)
    assert len(caplog.records) < 12
    assert sum(int(str(record.args[1])) for record in caplog.records if isinstance(record.args, tuple)) == 100
    assert "other reasons" in caplog.text

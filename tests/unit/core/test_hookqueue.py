"""The queue of deliveries, under any sequence of calls, against a plain model of it."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from adsum.core.hookqueue import HookQueue, HookQueueOptions

OPTIONS = HookQueueOptions(concurrency=4, max_attempts=3, retry_min_ms=100, retry_max_ms=1_000)
USERS = st.sampled_from("abcdef")


@pytest.fixture
def queue() -> HookQueue[str]:
    return HookQueue(OPTIONS)


def offer(queue: HookQueue[str], *items: str) -> None:
    for item in items:
        queue.add(item[0], item)


def take_all(queue: HookQueue[str], now_ms: int = 0) -> list[str]:
    taken = []
    while (one := queue.take(now_ms)) is not None:
        taken.append(one.item)
    return taken


def test_one_of_a_user_is_in_flight_and_users_take_turns(queue: HookQueue[str]) -> None:
    offer(queue, "a1", "a2", "b1")
    assert take_all(queue) == ["a1", "b1"]
    queue.finish("a")
    offer(queue, "c1")
    assert take_all(queue) == ["a2", "c1"]


def test_no_more_are_in_flight_than_allowed(queue: HookQueue[str]) -> None:
    offer(queue, "a", "b", "c", "d", "e")
    assert take_all(queue) == ["a", "b", "c", "d"]
    assert queue.in_flight == 4
    queue.finish("b")
    assert take_all(queue) == ["e"]


def test_a_retry_waits_twice_as_long_each_time_and_holds_back_its_user_only(queue: HookQueue[str]) -> None:
    offer(queue, "a1", "a2", "b1")
    assert take_all(queue) == ["a1", "b1"]
    assert queue.retry("a", 0, jitter=0)
    assert queue.next_due_ms() == 50
    queue.finish("b")
    assert take_all(queue, 49) == []
    assert take_all(queue, 50) == ["a1"]
    assert queue.retry("a", 50, jitter=0)
    assert queue.next_due_ms() == 150
    assert take_all(queue, 150) == ["a1"]
    assert queue.next_due_ms() is None


def test_after_the_last_attempt_the_item_is_given_up_and_the_next_starts_afresh(queue: HookQueue[str]) -> None:
    offer(queue, "a1", "a2")
    answers = []
    now_ms = 0
    for _ in range(3):
        assert take_all(queue, now_ms) == ["a1"]
        answers.append(queue.retry("a", now_ms, jitter=0.5))
        now_ms = queue.next_due_ms() or now_ms
    assert answers == [True, True, False]
    queue.finish("a")
    assert take_all(queue, now_ms) == ["a2"]
    assert queue.retry("a", now_ms, jitter=0.5)


def test_what_is_cleared_is_returned_and_gone(queue: HookQueue[str]) -> None:
    offer(queue, "a1", "a2", "b1", "c1")
    assert take_all(queue) == ["a1", "b1", "c1"]
    queue.retry("b", 0, jitter=0)
    assert sorted(queue.clear()) == ["a1", "a2", "b1", "c1"]
    assert (len(queue), queue.in_flight, queue.next_due_ms()) == (0, 0, None)
    offer(queue, "a3")
    assert take_all(queue) == ["a3"]


class Model(RuleBasedStateMachine):
    """Nothing is lost, nothing overtakes, nothing is more than allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.serial = 0
        self.lines: dict[str, list[tuple[str, int]]] = {}
        self.flying: dict[str, tuple[str, int]] = {}
        self.tries: dict[tuple[str, int], int] = {}
        self.due: dict[str, int] = {}

    @initialize(concurrency=st.integers(1, 4), attempts=st.integers(1, 4), least=st.integers(2, 50))
    def build(self, concurrency: int, attempts: int, least: int) -> None:
        self.options = HookQueueOptions(concurrency, attempts, least, least * 4)
        self.queue: HookQueue[tuple[str, int]] = HookQueue(self.options)

    @rule(user=USERS)
    def add(self, user: str) -> None:
        self.serial += 1
        self.queue.add(user, (user, self.serial))
        self.lines.setdefault(user, []).append((user, self.serial))

    @rule()
    def take(self) -> None:
        free = {user for user in self.lines if user not in self.flying and self.due.get(user, 0) <= self.now_ms}
        taken = self.queue.take(self.now_ms)
        if not free or len(self.flying) == self.options.concurrency:
            assert taken is None
            return
        assert taken is not None
        assert taken.user_id in free
        assert taken.item == self.lines[taken.user_id][0]
        self.due.pop(taken.user_id, None)
        self.flying[taken.user_id] = taken.item
        self.tries[taken.item] = self.tries.get(taken.item, 0) + 1

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(self.flying)))
        self.queue.finish(user)
        self.drop_head(user)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), jitter=st.floats(0, 1, exclude_max=True))
    def retry(self, data: st.DataObject, jitter: float) -> None:
        user = data.draw(st.sampled_from(sorted(self.flying)))
        kept = self.queue.retry(user, self.now_ms, jitter)
        assert kept == (self.tries[self.flying[user]] < self.options.max_attempts)
        if kept:
            del self.flying[user]
            self.due[user] = self.now_ms + self.options.retry_max_ms
        else:
            self.queue.finish(user)
            self.drop_head(user)

    @rule(ms=st.integers(1, 100))
    def pass_time(self, ms: int) -> None:
        # On to where every pause has certainly ended, so that the model need not know the formula.
        self.now_ms = max([self.now_ms + ms, *self.due.values()])

    @rule()
    def clear(self) -> None:
        left = [item for line in self.lines.values() for item in line]
        assert sorted(self.queue.clear()) == sorted(left)
        self.lines.clear()
        self.flying.clear()
        self.due.clear()

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.queue) == sum(map(len, self.lines.values()))
        assert self.queue.in_flight == len(self.flying) <= self.options.concurrency

    def drop_head(self, user: str) -> None:
        del self.flying[user]
        del self.lines[user][0]
        if not self.lines[user]:
            del self.lines[user]

    def teardown(self) -> None:
        """Whatever happened before, everything that is left comes out, in order."""
        for user in list(self.flying):
            self.queue.finish(user)
            self.drop_head(user)
        while (taken := self.queue.take(10**9)) is not None:
            assert taken.item == self.lines[taken.user_id].pop(0)
            self.queue.finish(taken.user_id)
        assert not any(self.lines.values())
        assert len(self.queue) == 0


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

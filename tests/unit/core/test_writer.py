"""The writer: what is dirty, what flies, what is tried again."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adsum.core.opids import OpIds
from adsum.core.partition import partition_of
from adsum.core.writer import Flight, Writer, WriterOptions
from adsum.domain.presence import Cause, HoldState
from tests.support.world import IOS, WEB

ONE_LANE = WriterOptions(lanes=1, batch_users=3, retry_min_ms=100, retry_max_ms=1_000)


def make(options: WriterOptions = ONE_LANE, salt: int = 7) -> Writer:
    return Writer("g-1", options, salt, OpIds("op"))


def take(writer: Writer, now_ms: int = 0, masks: Mapping[str, int] | None = None) -> Flight | None:
    return writer.take(0, now_ms, lambda user, cause, _: HoldState(user, (masks or {}).get(user, IOS), cause))


def users(flight: Flight | None) -> list[str]:
    assert flight is not None
    return [state.user_id for state in flight.batch.states]


def test_an_idle_lane_gives_its_batch_at_once() -> None:
    """The first change flies in the moment it is made, alone."""
    writer = make()
    lane = writer.mark("u", Cause("c1", background=True), 50)
    flight = writer.take(lane, 50, lambda user, cause, _: HoldState(user, IOS | WEB, cause))
    assert flight is not None
    assert flight.batch.holder == "g-1"
    assert flight.batch.op_id == "op-1"
    assert flight.batch.states == (HoldState("u", IOS | WEB, Cause("c1", background=True)),)
    assert (flight.oldest_ms, flight.taken_ms) == (50, 50)


def test_nothing_dirty_gives_nothing() -> None:
    """A clean lane has no batch, and no operation ID is spent on one."""
    writer = make()
    assert take(writer) is None
    assert writer.clean
    writer.mark("u", Cause(), 0)
    flight = take(writer)
    assert flight is not None
    assert flight.batch.op_id == "op-1"


def test_one_batch_of_a_lane_flies_at_a_time() -> None:
    """What changes meanwhile is gathered, and goes with the next."""
    writer = make()
    writer.mark("a", Cause(), 0)
    take(writer)
    for user in "bcd":
        writer.mark(user, Cause(), 1)
    assert take(writer) is None
    writer.acknowledged(0)
    assert users(take(writer)) == ["b", "c", "d"]


def test_a_batch_is_never_over_its_size_and_takes_who_waited_longest() -> None:
    """A full batch leaves the others for the next, in the order they became dirty."""
    writer = make()
    for i, user in enumerate("abcdefg"):
        writer.mark(user, Cause(), i)
    writer.mark("a", Cause("again"), 99)
    batches = []
    while flight := take(writer):
        batches.append(users(flight))
        writer.acknowledged(0)
    assert batches == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_the_default_batch_is_100_users() -> None:
    """Issue and design name 100 users a batch."""
    writer = make(WriterOptions(lanes=1))
    for i in range(250):
        writer.mark(f"u{i}", Cause(), 0)
    sizes = []
    while flight := take(writer):
        sizes.append(len(users(flight)))
        writer.acknowledged(0)
    assert sizes == [100, 100, 50]


def test_a_new_holder_has_written_again_once_each_has_been_written_whatever_changed_since() -> None:
    """Those who were dirty too, and those under way under the former name: it may hold them."""
    writer = make()
    writer.mark("flying", Cause(), 0)
    take(writer)
    writer.mark("dirty", Cause(), 0)
    writer.rejoin("g-2", ["a", "b"], 1)
    writer.acknowledged(0)
    written: list[str] = []
    while not writer.rewritten:
        flight = take(writer, 1)
        assert flight is not None
        assert flight.batch.holder == "g-2"
        written += users(flight)
        writer.mark(f"new-{len(written)}", Cause(), 2)
        writer.acknowledged(0)
    assert {"a", "b", "dirty", "flying"} <= set(written)
    assert not writer.clean


def test_what_failed_is_not_written_again() -> None:
    writer = make()
    writer.rejoin("g-2", ["a"], 0)
    take(writer)
    writer.failed(0, 0, 0.5)
    found = [writer.rewritten]
    assert users(take(writer, 1_000)) == ["a"]
    writer.acknowledged(0)
    assert [*found, writer.rewritten] == [False, True]


def test_changes_that_follow_each_other_merge() -> None:
    """A user marked often is written once: as they are then, caused by the last mark, waiting since the first."""
    writer = make()
    for now_ms in (10, 20, 30):
        writer.mark("u", Cause(f"c{now_ms}"), now_ms)
    flight = take(writer, 40, {"u": 0})
    assert flight is not None
    assert flight.batch.states == (HoldState("u", 0, Cause("c30")),)
    assert flight.oldest_ms == 10


def test_one_who_changes_in_flight_is_written_again() -> None:
    """A mark made while the user's batch flies is not lost with its acknowledgement."""
    writer = make()
    writer.mark("u", Cause("c1"), 0)
    take(writer)
    writer.mark("u", Cause("c2"), 5)
    writer.acknowledged(0)
    flight = take(writer, 6, {"u": 0})
    assert flight is not None
    assert flight.batch.states == (HoldState("u", 0, Cause("c2")),)
    assert flight.oldest_ms == 5


def test_a_failed_batch_is_dirty_again_with_its_age() -> None:
    """A retry keeps the cause and the age of the change; a change made since gives the newer cause."""
    writer = make()
    writer.mark("a", Cause("a1"), 10)
    writer.mark("b", Cause("b1"), 11)
    take(writer, 12)
    writer.mark("a", Cause("a2"), 13)
    writer.failed(0, 20, 0.0)
    flight = take(writer, 1_000)
    assert flight is not None
    assert {state.user_id: state.cause for state in flight.batch.states} == {"a": Cause("a2"), "b": Cause("b1")}
    assert flight.oldest_ms == 10
    assert flight.batch.op_id == "op-2"


def test_retries_wait_longer_each_time_and_success_starts_anew() -> None:
    """50, 100, 200 … ms at no jitter; after a success the first wait again."""
    writer = make()
    now_ms = 0
    writer.mark("u", Cause(), now_ms)
    for wait_ms in (50, 100, 200, 400, 500, 500):
        assert take(writer, now_ms)
        assert writer.retry_in_ms(0, now_ms) is None, "in flight, there is nothing to wait for"
        writer.failed(0, now_ms, 0.0)
        assert writer.retry_in_ms(0, now_ms) == wait_ms
        assert take(writer, now_ms + wait_ms - 1) is None
        assert writer.retry_in_ms(0, now_ms + wait_ms - 1) == 1
        now_ms += wait_ms
        assert writer.retry_in_ms(0, now_ms) is None
    assert take(writer, now_ms)
    writer.acknowledged(0)
    writer.mark("u", Cause(), now_ms)
    assert take(writer, now_ms)
    writer.failed(0, now_ms, 0.0)
    assert writer.retry_in_ms(0, now_ms) == 50


def test_while_a_lane_waits_to_retry_new_changes_wait_too() -> None:
    """A store that fails is not asked again for each change."""
    writer = make()
    writer.mark("a", Cause(), 0)
    take(writer)
    writer.failed(0, 0, 0.0)
    writer.mark("b", Cause(), 1)
    assert take(writer, 49) is None
    assert sorted(users(take(writer, 50))) == ["a", "b"]


def test_a_failing_batch_lets_others_go_first() -> None:
    """Users of a failed batch go behind those who wait, so that one bad batch does not keep others back."""
    writer = make()
    for user in "abcdef":
        writer.mark(user, Cause(), 0)
    assert users(take(writer)) == ["a", "b", "c"]
    writer.failed(0, 0, 0.0)
    assert users(take(writer, 1_000)) == ["d", "e", "f"]


def test_sequences_only_grow() -> None:
    """Each batch of a lane has a higher number than the last, failed or not, and through a rejoin too."""
    writer = make()
    seqs = []
    for i in range(6):
        writer.mark("u", Cause(), 0)
        flight = take(writer, i * 10_000)
        assert flight is not None
        seqs.append(flight.batch.seq)
        if i % 2:
            writer.failed(0, i * 10_000, 0.0)
        else:
            writer.acknowledged(0)
        if i == 3:
            writer.rejoin("g-2", ["u"], 0)
    assert seqs == [1, 2, 3, 4, 5, 6]


def test_a_late_answer_with_nothing_in_flight_is_nothing() -> None:
    """A failure told twice does not prolong the wait."""
    writer = make()
    writer.mark("u", Cause(), 0)
    take(writer)
    writer.failed(0, 0, 0.0)
    writer.failed(0, 500, 0.9)
    writer.acknowledged(0)
    assert writer.dirty_users == [1]
    assert take(writer, 50)


def test_rejoining_writes_everyone_under_the_new_name_at_once() -> None:
    """All held users are dirty, those dirty before keep age and cause, and no lane waits to retry."""
    writer = make()
    writer.mark("a", Cause("a1"), 1)
    take(writer, 2)
    writer.failed(0, 2, 0.9)
    writer.rejoin("g-2", ["a", "b"], 3)
    flight = take(writer, 3)
    assert flight is not None
    assert flight.batch.holder == "g-2"
    assert flight.batch.states == (HoldState("a", IOS, Cause("a1")), HoldState("b", IOS, Cause()))
    assert flight.oldest_ms == 1


def test_one_in_flight_when_rejoining_is_written_again() -> None:
    """What flies under the old name says nothing of the new one."""
    writer = make()
    writer.mark("a", Cause(), 0)
    take(writer)
    writer.rejoin("g-2", ["a"], 1)
    writer.acknowledged(0)
    assert users(take(writer, 1)) == ["a"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**64 - 1), st.integers(1, 64))
def test_a_user_stays_in_one_lane(user_id: str, salt: int, lanes: int) -> None:
    """The lane depends on the ID, the process's number and the count of lanes only."""
    options = WriterOptions(lanes=lanes)
    writer = make(options, salt)
    lane = writer.lane_of(user_id)
    assert 0 <= lane < lanes
    assert writer.mark(user_id, Cause(), 0) == lane == make(options, salt).lane_of(user_id)


@pytest.mark.parametrize("salt", [0, 1, 2**63])
def test_lanes_are_evenly_loaded(salt: int) -> None:
    """Of 8,000 users of one naming scheme, each of 8 lanes has within a tenth of its share."""
    writer = make(WriterOptions(lanes=8), salt)
    for i in range(8_000):
        writer.mark(f"user{i}", Cause(), 0)
    assert sum(writer.dirty_users) == 8_000
    assert all(900 <= dirty <= 1_100 for dirty in writer.dirty_users)


def test_a_lane_is_of_few_partitions() -> None:
    """With as many lanes as partitions, or half as many, a batch is for one partition, or two."""
    for lanes in (8, 16):
        writer = make(WriterOptions(lanes=lanes))
        found: dict[int, set[int]] = {}
        for i in range(1_000):
            found.setdefault(writer.lane_of(f"user{i}"), set()).add(partition_of(f"user{i}", 16))
        assert [len(partitions) for partitions in found.values()] == [16 // lanes] * lanes


class WriterMachine(RuleBasedStateMachine):
    """Whatever happens to its batches, nobody whose state the store does not have is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.writer = make(WriterOptions(lanes=2, batch_users=2, retry_min_ms=10, retry_max_ms=40))
        self.masks: dict[str, int] = {}
        self.stored: dict[tuple[str, str], int] = {}
        self.incarnation = 1

    @rule(user=st.sampled_from("abcdefgh"), mask=st.sampled_from([0, IOS, WEB]))
    def change(self, user: str, mask: int) -> None:
        self.masks[user] = mask
        self.writer.mark(user, Cause(f"{user}-{self.now_ms}"), self.now_ms)

    def state(self, user: str, cause: Cause, _now_ms: int) -> HoldState:
        return HoldState(user, self.masks.get(user, 0), cause)

    @rule(lane=st.integers(0, 1))
    def take(self, lane: int) -> None:
        flying = self.writer.flights[lane]
        flight = self.writer.take(lane, self.now_ms, self.state)
        if flight is not None:
            assert flying is None
            assert 0 < len(flight.batch.states) <= 2
            assert all(self.writer.lane_of(state.user_id) == lane for state in flight.batch.states)
            assert flight.oldest_ms <= self.now_ms

    @rule(lane=st.integers(0, 1))
    def acknowledge(self, lane: int) -> None:
        flight = self.writer.flights[lane]
        if flight is not None:
            for state in flight.batch.states:
                self.stored[flight.batch.holder, state.user_id] = state.mask
            self.writer.acknowledged(lane)

    @rule(lane=st.integers(0, 1), landed=st.booleans(), jitter=st.floats(0, 1, exclude_max=True))
    def fail(self, lane: int, landed: bool, jitter: float) -> None:  # noqa: FBT001
        flight = self.writer.flights[lane]
        if flight is not None:
            for state in flight.batch.states if landed else ():
                self.stored[flight.batch.holder, state.user_id] = state.mask
            self.writer.failed(lane, self.now_ms, jitter)

    @rule(ms=st.integers(1, 30))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def rejoin(self) -> None:
        self.incarnation += 1
        present = [user for user, mask in self.masks.items() if mask]
        self.writer.rejoin(f"g-{self.incarnation}", present, self.now_ms)

    @invariant()
    def whoever_differs_is_dirty_or_in_flight(self) -> None:
        dirty = {user for lane in self.writer._lanes for user in lane.dirty}
        flying = {user for flight in self.writer.flights if flight for user in flight.marks}
        for user, mask in self.masks.items():
            if self.stored.get((self.writer.holder, user), 0) != mask:
                assert user in dirty | flying
        assert self.writer.clean == (not dirty | flying)
        assert sum(self.writer.dirty_users) == len(dirty)

    @precondition(lambda self: not self.writer.clean)
    @invariant()
    def a_lane_with_work_says_when_it_goes_on(self) -> None:
        for index, lane in enumerate(self.writer._lanes):
            wait_ms = self.writer.retry_in_ms(index, self.now_ms)
            assert wait_ms is None or 0 < wait_ms <= 40
            if wait_ms is not None:
                assert lane.dirty
                assert lane.flight is None


TestWriter = WriterMachine.TestCase
TestWriter.settings = settings(max_examples=100, stateful_step_count=40)

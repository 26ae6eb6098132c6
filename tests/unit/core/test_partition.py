"""One partition, against a plain model of it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adsum.core.partition import BUCKETS, Partition, user_hash
from adsum.domain.platforms import ids_of
from adsum.domain.presence import FeedEntry, TimedEdit
from tests.support.world import ANDROID, IOS, WEB, fold, hold_batch

TTL_MS = 1_000
USERS = st.sampled_from(["ada", "bob", "cyd", "dan", "", "ünï", "a b", "\0"])
HOLDERS = st.sampled_from(["g1", "g2", "g3"])
MASKS = st.sampled_from([0, IOS, WEB, IOS | ANDROID, IOS | WEB | ANDROID, 1 << 62])


def one(partition: Partition, user_id: str) -> int:
    return partition.read([user_id])[user_id].mask


def test_the_hash_is_the_same_everywhere() -> None:
    """CRC-32 of UTF-8: what a script in another language computes too."""
    assert user_hash("123456789") == 0xCBF43926
    assert user_hash("") == 0
    assert user_hash("ü") == user_hash(b"\xc3\xbc".decode())


def test_users_of_a_partition_spread_over_its_buckets() -> None:
    """The bucket is of other bits than the partition: at 16 partitions, one partition's users fill all buckets."""
    partition = Partition(0, 16, TTL_MS, 8)
    users = [user for user in (f"u{i}" for i in range(100_000)) if user_hash(user) % 16 == 0]
    partition.write_timed("op", [TimedEdit(user, IOS, 0) for user in users], 0)
    sizes = [len(partition.bucket_users(bucket)[0]) for bucket in range(BUCKETS)]
    assert sum(sizes) == len(users)
    assert min(sizes) > 0
    assert max(sizes) < 4 * len(users) / BUCKETS


def test_nothing_is_left_of_those_who_left() -> None:
    """Whoever came and left by every way there is leaves no record, deadline or lane."""
    partition = Partition(0, 1, TTL_MS, 8)
    users = [f"u{i}" for i in range(100)]
    batch = hold_batch("g1", 1, dict.fromkeys(users, IOS))
    partition.write_holds(batch, batch.states, 0)
    partition.write_timed("op", [TimedEdit(user, WEB, 0) for user in users], 0)
    partition.write_timed("op", [TimedEdit(user, 0, WEB) for user in users[:50]], 0)
    partition.end_deadlines("op", TTL_MS)
    partition.end_holder("op", "g1")
    assert not any(partition._buckets)
    assert not partition._deadlines
    assert not partition._lanes
    assert partition.online == 0
    assert not any(partition.by_platform.values())


def test_history_is_bounded() -> None:
    """Only so many changes are kept as were asked for, in however many entries they came."""
    partition = Partition(0, 1, TTL_MS, 3)
    for i in range(10):
        partition.write_timed("op", [TimedEdit("u", IOS if i % 2 else WEB, IOS | WEB)], 0)
    assert partition.version == 10
    assert partition.changes_since(6) is None
    assert [entry.version for entry in partition.changes_since(7) or ()] == [8, 9, 10]
    assert partition.changes_since(11) is None
    partition.write_timed("op", [TimedEdit(user, IOS, 0) for user in "ab"], 0)
    assert [entry.version for entry in partition.changes_since(9) or ()] == [10, 11]
    assert partition.changes_since(8) is None
    partition.write_timed("op", [TimedEdit(user, WEB, 0) for user in "abcd"], 0)
    assert partition.changes_since(11) is None
    assert partition.changes_since(12) == []


class PartitionMachine(RuleBasedStateMachine):
    """Any writes in any order. The model keeps each hold and each deadline as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.partition = Partition(3, 8, TTL_MS, 1_000)
        self.now_ms = 0
        self.seq = 0
        self.seqs: dict[tuple[str, int], int] = {}
        self.holds: dict[tuple[str, str], int] = {}
        self.deadlines: dict[tuple[str, int], int] = {}
        self.entries: list[FeedEntry] = []

    def took(self, entry: FeedEntry | None) -> None:
        before = fold(self.entries)
        changed = {user for user in {*before, *self.masks()} if before.get(user, 0) != self.masks().get(user, 0)}
        if entry is None:
            assert not changed
            return
        assert entry.version == len(self.entries) + 1
        assert entry.partition == 3
        assert [change.user_id for change in entry.changes] == list(dict.fromkeys(c.user_id for c in entry.changes))
        assert {change.user_id for change in entry.changes} == changed
        self.entries.append(entry)

    def masks(self) -> dict[str, int]:
        masks: dict[str, int] = {}
        for (_, user_id), mask in self.holds.items():
            masks[user_id] = masks.get(user_id, 0) | mask
        for user_id, platform_id in self.deadlines:
            masks[user_id] = masks.get(user_id, 0) | 1 << platform_id
        return masks

    @rule(holder=HOLDERS, lane=st.integers(0, 1), states=st.lists(st.tuples(USERS, MASKS), max_size=5))
    def write(self, holder: str, lane: int, states: list[tuple[str, int]]) -> None:
        self.seq += 1
        self.seqs[holder, lane] = self.seq
        for user_id, mask in states:
            self.holds[holder, user_id] = mask
            if not mask:
                del self.holds[holder, user_id]
        batch = hold_batch(holder, self.seq, states, lane=lane)
        self.took(self.partition.write_holds(batch, batch.states, 0).entry)

    @rule(holder=HOLDERS, lane=st.integers(0, 1), age=st.integers(0, 3), user=USERS, mask=MASKS)
    def write_late(self, holder: str, lane: int, age: int, user: str, mask: int) -> None:
        newest = self.seqs.get((holder, lane))
        if newest is not None:
            batch = hold_batch(holder, newest - age, {user: mask}, lane=lane)
            assert self.partition.write_holds(batch, batch.states, 0).entry is None

    @rule(edits=st.lists(st.tuples(USERS, MASKS, MASKS), max_size=5))
    def edit(self, edits: list[tuple[str, int, int]]) -> None:
        for user_id, online, offline in edits:
            for platform_id in ids_of(offline):
                self.deadlines.pop((user_id, platform_id), None)
            for platform_id in ids_of(online):
                self.deadlines[user_id, platform_id] = self.now_ms + TTL_MS
        self.took(self.partition.write_timed("op", [TimedEdit(*edit) for edit in edits], self.now_ms))

    @rule(ms=st.sampled_from([0, 1, 400, 1_000]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        self.deadlines = {key: due_ms for key, due_ms in self.deadlines.items() if due_ms > self.now_ms}
        self.took(self.partition.end_deadlines("op", self.now_ms))

    @rule(holder=HOLDERS)
    def holder_ends(self, holder: str) -> None:
        self.holds = {key: mask for key, mask in self.holds.items() if key[0] != holder}
        self.seqs = {key: seq for key, seq in self.seqs.items() if key[0] != holder}
        self.took(self.partition.end_holder("op", holder))

    @invariant()
    def state_is_the_models(self) -> None:
        masks = {user_id: mask for user_id, mask in self.masks().items() if mask}
        buckets = [self.partition.bucket_users(bucket) for bucket in range(BUCKETS)]
        listed = [(name.decode(), mask) for bucket in buckets for name, mask in zip(*bucket, strict=True)]
        assert len(listed) == len(masks)
        assert dict(listed) == masks
        assert fold(self.entries) == masks
        assert self.partition.version == len(self.entries)
        assert self.partition.online == len(masks)
        counts = {i: count for i, count in self.partition.by_platform.items() if count}
        assert counts == {i: count for i in range(1, 63) if (count := sum(mask >> i & 1 for mask in masks.values()))}
        assert self.partition.read(["ada"]) == {"ada": (masks.get("ada", 0), len(self.entries))}

    @invariant()
    def deadlines_are_in_the_order_they_end(self) -> None:
        assert list(self.partition._deadlines.values()) == sorted(self.partition._deadlines.values())
        assert dict(self.partition._deadlines) == self.deadlines


TestPartition = PartitionMachine.TestCase
TestPartition.settings = settings(max_examples=100, stateful_step_count=30)

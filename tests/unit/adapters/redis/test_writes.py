"""Writes of several callers in one trip."""

import asyncio

import pytest

from adsum.adapters.redis import writes
from adsum.adapters.redis.writes import MAX_TRIPS, Failures, Parts, SharedWrites
from adsum.domain.errors import StoreError
from adsum.domain.presence import Cause, TimedEdit
from tests.support.waiting import turns


def edit(user_id: str, online: int = 2) -> TimedEdit:
    return TimedEdit(user_id, online, 0, Cause("c", background=True))


class Trips:
    """What was sent; each trip ends when it is told to. Users live in the partition of their ID's last digit."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[int, dict[str, TimedEdit]]]] = []
        self.ends: list[asyncio.Future[Failures]] = []
        self.writes = SharedWrites(self._send, lambda user_id: int(user_id[-1]))

    async def _send(self, op_id: str, parts: Parts) -> Failures:
        self.sent.append((op_id, {partition: dict(edits) for partition, edits in parts.items()}))
        self.ends.append(asyncio.get_running_loop().create_future())
        return await self.ends[-1]

    def write(self, op_id: str, *user_ids: str) -> "asyncio.Task[None]":
        return asyncio.create_task(self.writes.write(op_id, [edit(user_id) for user_id in user_ids]))


@pytest.fixture
def trips() -> Trips:
    return Trips()


async def test_callers_of_one_moment_share_a_trip(trips: Trips) -> None:
    callers = [trips.write("a", "x1", "y2"), trips.write("b", "v1"), trips.write("c", "z2")]
    await turns()
    assert trips.sent == [("a", {1: {"x1": edit("x1"), "v1": edit("v1")}, 2: {"y2": edit("y2"), "z2": edit("z2")}})]
    assert not any(caller.done() for caller in callers)
    trips.ends[0].set_result({})
    await asyncio.gather(*callers)


async def test_edits_of_a_user_go_as_one_that_does_the_same(trips: Trips) -> None:
    """In the order of the callers."""
    edits = [TimedEdit("x1", 2, 0), TimedEdit("x1", 4, 2), TimedEdit("x1", 8, 0, Cause("c"))]
    callers = [asyncio.create_task(trips.writes.write("a", [edit])) for edit in edits]
    await turns()
    assert trips.sent == [("a", {1: {"x1": TimedEdit("x1", 4 | 8, 2, Cause("c"))}})]
    trips.ends[0].set_result({})
    await asyncio.gather(*callers)


async def test_while_enough_is_under_way_writes_gather(trips: Trips) -> None:
    callers = []
    for number in range(10):
        callers.append(trips.write(f"op{number}", f"{number}1"))
        await turns()
    assert len(trips.sent) == MAX_TRIPS == 2
    trips.ends[0].set_result({})
    await turns()
    assert [op_id for op_id, _ in trips.sent] == ["op0", "op1", "op2"]
    assert list(trips.sent[2][1][1]) == [f"{number}1" for number in range(2, 10)]
    for end in trips.ends[1:]:
        end.set_result({})
    await asyncio.gather(*callers)


async def test_one_trip_that_hangs_holds_nobody_up(trips: Trips) -> None:
    hangs = trips.write("a", "x1")
    await turns()
    for number in range(1, 4):
        good = trips.write("b", "y2")
        await turns()
        trips.ends[number].set_result({})
        await good
    trips.ends[0].set_result({})
    await hangs


async def test_each_hears_of_their_own_partitions(trips: Trips) -> None:
    callers = [trips.write("a", "x1"), trips.write("b", "x1", "y2"), trips.write("c", "y2")]
    await turns()
    trips.ends[0].set_result({2: StoreError("gone")})
    good, *bad = await asyncio.gather(*callers, return_exceptions=True)
    assert good is None
    assert [str(error) for error in bad] == ["gone", "gone"]


async def test_a_trip_that_fails_fails_for_all_in_it_and_no_other(trips: Trips) -> None:
    first = [trips.write("a", "x1"), trips.write("b", "y2")]
    await turns()
    second = trips.write("c", "x1")
    await turns()
    trips.ends[0].set_exception(StoreError("no answer"))
    assert [str(error) for error in await asyncio.gather(*first, return_exceptions=True)] == ["no answer"] * 2
    await turns()
    trips.ends[1].set_result({})
    await second


async def test_one_that_gives_up_does_not_take_the_others_along(trips: Trips) -> None:
    one, other = trips.write("a", "x1"), trips.write("b", "x1")
    await turns()
    one.cancel()
    await turns()
    trips.ends[0].set_result({})
    await other
    assert one.cancelled()


async def test_a_user_is_in_one_trip_at_a_time(trips: Trips) -> None:
    """One that goes again, because its connection was lost, would undo what was written later."""
    callers = [trips.write("a", "x1")]
    await turns()
    callers += [trips.write("b", "y1", "x1")]
    await turns()
    assert len(trips.sent) == 1
    trips.ends[0].set_result({})
    await turns()
    assert [op_id for op_id, _ in trips.sent] == ["a", "b"]
    trips.ends[1].set_result({})
    await asyncio.gather(*callers)


async def test_a_trip_has_a_most(trips: Trips, monkeypatch: pytest.MonkeyPatch) -> None:
    """More go in the next: a call alone may have as many."""
    monkeypatch.setattr(writes, "MAX_EDITS", 3)
    callers = [trips.write("a", "x1", "y1"), trips.write("b", "z1", "u1"), trips.write("c", "v1", "w1", "s1")]
    await turns()
    assert [len(parts[1]) for _, parts in trips.sent] == [4, 3]
    for end in trips.ends:
        end.set_result({})
    await asyncio.gather(*callers)


async def test_closing_fails_what_is_under_way_and_what_waits(trips: Trips) -> None:
    callers = []
    for number in range(2):
        callers.append(trips.write("a", f"{number}1"))
        await turns()
    await trips.writes.close()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(error) for error in outcomes] == ["the store is closed"] * 2

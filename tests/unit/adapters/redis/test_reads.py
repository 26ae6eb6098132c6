"""Callers who ask at the same moment share one trip."""

import asyncio
from collections.abc import Sequence

import pytest

from adsum.adapters.redis.reads import SharedReads
from adsum.domain.errors import StoreError
from tests.support.waiting import until


class Reader:
    """Remembers what was asked of it, and answers when it may."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.may = asyncio.Event()
        self.failing = False
        self.reads = SharedReads(self.read)

    async def read(self, user_ids: Sequence[str]) -> list[int]:
        self.asked.append(list(user_ids))
        await self.may.wait()
        if self.failing:
            raise StoreError("it fails")
        return [len(user_id) for user_id in user_ids]


@pytest.fixture
def reader() -> Reader:
    return Reader()


async def test_those_who_ask_at_once_share_a_trip(reader: Reader) -> None:
    """Each gets an answer to its own question, in its order."""
    reader.may.set()
    questions: tuple[list[str], ...] = (["a", "bb"], ["bb", "a", "bb"], [], ["ccc"])
    answers = await asyncio.gather(*(reader.reads.read(users) for users in questions))
    assert reader.asked == [["a", "bb", "bb", "a", "bb", "ccc"]]
    assert answers == [[1, 2], [2, 1, 2], [], [3]]


async def test_one_who_asks_later_gets_a_later_answer(reader: Reader) -> None:
    """A trip under way may have read before the question was asked."""
    first = asyncio.create_task(reader.reads.read(["a"]))
    await until(lambda: reader.asked)
    second = asyncio.create_task(reader.reads.read(["a"]))
    await asyncio.sleep(0)
    reader.may.set()
    await asyncio.gather(first, second)
    assert reader.asked == [["a"], ["a"]]


async def test_a_failure_is_everybodys(reader: Reader) -> None:
    """And the next question is asked anew."""
    reader.failing = True
    reader.may.set()
    outcomes = await asyncio.gather(*(reader.reads.read(["a"]) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["it fails"] * 3
    reader.failing = False
    assert await reader.reads.read(["a"]) == [1]


async def test_one_who_gives_up_costs_the_others_nothing(reader: Reader) -> None:
    """The trip goes on for who still waits."""
    impatient = asyncio.create_task(reader.reads.read(["a"]))
    patient = asyncio.create_task(reader.reads.read(["bb"]))
    await asyncio.sleep(0)
    impatient.cancel()
    reader.may.set()
    assert await patient == [2]
    assert impatient.cancelled()


@pytest.mark.parametrize("turns", [2, 3])
async def test_closing_ends_what_is_under_way(reader: Reader, turns: int) -> None:
    """Whoever waits is told, also when the trip was only about to begin."""
    waiting = asyncio.create_task(reader.reads.read(["a"]))
    for _ in range(turns):
        await asyncio.sleep(0)
    assert bool(reader.asked) == (turns == 3)
    await reader.reads.close()
    with pytest.raises(StoreError, match="closed"):
        await waiting

"""The line of turns, by work counted: each look at the clock is a hundredth of a slice."""

import asyncio
from math import inf

from adsum.adapters.turns import SLICE_S, TURN_S, Turns

STEP_S = SLICE_S / 100


class WorkClock:
    """Goes on by a step with each look, and by what work takes."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += STEP_S
        return self.now_s


class Reader:
    """Has so many frames, each of which takes `cost_s`; notes in the log which it did."""

    def __init__(self, name: str, frames: int, clock: WorkClock, log: list[str], cost_s: float = STEP_S * 9) -> None:
        self.name, self.frames, self.cost_s = name, frames, cost_s
        self.wait_s = 0.0
        self.free = False
        self._clock, self._log = clock, log

    def read_on(self, until: float) -> bool:
        while self.frames:
            self.frames -= 1
            self._log.append(self.name)
            self._clock.now_s += self.cost_s
            if self._clock() >= until:
                break
        return self.frames > 0

    def charge(self, work_s: float) -> float:
        assert work_s > 0
        return self.wait_s

    def read_more(self) -> None:
        self.free = True


class World:
    """Turns, and what was done in each turn of the loop."""

    def __init__(self) -> None:
        self.clock = WorkClock()
        self.turns = Turns(self.clock)
        self.log: list[str] = []

    def reader(self, name: str, frames: int, cost_s: float = STEP_S * 9) -> Reader:
        reader = Reader(name, frames, self.clock, self.log, cost_s)
        self.turns.wait(reader, 2 * SLICE_S)
        return reader

    async def turn(self) -> list[str]:
        """What is done in the next turn."""
        self.log.clear()
        await asyncio.sleep(0)
        return list(self.log)


async def test_others_come_between_two_slices() -> None:
    """Two that flood and one with little: it is done in the first turn, and so is a callback of anybody else."""
    world = World()
    floods = [world.reader(name, 1_000_000) for name in "ab"]
    little = world.reader("c", 1)
    done = await world.turn()
    assert set(done) == {"a", "b", "c"}
    assert little.free
    assert not any(flood.free for flood in floods)
    assert await world.turn(), "those that flood go on in the next turn"


async def test_a_turn_is_as_long_for_many_as_for_one() -> None:
    frames = TURN_S / (STEP_S * 10)
    for many in (1, 3, 8, 100):
        world = World()
        for index in range(many):
            world.reader(str(index), 1_000_000)
        for _ in range(5):
            assert frames * 0.7 < len(await world.turn()) < frames * 1.5


async def test_all_in_line_come_to_turn() -> None:
    """In order: nobody has two slices while another waits for its first."""
    world = World()
    names = [str(index) for index in range(20)]
    for name in names:
        world.reader(name, 1_000_000)
    first: dict[str, int] = {}
    for turn in range(8):
        for name in await world.turn():
            first.setdefault(name, turn)
    assert list(first) == names


async def test_dear_frames_do_not_add_up() -> None:
    """Of frames that take longer than a turn, one is done in each."""
    world = World()
    for name in "abcd":
        world.reader(name, 3, cost_s=2.5 * TURN_S)
    assert [await world.turn() for _ in range(8)] == [[name] for name in "abcdabcd"]


async def test_who_is_read_again_is_reckoned_with() -> None:
    """Readers that are free will be read in the same turn, as long as before maybe: not all are freed at once."""
    world = World()
    readers = [world.reader(str(index), 0) for index in range(8)]
    await world.turn()
    assert sum(reader.free for reader in readers) == TURN_S / (2 * SLICE_S)
    for _ in range(8):
        await world.turn()
    assert all(reader.free for reader in readers)


async def test_who_has_to_wait_besides_does() -> None:
    world = World()
    late, never, other = world.reader("late", 1_000), world.reader("never", 1_000), world.reader("other", 10)
    late.wait_s, never.wait_s = 0.01, inf
    assert {"late", "never", "other"} == set(await world.turn())
    assert other.free
    assert await world.turn() == []
    late.wait_s = 0
    async with asyncio.timeout(30):
        while not late.free:  # noqa: ASYNC110 - a timer of the turns' own has no event
            await asyncio.sleep(0.001)
    assert not never.free
    assert "never" not in world.log


class Broken(Reader):
    """Fails at its first frame."""

    def read_on(self, until: float) -> bool:
        super().read_on(until)
        raise ValueError("a defect")


async def test_a_defect_of_one_is_no_others_loss() -> None:
    world = World()
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    world.turns.wait(Broken("broken", 1, world.clock, world.log), 2 * SLICE_S)
    other = world.reader("other", 5)
    await world.turn()
    await world.turn()
    assert other.free
    assert isinstance(told[0], ValueError)

"""The virtual loop: time jumps, processes stop, go on and die."""

import asyncio
import time

import pytest

from adsum.testing.loop import LoopClock, Process, Stuck, VirtualLoop


def test_time_jumps() -> None:
    """A day of sleep is over at once, and lasted a day."""
    loop = VirtualLoop()
    began_s = time.monotonic()
    loop.run_until_complete(asyncio.wait_for(_sleep_a_day(), 100_000))
    assert loop.time() == 86_400
    assert time.monotonic() - began_s < 10
    loop.close()


async def _sleep_a_day() -> None:
    await asyncio.sleep(86_400)


def test_a_deadlock_is_told() -> None:
    """Where nothing will ever happen, the run ends with that."""
    loop = VirtualLoop()
    with pytest.raises(Stuck):
        loop.run_until_complete(loop.create_future())
    loop.close()


def test_a_busy_loop_is_told() -> None:
    """A task that never waits for time does not hang the run."""

    async def spin() -> None:
        while True:  # noqa: ASYNC110 - that it never waits is the point
            await asyncio.sleep(0)

    loop = VirtualLoop()
    with pytest.raises(Stuck):
        loop.run_until_complete(spin())
    loop.close()


class Ticker:
    """Notes the time each second, in a process."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.process = Process(self.loop, "p")
        self.ticks: list[int] = []
        self.ended = False
        self.process.spawn(self._tick())

    async def _tick(self) -> None:
        clock = LoopClock(self.loop)
        try:
            while True:
                await asyncio.sleep(1)
                self.ticks.append(clock.monotonic_ms())
        finally:
            self.ended = True

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))


def test_a_paused_process_stands_still() -> None:
    """What became due meanwhile runs when it goes on, and finds that time has passed."""
    ticker = Ticker()
    ticker.pass_time(2.5)
    ticker.process.pause()
    ticker.pass_time(5)
    assert ticker.ticks == [1_000, 2_000]
    ticker.process.go_on()
    ticker.pass_time(1.5)
    assert ticker.ticks == [1_000, 2_000, 7_500, 8_500]
    ticker.process.kill()
    ticker.pass_time(1)
    ticker.loop.close()


def test_a_killed_process_ends() -> None:
    """Its tasks are cancelled, even one that was paused, and nothing of it runs any more."""
    ticker = Ticker()
    ticker.pass_time(1.5)
    ticker.process.pause()
    ticker.process.kill()
    ticker.pass_time(5)
    assert ticker.ended
    assert ticker.process.tasks == {}
    ticker.process.call(ticker.ticks.clear)
    ticker.pass_time(1)
    assert ticker.ticks == [1_000]
    ticker.loop.close()


def test_a_task_that_dies_is_noted() -> None:
    """An exception nobody waits for does not get lost."""

    async def die() -> None:
        raise ValueError("oops")

    loop = VirtualLoop()
    process = Process(loop, "p")
    process.spawn(die())
    loop.run_until_complete(asyncio.sleep(1))
    assert [str(failure) for failure in process.failures] == ["oops"]
    loop.close()


def test_clocks_step() -> None:
    """A wall clock may jump while the monotonic one goes on, and a server's may jump altogether."""
    loop = VirtualLoop()
    clock = LoopClock(loop, skew_ms=500)
    before_ms = clock.unix_ms()
    clock.step(-3_000)
    assert (clock.monotonic_ms(), clock.unix_ms()) == (500, before_ms - 3_000)
    clock.step(1_000, monotonic=True)
    assert (clock.monotonic_ms(), clock.unix_ms()) == (1_500, before_ms - 2_000)
    loop.close()

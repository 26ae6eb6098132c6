"""Background work that goes on whatever becomes of a step."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from adsum.service.forever import end, forever
from tests.support.waiting import until


async def fails() -> None:
    raise ValueError


async def waits_for_what_is_cancelled() -> None:
    waited = asyncio.get_running_loop().create_future()
    waited.cancel()
    await waited


@pytest.mark.parametrize("step", [fails, waits_for_what_is_cancelled])
async def test_no_failure_ends_it_but_being_told_to_does(
    step: Callable[[], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    """Not even that something it waits for is cancelled."""
    steps = 0

    async def counted() -> None:
        nonlocal steps
        steps += 1
        await step()

    task = asyncio.create_task(forever("trying", counted, pause_s=0))
    await until(lambda: steps >= 3)
    await end([task])
    assert task.cancelled()
    assert [record.getMessage() for record in caplog.records] == ["trying failed; trying again"]

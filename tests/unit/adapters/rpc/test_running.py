"""A call that waits goes on without a task, as it would in one."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from adsum.adapters.rpc.running import Running, in_task
from adsum.wire.http2_streams import Stream
from tests.support.waiting import until


class Told:
    """Keeps how calls went."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.errors: list[Exception] = []

    def answered(self, stream: Stream[Any], answer: bytes) -> None:
        assert stream.id == 1
        self.answers.append(answer)

    def failed(self, stream: Stream[Any], error: Exception) -> None:
        assert stream.id == 1
        self.errors.append(error)


@pytest.fixture
def told() -> Told:
    return Told()


def run(coroutine: Coroutine[Any, Any, bytes], told: Told) -> Running:
    return Running(coroutine, coroutine.send(None), told, Stream(1, None, {}, -1, ended=True))


async def test_it_waits_for_one_thing_after_another(told: Told) -> None:
    first, second = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()

    async def call() -> bytes:
        one = await first
        await asyncio.sleep(0)
        return bytes(one + await second)

    ended = run(call(), told).ended()
    first.set_result(b"a")
    await asyncio.sleep(0)
    second.set_result(b"b")
    await asyncio.wait_for(ended, 10)
    assert (told.answers, told.errors) == ([b"ab"], [])


async def test_what_it_waits_for_fails_in_it(told: Told) -> None:
    waited = asyncio.get_running_loop().create_future()

    async def call() -> bytes:
        try:
            await waited
        except ValueError:
            raise LookupError from None
        return b""

    ended = run(call(), told).ended()
    waited.set_exception(ValueError())
    await asyncio.wait_for(ended, 10)
    assert [type(error) for error in told.errors] == [LookupError]
    assert not told.answers


@pytest.mark.parametrize("waits", ["for nothing", "for what comes", "for what is there"])
async def test_a_cancelled_one_is_told_so_where_it_waits_and_nobody_else(told: Told, waits: str) -> None:
    """Also where that is done already, and it only has not gone on yet."""
    waited = asyncio.get_running_loop().create_future()
    cancelled: list[str] = []

    async def call() -> bytes:
        try:
            await (asyncio.sleep(0) if waits == "for nothing" else waited)
        except asyncio.CancelledError:
            cancelled.append(waits)
            raise
        return b"answer"

    running = run(call(), told)
    ended = running.ended()
    if waits == "for what is there":
        waited.set_result(None)
    running.cancel()
    await asyncio.wait_for(ended, 10)
    assert cancelled == [waits]
    assert not told.answers
    assert not told.errors


async def test_one_that_somebody_else_cancels_has_failed(told: Told) -> None:
    """Its caller still waits."""
    waited = asyncio.get_running_loop().create_future()

    async def call() -> bytes:
        return bytes(await waited)

    ended = run(call(), told).ended()
    waited.cancel()
    await asyncio.wait_for(ended, 10)
    assert [type(error) for error in told.errors] == [RuntimeError]


async def test_one_that_outlives_being_cancelled_is_answered(told: Told) -> None:
    never = asyncio.get_running_loop().create_future()

    async def call() -> bytes:
        try:
            await never
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return b"all the same"

    running = run(call(), told)
    running.cancel()
    await asyncio.wait_for(running.ended(), 10)
    assert told.answers == [b"all the same"]


async def test_what_needs_a_task_has_one(told: Told) -> None:
    """`asyncio.timeout` asks for the current one. Cancelling reaches into it."""
    cancelled = asyncio.Event()

    async def call() -> bytes:
        try:
            async with asyncio.timeout(60):
                await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    running = run(in_task(call()), told)
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait_for(running.ended(), 10)
    await until(cancelled.is_set)
    assert not told.answers

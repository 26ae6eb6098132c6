"""A worker as its supervisor sees it: a process, from its start to its end."""

import asyncio
import itertools
import os
import signal
import socket
import sys
from contextlib import suppress

from adsum.app.channel import Answer, Ask, Begin, Channel, Question, Ready, Reload, Report, Stop, pack, report_channel
from adsum.app.settings import ENV_PREFIX, Settings
from adsum.ports import PageFormat

COMMAND = (sys.executable, "-P", "-m", "adsum.cli", "worker")
"""A fresh interpreter: a fork would share locks, threads and the loop. `-P`: the folder we are in may hold anything."""

ANSWER_S = 3
"""Longest wait for an answer: metrics wait up to 2 s for the store."""


class WorkerGone(Exception):
    """The worker ended before it did what it was asked."""


class Worker:
    """One process; `start` makes it. `number` is its place among the workers, which its successor takes over."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, channel: Channel[Report]) -> None:
        self.number = number
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self.ready = asyncio.Event()
        """It takes connections, or did before it ended."""
        self.stopping = False
        """It was told to end."""
        self.ended = asyncio.create_task(self._listen(), name=f"worker {number}")
        """Done when the process has ended and all it said is heard."""

    @classmethod
    async def start(cls, number: int, settings: Settings, secret: str) -> "Worker":
        """Start one; raises `OSError` if the system has no room for it."""
        ours, its = socket.socketpair()
        with its:
            channel = await report_channel(ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    *COMMAND,
                    str(its.fileno()),
                    pass_fds=(its.fileno(),),
                    env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
                    stdin=asyncio.subprocess.DEVNULL,
                    # A terminal's Ctrl-C is for the supervisor, which tells each worker once.
                    start_new_session=True,
                )
            except BaseException:
                # A worker that was started nevertheless sees the end, and ends.
                channel.close()
                raise
        channel.send(Begin(number, pack(settings), secret))
        return cls(number, process, channel)

    async def until_ready(self, patience_s: float) -> None:
        """Wait; raises `WorkerGone` if it ends first, `TimeoutError` if it does neither."""
        ready = asyncio.create_task(self.ready.wait())
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.wait((ready, self.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if not self.ready.is_set():
            raise WorkerGone

    async def ask(self, what: Question, patience_s: float = ANSWER_S, form: PageFormat = "text") -> Answer:
        """Its answer; raises `WorkerGone`, or `TimeoutError` if it does not answer in time."""
        number = next(self._ids)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            if self.ended.done():
                raise WorkerGone
            self._channel.send(Ask(number, what, form))
            async with asyncio.timeout(patience_s):
                return await answer
        finally:
            del self._asked[number]

    def reload(self, settings: Settings, secret: str) -> None:
        """Have it take over these settings, as far as it can while it runs."""
        self._channel.send(Reload(pack(settings), secret))

    def stop(self, delay_ms: int) -> None:
        """Tell it, once, to say goodbye to all and end, after having been open for so long."""
        if not self.stopping:
            self.stopping = True
            self._channel.send(Stop(delay_ms))

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def how_it_ended(self) -> str:
        """Words for a person, once it has ended."""
        code = self._process.returncode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"

    async def _listen(self) -> None:
        while (report := await self._channel.receive()) is not None:
            self._take(report)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(WorkerGone())
        # A worker that has closed its end is about to end, or hangs: then the supervisor ends it.
        await self._process.wait()
        self._channel.close()

    def _take(self, report: Report) -> None:
        match report:
            case Ready():
                self.ready.set()
            case Answer(id=number):
                answer = self._asked.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(report)

"""An asyncio loop on which time jumps to the next timer instead of passing, and processes that live on it.

Invariant: nothing here looks at a clock, a socket, a thread or an address in memory,
so a program whose chance is seeded does the same in every run. Callbacks that are
due at the same moment run in an order that only the program's past decides.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappush
from typing import Any, TypeVarTuple

_Args = TypeVarTuple("_Args")

MAX_TURNS_A_MOMENT = 100_000
"""Turns of the loop without time going on: more are a program that waits for nothing, for ever."""


class Stuck(AssertionError):
    """Nothing will ever happen again, or time will never go on."""


class Process:
    """What stops and dies as one: all callbacks and tasks that began in its context.

    While it is paused nothing of it runs; what is due meanwhile runs, in order, once it
    goes on. A dead one runs nothing any more. `failures` are the exceptions of tasks
    that ended by one.
    """

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.context = Context()
        self.context.run(_process.set, self)
        self.paused = False
        self.dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.failures: list[BaseException] = []
        self._loop = loop
        self._due: list[asyncio.Handle] = []

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Have something called in this process, in the loop's next turn."""
        self._loop.call_soon(callback, *args, context=self.context)

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> None:
        """Have something called in this process after a while."""
        self._loop.call_later(delay_s, callback, *args, context=self.context)

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine as a task of this process."""
        self.call(lambda: asyncio.ensure_future(work))

    def pause(self) -> None:
        """Stand still (SIGSTOP)."""
        self.paused = True

    def go_on(self) -> None:
        """Run what has become due meanwhile, and so on (SIGCONT)."""
        self.paused = False
        due, self._due = self._due, []
        for handle in due:
            self._loop.put(handle)

    def kill(self) -> None:
        """Cancel all tasks; once they have ended, run nothing any more.

        Whoever kills it cuts what connects it to others first: what its tasks do while
        they end must not be seen.
        """
        self.go_on()
        for task in list(self.tasks):
            task.cancel()
        self._loop.call_later(0.001, self._bury, context=Context())

    def _bury(self) -> None:
        self.dead = True

    def runs(self, handle: asyncio.Handle) -> bool:
        """Whether this may run now; what may not is kept, or dropped if the process is dead."""
        if self.paused:
            self._due.append(handle)
        return not (self.paused or self.dead)

    def watch(self, task: asyncio.Task[Any]) -> None:
        """Take note of a task of this process until it ends."""
        self.tasks[task] = None
        task.add_done_callback(self._ended, context=Context())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        del self.tasks[task]
        if not task.cancelled() and (failure := task.exception()):
            self.failures.append(failure)


_process: ContextVar[Process] = ContextVar("process")


class _Jump:
    """A selector without files: instead of waiting it moves the time on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._turns = 0

    def select(self, timeout_s: float | None) -> tuple[()]:
        if timeout_s is None:
            raise Stuck("nothing will ever happen again: every task waits and no timer is set")
        self._turns = 0 if timeout_s else self._turns + 1
        if self._turns > MAX_TURNS_A_MOMENT:
            raise Stuck(f"time stands still at {self.now_s:.3f} s: something is busy without end")
        self.now_s += timeout_s
        return ()

    def close(self) -> None:
        pass


class _Handle(asyncio.Handle):
    """A callback that runs when its process does."""

    _context: Context

    def _run(self) -> None:
        process = self._context.get(_process)
        if process is None or process.runs(self):
            super()._run()


class _TimerHandle(asyncio.TimerHandle):
    """The same, at some time."""

    _context: Context
    _scheduled: bool

    def _run(self) -> None:
        process = self._context.get(_process)
        if process is None or process.runs(self):
            super()._run()


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `time()` starts at 0."""

    _ready: Any
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Jump()
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._selector.now_s

    def put(self, handle: asyncio.Handle) -> None:
        """Run a callback in the next turn."""
        self._ready.append(handle)

    def call_at(
        self, when: float, callback: Callable[[*_Args], object], *args: *_Args, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Call something at a time, in its process."""
        timer = _TimerHandle(when, callback, args, self, copy_context() if context is None else context)
        heappush(self._scheduled, timer)
        timer._scheduled = True  # noqa: SLF001 - as the base class does
        return timer

    def _call_soon(
        self, callback: Callable[..., object], args: tuple[object, ...], context: Context | None
    ) -> asyncio.Handle:
        handle = _Handle(callback, args, self, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def _process_events(self, events: tuple[()]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else runs whom this would have to wake."""


def _make_task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:  # noqa: ANN401
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    process = _process.get(None)
    if process is not None:
        process.watch(task)
    return task


class LoopClock:
    """A process's or a server's `Clock` on the loop's time. `skew_ms` is how far its monotonic clock is off.

    `step` moves the wall clock of a process and, with `monotonic`, the clock itself: what
    a store calls its time is the wall clock of its machine.
    """

    def __init__(self, loop: VirtualLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._skew_ms = skew_ms
        self._wall_ms = 1_700_000_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment."""
        return int(self._loop.time() * 1000) + self._skew_ms

    def unix_ms(self) -> int:
        """Milliseconds since 1970, as this machine believes."""
        return self.monotonic_ms() + self._wall_ms

    def step(self, ms: int, *, monotonic: bool = False) -> None:
        """Have the clock jump."""
        if monotonic:
            self._skew_ms += ms
        else:
            self._wall_ms += ms

    def __deepcopy__(self, _: object) -> "LoopClock":
        return self

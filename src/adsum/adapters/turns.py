"""Turns of the loop, shared by all connections of a process: none can hold it, whatever it sends.

A connection that is read for longer than a slice keeps the rest of what came, is read from no more
(`pause_reading`: else uvloop would read one socket 32 times in a row), and waits in line. Once in each
turn of the loop the line is served, for a turn's time in all: so many that flood cost the others no more
than one does. A read that is soon done, which nearly every one is, costs two looks at the clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Final, Protocol

SLICE_S: Final = 0.001
"""How long a connection is read before it has to wait."""

TURN_S: Final = 0.004
"""How long those in line are served before all others come again. A frame is never interrupted, and may last longer."""


class Reader(Protocol):
    """A connection, from when it was read too long until it is read freely again."""

    def read_on(self, until: float) -> bool:
        """Go on with what was received, up to this time or a frame more; whether any of it is left."""
        ...

    def charge(self, work_s: float) -> float:
        """Note work done for it; the seconds it has to wait for that besides, infinity if it has ended for it."""
        ...

    def read_more(self) -> None:
        """Take more from the system: nothing that was received is left."""
        ...


class Turns:
    """The line. `now` is a clock of seconds that goes on while work is done, which the loop's own does not."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self.now = now
        self._line: deque[Reader] = deque()
        self._dear_read_s = SLICE_S
        self._called = False
        self._spent_s = 0.0

    def is_spent(self) -> bool:
        """Whether others that came in this turn of the loop had so much that who comes now has to wait for its own."""
        return self._spent_s >= TURN_S

    def spend(self, work_s: float) -> None:
        """Note work done for who is not in line."""
        if not self._spent_s:
            asyncio.get_running_loop().call_soon(self._begin_turn)
        self._spent_s += work_s

    def _begin_turn(self) -> None:
        self._spent_s = 0.0

    def wait(self, reader: Reader, work_s: float) -> None:
        """Have a connection wait for its turn, which was read for so long and is paused now; once until `read_more`."""
        if work_s:
            # Of the dearest lately: many of one kind may be about to be read again.
            self._dear_read_s = max(SLICE_S, work_s, self._dear_read_s / 2)
        wait_s = reader.charge(work_s)
        if wait_s != inf:
            self._queue(reader, wait_s)

    def _queue(self, reader: Reader, wait_s: float) -> None:
        if wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._queue, reader, 0)
            return
        self._line.append(reader)
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._called = False
        try:
            self._serve_line()
        finally:
            # Also after a defect of one of them: the others must not wait for ever.
            if self._line and not self._called:
                self._called = True
                asyncio.get_running_loop().call_soon(self._serve)

    def _serve_line(self) -> None:
        """Serve each in line once, as far as the turn's time goes."""
        began = self.now()
        ends = began + TURN_S
        for waiting in range(len(self._line), 0, -1):
            if began >= ends:
                return
            reader = self._line.popleft()
            left = reader.read_on(began + max(SLICE_S, (ends - began) / waiting))
            ended = self.now()
            wait_s = reader.charge(ended - began)
            began = ended
            if wait_s == inf:
                continue
            if left or wait_s:
                self._queue(reader, wait_s)
            else:
                reader.read_more()
                # It will be read at once, for as long as others were.
                ends -= self._dear_read_s

"""The network between nodes and the store's servers: late, lossy, out of order, or not there at all.

What a line does to each message is drawn from one seeded source. Faults are counted,
not set, so that they may overlap. Everything outside of a process goes on while the
process stands still; what reaches it waits for it.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from math import inf
from random import Random
from typing import TypeVar

from adsum.domain.errors import StoreError
from adsum.domain.presence import FeedEntry
from adsum.testing.loop import Process, VirtualLoop
from adsum.testing.server import Server
from adsum.testing.trace import Trace

T = TypeVar("T")

RECONNECT_S = 0.2
"""Until a lost connection is tried anew."""


@dataclass(frozen=True, slots=True)
class Weather:
    """How long messages take, and the chance of each to get lost, be doubled, be very late, or overtake (feed)."""

    least_ms: float = 0.2
    most_ms: float = 5
    lost: float = 0
    doubled: float = 0
    late: float = 0
    late_ms: float = 0
    overtaking: float = 0


class Network:
    """Chance and weather for all lines. `storms` is how many faults make it rough everywhere."""

    def __init__(self, loop: VirtualLoop, chance: Random, fair: Weather, rough: Weather, trace: Trace) -> None:
        self.loop = loop
        self.chance = chance
        self.trace = trace
        self.storms = 0
        self.outside = Context()
        """Where what belongs to no process runs."""
        self._fair, self._rough = fair, rough

    def delays_ms(self, *, rough: bool) -> list[float]:
        """When each copy of a message arrives, if any does."""
        weather = self._rough if rough or self.storms else self._fair
        chance = self.chance.random
        spread_ms = weather.most_ms - weather.least_ms
        if weather is self._fair:
            return [weather.least_ms + chance() * spread_ms]
        if chance() < weather.lost:
            return []
        delays = [weather.least_ms + chance() * spread_ms]
        if chance() < weather.late:
            delays[0] += chance() * weather.late_ms
        if chance() < weather.doubled:
            delays.append(delays[0] + chance() * weather.late_ms)
        return delays

    def overtakes(self, *, rough: bool) -> bool:
        """Whether an entry of the feed may arrive before earlier ones."""
        return bool(rough or self.storms) and self.chance.random() < self._rough.overtaking


class Line:
    """Everything between one node and one server: calls, answers, the feed.

    `asks_cut`, `answers_cut`: faults that keep that direction from getting through;
    `rough`: those that make the weather bad here alone. `refound` is called when the
    connection to the server was lost and found again.
    """

    def __init__(
        self,
        network: Network,
        process: Process,
        server: Server,
        hear: Callable[[FeedEntry], None],
        refound: Callable[[Server], None],
    ) -> None:
        self.server = server
        self.asks_cut = self.answers_cut = self.rough = 0
        self.refound_s = 0.0
        """When the connection was last found again; infinity while it is lost."""
        self._network = network
        self._process = process
        self._hear = hear
        self._refound = refound
        self._following_life = 0
        self._feed_at_s = 0.0
        self._reconnecting = False

    # Calls

    def ask(self, name: str, work: Callable[[Server], T], note: Callable[[Server], None] | None) -> "asyncio.Future[T]":
        """Send a call; the future is its answer, and stays open if that gets lost."""
        loop = self._network.loop
        answer: asyncio.Future[T] = loop.create_future()
        if self.server.down and self._network.chance.random() < 0.5:
            # A machine that is up with no server on it says so.
            self._answer_in(1, answer, StoreError("connection refused"), self.server.life)
            return answer
        for delay_ms in self._network.delays_ms(rough=bool(self.rough)):
            outside = self._network.outside
            loop.call_later(delay_ms / 1000, self._land, name, work, note, answer, context=outside)
        return answer

    def _land(
        self,
        name: str,
        work: Callable[[Server], T],
        note: Callable[[Server], None] | None,
        answer: "asyncio.Future[T]",
    ) -> None:
        server = self.server
        if self.asks_cut or server.down:
            return
        result = server.run(work, note)
        self._network.trace.note(f"store{server.index}", f"{self._process.name} {name}: {result!r}")
        for delay_ms in self._network.delays_ms(rough=bool(self.rough)):
            self._answer_in(delay_ms, answer, result, server.life)

    def _answer_in(self, delay_ms: float, answer: "asyncio.Future[T]", result: T | StoreError, life: int) -> None:
        context = self._process.context
        self._network.loop.call_later(delay_ms / 1000, self._answer, answer, result, life, context=context)

    def _answer(self, answer: "asyncio.Future[T]", result: T | StoreError, life: int) -> None:
        if answer.done() or self.answers_cut:
            return
        if life != self.server.life:
            result = StoreError("connection reset")
        if isinstance(result, StoreError):
            # An exception of its own for each: one raised twice would carry both traces.
            answer.set_exception(type(result)(*result.args))
        else:
            answer.set_result(result)

    # The feed

    def follow(self) -> None:
        """Be sent the feed from now on."""
        self._following_life = self.server.life
        self.server.followers.append(self._carry)

    def leave(self) -> None:
        """Be sent it no longer."""
        if self._carry in self.server.followers:
            self.server.followers.remove(self._carry)

    def _carry(self, entry: FeedEntry) -> None:
        if self._following_life != self.server.life or self.answers_cut:
            return
        network = self._network
        for delay_ms in network.delays_ms(rough=bool(self.rough)):
            at_s = network.loop.time() + delay_ms / 1000
            if not network.overtakes(rough=bool(self.rough)):
                at_s = self._feed_at_s = max(at_s, self._feed_at_s)
            network.loop.call_at(at_s, self._hear, entry, context=self._process.context)

    def break_off(self) -> None:
        """Lose the connection: nothing of the feed comes until it is found again."""
        self._following_life = 0
        self.refound_s = inf
        if not self._reconnecting:
            self._reconnecting = True
            self._reconnect_later()

    def _reconnect_later(self) -> None:
        pause_s = RECONNECT_S * (1 + self._network.chance.random())
        self._network.loop.call_later(pause_s, self._reconnect, context=self._process.context)

    def _reconnect(self) -> None:
        if self.asks_cut or self.answers_cut or self.server.down:
            self._reconnect_later()
            return
        self._reconnecting = False
        self._following_life = self.server.life
        self.refound_s = self._network.loop.time()
        self._refound(self.server)

"""How much work one client may have done for it: a bucket of time that fills steadily (a token bucket)."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True)
class Share:
    """Of a loop's time: `burst_s` at once, and `rate` seconds a second in the long run.

    Whoever wants more has to wait, until `again_s` are there; whoever still wants more after `patience_s`
    of that is told to go.
    No single piece of work counts as more than `dearest_s`: what takes longer is this process standing still.
    What breaks the rules counts as `fault_s` besides: about what it takes to connect, be told and go.
    """

    burst_s: float = 0.25
    rate: float = 0.05
    again_s: float = 0.01
    patience_s: float = 10.0
    dearest_s: float = 0.1
    fault_s: float = 0.002


class Budget:
    """What is left of a client's share, by times that the caller tells in seconds of any one clock."""

    __slots__ = ("_at_s", "_left_s", "_share", "_short_since_s")

    def __init__(self, share: Share, now_s: float) -> None:
        self._share = share
        self._left_s = share.burst_s
        self._at_s = now_s
        self._short_since_s: float | None = None

    def spend(self, work_s: float, now_s: float) -> float:
        """Pay for work that was done; seconds until more may be done, infinity for one that is told to go."""
        share = self._share
        self._fill(now_s)
        if self._left_s >= share.burst_s / 2:
            self._short_since_s = None
        self._left_s -= min(work_s, share.dearest_s)
        if self._left_s >= 0:
            return 0
        if self._short_since_s is None:
            self._short_since_s = now_s
        if now_s - self._short_since_s >= share.patience_s:
            return inf
        return (share.again_s - self._left_s) / share.rate

    def is_full(self, now_s: float) -> bool:
        """Whether it is as if nothing had been spent."""
        self._fill(now_s)
        return self._left_s >= self._share.burst_s

    def _fill(self, now_s: float) -> None:
        share = self._share
        self._left_s = min(share.burst_s, self._left_s + (now_s - self._at_s) * share.rate)
        self._at_s = now_s

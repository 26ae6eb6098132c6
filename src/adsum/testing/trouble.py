"""When a node could not be expected to keep its lease: judged by the faults injected, not by what the node did.

A node renews at a third of its lease and tries again soon after a failure. So where
nothing disturbs it for as long as one failed try and the next take (`retry_s`), it
has renewed within the last third. It has lost its lease only if it was disturbed for
longer than the other two thirds since.
"""

from collections.abc import Callable

SLACK_S = 0.3
RECOVERY_S = 3.0
"""To find the lease gone, take another and write all users again, a third of the lease aside."""


class Trouble:
    """Of one node. Every method takes the present time in seconds from `now_s`."""

    def __init__(self, now_s: Callable[[], float], lease_s: float, retry_s: float) -> None:
        self._now_s = now_s
        self._lease_s = lease_s
        self._retry_s = retry_s
        self._count = 0
        self._quiet_since_s = self._sound_s = now_s()
        self._debts: list[tuple[float, float]] = []
        self._excused = False

    def begin(self) -> None:
        """A fault disturbs the node from now on."""
        self._look()
        self._count += 1

    def end(self) -> None:
        """It no longer does."""
        self._look()
        self._count -= 1
        self._quiet_since_s = self._now_s()

    def shorten(self, by_s: float) -> None:
        """The lease in the store ends so much earlier than the node believes."""
        self._look()
        self._debts.append((self._now_s(), by_s))
        self._look()

    @property
    def excused(self) -> bool:
        """Whether what this node holds may be missing in the store."""
        self._look()
        return self._excused

    def _look(self) -> None:
        now_s = self._now_s()
        self._debts = [debt for debt in self._debts if now_s - debt[0] < self._lease_s]
        most_s = self._lease_s * 2 / 3 - SLACK_S - sum(by_s for _, by_s in self._debts)
        quiet_s = 0.0 if self._count else now_s - self._quiet_since_s
        renewed = quiet_s >= self._retry_s
        until_s = self._quiet_since_s + self._retry_s if renewed else now_s
        if until_s - self._sound_s > max(most_s, 0):
            self._excused = True
        if most_s < 0:
            self._excused, self._quiet_since_s, quiet_s = True, now_s, 0.0
        if self._excused and quiet_s >= self._retry_s + self._lease_s / 3 + RECOVERY_S:
            self._excused = False
        if renewed:
            self._sound_s = now_s

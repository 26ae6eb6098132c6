"""Tells load from calm by how often something happens."""

WINDOW_MS = 100
BUSY_WRITES = 19
CALM_WRITES = 7
"""Writes of a lane in a window at which load begins, and below which it ends: one that rests makes about 10."""


class Pace:
    """Counts the writes of so many `lanes` in windows of `WINDOW_MS`."""

    __slots__ = ("_busy", "_busy_writes", "_calm_writes", "_count", "_since_ms")

    def __init__(self, lanes: int) -> None:
        self._busy_writes = BUSY_WRITES * lanes
        self._calm_writes = CALM_WRITES * lanes
        self._since_ms = 0
        self._count = 0
        self._busy = False

    def under_load(self, now_ms: int) -> bool:
        """Count a write; whether there are, or were in the window before, too many to make each at once."""
        age_ms = now_ms - self._since_ms
        if age_ms >= WINDOW_MS:
            enough = self._calm_writes if self._busy else self._busy_writes
            self._busy = self._count >= enough and age_ms < 2 * WINDOW_MS
            self._since_ms, self._count = now_ms, 0
        self._count += 1
        self._busy = self._busy or self._count >= self._busy_writes
        return self._busy

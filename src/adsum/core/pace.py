"""Tells load from calm by how often something happens."""

WINDOW_MS = 100
BUSY_WRITES = 150
CALM_WRITES = 60
"""Writes in a window at which load begins, and below which it ends: eight lanes that rest make about 80."""


class Pace:
    """Counts writes in windows of `WINDOW_MS`."""

    __slots__ = ("_busy", "_count", "_since_ms")

    def __init__(self) -> None:
        self._since_ms = 0
        self._count = 0
        self._busy = False

    def under_load(self, now_ms: int) -> bool:
        """Count a write; whether there are, or were in the window before, too many to make each at once."""
        age_ms = now_ms - self._since_ms
        if age_ms >= WINDOW_MS:
            enough = CALM_WRITES if self._busy else BUSY_WRITES
            self._busy = self._count >= enough and age_ms < 2 * WINDOW_MS
            self._since_ms, self._count = now_ms, 0
        self._count += 1
        self._busy = self._busy or self._count >= BUSY_WRITES
        return self._busy

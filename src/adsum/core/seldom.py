"""A line of the log now and then, for what may happen as often as others like."""

MINUTE_MS = 60_000


class Seldom:
    """Counts, and says when a line is due: at once the first time, then at most once in `every_ms`."""

    __slots__ = ("_count", "_every_ms", "_next_ms")

    def __init__(self, every_ms: int = MINUTE_MS) -> None:
        self._every_ms = every_ms
        self._count = 0
        self._next_ms: int | None = None

    def due(self, now_ms: int) -> int:
        """Count one; how many there were since the last line if another is due, otherwise 0."""
        self._count += 1
        if self._next_ms is not None and now_ms < self._next_ms:
            return 0
        count, self._count, self._next_ms = self._count, 0, now_ms + self._every_ms
        return count

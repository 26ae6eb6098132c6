"""Unique names for writes, for logs and webhooks to follow one through the system."""


class OpIds:
    """Counts up under a prefix that no other process uses."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._count = 0

    def __call__(self) -> str:
        """A new ID: `PREFIX-N`."""
        self._count += 1
        return f"{self._prefix}-{self._count}"

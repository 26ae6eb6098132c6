"""What happened in a run, in order, as text: to read, and to compare two runs by."""

from hashlib import blake2b

from adsum.testing.loop import VirtualLoop


class Trace:
    """Lines `TIME_MS WHERE WHAT`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.lines: list[str] = []

    def note(self, where: str, what: str) -> None:
        """Add a line."""
        self.lines.append(f"{self._loop.time() * 1000:10.3f} {where:8} {what}")

    def digest(self) -> str:
        """A hash of it all."""
        return blake2b("\n".join(self.lines).encode(), digest_size=16).hexdigest()

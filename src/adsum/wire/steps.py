"""How much may be done for one message: what its bytes can make us do is bounded before it is done.

A few hundred bytes of gzip can stand for tens of thousands of empty elements, each of which takes a
step of ours. Messages of real clients take a few dozen.
"""

from adsum.domain.errors import DataError


class Steps:
    """So many steps at most; past them `error` is raised with these words."""

    __slots__ = ("_error", "_left", "_words")

    def __init__(self, most: int, error: type[DataError], words: str) -> None:
        self._left = most
        self._error = error
        self._words = words

    def take(self, count: int = 1) -> None:
        """Count what is about to be done."""
        self._left -= count
        if self._left < 0:
            raise self._error(self._words)

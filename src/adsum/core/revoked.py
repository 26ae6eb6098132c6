"""Tokens that a later login ended."""

from collections import OrderedDict


class Revoked:
    """Digests of ended tokens: the last `most`, since a bounded memory is worth more than a kick kept for ever."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def add(self, digest: bytes) -> None:
        """Remember a token as ended."""
        self._digests[digest] = None
        if len(self._digests) > self._most:
            self._digests.popitem(last=False)

    def __contains__(self, digest: object) -> bool:
        return digest in self._digests

"""Connections of one port by address, so that who has many takes nothing from who has few.

Behind one proxy all are one crowd; then only their age tells them apart.
"""

from collections.abc import Collection
from typing import Generic, TypeVar

ConnectionT = TypeVar("ConnectionT")


class Crowds(Generic[ConnectionT]):
    """The connections that have a place, each crowd in the order they came."""

    def __init__(self) -> None:
        self._addresses: dict[ConnectionT, str] = {}
        self._crowds: dict[str, dict[ConnectionT, None]] = {}

    def join(self, newcomer: ConnectionT, address: str) -> None:
        """There is one more."""
        self._addresses[newcomer] = address
        self._crowds.setdefault(address, {})[newcomer] = None

    def leave(self, one: ConnectionT) -> None:
        """Its place is free; one that has none is ignored."""
        address = self._addresses.pop(one, None)
        if address is None:
            return
        crowd = self._crowds[address]
        del crowd[one]
        if not crowd:
            del self._crowds[address]

    def as_large_as_of(self, one: ConnectionT) -> list[Collection[ConnectionT]]:
        """The crowds that are not smaller than this one's, the largest first, and of those the one that came first."""
        least = len(self._crowds[self._addresses[one]])
        crowds: list[Collection[ConnectionT]] = [crowd for crowd in self._crowds.values() if len(crowd) >= least]
        return sorted(crowds, key=len, reverse=True)

    def __len__(self) -> int:
        return len(self._addresses)

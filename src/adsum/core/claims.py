"""One role in one partition: its cursor, its owner and who else would be one.

Invariants: the owner is a contender; the cursor only grows, and never past the
partition's version.
"""

from collections.abc import Callable

from adsum.domain.claims import Claim


class RoleState:
    """A role that begins at the partition's present `version`."""

    def __init__(self, version: int) -> None:
        self._cursor = version
        self._owner: str | None = None
        self._contenders: dict[str, None] = {}

    def bid(self, holder: str, lives: Callable[[str], bool], *, take: bool, done: int, version: int) -> Claim:
        """A living holder bids. `lives` tells whose lease is good; holders without one are forgotten."""
        self._contenders = dict.fromkeys([*filter(lives, self._contenders), holder])
        if self._owner not in self._contenders:
            self._owner = None
        self._advance(holder, done, version)
        if self._owner is None and take:
            self._owner = holder
        cursor = self._cursor if self._owner == holder else None
        return Claim(cursor, version, len(self._contenders), self._owner is None)

    def leave(self, holder: str, done: int, version: int) -> None:
        """A holder gives up what it owns, and bids no longer."""
        self._advance(holder, done, version)
        self._contenders.pop(holder, None)
        if self._owner == holder:
            self._owner = None

    def _advance(self, holder: str, done: int, version: int) -> None:
        if self._owner == holder and self._cursor < done <= version:
            self._cursor = done

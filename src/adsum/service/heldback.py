"""Keeps news from watchers that is undone in a moment: of users held here, while this node has to write them again.

A node that stood still for longer than its lease hears, when it goes on, that its users have
left: the others were told so meanwhile. Its own watchers were not, and must not be now: the
users are here, and about to be written again.
"""

from collections.abc import Callable, Iterable

from adsum.core.known import KnownTable
from adsum.core.registry import Registry
from adsum.domain.presence import HoldState


class HeldBack:
    """Passes news of watched users on to `tell`, but for those that `is_lost`, the node's lease, explains."""

    def __init__(
        self, registry: Registry, table: KnownTable, is_lost: Callable[[], bool], tell: Callable[[str], None]
    ) -> None:
        self._registry = registry
        self._table = table
        self._is_lost = is_lost
        self._tell = tell
        self._waiting: set[str] = set()

    def news(self, user_id: str) -> None:
        """A watched user's platforms are others than was known."""
        mask = self._registry.mask(user_id)
        if mask and self._is_lost():
            user = self._table.find(user_id)
            if user is not None and mask & ~user.mask:
                self._waiting.add(user_id)
                return
        self._waiting.discard(user_id)
        self._tell(user_id)

    def written(self, states: Iterable[HoldState]) -> None:
        """The store has these: of who is here it will tell, of who has left meanwhile nobody else does."""
        if not self._waiting:
            return
        for state in states:
            if not state.mask and state.user_id in self._waiting:
                self._waiting.discard(state.user_id)
                self._tell(state.user_id)

"""A timer wheel: one timer for any number of idle connections.

Items wait in slots of one tick. What an item waits for may move later without
telling the wheel: when its slot comes up, the owner looks and puts it back. So a
frame that arrives costs nothing here, and an idle connection one look a period.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Wheel(Generic[T]):
    """Items due at some tick. `tick_ms` is the resolution; nothing is due early."""

    def __init__(self, tick_ms: int, now_ms: int) -> None:
        self._tick_ms = tick_ms
        self._turned_to = now_ms // tick_ms
        self._slots: dict[int, dict[T, None]] = {}

    def put(self, item: T, due_ms: int) -> int:
        """Have `item` come up at `due_ms` or up to a tick later; returns the slot it waits in."""
        slot = max(-(-due_ms // self._tick_ms), self._turned_to + 1)
        self._slots.setdefault(slot, {})[item] = None
        return slot

    def remove(self, item: T, slot: int) -> None:
        """Forget an item that waits in `slot`; one that came up already is ignored."""
        waiting = self._slots.get(slot)
        if waiting is not None:
            waiting.pop(item, None)
            if not waiting:
                del self._slots[slot]

    def turn(self, now_ms: int) -> list[T]:
        """All items due by `now_ms`, no longer in the wheel."""
        now = now_ms // self._tick_ms
        due: list[T] = []
        if now > self._turned_to:
            self._turned_to = now
            for slot in sorted(slot for slot in self._slots if slot <= now):
                due += self._slots.pop(slot)
        return due

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._slots)

"""The receiver of everybody's webhooks, and what must hold of what it hears.

Each change in a server's feed is heard at least once, after the faults at the latest,
and each for the first time in the order of the feed for its user and platform. Not
expected, but allowed: a change that the server forgot with the past it lost, one from
before anybody consumed the partition, one that a node passed over because the server
did not keep all changes since the node's position, and to hear again what was heard.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from adsum.domain.errors import NetworkError
from adsum.domain.platforms import ids_of
from adsum.domain.presence import FeedEntry
from adsum.ports import Hook
from adsum.service.webhooks import KICK_COMMAND, OFFLINE_COMMAND, ONLINE_COMMAND
from adsum.testing.server import Server

JUST_NOW_S = 0.2
"""After a server fell back: what a node was answered before may not hold any more."""

Key = tuple[str, int]
"""User and platform."""


class Receiver:
    """Where one node's webhooks go in. `down`: faults that keep it from answering; answers get lost then, too."""

    def __init__(self, chance: Random, most_s: float, hear: Callable[[Hook], None]) -> None:
        self.down = 0
        self._most_s = most_s
        self._chance = chance
        self._hear = hear

    async def deliver(self, hook: Hook) -> None:
        """Take a webhook; its answer may get lost."""
        await asyncio.sleep(self._chance.uniform(0.0005, self._most_s))
        if self.down and self._chance.random() < 0.6:
            raise NetworkError("the receiver does not answer")
        self._hear(hook)
        if self.down and self._chance.random() < 0.5:
            raise NetworkError("the receiver's answer got lost")

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True, slots=True)
class Event:
    """A platform that a user came on or went from, and the entry that tells it."""

    server: Server
    partition: int
    version: int
    told: tuple[str, str]
    """The command and the operation's ID, by which the receiver knows it."""


class HookAudit:
    """Compares what was published with what was heard."""

    def __init__(self, complain: Callable[[str], None], now_s: Callable[[], float]) -> None:
        self._complain = complain
        self._now_s = now_s
        self._events: dict[Key, list[Event]] = {}
        self._reached: dict[Key, int] = {}
        """How many events of each were told, or need not be."""
        self._passed_over: dict[int, int] = {}
        """By partition, the version up to which changes need not be told."""

    def published(self, server: Server, entry: FeedEntry) -> None:
        """A server published an entry."""
        for change in entry.changes:
            for command, mask in (
                (OFFLINE_COMMAND, change.before & ~change.after),
                (ONLINE_COMMAND, change.after & ~change.before),
            ):
                for platform_id in ids_of(mask):
                    event = Event(server, entry.partition, entry.version, (command, entry.op_id))
                    self._events.setdefault((change.user_id, platform_id), []).append(event)

    def heard(self, hook: Hook) -> None:
        """The receiver heard a webhook."""
        if hook.command == KICK_COMMAND:
            return
        platform_id = hook.body["platformID"]
        assert isinstance(platform_id, int)
        key = hook.user_id, platform_id
        events, reached = self._events.get(key, []), self._reached.get(key, 0)
        told = hook.command, hook.operation_id
        places = [i for i, event in enumerate(events) if event.told == told]
        missing: list[tuple[str, str]] = []
        # A write that landed in a life that was lost may land again in the next: told once, both are told.
        for place in [place for place in places if place >= reached]:
            missing = [event.told for event in events[reached:place] if self._is_expected(event)]
            if missing:
                break
            reached = place + 1
        if not places:
            self._complain(f"a webhook tells {key} {told}, which never was")
        elif places[0] >= reached:
            self._complain(f"a webhook tells {key} {told} before {missing}")
            reached = places[0] + 1
        self._reached[key] = reached

    def lost(self, server: Server, partition: int, position: int, version: int) -> None:
        """A node passes over changes up to a version, because those after its position are not all kept.

        Nor may those after the cursor be: where the server has another past than the node
        has seen, these must be told.
        """
        for after in (position, server.ledger.cursors.get(partition, position)):
            kept = server.changes_since(partition, after) is not None
            if kept and self._now_s() - server.fell_back_s > JUST_NOW_S:
                self._complain(f"changes of {partition} after {after:x} are passed over, and they are kept")
        self._passed_over[partition] = max(version, self._passed_over.get(partition, 0))

    def _is_expected(self, event: Event) -> bool:
        """Whether an event that was not told must still be."""
        partition, version = event.partition, event.version
        began = event.server.ledger.roles.get(partition)
        passed_over = version <= self._passed_over.get(partition, 0)
        return began is not None and version > began and not passed_over and event.server.has(partition, version)

    def untold(self) -> Iterator[str]:
        """What was published and is still to be heard."""
        for key, events in self._events.items():
            for event in events[self._reached.get(key, 0) :]:
                if self._is_expected(event):
                    yield f"{key} {event.told} of partition {event.partition}"

"""What must hold at every moment of a run, and when all has come to rest.

What the design promises, precisely:

- **No false offline.** The store lets go of a user's platform only if no sound node holds
  it: none on which the user has been connected on it all along, whose write of that
  has landed. A node is sound unless it is dead, or was stopped, cut off or its lease
  shortened for longer than a lease allows (`Trouble`), or the store lost its lease by
  falling back to a state older than a quarter of it. Excused, too, is a node that ends
  its own former hold just when a server falls back to where that was all, and before
  it can know. Nor is a timed hold let go of
  before its deadline by the server's clock.
- **Watchers hear the truth, in order.** What a connection is told of a user is a state
  the user had, and never one from before the state it was told last. A state that is
  only what a server came back with after a loss, not what its users did, is not told:
  a user held on a sound node throughout is not called offline because of it.
- **Answers are true.** What a query answers was so at some moment between asking and answering.
- **The relay's listeners hear a chain.** Each entry follows the last one, unless the
  partition was read anew in between.
- **Webhooks** tell what a node has written, in order for each user and platform, at least
  once, while that node lives and its relay was told of it.
- **In the end**, a bounded time after the last fault, the store's state is that of the live
  connections and the timed holds, and the last word of each watcher is the store's.

Not promised: that a client who connects anew somewhere else after its gateway died is
never offline in between, or that a change lost by the store with the state before it
is ever told. Assumed, not checked: that an engine never gives a version twice, not
even in another life (see `server`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from adsum.core.partition import partition_of
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Change, FeedEntry, Status
from adsum.testing.client import Connection
from adsum.testing.loop import VirtualLoop
from adsum.testing.node import Node
from adsum.testing.server import Server, done
from adsum.testing.trace import Trace

K = TypeVar("K")

RELEASE_S = 1.0
"""After a server fell back: a node may still be ending its former hold, which is all the server has of it again."""

SETTLED_S = 2.0
"""How long a connection must have been there to be counted as held when a server loses its state."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A user's platforms from some time on. `by_loss`: because a server lost its state, not because they changed."""

    at_s: float
    mask: int
    by_loss: bool = False


START = Moment(0.0, 0)


class Audit:
    """Watches a run, and keeps what it finds wrong in `violations`."""

    def __init__(self, loop: VirtualLoop, trace: Trace, nodes: Mapping[str, Node]) -> None:
        self.violations: list[str] = []
        self._loop = loop
        self._trace = trace
        self._nodes = nodes
        self._histories: dict[str, list[Moment]] = {}

    def complain(self, what: str) -> None:
        """Something is wrong."""
        self._trace.note("AUDIT", what)
        self.violations.append(f"{self._loop.time():.3f} s: {what}")

    # Servers

    def changed(self, server: Server, entry: FeedEntry) -> None:
        """A server published an entry."""
        self._trace.note(f"store{server.index}", f"entry {entry.partition}/{entry.version:x} {_changes(entry)}")
        for change in entry.changes:
            history = self._history(change.user_id)
            if history[-1].mask != change.before:
                self.complain(f"the feed says {change.user_id} was {change.before:x}, and it was {history[-1].mask:x}")
            history.append(Moment(self._loop.time(), change.after))
            for platform_id in ids_of(change.before & ~change.after):
                self._check_let_go(server, entry, change, platform_id)

    def reborn(self, server: Server) -> None:
        """A server's new life has begun with another state."""
        self._trace.note(f"store{server.index}", f"life {server.life} begins")
        partitions = server.store.partitions
        users = [user for user in self._histories if partition_of(user, partitions) in server.partitions]
        for user_id, reading in zip(users, done(server.store.read(users)), strict=True):
            if reading.mask != self._histories[user_id][-1].mask:
                self._histories[user_id].append(Moment(self._loop.time(), reading.mask, by_loss=True))

    def _check_let_go(self, server: Server, entry: FeedEntry, change: Change, platform_id: int) -> None:
        user_id = change.user_id
        if server.ledger.timed.get((user_id, platform_id), 0) > server.clock.monotonic_ms():
            self.complain(f"{user_id} lost platform {platform_id}, set until a deadline that has not come")
        for name, landed in server.ledger.holds.get(user_id, {}).items():
            node = self._nodes.get(name)
            since_s = node.held.get((user_id, platform_id)) if node else None
            if node is None or since_s is None or node.trouble.excused:
                continue
            fell_back = self._loop.time() - server.fell_back_s < RELEASE_S
            unaware = node.store.released_s < node.store.lines[server.index].refound_s
            if fell_back and unaware and entry.op_id.startswith(f"{name}-"):
                continue
            if landed.mask >> platform_id & 1 and landed.sent_s >= since_s:
                self.complain(f"{user_id} lost platform {platform_id}, held on {name} since {since_s:.3f} s")

    # Watchers and callers

    def heard(self, connection: Connection, user_id: str, mask: int) -> None:
        """A connection was told a user's state."""
        self._trace.note(connection.name, f"hears {user_id}={mask:x}")
        history = self._history(user_id)
        place = self._place(connection, user_id, mask)
        if place is None:
            told = connection.words.get(user_id)
            before = "nothing" if told is None else f"{told:x}"
            self.complain(
                f"{connection.name} on {connection.node.name} hears {user_id}={mask:x} after {before}, "
                f"which it no longer was: {[f'{m.mask:x}' for m in history][-6:]}"
            )
            place = len(history) - 1
        connection.words[user_id], connection.places[user_id] = mask, place

    def _place(self, connection: Connection, user_id: str, mask: int) -> int | None:
        """Where in the user's history a word stands: the first place, but better one that is not by a loss."""
        history = self._history(user_id)
        start = connection.places.get(user_id, 0)
        places = [i for i in range(start, len(history)) if history[i].mask == mask]
        for place in places:
            if not history[place].by_loss or place == connection.places.get(user_id):
                return place
        gone = connection.words.get(user_id, 0) & ~mask
        for place in places:
            self._check_loss(connection, user_id, gone, history[place])
            return place
        return None

    def _check_loss(self, connection: Connection, user_id: str, gone: int, moment: Moment) -> None:
        for platform_id in ids_of(gone):
            for node in self._nodes.values():
                since_s = node.held.get((user_id, platform_id))
                if since_s is None or since_s > moment.at_s - SETTLED_S or node.trouble.excused:
                    continue
                self.complain(
                    f"{connection.name} on {connection.node.name} hears that {user_id} left platform {platform_id}, "
                    f"which only the store forgot: it is held on {node.name} since {since_s:.3f} s"
                )

    def answered(self, asked_s: float, statuses: Sequence[Status]) -> None:
        """A query was answered."""
        for user_id, mask in statuses:
            history = self._history(user_id)
            ends = [*(moment.at_s for moment in history[1:]), self._loop.time()]
            if not any(m.mask == mask and end_s >= asked_s for m, end_s in zip(history, ends, strict=True)):
                self.complain(f"a query asked at {asked_s:.3f} s answers {user_id}={mask:x}, as it was not then")

    # Nodes

    def check_node(self, node: Node) -> None:
        """No task has died; webhooks heard so far are in order."""
        for failure in node.process.failures:
            self.complain(f"a task of {node.name} died: {failure!r}")
        node.process.failures.clear()

    def untold(self, node: Node, servers: Sequence[Server]) -> list[tuple[int, int]]:
        """Entries that a node wrote and its relay did not pass on, where it did not have to begin anew."""
        return [
            (partition, version)
            for server in servers
            for partition, version in server.ledger.written.get(node.name, ())
            if partition not in node.told.gaps and (partition, version) not in node.told.own
        ]

    def check_hooks(self, node: Node, *, whole: bool) -> None:
        """Each webhook expected was heard, in order, at least once; all of them if `whole`, else up to some."""
        heard: dict[tuple[str, int], list[tuple[str, str]]] = {}
        for hook in node.receiver.heard:
            platform_id = hook.body["platformID"]
            assert isinstance(platform_id, int)
            if hook.operation_id == "kick":
                continue
            hooks = heard.setdefault((hook.user_id, platform_id), [])
            told = (hook.command, hook.operation_id)
            if not hooks or hooks[-1] != told:
                hooks.append(told)
        for key, hooks in _union(node.told.expected, heard):
            expected = node.told.expected.get(key, [])
            if hooks != (expected if whole else expected[: len(hooks)]):
                self.complain(f"webhooks of {key} on {node.name}: expected {expected}, heard {hooks}")

    # The end

    def difference(self, state: Mapping[str, int], wanted: Mapping[str, int]) -> str:
        """How the store's state differs from what it should be; empty if it does not."""
        return ", ".join(
            f"{user_id} is {state.get(user_id, 0):x} and should be {wanted.get(user_id, 0):x}"
            for user_id in sorted({*state, *wanted})
            if state.get(user_id, 0) != wanted.get(user_id, 0)
        )

    def deaf(self, connections: Sequence[Connection], state: Mapping[str, int]) -> str:
        """Whose last word is not the store's; empty if nobody's."""
        return ", ".join(
            f"{connection.name} on {connection.node.name} heard {user_id}={connection.words.get(user_id, 0):x} last, "
            f"and it is {state.get(user_id, 0):x}"
            for connection in connections
            for user_id in {**connection.watched, **connection.subscribed}
            if connection.words.get(user_id) != state.get(user_id, 0)
        )

    def _history(self, user_id: str) -> list[Moment]:
        history = self._histories.get(user_id)
        if history is None:
            history = self._histories[user_id] = [START]
        return history


def _union(
    expected: Mapping[K, list[tuple[str, str]]], heard: Mapping[K, list[tuple[str, str]]]
) -> list[tuple[K, list[tuple[str, str]]]]:
    return [(key, heard.get(key, [])) for key in [*expected, *(key for key in heard if key not in expected)]]


def _changes(entry: FeedEntry) -> str:
    return " ".join(f"{change.user_id}:{change.before:x}>{change.after:x}" for change in entry.changes)

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
- **Answers are true.** What a query answers was so at some moment between asking and answering,
  or since the node last looked at the store's versions, while it counts. Of a user, a node answers
  nothing older than it has answered, or than what was set by a call that it has answered,
  unless the store has another past by then.
- **Logins.** A connection is kicked only for a login that the policy does not allow beside
  it and that was not clearly earlier; a store's clock that jumped is an excuse, and so is
  a login whose write was given up: it counts as made when it was written at last. Whoever
  shows a token that a login has ended already is kicked for that one.
- **The relay's listeners hear a chain.** Each entry follows the last one, unless the
  partition was read anew in between.
- **The copy** for other services is the store's state in the end.
- **Webhooks** tell every change, whoever dies, at least once and in order for each user and
  platform (`adsum.testing.hooks`).
- **In the end**, a bounded time after the last fault, the store's state is that of the live
  connections and the timed holds, the last word of each watcher is the store's, and no two
  connections are left that the policy does not allow side by side.

Not promised: that a client who connects anew somewhere else after its gateway died is
never offline in between, or that a change lost by the store with the state before it
is ever told. Assumed, not checked: that an engine never gives a version twice, not
even in another life (see `server`).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from adsum.core.partition import partition_of
from adsum.domain.login import kicks
from adsum.domain.platforms import ids_of
from adsum.domain.presence import Change, FeedEntry
from adsum.ports import Hook
from adsum.testing.answers import Answers, Moment
from adsum.testing.client import Connection, State
from adsum.testing.hooks import HookAudit
from adsum.testing.loop import VirtualLoop
from adsum.testing.node import PLATFORMS, Node
from adsum.testing.plan import Ill, Plan
from adsum.testing.server import Server, done
from adsum.testing.trace import Trace

RELEASE_S = 1.0
"""After a server fell back: a node may still be ending its former hold, which is all the server has of it again."""

LATE_LOGIN_S = 2.5
"""How much later than it was a login may seem: its write may be given up, and land that late."""

SETTLED_S = 2.0
"""How long a connection must have been there to be counted as held when a server loses its state."""


START = Moment(0.0, 0)


class Audit:
    """Watches a run, and keeps what it finds wrong in `violations`."""

    def __init__(self, loop: VirtualLoop, trace: Trace, nodes: Mapping[str, Node], plan: Plan) -> None:
        self._policy = plan.size.node.policy
        self._clocks_run_true = all(fault.ill is not Ill.STEP for fault in plan.faults)
        self.violations: list[str] = []
        self._loop = loop
        self._trace = trace
        self._nodes = nodes
        self._histories: dict[str, list[Moment]] = {}
        self.answers = Answers(loop.time, self._history, self.complain)
        self.hooks = HookAudit(self.complain, loop.time)

    def complain(self, what: str) -> None:
        """Something is wrong."""
        self._trace.note("AUDIT", what)
        self.violations.append(f"{self._loop.time():.3f} s: {what}")

    # Servers

    def changed(self, server: Server, entry: FeedEntry) -> None:
        """A server published an entry."""
        self._trace.note(f"store{server.index}", f"entry {entry.partition}/{entry.version:x} {_changes(entry)}")
        self.hooks.published(server, entry)
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
        self.answers.lost(users)
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
            unaware = node.line.released_s < node.line.lines[server.index].refound_s
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

    # Logins

    def kicked(self, connection: Connection, logins: Sequence[Connection]) -> None:
        """A connection was kicked; `logins` are all its user ever had."""
        opened_s = connection.opened_s
        assert opened_s is not None
        if any(other.kicked and other.token == connection.token for other in logins if other is not connection):
            # A gateway that stood still had not heard that the token was ended, and let it in.
            return
        if not self._clocks_run_true or any(
            other.opened_s is not None and (other.opened_s > opened_s - LATE_LOGIN_S or _was_told_late(other))
            for other in logins
            if self._are_rivals(connection, other)
        ):
            return
        self.complain(f"{connection.name} of {connection.user_id} was kicked, and nobody logged in after it")

    def rivals(self, connections: Sequence[Connection]) -> str:
        """Who is connected beside each other against the policy; empty if nobody is."""
        by_user: dict[str, list[Connection]] = {}
        for connection in connections:
            if connection.state is State.OPEN:
                by_user.setdefault(connection.user_id, []).append(connection)
        return ", ".join(
            f"{one.name} on {one.node.name} and {other.name} on {other.node.name} are both connected"
            for mine in by_user.values()
            for one, other in combinations(mine, 2)
            if self._are_rivals(one, other)
        )

    def _are_rivals(self, one: Connection, other: Connection) -> bool:
        platforms = PLATFORMS.get(one.platform_id), PLATFORMS.get(other.platform_id)
        return one.token != other.token and kicks(self._policy, *platforms)

    # Webhooks

    def told(self, node: str, hook: Hook) -> None:
        """The receiver heard a webhook from a node."""
        self._trace.note(node, f"tells {hook.user_id}/{hook.body['platformID']} {hook.command} of {hook.operation_id}")
        self.hooks.heard(hook)

    # Nodes

    def check_node(self, node: Node) -> None:
        """No task has died."""
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

    # The end

    def difference(self, state: Mapping[str, int], wanted: Mapping[str, int], where: str = "in the store") -> str:
        """How the state there differs from what it should be; empty if it does not."""
        return ", ".join(
            f"{where} {user_id} is {state.get(user_id, 0):x} and should be {wanted.get(user_id, 0):x}"
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

    def misled(self, nodes: Iterable[Node], state: Mapping[str, int]) -> str:
        """Which nodes would answer from memory what is not the store's, or can't tell; empty if none."""
        for node in nodes:
            cursor, table = node.relay.sound(), node.states.table
            if cursor is None or cursor.doubtful:
                return f"{node.name} is in doubt about the feed"
            for user in [*table.watched(), *table.hot()]:
                if user.answers(cursor) and user.mask != state.get(user.user_id, 0):
                    there = state.get(user.user_id, 0)
                    return f"{node.name} answers {user.user_id}={user.mask:x}, and it is {there:x}"
        return ""

    def _history(self, user_id: str) -> list[Moment]:
        history = self._histories.get(user_id)
        if history is None:
            history = self._histories[user_id] = [START]
        return history


def _was_told_late(connection: Connection) -> bool:
    """Whether a login's write had an unknown outcome: it counts as made when it was written at last."""
    return connection.session is not None and connection.session.login_tried


def _changes(entry: FeedEntry) -> str:
    return " ".join(f"{change.user_id}:{change.before:x}>{change.after:x}" for change in entry.changes)

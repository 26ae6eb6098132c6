"""The clients and API callers of the simulated world: they do what the plan says, and come back after a crash."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random

from adsum.domain.errors import StoreError
from adsum.domain.presence import OFFLINE, ONLINE, Cause, Status
from adsum.testing.audit import Audit
from adsum.testing.client import Connection, State
from adsum.testing.flood import FairNode, Flooder
from adsum.testing.loop import VirtualLoop
from adsum.testing.node import Node
from adsum.testing.plan import Act, Operation
from adsum.testing.trace import Trace

PLATFORM_IDS = (1, 2, 5)
ASK_AGAIN_S = 0.5


class Crowd:
    """Connections by what they do. `pick_node` gives a node that takes connections, if there is one."""

    def __init__(
        self,
        loop: VirtualLoop,
        trace: Trace,
        audit: Audit,
        chance: Random,
        users: int,
        pick_node: Callable[[int], Node | None],
    ) -> None:
        self.connections: list[Connection] = []
        self._loop = loop
        self._trace = trace
        self._audit = audit
        self._chance = chance
        self._users = [f"u{index}" for index in range(users)]
        self._pick_node = pick_node
        self._serial = 0
        self._logins: dict[str, list[Connection]] = {}
        """All connections there ever were, by user."""
        self._subscribed: dict[tuple[Node, str], dict[str, None]] = {}
        self._asking: dict[tuple[Node, str], int] = {}
        """Subscriptions asked for and not answered yet."""
        self._quiet = False
        self.told_to_go = 0
        """How many connections nodes ended for what they sent."""
        self._fair_nodes: dict[Node, FairNode] = {}
        self._acts: Mapping[Act, Callable[[Sequence[int]], None]] = {
            Act.CONNECT: self._connect,
            Act.LEAVE: self._leave,
            Act.BLINK: self._blink,
            Act.MOVE: self._move,
            Act.WATCH: self._watch,
            Act.UNWATCH: self._unwatch,
            Act.SUBSCRIBE: self._subscribe,
            Act.CANCEL: self._cancel,
            Act.SET: self._set,
            Act.UNSET: self._unset,
            Act.QUERY: self._query,
            Act.STALL: self._stall,
        }

    def perform(self, operation: Operation) -> None:
        """Do one act of the plan, as far as those whom it needs are there."""
        self._acts[operation.act](operation.picks)

    def alive(self) -> list[Connection]:
        """The connections that are there, or are about to be."""
        self.connections = [c for c in self.connections if c.state is not State.OVER and not c.node.gone]
        return self.connections

    def masks(self) -> dict[str, int]:
        """Who is connected, on which platforms."""
        masks: dict[str, int] = {}
        for connection in self.alive():
            masks[connection.user_id] = masks.get(connection.user_id, 0) | 1 << connection.platform_id
        return masks

    def node_lost(self, node: Node) -> None:
        """A node died: its clients notice by and by, and most come back somewhere else."""
        for connection in self.connections:
            if connection.node is node and connection.state is not State.OVER:
                connection.state = State.OVER
                if isinstance(connection, Flooder):
                    connection.lost()
                else:
                    self._come_back(connection)

    def leave_all(self) -> None:
        """Everyone leaves, for good."""
        self._quiet = True
        for connection in self.alive():
            self._send(connection, connection.leave)
        for node, subscriber in list(self._subscribed):
            self._end_subscriptions(node, subscriber)

    # Flooding

    def flood(self, index: int, until_s: float) -> None:
        """A client that sends all it can, and connects again whenever that ends, until then."""
        if self._quiet or self._loop.time() >= until_s:
            return
        node = self._pick_node(index)
        if node is None:
            self._loop.call_later(ASK_AGAIN_S, self.flood, index, until_s)
            return
        fair = self._fair_nodes.get(node)
        if fair is None:
            fair = self._fair_nodes[node] = FairNode(self._audit.complain)

        def over(connection: Connection) -> None:
            assert isinstance(connection, Flooder)
            self.told_to_go += connection.told_to_go
            self._loop.call_later(ASK_AGAIN_S, self.flood, index, until_s)

        user_id = f"flood{index}"
        self._serial += 1
        name = f"f{self._serial}"
        flooder = Flooder(name, node, user_id, 1, f"{user_id}/1/{name}", self._audit.heard, over, fair)
        self._logins.setdefault(user_id, []).append(flooder)
        self.connections.append(flooder)
        self._trace.note(name, f"floods {node.name}")
        self._send(flooder, flooder.open)

    # Connecting

    def _open(self, node: Node, user_id: str, platform_id: int, token: str = "") -> Connection:
        """A new connection: a login, unless it shows the token of an earlier one."""
        self._serial += 1
        name = f"c{self._serial}"
        token = token or f"{user_id}/{platform_id}/{name}"
        connection = Connection(name, node, user_id, platform_id, token, self._audit.heard, self._over)
        self._logins.setdefault(user_id, []).append(connection)
        connection.subscribed.update(self._subscribed.get((node, user_id), {}))
        self.connections.append(connection)
        self._trace.note(connection.name, f"connects {user_id} on {platform_id} to {node.name}")
        self._send(connection, connection.open)
        return connection

    def _send(self, connection: Connection, what: Callable[[], None], delay_s: float = 0.001) -> None:
        connection.node.process.call_later(delay_s, what)

    def _over(self, connection: Connection) -> None:
        if connection.kicked:
            self._audit.kicked(connection, self._logins[connection.user_id])
        self._come_back(connection)

    def _come_back(self, lost: Connection) -> None:
        if lost.kicked or self._quiet or self._chance.random() < 0.2:
            return
        watched = tuple(lost.watched)
        pick = self._chance.randrange(1 << 16)

        def again() -> None:
            node = None if self._quiet else self._pick_node(pick)
            if node is not None:
                connection = self._open(node, lost.user_id, lost.platform_id, lost.token)
                if watched:
                    self._send(connection, lambda: connection.watch(watched), 0.002)

        self._loop.call_later(self._chance.choice((0.005, 0.3, 2)) * self._chance.random(), again)

    def _connect(self, picks: Sequence[int]) -> None:
        if node := self._pick_node(picks[0]):
            self._open(node, self._user(picks[1]), PLATFORM_IDS[picks[2] % len(PLATFORM_IDS)])

    def _leave(self, picks: Sequence[int]) -> None:
        if connection := self._connection(picks[0]):
            self._trace.note(connection.name, "leaves")
            self._send(connection, connection.leave)

    def _blink(self, picks: Sequence[int]) -> None:
        if node := self._pick_node(picks[0]):
            connection = self._open(node, self._user(picks[1]), PLATFORM_IDS[picks[2] % len(PLATFORM_IDS)])
            self._send(connection, connection.leave, 0.0011 + picks[3] % 5 / 1000)

    def _move(self, picks: Sequence[int]) -> None:
        connection, node = self._connection(picks[0]), self._pick_node(picks[1])
        if connection and node:
            # Negative: the old one closes first.
            overlap_s = (-0.003, 0.0, 0.002, 0.05)[picks[2] % 4]
            token = connection.token if picks[3] % 2 else ""
            self._open(node, connection.user_id, connection.platform_id, token)
            self._send(connection, connection.leave, max(0.001 + overlap_s, 0))

    def _stall(self, picks: Sequence[int]) -> None:
        if connection := self._connection(picks[0]):
            self._send(connection, connection.stall)
            self._send(connection, connection.take_again, 0.01 + picks[1] % 1000 / 1000)

    # Watching

    def _watch(self, picks: Sequence[int]) -> None:
        if connection := self._connection(picks[0]):
            users = self._some(picks[1:])
            self._send(connection, lambda: connection.watch(users))

    def _unwatch(self, picks: Sequence[int]) -> None:
        if connection := self._connection(picks[0]):
            users = list(connection.watched)[: 1 + picks[1] % 3]
            self._send(connection, lambda: connection.unwatch(users))

    def _subscribe(self, picks: Sequence[int]) -> None:
        if node := self._pick_node(picks[0]):
            node.process.spawn(self._ask_subscribe(node, self._user(picks[1]), self._some(picks[2:])))

    async def _ask_subscribe(self, node: Node, subscriber: str, users: Sequence[str]) -> None:
        key = (node, subscriber)
        self._asking[key] = self._asking.get(key, 0) + 1
        statuses: list[Status] | None = None
        try:
            while statuses is None:
                statuses = await self._try_subscribe(node, subscriber, users)
        finally:
            self._asking[key] -= 1
        self._subscribed.setdefault(key, {}).update(dict.fromkeys(users))
        for connection in self.alive():
            if connection.node is node and connection.user_id == subscriber:
                connection.subscribed.update(dict.fromkeys(users))
                for user_id, mask in statuses:
                    self._audit.heard(connection, user_id, mask)
        if self._quiet:
            self._end_subscriptions(node, subscriber)

    async def _try_subscribe(self, node: Node, subscriber: str, users: Sequence[str]) -> list[Status] | None:
        # A call that failed may have subscribed to some: the caller asks until it knows.
        try:
            return await node.presence.subscribe(subscriber, users)
        except StoreError:
            await asyncio.sleep(ASK_AGAIN_S)
            return None

    def _cancel(self, picks: Sequence[int]) -> None:
        subscribed = [key for key in self._subscribed if not self._asking[key]]
        if subscribed:
            self._end_subscriptions(*subscribed[picks[0] % len(subscribed)])

    def _end_subscriptions(self, node: Node, subscriber: str) -> None:
        users = list(self._subscribed.pop((node, subscriber)))
        for connection in self.connections:
            if connection.node is node and connection.user_id == subscriber:
                connection.subscribed.clear()
                for user_id in users:
                    connection.forget(user_id)
        node.process.call(node.watching.cancel, subscriber, users)

    # API callers

    def _set(self, picks: Sequence[int], status: int = ONLINE) -> None:
        if node := self._pick_node(picks[0]):
            user_id, platform_id = self._user(picks[1]), PLATFORM_IDS[picks[2] % len(PLATFORM_IDS)]
            node.process.spawn(self._ask_set(node, user_id, status, platform_id))

    def _unset(self, picks: Sequence[int]) -> None:
        self._set(picks, OFFLINE)

    async def _ask_set(self, node: Node, user_id: str, status: int, platform_id: int) -> None:
        answers = self._audit.answers
        question = answers.ask(node, [user_id])
        try:
            await node.presence.set_status(user_id, status, platform_id, Cause())
        except StoreError as error:
            self._trace.note(node.name, f"setting {user_id} fails: {error}")
            return
        answers.written(question, user_id, platform_id, online=status == ONLINE)
        if self._chance.random() < 0.5:
            await self._ask_query(node, [user_id])

    def _query(self, picks: Sequence[int]) -> None:
        if node := self._pick_node(picks[0]):
            node.process.spawn(self._ask_queries(node, self._some(picks[1:]), picks[0] % 5))

    async def _ask_queries(self, node: Node, users: Sequence[str], again: int) -> None:
        await self._ask_query(node, users)
        for _ in range(again):
            await asyncio.sleep(self._chance.choice((0.001, 0.02, 0.5, 4)) * self._chance.random())
            await self._ask_query(node, users)

    async def _ask_query(self, node: Node, users: Sequence[str]) -> None:
        answers = self._audit.answers
        question = answers.ask(node, users)
        try:
            masks, _ = await node.presence.query(users)
        except StoreError:
            return
        statuses = list(map(Status, users, masks))
        self._trace.note(node.name, f"answers {' '.join(f'{user_id}={mask:x}' for user_id, mask in statuses)}")
        answers.answered(question, statuses)

    # Choosing

    def _user(self, pick: int) -> str:
        return self._users[pick % len(self._users)]

    def _some(self, picks: Sequence[int]) -> list[str]:
        return list(dict.fromkeys(self._user(pick) for pick in picks[: 1 + picks[-1] % len(picks)]))

    def _connection(self, pick: int) -> Connection | None:
        alive = self.alive()
        return alive[pick % len(alive)] if alive else None

"""The simulated world: nodes, servers, a crowd and faults on one virtual loop, and what came of it.

`run` does all a plan says, waits until everything has come to rest, lets everybody
leave, and waits again. Nothing in it depends on anything but the plan.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from adsum.adapters.memory import MemoryStore
from adsum.domain.errors import AdsumError
from adsum.testing.audit import Audit
from adsum.testing.copy import Copy
from adsum.testing.crowd import Crowd
from adsum.testing.faults import Faults
from adsum.testing.loop import LoopClock, Process, Stuck, VirtualLoop
from adsum.testing.network import Network
from adsum.testing.node import Node
from adsum.testing.plan import Plan
from adsum.testing.server import Server, done
from adsum.testing.store import SimulatedStore
from adsum.testing.trace import Trace
from adsum.testing.trouble import Trouble

POLL_S = 0.25
LOTS = 1 << 40
FLOODS_BEGIN_S = 0.2

Inspect = Callable[["World"], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: what was violated, and the transcript. `simulated_s` is how long it took there."""

    seed: int
    violations: tuple[str, ...]
    digest: str
    lines: Sequence[str]
    simulated_s: float


class World:
    """Everything there is, by a plan."""

    def __init__(self, loop: VirtualLoop, plan: Plan) -> None:
        self.plan = plan
        self.loop = loop
        self.trace = Trace(loop)
        self.nodes: dict[str, Node] = {}
        """Every node that lives."""
        self.audit = Audit(loop, self.trace, self.nodes, plan)
        self._chance = Random(f"world {plan.seed}")
        size = plan.size
        network_chance = Random(f"network {plan.seed}")
        self.network = Network(loop, network_chance, size.fair, size.rough, self.trace)
        self.servers = [
            Server(index, size.servers, LoopClock(loop, 1_000_000_000 + index * 1_000), self._empty_store, self.audit)
            for index in range(size.servers)
        ]
        self.copied: dict[str, int] = {}
        """Who is online, as other services read it."""
        self._slots: list[Node] = []
        self._births = 0
        self.crowd = Crowd(loop, self.trace, self.audit, Random(f"crowd {plan.seed}"), size.users, self._pick_node)
        self.faults = Faults(self)

    # Nodes

    def node(self, slot: int) -> Node:
        """The node that is, or was last, in a place."""
        return self._slots[slot % len(self._slots)]

    def lose_node(self, node: Node) -> None:
        """A node has died: its clients notice, and another takes its place after a while."""
        self.nodes.pop(node.name, None)
        self.crowd.node_lost(node)
        slot = self._slots.index(node)
        self.loop.call_later(self._chance.uniform(0.1, 2), self._replace, slot, context=self.network.outside)

    def _replace(self, slot: int) -> None:
        self._slots[slot] = self._born(slot)

    def _born(self, slot: int) -> Node:
        self._births += 1
        size = self.plan.size
        process = Process(self.loop, f"n{slot}.{self._births}")
        store = SimulatedStore(self.network, process, self.servers, size.node.store_timeout_ms, size.timed_ttl_ms)
        lease_s = size.node.keeper.lease_ttl_ms / 1000
        # A renewal that is not answered, the keeper's pause, and one that is.
        retry_s = size.node.store_timeout_ms / 1000 + lease_s / 15 + 0.3
        trouble = Trouble(self.loop.time, lease_s, retry_s)
        node = Node(
            self.loop,
            process,
            store,
            size.node,
            Random(f"{self.plan.seed} {process.name}"),
            trouble,
            self.audit.complain,
            lambda hook: self.audit.told(process.name, hook),
            self._passed_over,
            Copy(self.network, Random(f"copy {self.plan.seed} {process.name}"), self.copied),
        )
        self.nodes[node.name] = node
        self.trace.note(node.name, "starts")
        process.spawn(self._start(node))
        self.faults.born(slot, node)
        return node

    async def _start(self, node: Node) -> None:
        await node.begin()
        if node.gone:
            self.trace.note(node.name, "cannot start")
            self.lose_node(node)

    def _passed_over(self, partition: int, position: int, version: int) -> None:
        self.audit.hooks.lost(self.servers[partition % len(self.servers)], partition, position, version)

    def _pick_node(self, pick: int) -> Node | None:
        ready = [node for node in self._slots if node.ready and not node.gone]
        return ready[pick % len(ready)] if ready else None

    def _empty_store(self, clock: LoopClock) -> MemoryStore:
        size = self.plan.size
        return MemoryStore(clock, partitions=size.partitions, timed_ttl_ms=size.timed_ttl_ms, history=size.history)

    # The course of things

    async def live(self, inspect: Inspect) -> None:
        """All of it, until something is wrong or nothing is left to do."""
        outside = self.network.outside
        self._slots = []
        for slot in range(self.plan.size.nodes):
            self._slots.append(self._born(slot))
        for operation in self.plan.operations:
            self.loop.call_at(operation.at_s, self.crowd.perform, operation, context=outside)
        for index in range(self.plan.flooders):
            self.loop.call_at(FLOODS_BEGIN_S, self.crowd.flood, index, self.plan.quiet_s, context=outside)
        for fault in self.plan.faults:
            self.loop.call_at(fault.at_s, self.faults.begin, fault, context=outside)
        await self._until(self.plan.quiet_s)
        self.trace.note("WORLD", "no more faults, no more acts")
        await self._rest("after all faults ended", self._unrest)
        self.trace.note("WORLD", "everybody leaves")
        self.crowd.leave_all()
        await self._rest("after everybody left", lambda: self._unrest() or self._left() or "; ".join(inspect(self)))
        for node in list(self.nodes.values()):
            node.die()
            await asyncio.sleep(0.01)
            if node.process.tasks:
                self.audit.complain(f"tasks of {node.name} do not end: {len(node.process.tasks)}")

    async def _until(self, ends_s: float) -> None:
        while (left_s := ends_s - self.loop.time()) > 0 and not self.audit.violations:
            await asyncio.sleep(min(left_s, POLL_S))
            self._check_nodes()

    def _check_nodes(self) -> None:
        for node in self.nodes.values():
            self.audit.check_node(node)

    async def _rest(self, when: str, unrest: Callable[[], str]) -> None:
        """Wait until all is as it should be, and still is a little later; complain if that takes too long."""
        ends_s = self.loop.time() + self._patience_s()
        quiet = 0
        while quiet < 3 and not self.audit.violations:
            wrong = unrest()
            quiet = 0 if wrong else quiet + 1
            if wrong and self.loop.time() > ends_s:
                self.audit.complain(f"{when}, for {self._patience_s():.0f} s: {wrong}")
            await asyncio.sleep(POLL_S)
            self._check_nodes()

    def _patience_s(self) -> float:
        """A lease to end, a wait before reading anew, retries and looks; or timed holds to end; slow webhooks."""
        size = self.plan.size
        lease_s = size.node.keeper.lease_ttl_ms / 1000
        hooks_s = size.node.hook_most_s * 20
        return lease_s * 2 + lease_s * 2 / 3 + 8 + hooks_s + self.faults.stepped_back_s

    def _unrest(self) -> str:
        """What is not yet as it should be in the end."""
        if any(node.gone or not node.ready for node in self._slots):
            return "nodes are missing"
        wanted = self.crowd.masks()
        for server in self.servers:
            for (user_id, platform_id), deadline_ms in server.ledger.timed.items():
                if deadline_ms > server.clock.monotonic_ms():
                    wanted[user_id] = wanted.get(user_id, 0) | 1 << platform_id
        audit, alive, state = self.audit, self.crowd.alive(), self.state()
        waiting = [
            node.name
            for node in self.nodes.values()
            if node.webhooks.waiting or node.relay.behind or audit.untold(node, self.servers)
        ]
        return (
            audit.difference(state, wanted)
            or audit.rivals(alive)
            or audit.deaf(alive, state)
            or audit.misled(self.nodes.values(), state)
            or audit.difference(self.copied, state, "in the copy")
            or (f"{waiting} have not told everything" if waiting else next(audit.hooks.untold(), ""))
        )

    def _left(self) -> str:
        return f"there are still {self.state()}" if self.state() else ""

    def state(self) -> dict[str, int]:
        """Who is online, as the store has it."""
        return {user: mask for server in self.servers for user, mask in done(server.store.page(0, LOTS)).users}


def run(plan: Plan, inspect: Inspect = lambda _: ()) -> Outcome:
    """Run a plan. `inspect` says what is still there when everybody has left."""
    loop = VirtualLoop()
    world = World(loop, plan)
    loop.set_exception_handler(lambda _, context: world.audit.complain(f"unhandled: {context}"))
    watch = _LogWatch(world.audit.complain)
    logger = logging.getLogger("adsum")
    propagate, level = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(watch)
    try:
        loop.run_until_complete(world.live(inspect))
    except Stuck as stuck:
        world.audit.complain(str(stuck))
    finally:
        logger.removeHandler(watch)
        logger.propagate = propagate
        logger.setLevel(level)
        loop.set_exception_handler(lambda *_: None)
        loop.close()
    return Outcome(plan.seed, tuple(world.audit.violations), world.trace.digest(), world.trace.lines, loop.time())


class _LogWatch(logging.Handler):
    """Takes a defect that the services survived, and only logged, for what it is."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        """Complain of any error, and of a warning about an exception that nobody foresaw."""
        error = record.exc_info[1] if record.exc_info else None
        if record.levelno >= logging.ERROR or (error and not isinstance(error, AdsumError | TimeoutError)):
            self._complain(f"logged: {record.getMessage()}: {error!r}")

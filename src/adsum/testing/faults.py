"""Brings about the faults of a plan, ends them, and keeps account of which node they excuse.

What is drawn of a fault's nature comes from its `amount`, so that a plan with fewer
faults leaves the others as they were.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from adsum.testing.network import Line
from adsum.testing.node import Node
from adsum.testing.plan import Fault, Ill
from adsum.testing.trouble import Trouble

if TYPE_CHECKING:
    from adsum.testing.world import World

SMALL = 0.25
"""Of a lease: a clock that jumps ahead by less, or a replica that lags behind by less, takes no lease away."""


class Faults:
    """The faults of one world."""

    def __init__(self, world: "World") -> None:
        self.stepped_back_s = 0.0
        """How much later, at most, leases end than they should, because clocks went back."""
        self._world = world
        self._lease_s = world.plan.size.node.keeper.lease_ttl_ms / 1000
        self._everywhere: list[Fault] = []
        """Faults that disturb every node, those that come later too."""
        self._begin: Mapping[Ill, Callable[[Fault], Callable[[], None] | None]] = {
            Ill.CRASH: self._crash,
            Ill.STOP: self._stop,
            Ill.PAUSE: self._pause,
            Ill.CUT: self._cut,
            Ill.OUTAGE: self._outage,
            Ill.STORM: self._storm,
            Ill.SQUALL: self._squall,
            Ill.LOSE: self._lose,
            Ill.FALL_BACK: self._fall_back,
            Ill.STEP: self._step,
            Ill.WALL: self._wall,
            Ill.HOOKS: self._hooks,
        }

    def begin(self, fault: Fault) -> None:
        """Have a fault happen; it ends by itself."""
        self._world.trace.note("FAULT", str(fault))
        end = self._begin[fault.ill](fault)
        if end is not None:
            self._later(fault.for_s, lambda: self._end(fault, end))

    def born(self, slot: int, node: Node) -> None:  # noqa: ARG002 - who else may want to know
        """A new node is there: what disturbs everybody disturbs it too."""
        for _ in self._everywhere:
            node.trouble.begin()

    def _end(self, fault: Fault, end: Callable[[], None]) -> None:
        self._world.trace.note("FAULT", f"{fault.ill.value} of {fault.at_s:.3f} s ends")
        end()

    def _later(self, delay_s: float, what: Callable[[], object]) -> None:
        self._world.loop.call_later(delay_s, what, context=self._world.network.outside)

    # Nodes

    def _crash(self, fault: Fault) -> None:
        node = self._world.node(fault.node)
        if not node.gone:
            node.die()
            self._world.lose_node(node)

    def _stop(self, fault: Fault) -> None:
        node = self._world.node(fault.node)
        if node.ready:
            node.process.spawn(self._stop_and_replace(node))

    async def _stop_and_replace(self, node: Node) -> None:
        await node.leave()
        self._world.lose_node(node)

    def _pause(self, fault: Fault) -> Callable[[], None] | None:
        node = self._world.node(fault.node)
        if node.gone or node.process.paused:
            return None
        node.process.pause()
        node.trouble.begin()

        def go_on() -> None:
            node.trouble.end()
            if not node.gone:
                node.process.go_on()

        return go_on

    def _wall(self, fault: Fault) -> None:
        self._world.node(fault.node).own_clock.step(int((fault.amount - 0.5) * 7_200_000))

    def _hooks(self, fault: Fault) -> Callable[[], None]:
        receiver = self._world.node(fault.node).receiver
        receiver.down += 1

        def answer_again() -> None:
            receiver.down -= 1

        return answer_again

    # Lines

    def _line(self, fault: Fault) -> tuple[Line, Trouble]:
        node = self._world.node(fault.node)
        return node.line.lines[fault.server], node.trouble

    def _cut(self, fault: Fault) -> Callable[[], None]:
        line, trouble = self._line(fault)
        asks, answers = ((1, 1), (1, 0), (0, 1))[int(fault.amount * 3)]
        line.asks_cut += asks
        line.answers_cut += answers
        trouble.begin()

        def mend() -> None:
            line.asks_cut -= asks
            line.answers_cut -= answers
            trouble.end()
            if fault.amount * 3 % 1 < 0.5:
                line.break_off()

        return mend

    def _squall(self, fault: Fault) -> Callable[[], None]:
        line, trouble = self._line(fault)
        line.rough += 1
        trouble.begin()

        def calm() -> None:
            line.rough -= 1
            trouble.end()

        return calm

    def _storm(self, fault: Fault) -> Callable[[], None]:
        self._world.network.storms += 1
        settle = self._disturb_all(fault)

        def calm() -> None:
            self._world.network.storms -= 1
            settle()

        return calm

    def _disturb_all(self, fault: Fault) -> Callable[[], None]:
        self._everywhere.append(fault)
        for node in self._world.nodes.values():
            node.trouble.begin()

        def settle() -> None:
            self._everywhere.remove(fault)
            for node in self._world.nodes.values():
                node.trouble.end()

        return settle

    # Servers

    def _outage(self, fault: Fault) -> Callable[[], None]:
        server = self._world.servers[fault.server]
        server.down += 1
        settle = self._disturb_all(fault)

        def come_back() -> None:
            server.down -= 1
            settle()

        return come_back

    def _lose(self, fault: Fault) -> Callable[[], None]:
        come_back = self._outage(fault)
        self._world.servers[fault.server].lose_all()
        self._break_off(fault.server)
        return come_back

    def _fall_back(self, fault: Fault) -> None:
        """The replica hears nothing more from now on, and takes over when the fault ends."""
        server = self._world.servers[fault.server]
        server.keep()

        def take_over() -> None:
            self._world.trace.note("FAULT", f"a replica takes over, {fault.for_s:.3f} s behind")
            self._shorten_leases(fault.for_s)
            server.fall_back(self._world.loop.time())
            self._break_off(fault.server)

        self._later(fault.for_s, take_over)

    def _step(self, fault: Fault) -> None:
        by_s = (fault.amount - 0.5) * fault.for_s * 4
        self._world.servers[fault.server].clock.step(int(by_s * 1000), monotonic=True)
        self._shorten_leases(max(by_s, 0))
        self.stepped_back_s += max(-by_s, 0)

    def _shorten_leases(self, by_s: float) -> None:
        for node in self._world.nodes.values():
            node.trouble.shorten(by_s if by_s < SMALL * self._lease_s else self._lease_s)

    def _break_off(self, index: int) -> None:
        for node in self._world.nodes.values():
            node.line.lines[index].break_off()

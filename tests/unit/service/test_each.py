"""What fails for one connection costs no other: pushes, goodbyes, kicks and heartbeats of a turn."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from adsum.adapters.clock import SystemClock
from adsum.adapters.tokens import JwtAuthenticator
from adsum.core.session import Phase, Session
from adsum.domain.presence import TimedEdit
from adsum.service.each import each
from adsum.service.gateway import Gateway, GatewayOptions
from adsum.service.relay import Relay
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits
from tests.support.sessions import PLATFORMS, RecordingLink, last_words, make_session
from tests.support.waiting import turns, until
from tests.support.world import IOS
from tests.unit.service.node import Node, World


def test_the_others_are_done_and_what_failed_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Even where ending fails too."""
    done: list[int] = []
    ended: list[int] = []

    def do(number: int) -> None:
        done.append(10 // number)

    def failed(number: int) -> None:
        ended.append(number)
        raise RuntimeError("ending fails too")

    each("dividing", [1, 0, 2, 0, 5], do, failed)
    assert (done, ended) == ([10, 5, 2], [0, 0])
    assert [record.getMessage() for record in caplog.records].count("dividing failed") == 2


class Hall:
    """A gateway with three connections, of which the second is broken."""

    def __init__(self, world: World) -> None:
        clock = SystemClock()
        self.world = world
        node = Node(world.store, clock, lease_ttl_ms=60_000)
        self.states = States(world.store, self._feed, node.meter, max_hot=0)
        self.watching = Watching(self.states, node.registry.sessions, node.meter, WatchingLimits())
        self.relay = Relay(world.store, [self.states.on_feed], self.states.resync, node.meter)
        self.meter = node.meter
        self.gateway = Gateway(
            node.ledger,
            node.flusher,
            self.watching,
            JwtAuthenticator("secret"),
            PLATFORMS,
            clock,
            node.meter,
            GatewayOptions(heartbeat_timeout_ms=50),
            lambda: "conn",
            lambda _: None,
        )
        self.sessions: list[Session] = []
        self.links: list[RecordingLink] = []
        for number in range(3):
            session, link = make_session(f"watcher-{number}"), RecordingLink()
            self.gateway.opened(session, link)
            self.sessions.append(session)
            self.links.append(link)

    def _feed(self) -> None:
        return None

    def break_second(self) -> None:
        self.links[1].broken = True

    @property
    def closed(self) -> list[int]:
        """The close codes; 1006 where a connection was dropped."""
        return [link.closed[0] if link.closed else 0 for link in self.links]


@pytest_asyncio.fixture
async def hall() -> AsyncIterator[Hall]:
    hall = Hall(World(SystemClock(), partitions=1))
    await hall.relay.start()
    yield hall
    await hall.relay.stop()
    await hall.gateway.stop()


@pytest.mark.parametrize("together", [False, True], ids=["one change", "several"])
async def test_a_push_that_fails_costs_no_other_watcher(hall: Hall, *, together: bool) -> None:
    """The others are told in the same turn; the broken connection is ended."""
    for session in hall.sessions:
        hall.watching.begin(session, ["u", "v"])
        await hall.watching.answer(session, ["u", "v"])
    hall.break_second()
    users = ["u", "v"] if together else ["u"]
    await hall.world.truth.write_timed("op", [TimedEdit(user_id, IOS, 0) for user_id in users])
    await turns()
    for number in (0, 2):
        assert last_words(hall.sessions[number], hall.links[number]) == dict.fromkeys(users, (1,))
    assert hall.sessions[1].phase is Phase.GONE
    assert hall.closed == [0, 1006, 0]


async def test_a_goodbye_that_fails_keeps_no_other_connection(hall: Hall) -> None:
    """All others are told of the restart."""
    hall.break_second()
    await hall.gateway.drain(0)
    assert hall.closed == [1012, 1006, 1012]


async def test_a_kick_that_fails_raises_nothing(hall: Hall) -> None:
    """A login that ends several must end each of them, and go on."""
    hall.break_second()
    for session in hall.sessions:
        hall.gateway.kick(session)
    assert hall.closed == [1000, 1006, 1000]


async def test_a_timeout_that_fails_keeps_no_other_from_theirs(hall: Hall) -> None:
    """All are silent for too long, and all are dropped."""
    hall.break_second()
    hall.gateway.start()
    await until(lambda: 0 not in hall.closed)
    assert all(session.phase is Phase.GONE for session in hall.sessions)

"""What one connection asks is done in the order it asks, even if all of it arrives at once."""

from collections.abc import AsyncIterator

import pytest_asyncio

from adsum.adapters.clock import SystemClock
from adsum.adapters.tokens import JwtAuthenticator
from adsum.core.session import Session
from adsum.service.gateway import Gateway, GatewayOptions
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits
from adsum.wire.messages import Op, Request, Response
from adsum.wire.protobuf import encode_watch
from tests.support.sessions import LIMIT, PLATFORMS, RecordingLink, make_session
from tests.support.waiting import until
from tests.unit.service.node import Node, World

MOST = 5


class Desk:
    """A gateway with one connection."""

    def __init__(self, gateway: Gateway, watching: Watching) -> None:
        self.gateway, self.watching = gateway, watching
        self.session: Session = make_session("me")
        self.link = RecordingLink()
        gateway.opened(self.session, self.link)
        self.asked = 0

    def ask(self, subscribe: str = "", unsubscribe: str = "") -> None:
        """A request to watch and no longer watch users, each named by a letter."""
        self.asked += 1
        request = Request(Op.WATCH, "", "me", "op", str(self.asked), encode_watch(subscribe, unsubscribe))
        self.gateway.binary(self.session, self.session.codec.encode_request(request))

    async def answers(self) -> dict[str, Response]:
        """The answer to each request, by its number."""
        await until(lambda: len(self.link.binary) >= self.asked)
        responses = [self.session.codec.decode_response(frame, LIMIT) for frame in self.link.binary]
        return {response.msg_incr: response for response in responses}


@pytest_asyncio.fixture
async def desk() -> AsyncIterator[Desk]:
    clock = SystemClock()
    world = World(clock)
    node = Node(world.store, clock, lease_ttl_ms=60_000)
    states = States(world.store, lambda: None, node.meter, max_hot=0)
    watching = Watching(states, node.registry.sessions, node.meter, WatchingLimits())
    options = GatewayOptions(max_watched_per_connection=MOST)
    gateway = Gateway(
        node.ledger,
        node.flusher,
        watching,
        JwtAuthenticator("secret"),
        PLATFORMS,
        clock,
        node.meter,
        options,
        lambda: "conn",
        lambda _: None,
    )
    yield Desk(gateway, watching)
    await gateway.stop()


async def test_watching_and_not_watching_in_one_breath(desk: Desk) -> None:
    """Requests that arrive in one packet take effect in their order: the last one holds."""
    desk.ask("abc")
    desk.ask(unsubscribe="ab")
    desk.ask("b")
    assert {response.err_code for response in (await desk.answers()).values()} == {0}
    assert set(desk.session.watching or ()) == {"b", "c"}
    assert {user.user_id for user in desk.watching.table.watched()} == {"b", "c"}


async def test_requests_in_one_packet_share_the_limit(desk: Desk) -> None:
    """Many requests before the first is answered watch no more users than one after the other."""
    for users in ("abc", "de", "fgh", "ai"):
        desk.ask(users)
    codes = {number: response.err_code for number, response in (await desk.answers()).items()}
    assert codes == {"1": 0, "2": 0, "3": 1001, "4": 1001}
    assert set(desk.session.watching or ()) == set("abcde")


async def test_whoever_leaves_before_the_answer_watches_nobody(desk: Desk) -> None:
    """A connection that closes while its question is asked leaves nothing behind."""
    desk.ask("abc")
    desk.gateway.closed(desk.session)
    await until(lambda: not desk.gateway._reads)
    assert desk.watching.table.watched_users == 0
    assert desk.link.binary == []

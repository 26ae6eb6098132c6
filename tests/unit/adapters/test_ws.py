"""The WebSocket server's own duties: what its gateway cannot know."""

import asyncio
import contextlib
import json
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest
import uvloop
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from adsum.adapters.listener import SPARE_FILES
from adsum.adapters.turns import SLICE_S, TURN_S, Turns
from adsum.adapters.ws import connection, guests
from adsum.adapters.ws.server import WsOptions, WsServer
from adsum.core.budget import Share
from adsum.core.session import Link, Phase, Session
from adsum.domain.errors import AdsumError, FrameError, TooManyConnections
from adsum.ports import PortLoad
from adsum.wire.handshake import Handshake, build_query
from adsum.wire.websocket import BINARY, CLOSE, PING, goodbye, goodbye_code, server_frame
from tests.support.client import frame, upgrade_request
from tests.support.sessions import PLATFORMS, make_session
from tests.support.waiting import turns, until

QUERY = build_query(Handshake(user_id="u", token="good", platform_id=1, operation_id="op"))


HANDSHAKE_MS = 200


class NotingGateway:
    """Lets everybody in and notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.refusals: list[AdsumError] = []
        self.violations: list[FrameError] = []
        self.open = 0
        self.links: list[Link] = []

    def admit(self, handshake: Handshake, _origin: str | None) -> Session:
        return make_session(handshake.user_id)

    def refused(self, error: AdsumError) -> None:
        self.refusals.append(error)

    def opened(self, session: Session, link: Link) -> None:
        self.open += 1
        self.links.append(link)
        session.link = link

    def closed(self, _session: Session) -> None:
        self.open -= 1

    def binary(self, _session: Session, payload: bytes) -> None:
        self.heard.append(("binary", payload))

    def text(self, _session: Session, payload: bytes) -> None:
        self.heard.append(("text", payload))

    def ping(self, _session: Session, payload: bytes) -> None:
        self.heard.append(("ping", payload))

    def pong(self, _session: Session) -> None:
        self.heard.append(("pong", b""))

    def violated(self, session: Session, error: FrameError) -> None:
        self.violations.append(error)
        self.open -= 1
        assert session.link is not None
        session.link.close(error.close_code, error.detail)

    def flooded(self, _session: Session, _words: str) -> None:
        self.heard.append(("flooded", b""))

    def stalled(self, _session: Session) -> None:
        self.heard.append(("stalled", b""))

    def writable(self, _session: Session) -> None:
        self.heard.append(("writable", b""))


@pytest.fixture
def gateway() -> NotingGateway:
    return NotingGateway()


@pytest.fixture
async def server(gateway: NotingGateway) -> AsyncIterator[WsServer]:
    options = WsOptions(handshake_timeout_ms=HANDSHAKE_MS)
    running = WsServer(gateway, PLATFORMS, options)
    yield running
    running.stop_accepting()


async def reach(server: WsServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bare connection to a server, which is started for it."""
    port = await server.start("127.0.0.1", 0)
    return await asyncio.open_connection("127.0.0.1", port)


REQUEST = upgrade_request(f"ws://localhost/?{QUERY}")


async def test_a_client_may_hurry_or_dawdle(server: WsServer, gateway: NotingGateway) -> None:
    """Handshake and frames in one piece, or byte after byte: the same is heard."""
    frames = frame(BINARY, b"one") + frame(PING, b"two") + frame(0x1, b"three")
    said = [("binary", b"one"), ("ping", b"two"), ("text", b"three")]
    reader, writer = await reach(server)
    writer.write(REQUEST + frames)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    await until(lambda: gateway.heard == said)
    gateway.heard.clear()
    slow, trickling = await asyncio.open_connection(*writer.get_extra_info("peername"))
    trickling.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in REQUEST + frames:
        trickling.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await slow.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    await until(lambda: gateway.heard == said)
    writer.close()
    trickling.close()
    await until(lambda: gateway.open == 0)


async def test_what_follows_a_goodbye_is_not_heard(server: WsServer, gateway: NotingGateway) -> None:
    reader, writer = await reach(server)
    writer.write(REQUEST + frame(CLOSE, goodbye(4321)) + frame(BINARY, b"late") * 100)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.read() == server_frame(CLOSE, goodbye(4321))
    assert not gateway.heard
    writer.close()


class StallingGateway(NotingGateway):
    """Sends more than the system takes to everybody."""

    def opened(self, session: Session, link: Link) -> None:
        super().opened(session, link)
        link.send_binary(bytes(32 << 20))

    def closed(self, session: Session) -> None:
        if session.phase is not Phase.GONE:
            session.phase = Phase.GONE
            super().closed(session)


async def test_a_goodbye_counts_while_what_was_sent_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The login ends with it; the connection is dropped a little later."""
    monkeypatch.setattr(guests, "LINGER_MS", 50)
    gateway = StallingGateway()
    server = WsServer(gateway, PLATFORMS, WsOptions(handshake_timeout_ms=HANDSHAKE_MS))
    reader, writer = await reach(server)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is a transport that reads
    writer.write(REQUEST)
    await until(lambda: gateway.open == 1)
    writer.write(frame(CLOSE, goodbye(1000)))
    await until(lambda: gateway.open == 0)
    assert gateway.heard == [("stalled", b"")]
    await until(lambda: not server._guests._wheel)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    with contextlib.suppress(ConnectionResetError):
        assert len(await reader.read(-1)) < 32 << 20
    assert gateway.open == 0
    writer.close()
    server.stop_accepting()


async def test_a_violation_is_told_then_nothing_is_heard_or_sent(server: WsServer, gateway: NotingGateway) -> None:
    """What the client goes on sending is thrown away, so that our goodbye reaches it."""
    reader, writer = await reach(server)
    writer.write(REQUEST + frame(0x3) + frame(BINARY, b"late") * 100_000)
    await reader.readuntil(b"\r\n\r\n")
    said = await reader.read()
    assert (said[0], goodbye_code(said[2:])) == (0x80 | CLOSE, 1002)
    assert [error.close_code for error in gateway.violations] == [1002]
    assert not gateway.heard
    writer.close()
    await until(lambda: gateway.open == 0)


class StrictGateway(NotingGateway):
    """Takes no request."""

    def binary(self, session: Session, payload: bytes) -> None:
        super().binary(session, payload)
        raise FrameError("not this one")


async def test_nothing_is_parsed_after_a_bad_message() -> None:
    """Neither what came with it nor what comes later: its client is told, and what it sends is thrown away."""
    gateway = StrictGateway()
    server = WsServer(gateway, PLATFORMS, WsOptions())
    reader, writer = await reach(server)
    writer.write(REQUEST + frame(BINARY, b"bad") * 1_000)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame(BINARY, b"bad") * 1_000)
    assert await reader.read() == server_frame(CLOSE, goodbye(1007, "not this one"))
    assert gateway.heard == [("binary", b"bad")]
    assert gateway.open == 0
    writer.close()
    await until(lambda: server._guests._port.sockets == 0)
    server.stop_accepting()


async def test_who_breaks_the_rules_again_and_again_waits_longer_and_longer_to_do_so() -> None:
    """First its messages wait on its new connection; then it is told to go; then it is refused by its handshake."""
    gateway = StrictGateway()
    share = Share(burst_s=0.1, rate=0.000_001, patience_s=0, fault_s=0.04)
    server = WsServer(gateway, PLATFORMS, WsOptions(share=share))
    port = await server.start("127.0.0.1", 0)
    last = b""
    for _ in range(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + frame(BINARY, b"bad"))
        last = await reader.read()
        writer.close()
    assert len(gateway.violations) == 3, "what a burst has room for, and the one that uses it up"
    assert json.loads(last.partition(b"\r\n\r\n")[2])["errCode"] == TooManyConnections.code
    assert len(gateway.refusals) == 2
    server.stop_accepting()


class Steps:
    """A clock on which each look takes a tenth of a slice: so a slice is about ten frames."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.looks * SLICE_S / 10


class FakeTransport(asyncio.Transport):
    """Says of itself what a guest asks."""

    def __init__(self, waiting: list[str]) -> None:
        super().__init__({"socket": self})
        self._waiting = waiting

    def fileno(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._waiting.append("paused")

    def resume_reading(self) -> None:
        self._waiting.append("resumed")

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def write_eof(self) -> None:
        pass


async def test_a_storm_of_handshakes_leaves_others_their_turn(gateway: NotingGateway) -> None:
    """Of a thousand that come in one turn of the loop, some are heard in it, and all in the end."""
    waiting: list[str] = []
    running = WsServer(gateway, PLATFORMS, WsOptions(), Turns(Steps()))
    await running.start("127.0.0.1", 0)
    for _ in range(1_000):
        guest = running._guests.arrive()
        guest.connection_made(FakeTransport(waiting))
        guest.data_received(REQUEST)
    in_a_turn = TURN_S / (SLICE_S / 10)
    assert gateway.open == in_a_turn
    assert len(waiting) == 1_000 - in_a_turn
    await turns(1)
    assert in_a_turn < gateway.open <= 2 * in_a_turn
    await until(lambda: gateway.open == 1_000)
    assert waiting.count("resumed") == waiting.count("paused")
    running.stop_accepting()


async def test_who_has_its_answer_gives_its_place_to_who_has_not_asked(gateway: NotingGateway) -> None:
    """With all sockets taken: an answer is with the system already, and who has none would be cut off without one."""
    dropped: list[str] = []
    turned_away: list[str] = []
    running = WsServer(gateway, PLATFORMS, WsOptions(), turned_away=turned_away.append)
    running._guests._most_sockets = 20
    for number in range(30):
        transport = FakeTransport([])
        transport.abort = partial(dropped.append, str(number))  # type: ignore[method-assign]
        guest = running._guests.arrive()
        guest.connection_made(transport)
        if number < 8:
            guest.data_received(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert dropped == [str(number) for number in range(10)]
    assert turned_away == ["displaced"] * 2


@pytest.mark.parametrize("sent", [b"", b"GET /", REQUEST[:-1]])
async def test_a_handshake_has_its_time_and_then_nothing_is_left(server: WsServer, sent: bytes) -> None:
    reader, writer = await reach(server)
    writer.write(sent)
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    await until(lambda: server._guests._timer is None)
    assert not server._guests._wheel
    writer.close()


async def test_an_open_connection_has_all_the_time(server: WsServer, gateway: NotingGateway) -> None:
    """Nothing of ours runs once nobody is in a handshake."""
    reader, writer = await reach(server)
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    await until(lambda: server._guests._timer is None)
    await asyncio.sleep(HANDSHAKE_MS * 2 / 1000)
    assert gateway.open == 1
    writer.close()
    await until(lambda: gateway.open == 0)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426 Upgrade Required"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400 Bad Request"),
        (b"GET /" + b"x" * 50_000, b"431 Request Header Fields Too Large"),
    ],
)
async def test_what_is_no_handshake_is_answered_and_counted(
    server: WsServer, gateway: NotingGateway, sent: bytes, status: bytes
) -> None:
    reader, writer = await reach(server)
    writer.write(sent)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert len(gateway.refusals) == 1
    writer.close()


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b'{"alive":true}'),
        (b"GET /readyz HTTP/1.0\r\n\r\n", b"200 OK", b'{"ready":true}'),
        (b"GET /readyz?from=balancer HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b'{"ready":true}'),
        (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b""),
        (b"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n", b"200 OK", b""),
    ],
)
@pytest.mark.parametrize("half_closed", [False, True])
async def test_a_balancer_with_only_this_port_is_answered(
    server: WsServer, gateway: NotingGateway, sent: bytes, status: bytes, body: bytes, *, half_closed: bool
) -> None:
    reader, writer = await reach(server)
    writer.write(sent)
    if half_closed:
        writer.write_eof()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert answer.partition(b"\r\n\r\n")[2] == body
    assert not gateway.refusals
    writer.close()


async def test_a_balancer_hears_that_nobody_should_be_sent_here(gateway: NotingGateway) -> None:
    server = WsServer(gateway, PLATFORMS, WsOptions(), ready=lambda: False)
    port = await server.start("127.0.0.1", 0)
    for path, status in ((b"readyz", b"503 Service Unavailable"), (b"livez", b"200 OK")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
        writer.close()
    server.stop_accepting()


async def test_one_that_was_refused_and_does_not_hang_up_is_dropped(
    server: WsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "LINGER_MS", 50)
    reader, writer = await reach(server)
    writer.write(upgrade_request("ws://localhost/?sendID=u"))
    assert json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["errCode"] == 1602
    await until(lambda: server._guests._timer is None)
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            writer.write(b"still here")
            await writer.drain()
            await asyncio.sleep(0.01)
        pytest.fail("it can still be written to")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_listens_on_all_addresses_of_a_host(server: WsServer, gateway: NotingGateway, host: str) -> None:
    port = await server.start(host, 0)
    found = {str(item[4][0]) for item in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    for address in found:
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
    await until(lambda: gateway.open == 0)
    assert not gateway.refusals


class BrokenGateway:
    """A gateway with a defect in the callback named."""

    def __init__(self, defect: str) -> None:
        self._defect = defect
        self.closed_sessions = self.refusals = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*_args: object) -> None:
            if name == self._defect:
                raise RuntimeError("a defect of ours")

        return call

    def admit(self, *_args: object) -> Session:
        return make_session("u")

    def refused(self, _error: AdsumError) -> None:
        self.refusals += 1

    def opened(self, session: Session, link: Link) -> None:
        session.link = link
        if self._defect == "opened":
            raise RuntimeError("a defect of ours")

    def violated(self, session: Session, error: FrameError) -> None:
        assert session.link is not None
        session.link.close(error.close_code, error.detail)

    def closed(self, _session: Session) -> None:
        self.closed_sessions += 1


@pytest.mark.parametrize("defect", ["opened", "binary", "text", "ping"])
async def test_a_defect_in_a_callback_is_logged_and_ends_the_connection(
    defect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The library closes with 1011; what was wrong must not be lost with the connection."""
    gateway = BrokenGateway(defect)
    server = WsServer(gateway, PLATFORMS, WsOptions())
    port = await server.start("127.0.0.1", 0)
    with caplog.at_level(logging.DEBUG):
        async with connect(f"ws://127.0.0.1:{port}/?{QUERY}", ping_interval=None) as client:
            with contextlib.suppress(ConnectionClosed):
                await client.ping(b"x")  # type: ignore[unused-awaitable]  # no pong will come
                await client.send("text")
                await client.send(b"bytes")
            await client.wait_closed()
    server.stop_accepting()
    assert client.close_code == 1011
    records = [record for record in caplog.records if record.name.startswith("adsum")]
    assert any(record.exc_info and "a defect of ours" in str(record.exc_info[1]) for record in records)


async def test_a_broken_frame_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    """What clients do wrong is for the meter: a log that clients can fill is one that nobody reads."""
    server = WsServer(BrokenGateway(""), PLATFORMS, WsOptions())
    port = await server.start("127.0.0.1", 0)
    with caplog.at_level(logging.DEBUG):
        async with connect(f"ws://127.0.0.1:{port}/?{QUERY}", ping_interval=None) as client:
            await client.send(b"x" * 60_000)
            await client.wait_closed()
    server.stop_accepting()
    assert client.close_code == 1009
    assert not [record for record in caplog.records if record.name.startswith("adsum")]
    assert "good" not in "".join(record.getMessage() for record in caplog.records if "websockets" not in record.name)


def on(loop: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.Runner:
    return asyncio.Runner(loop_factory=loop)


LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


@contextlib.contextmanager
def few_files(spare: int) -> Iterator[list[socket.socket]]:
    """20 sockets to connect with, and only so many descriptors more than theirs."""
    waiting = [socket.socket() for _ in range(20)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(one.fileno() for one in waiting)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, before[1]))
    try:
        yield waiting
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in waiting:
            one.close()


@contextlib.contextmanager
def many_files(number: int) -> Iterator[None]:
    """So many descriptors in use."""
    with contextlib.ExitStack() as files:
        for _ in range(number):
            files.enter_context(open(os.devnull))  # noqa: PTH123 - a device
        yield


@LOOPS
def test_clients_beyond_the_file_descriptors_are_turned_away_quietly(
    loop: Callable[[], asyncio.AbstractEventLoop], caplog: pytest.LogCaptureFixture
) -> None:
    """At the process's limit each further client is dropped at once; with room again, clients get in again."""

    async def crowd(gateway: NotingGateway) -> None:
        server = WsServer(gateway, PLATFORMS, WsOptions())
        port = await server.start("127.0.0.1", 0)
        with few_files(spare=5) as waiting:
            for one in waiting:
                one.setblocking(False)  # noqa: FBT003 - the library's signature
                one.connect_ex(("127.0.0.1", port))
            await until(lambda: sum(map(is_cut, waiting)) > 10)
        async with connect(f"ws://127.0.0.1:{port}/?{QUERY}", ping_interval=None) as client:
            await client.send("text")
            await until(lambda: bool(gateway.heard))
        server.stop_accepting()

    with on(loop) as runner:
        runner.run(crowd(NotingGateway()))
    assert not [record for record in caplog.records if "websockets" not in record.name]


def is_cut(one: socket.socket) -> bool:
    """Whether a connection was ended by the other side."""
    try:
        return one.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@LOOPS
def test_the_last_file_descriptors_are_not_for_connections(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """A little before the limit, clients are told that there is no room."""

    async def knock(gateway: NotingGateway) -> None:
        server = WsServer(gateway, PLATFORMS, WsOptions())
        # With so many open that the last few are not fewer.
        with many_files(4 * SPARE_FILES), few_files(spare=SPARE_FILES * 3 // 4):
            port = await server.start("127.0.0.1", 0)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(REQUEST)
            answer = await reader.read()
            writer.close()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["errCode"] == 1601
        assert [error.name for error in gateway.refusals] == [TooManyConnections.name]
        server.stop_accepting()

    with on(loop) as runner:
        runner.run(knock(NotingGateway()))


FLOODS = {
    "pings": frame(PING) * 5_000,
    "pongs": frame(0xA) * 5_000,
    "fragments": frame(0x1, fin=False) + frame(0x0, fin=False) * 5_000,
    "requests": frame(BINARY, b"request") * 5_000,
}


class Timing(NotingGateway):
    """Notes when it hears a text."""

    def __init__(self, server_clock: Steps) -> None:
        super().__init__()
        self.looks_at_text = 0
        self._clock = server_clock

    def text(self, _session: Session, _payload: bytes) -> None:
        self.looks_at_text = self._clock.looks


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_has_its_turns_and_no_more(kind: str) -> None:
    """While one client's read is worked off by slices, another is heard; then the flood is told to go, once."""
    clock = Steps()
    gateway = Timing(clock)
    share = Share(burst_s=0.2, rate=0.01, again_s=0.001, patience_s=0.2)
    server = WsServer(gateway, PLATFORMS, WsOptions(share=share), Turns(clock))
    port = await server.start("127.0.0.1", 0)
    ends = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        ends.append(writer)
    flooding, victim = ends
    flooding.write(FLOODS[kind])
    await until(lambda: clock.looks > 100)
    seen = clock.looks
    victim.write(frame(0x1, b"I am here"))
    await until(lambda: bool(gateway.looks_at_text))
    assert gateway.looks_at_text - seen < 5_000, "heard before all of the flood was read"
    while ("flooded", b"") not in gateway.heard:
        flooding.write(FLOODS[kind])
        await asyncio.sleep(0.01)
    # It is not read from any more, so that a gateway drops it when its patience ends.
    gateway.links[0].abort()
    flooding.close()
    victim.close()
    await until(lambda: gateway.open == 0)
    assert gateway.heard.count(("flooded", b"")) == 1
    server.stop_accepting()


async def test_what_is_kept_is_counted_and_given_back(gateway: NotingGateway) -> None:
    """A part of a frame, of a message in fragments, and what waits for its turn; nothing once it is heard."""
    clock = Steps()
    server = WsServer(gateway, PLATFORMS, WsOptions(), Turns(clock))
    reader, writer = await reach(server)
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    whole = frame(BINARY, bytes(30_000))
    writer.write(whole[:10_000])
    await until(lambda: server.load.kept_bytes == 10_000)
    writer.write(whole[10_000:] + frame(BINARY, bytes(2_000), fin=False))
    await until(lambda: server.load.kept_bytes == 2_000)
    writer.write(frame(0x0) + FLOODS["pings"])
    await until(lambda: server.load.kept_bytes > 10_000)
    await until(lambda: len(gateway.heard) == 5_002)
    await until(lambda: server.load.kept_bytes == 0)
    writer.write(whole[:10_000])
    await until(lambda: server.load.kept_bytes == 10_000)
    writer.close()
    await until(lambda: server.load == PortLoad(0))
    server.stop_accepting()


class GoingGateway(NotingGateway):
    """Says goodbye to who asks for too much."""

    def flooded(self, session: Session, words: str) -> None:
        super().flooded(session, words)
        assert session.link is not None
        session.link.close(1008, words)


async def test_who_keeps_us_waiting_longest_gives_its_room_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_KEPT_BYTES", 50_000)
    gateway = GoingGateway()
    server = WsServer(gateway, PLATFORMS, WsOptions())
    port = await server.start("127.0.0.1", 0)
    ends = []
    for number in range(1, 7):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST + frame(BINARY, bytes(30_000))[:10_000])
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda so_far=number: server.load.kept_bytes == min(so_far, 5) * 10_000)  # type: ignore[misc]
        ends.append((reader, writer))
    assert await ends[0][0].read() == server_frame(CLOSE, goodbye(1008, connection.TOO_MUCH_KEPT))
    assert gateway.heard == [("flooded", b"")]
    for _, writer in ends:
        writer.close()
    await until(lambda: server.load == PortLoad(0))
    server.stop_accepting()


async def test_a_read_in_slices_is_heard_whole_and_in_order(gateway: NotingGateway) -> None:
    """Also if the client has ended its side by then, or breaks the protocol at the end."""
    server = WsServer(gateway, PLATFORMS, WsOptions(), Turns(Steps()))
    reader, writer = await reach(server)
    said = [f"{number}".encode() for number in range(1_000)]
    writer.write(REQUEST + b"".join(frame(BINARY, text) for text in said) + frame(0x3))
    await until(lambda: bool(gateway.violations))
    assert gateway.heard == [("binary", text) for text in said]
    assert (await reader.read()).endswith(server_frame(CLOSE, goodbye(1002, gateway.violations[0].detail)))
    writer.close()
    await until(lambda: gateway.open == 0)
    server.stop_accepting()


async def test_who_comes_back_from_a_wait_waits_on(gateway: NotingGateway) -> None:
    """Not a frame of a new connection is read before, also if it came with the handshake."""
    clock = Steps()
    share = Share(burst_s=0.001, rate=0.000_001, patience_s=1_000)
    server = WsServer(gateway, PLATFORMS, WsOptions(share=share), Turns(clock))
    _, flooding = await reach(server)
    flooding.write(REQUEST + frame(PING) * 1_000)
    await until(lambda: len(gateway.heard) >= 10)
    again, writer = await asyncio.open_connection(*flooding.get_extra_info("peername"))
    writer.write(REQUEST + frame(0x1, b"back"))
    await again.readuntil(b"\r\n\r\n")
    await until(lambda: gateway.open == 2)
    looks = clock.looks
    await turns(20)
    assert ("text", b"back") not in gateway.heard
    assert clock.looks - looks < 100, "nobody of that user is served"
    for link in gateway.links:
        link.abort()
    flooding.close()
    writer.close()
    await until(lambda: gateway.open == 0)
    server.stop_accepting()

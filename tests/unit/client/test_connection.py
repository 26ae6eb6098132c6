"""The client against a scripted server, made with another library."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response as HttpResponse

from adsum.client import connection as client
from adsum.client import link
from adsum.client.connection import Connection, connect
from adsum.client.errors import ClientError, ServerError, Unreachable
from adsum.client.protocol import Kicked, Login
from adsum.client.state import Closed, Lost, Restored
from adsum.wire.frames import CODECS
from adsum.wire.messages import Op, Request, Response
from adsum.wire.protobuf import UserStatus, decode_background, decode_watch, encode_elem
from tests.support.crowd import until

CODEC = CODECS[1]
LOGIN = Login("alice", 1, "T0KEN", codec=CODEC)
LIMIT = 51_200


class Server:
    """Answers subscriptions from `states`; `script` may do more with each connection first."""

    def __init__(self) -> None:
        self.url = ""
        self.states: dict[str, tuple[int, ...]] = {}
        self.requests: list[Request] = []
        self.connections: list[ServerConnection] = []
        self.refuse_with: list[tuple[int, bytes]] = []
        self.silent = False

    def refuse(self, code: int, name: str) -> None:
        """Refuse the next handshake as OpenIM does."""
        self.refuse_with.append((200, json.dumps({"errCode": code, "errMsg": name, "errDlt": "why"}).encode()))

    def before_upgrade(self, _connection: ServerConnection, _request: HttpRequest) -> HttpResponse | None:
        if not self.refuse_with:
            return None
        status, body = self.refuse_with.pop(0)
        headers = Headers([("Content-Length", str(len(body))), ("Connection", "close")])
        return HttpResponse(status, "", headers, body)

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for frame in connection:
            assert isinstance(frame, bytes)
            request = CODEC.decode_request(frame, LIMIT)
            self.requests.append(request)
            if self.silent:
                continue
            await connection.send(CODEC.encode_response(self.answer(request)))
            if request.op == Op.LOGOUT:
                await connection.close()

    def answer(self, request: Request) -> Response:
        response = Response(request.op, request.msg_incr, request.operation_id)
        if request.op == Op.WATCH:
            users = decode_watch(request.data).subscribe
            if "" in users:
                response.err_code, response.err_msg = 1001, "a user ID is empty"
            response.data = b"".join(encode_elem(user, self.states.get(user, ())) for user in users)
        return response

    async def push(self, user_id: str, *platform_ids: int) -> None:
        """Push a change to the newest connection."""
        frame = CODEC.encode_response(Response(Op.WATCH, data=encode_elem(user_id, platform_ids)))
        await self.connections[-1].send(frame)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    scripted = Server()
    async with serve(scripted.handle, "127.0.0.1", 0, process_request=scripted.before_upgrade) as running:
        scripted.url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/"
        yield scripted


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_MIN_MS", 1)
    monkeypatch.setattr(client, "RETRY_MAX_MS", 4)


async def test_watching_gives_the_present_then_changes(server: Server) -> None:
    server.states = {"bob": (1, 5)}
    async with connect(server.url, LOGIN) as connection:
        assert await connection.watch(["eve", "bob", "eve"]) == [UserStatus("eve", ()), UserStatus("bob", (1, 5))]
        await server.push("bob", 1, 5)
        await server.push("bob")
        assert await anext(connection) == UserStatus("bob", ())


async def test_very_many_users_go_in_several_requests(server: Server) -> None:
    users = [f"user-{number:040}" for number in range(3_000)]
    async with connect(server.url, LOGIN) as connection:
        assert [status.user_id for status in await connection.watch(users)] == users
        assert len(server.requests) > 1
        await connection.unwatch(users)
        assert await connection.watch([]) == []
    unwatched = [user for request in server.requests for user in decode_watch(request.data).unsubscribe]
    assert unwatched == users


async def test_background_and_logout(server: Server) -> None:
    async with connect(server.url, LOGIN) as connection:
        await connection.set_background(background=True)
        await connection.logout()
        assert [event async for event in connection] == []
        with pytest.raises(Unreachable):
            await connection.watch(["bob"])
    assert [request.op for request in server.requests] == [Op.BACKGROUND, Op.LOGOUT]
    assert decode_background(server.requests[0].data).background


async def test_a_refused_request_is_an_error_and_no_end(server: Server) -> None:
    async with connect(server.url, LOGIN) as connection:
        with pytest.raises(ServerError, match="a user ID is empty") as caught:
            await connection.watch([""])
        assert caught.value.code == 1001
        assert await connection.watch(["bob"])


async def test_no_answer_in_time_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_S", 0.05)
    server.silent = True
    async with connect(server.url, LOGIN) as connection:
        with pytest.raises(Unreachable, match="no answer"):
            await connection.watch(["bob"])


async def test_a_request_under_way_ends_with_its_connection(server: Server) -> None:
    server.silent = True
    async with connect(server.url, LOGIN) as connection:
        watching = asyncio.create_task(connection.watch(["bob"]))
        assert await until(lambda: bool(server.requests))
        await server.connections[0].close(1012, "restart")
        with pytest.raises(Unreachable, match="restart"):
            await watching


async def test_without_reconnect_the_end_is_told(server: Server) -> None:
    async with connect(server.url, LOGIN) as connection:
        await server.connections[0].close(1012, "the service restarts")
        assert [event async for event in connection] == [Closed(1012, "the service restarts")]


async def test_a_kick_ends_it_even_with_reconnect(server: Server) -> None:
    async with connect(server.url, LOGIN, reconnect=True) as connection:
        await server.connections[0].send(CODEC.encode_response(Response(Op.KICKED)))
        await server.connections[0].close()
        assert [event async for event in connection] == [Kicked()]
    assert len(server.connections) == 1


async def test_after_a_reconnect_it_subscribes_again_and_tells_what_changed(server: Server) -> None:
    server.states = {"bob": (1,), "eve": (1,)}
    async with connect(server.url, LOGIN, reconnect=True) as connection:
        await connection.watch(["bob", "eve"])
        server.states = {"bob": (1,), "eve": ()}
        server.refuse(1601, "ConnOverMaxNumLimit")
        server.refuse_with.append((503, b"<html>"))
        server.connections[0].transport.abort()
        events = await _up_to(connection, Restored())
        assert events[-2:] == [UserStatus("eve", ()), Restored()]
        assert not server.refuse_with
        await server.push("bob")
        assert await anext(connection) == UserStatus("bob", ())


async def test_reconnecting_ends_when_the_token_is_refused(server: Server) -> None:
    async with connect(server.url, LOGIN, reconnect=True) as connection:
        server.refuse(1506, "TokenKickedError")
        await server.connections[0].close()
        with pytest.raises(ServerError, match="TokenKickedError 1506"):
            await _up_to(connection, Restored())


async def test_while_it_is_away_requests_fail_at_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_MIN_MS", 60_000)
    monkeypatch.setattr(client, "RETRY_MAX_MS", 60_000)
    async with connect(server.url, LOGIN, reconnect=True) as connection:
        await server.connections[0].close()
        assert isinstance(await anext(connection), Lost)
        with pytest.raises(Unreachable, match="no connection at present"):
            await connection.watch(["bob"])


async def test_a_refused_handshake_has_code_and_text(server: Server) -> None:
    server.refuse(1501, "TokenExpiredError")
    with pytest.raises(ServerError) as caught:
        async with connect(server.url, LOGIN):
            pass
    assert (caught.value.code, str(caught.value)) == (1501, "why (TokenExpiredError 1501)")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "http://127.0.0.1/", "ws://nowhere.invalid/"])
async def test_nobody_there_is_an_error_without_the_token(url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        async with connect(url, LOGIN):
            pass
    assert LOGIN.token not in str(caught.value)


async def test_a_peer_that_hangs_up_in_the_handshake() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as raw:
        url = f"ws://127.0.0.1:{raw.sockets[0].getsockname()[1]}/"
        with pytest.raises(Unreachable, match="handshake"):
            async with connect(url, LOGIN):
                pass


@pytest.mark.parametrize("payload", [b"rubbish", "text that is no heartbeat"])
async def test_what_cannot_be_read_ends_the_connection(server: Server, payload: bytes | str) -> None:
    async with connect(server.url, LOGIN) as connection:
        await server.connections[0].send(payload)
        [event] = [event async for event in connection]
        assert isinstance(event, Closed)
        assert event.code == 1007
        assert "cannot be read" in event.reason


async def test_text_and_protocol_pings_are_answered(server: Server) -> None:
    async with connect(server.url, LOGIN):
        pong = await server.connections[0].ping()
        await pong
        await server.connections[0].send('{"type":"pong"}')


async def test_fragments_are_joined(server: Server) -> None:
    async with connect(server.url, LOGIN) as connection:
        frame = CODEC.encode_response(Response(Op.WATCH, data=encode_elem("bob", (1,))))
        await server.connections[0].send([frame[:9], frame[9:20], frame[20:]])
        assert await anext(connection) == UserStatus("bob", (1,))


async def test_it_pings_and_gives_up_on_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adsum.client.protocol.PING_INTERVAL_MS", 20)

    over = asyncio.Event()

    async def be_deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await over.wait()
        connection.transport.abort()

    async with serve(be_deaf, "127.0.0.1", 0) as running:
        url = f"ws://127.0.0.1:{next(iter(running.sockets)).getsockname()[1]}/"
        async with connect(url, LOGIN) as connection:
            assert [event async for event in connection] == [Closed(1006, "the server has gone silent")]
        over.set()


async def test_a_program_that_never_reads_is_told_in_the_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adsum.client.state.MAX_WAITING", 3)
    async with connect(server.url, LOGIN, reconnect=True) as connection:
        for number in range(5):
            await server.push(f"user-{number}", 1)
        assert await until(lambda: connection._ended)
        with pytest.raises(ClientError, match="does not read"):
            await _up_to(connection, Restored())


async def _up_to(connection: Connection, last: object) -> list[object]:
    events: list[object] = []
    async for event in connection:
        events.append(event)
        if event == last:
            break
    return events

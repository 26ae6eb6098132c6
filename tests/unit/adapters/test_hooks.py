"""The webhook sink against a real receiver on loopback."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from adsum.adapters.hooks import MAX_ANSWER_BYTES, HttpHookSink
from adsum.domain.errors import ArgumentError, NetworkError
from adsum.ports import Hook

FINE = {"actionCode": 0, "errCode": 0, "errMsg": "", "errDlt": "", "nextCode": 0}
HOOK = Hook("callbackAfterUserOnlineCommand", "алиса", "op-1", {"userID": "алиса", "platformID": 5})

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """Keeps what it is sent, and answers as a test says."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Answer = fixed(json.dumps(FINE).encode())
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)


def fixed(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
    yield receiver
    await runner.cleanup()


@pytest.fixture
async def sink(receiver: Receiver) -> AsyncIterator[HttpHookSink]:
    sink = HttpHookSink(receiver.url, timeout_ms=20_000)
    yield sink
    await sink.close()


async def test_a_hook_arrives_in_openim_form(receiver: Receiver, sink: HttpHookSink) -> None:
    await sink.deliver(HOOK)
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hooks/callbackAfterUserOnlineCommand")
    assert request.headers["operationID"] == "op-1"
    assert request.content_type == "application/json"
    assert json.loads(receiver.bodies[0]) == HOOK.body


async def test_a_slash_at_the_end_of_the_url_changes_nothing(receiver: Receiver) -> None:
    sink = HttpHookSink(receiver.url + "/", timeout_ms=20_000)
    await sink.deliver(HOOK)
    await sink.close()
    assert receiver.requests[0].path == "/hooks/callbackAfterUserOnlineCommand"


async def test_connections_are_used_again(receiver: Receiver, sink: HttpHookSink) -> None:
    ports = set()
    for _ in range(3):
        await sink.deliver(HOOK)
        transport = receiver.requests[-1].transport
        assert transport is not None
        ports.add(transport.get_extra_info("peername"))
    assert len(ports) == 1


@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b"{}", b'{"errCode":0}', b'{"errCode":"none"}', b"[" * 50_000])
async def test_a_success_without_a_verdict_is_a_delivery(receiver: Receiver, sink: HttpHookSink, body: bytes) -> None:
    receiver.answer = fixed(body, 201)
    await sink.deliver(HOOK)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 403, 404, 405, 408, 413, 425, 429])
async def test_what_may_pass_is_to_be_tried_again(receiver: Receiver, sink: HttpHookSink, status: int) -> None:
    receiver.answer = fixed(b"x", status)
    with pytest.raises(NetworkError, match=f"status {status}"):
        await sink.deliver(HOOK)


@pytest.mark.parametrize("status", [300, 304, 400, 401, 410])
async def test_what_cannot_succeed_is_not(receiver: Receiver, sink: HttpHookSink, status: int) -> None:
    receiver.answer = fixed(b"", status)
    with pytest.raises(ArgumentError, match=f"status {status}"):
        await sink.deliver(HOOK)


async def test_a_receiver_that_is_gone_is_sent_nothing_more(
    receiver: Receiver, sink: HttpHookSink, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answer = fixed(b"", 410)
    for _ in range(3):
        with pytest.raises(ArgumentError, match="410"):
            await sink.deliver(HOOK)
    assert len(receiver.requests) == 1
    assert [record.levelname for record in caplog.records if "410" in record.getMessage()] == ["ERROR"]


async def test_the_query_of_the_url_is_kept(receiver: Receiver) -> None:
    """With what is escaped in it and in the path."""
    sink = HttpHookSink(f"{receiver.url}%2Fa?key=s%26t&x=1", timeout_ms=20_000)
    await sink.deliver(HOOK)
    await sink.close()
    assert receiver.requests[0].raw_path == "/hooks%2Fa/callbackAfterUserOnlineCommand?key=s%26t&x=1"


@pytest.mark.parametrize("change", [{"actionCode": 1}, {"errCode": 1001}])
async def test_a_refusal_in_openim_form_is_one(
    receiver: Receiver, sink: HttpHookSink, change: dict[str, object]
) -> None:
    receiver.answer = fixed(json.dumps(FINE | {"errMsg": "a secret"} | change).encode())
    with pytest.raises(ArgumentError, match="refused") as caught:
        await sink.deliver(HOOK)
    assert "a secret" not in caught.value.detail


async def test_redirects_are_not_followed(receiver: Receiver, sink: HttpHookSink) -> None:
    receiver.answer = fixed(b"", 307, {"Location": "/elsewhere"})
    with pytest.raises(ArgumentError, match="status 307"):
        await sink.deliver(HOOK)
    assert len(receiver.requests) == 1


async def test_cookies_are_not_kept(receiver: Receiver, sink: HttpHookSink) -> None:
    receiver.answer = fixed(b"", headers={"Set-Cookie": "a=b"})
    await sink.deliver(HOOK)
    await sink.deliver(HOOK)
    assert "Cookie" not in receiver.requests[1].headers


async def test_a_proxy_in_the_environment_is_not_used(
    receiver: Receiver, sink: HttpHookSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    await sink.deliver(HOOK)
    assert len(receiver.requests) == 1


async def test_no_more_of_an_answer_is_read_than_its_limit(receiver: Receiver, sink: HttpHookSink) -> None:
    broke_off = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * MAX_ANSWER_BYTES)
        except ConnectionError:
            broke_off.set()
            raise

    receiver.answer = endless
    await sink.deliver(HOOK)
    await asyncio.wait_for(broke_off.wait(), 20)


async def test_a_packed_answer_is_not_unpacked(receiver: Receiver, sink: HttpHookSink) -> None:
    receiver.answer = fixed(gzip.compress(b'{"errCode":1}'), headers={"Content-Encoding": "gzip"})
    await sink.deliver(HOOK)


@pytest.mark.parametrize("headers_first", [False, True])
async def test_an_answer_that_takes_too_long_is_to_be_tried_again(receiver: Receiver, *, headers_first: bool) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if headers_first:
            await response.prepare(request)
            await response.write(b"{")
        await asyncio.sleep(60)
        return response

    receiver.answer = hang
    sink = HttpHookSink(receiver.url, timeout_ms=200)
    with pytest.raises(NetworkError, match=r"no answer within 0\.2 s"):
        await sink.deliver(HOOK)
    await sink.close()


async def test_a_connection_that_breaks_is_to_be_tried_again(receiver: Receiver, sink: HttpHookSink) -> None:
    async def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    receiver.answer = hang_up
    with pytest.raises(NetworkError):
        await sink.deliver(HOOK)


async def test_a_receiver_that_is_not_there_is_to_be_tried_again_and_its_password_not_told() -> None:
    sink = HttpHookSink("http://user:geheim@127.0.0.1:1/geheim", timeout_ms=20_000)
    with pytest.raises(NetworkError) as caught:
        await sink.deliver(HOOK)
    assert "geheim" not in caught.value.detail
    await sink.close()


async def test_an_operation_id_from_a_client_cannot_break_the_header(receiver: Receiver, sink: HttpHookSink) -> None:
    hook = Hook(HOOK.command, "a", "é\r\nX-Evil: 1" + "x" * 1000, {})
    await sink.deliver(hook)
    assert receiver.requests[0].headers["operationID"].startswith("???X-Evil: 1xxx")
    assert len(receiver.requests[0].headers["operationID"]) == 256
    assert "X-Evil" not in receiver.requests[0].headers


@pytest.mark.parametrize("url", ["", "receiver", "ftp://host", "http://", "/path", "http://[::1", "http://host:x"])
def test_a_useless_url_is_refused(url: str) -> None:
    with pytest.raises(ArgumentError, match="webhook URL"):
        HttpHookSink(url, timeout_ms=1)


async def test_a_sink_never_used_can_be_closed() -> None:
    await HttpHookSink("http://host", timeout_ms=1).close()

"""The HTTP port, over real sockets."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
from aiohttp import ClientSession

from adsum.adapters import http
from adsum.adapters.http import METRICS_TYPES, Check, HttpServer, preferred_format
from adsum.ports import PageFormat


class Service:
    """What the port asks."""

    def __init__(self) -> None:
        self.checks = {"store": Check(ok=True, text="answers"), "feed": Check(ok=True, text="complete")}
        self.page = b"x 1\n"
        self.broken = False
        self.form = ""

    async def readiness(self) -> dict[str, Check]:
        return self.checks

    async def metrics(self, form: PageFormat) -> bytes:
        self.form = form
        if self.broken:
            raise RuntimeError("the reason, a secret")
        return self.page


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def port(service: Service) -> AsyncIterator[int]:
    server = HttpServer(service.readiness, service.metrics)
    yield await server.start("127.0.0.1", 0)
    await server.stop()


@pytest.fixture
async def client(port: int) -> AsyncIterator[ClientSession]:
    async with ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


PROMETHEUS_ASKS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/plain", "text"),
        (PROMETHEUS_ASKS, "openmetrics"),
        ("application/openmetrics-text", "openmetrics"),
        ("Application/OpenMetrics-Text ; q=0.5 , text/plain ; q=0.5", "openmetrics"),
        ("application/openmetrics-text;q=0.3,text/plain", "text"),
        ("application/openmetrics-text;q=0", "text"),
        ("application/openmetrics-text;q=what", "text"),
        (";;,,=", "text"),
    ],
)
async def test_metrics_come_in_the_format_that_is_asked_for(
    client: ClientSession, service: Service, accept: str, form: PageFormat
) -> None:
    assert preferred_format(accept) == form
    async with client.get("/metrics", headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"] == METRICS_TYPES[form]
    assert service.form == form


async def test_liveness(client: ClientSession) -> None:
    async with client.get("/livez") as response:
        assert response.status == HTTPStatus.OK
        assert await response.json() == {"alive": True}


async def test_readiness_tells_every_check(client: ClientSession, service: Service) -> None:
    async with client.get("/readyz") as response:
        assert response.status == HTTPStatus.OK
        assert await response.json() == {
            "ready": True,
            "checks": {"store": {"ok": True, "text": "answers"}, "feed": {"ok": True, "text": "complete"}},
        }
    service.checks["store"] = Check(ok=False, text="no answer for 3 s")
    async with client.get("/readyz") as response:
        assert response.status == HTTPStatus.SERVICE_UNAVAILABLE
        answer = await response.json()
        assert not answer["ready"]
        assert answer["checks"]["store"] == {"ok": False, "text": "no answer for 3 s"}


async def test_metrics_are_what_is_given(client: ClientSession) -> None:
    async with client.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await response.read() == b"x 1\n"


async def test_a_head_request_is_answered(client: ClientSession) -> None:
    async with client.head("/livez") as response:
        assert response.status == HTTPStatus.OK


async def test_an_unknown_path(client: ClientSession) -> None:
    async with client.get("/user/get_users_status") as response:
        assert response.status == HTTPStatus.NOT_FOUND
        answer = await response.json()
        assert (answer["errCode"], answer["errMsg"]) == (1004, "RecordNotFoundError")
        assert "/readyz" in answer["errDlt"]


async def test_a_wrong_method(client: ClientSession) -> None:
    async with client.post("/livez", json={}) as response:
        assert response.status == HTTPStatus.METHOD_NOT_ALLOWED
        assert response.headers["Allow"] == "GET, HEAD"
        assert (await response.json()) == {"errCode": 1001, "errMsg": "ArgsError", "errDlt": "use GET or HEAD here"}


async def test_a_defect_is_logged_and_not_told(
    client: ClientSession, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.broken = True
    with caplog.at_level(logging.ERROR, http.__name__):
        async with client.get("/metrics") as response:
            assert response.status == HTTPStatus.INTERNAL_SERVER_ERROR
            answer = await response.text()
    assert json.loads(answer)["errCode"] == 500
    assert "secret" not in answer
    assert "/metrics failed" in caplog.text
    async with client.get("/livez") as response:
        assert response.status == HTTPStatus.OK


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000 + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"\x16\x03\x01 what is this\r\n\r\n",
    ],
)
async def test_a_bad_or_overlong_request_is_refused(port: int, request_text: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_text)
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("start", [b"", b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow"])
async def test_a_request_that_never_ends_is_cut_off(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_HEADER_TIME_S", 0.1)
    service = Service()
    server = HttpServer(service.readiness, service.metrics)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
    writer.write(start)
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    await writer.wait_closed()
    await server.stop()


async def test_a_port_that_is_full_has_room_for_a_probe(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of who has most gives way; who has one keeps it."""
    monkeypatch.setattr(http, "http_files", lambda: 4)
    turned_away: list[str] = []
    server = HttpServer(service.readiness, service.metrics, turned_away.append)
    port = await server.start("0.0.0.0", 0)
    few = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
    many = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
    for reader, writer in (few, many[-1]):
        writer.write(GET_LIVEZ)
        assert (await reader.readuntil(b"true}")).startswith(b"HTTP/1.1 200")
    for reader, _ in many[:7]:
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert server.load.connections == 4
    assert turned_away == ["displaced"] * 7
    for _, writer in (few, *many):
        writer.close()
    await server.stop()


async def test_a_taken_port_is_an_error_and_stopping_frees_it(service: Service) -> None:
    first, second = (HttpServer(service.readiness, service.metrics) for _ in range(2))
    port = await first.start("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        await second.start("127.0.0.1", port)
    await first.stop()
    third = HttpServer(service.readiness, service.metrics)
    assert await third.start("127.0.0.1", port) == port
    await third.stop()


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\r\n\r\n"],
)
async def test_what_is_no_http_is_refused_and_leaves_nothing_in_the_log(
    port: int, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody who can connect could fill it."""
    with caplog.at_level(logging.DEBUG):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.0 400 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["errMsg"] == "ArgsError"
        writer.close()
        await writer.wait_closed()
    assert not caplog.text


GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("requests", [1, 3])
async def test_a_client_that_has_ended_its_side_is_answered(port: int, requests: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET_LIVEZ * requests)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b'{"alive":true}') == requests
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("start", [b"", b"GET /livez HTTP/1.1\r\nHost"])
async def test_a_client_that_ends_before_it_asks_is_let_go(port: int, start: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET_LIVEZ)
    await asyncio.wait_for(reader.readuntil(b"true}"), 20)
    writer.write(start)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (GET_LIVEZ, b"200"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
        (b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n", b"404"),
        (b"PUT /livez HTTP/1.1\r\nHost: a\r\n\r\n", b"405"),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nExpect: what\r\n\r\n", b"200"),
        (b"what\r\n\r\n", b"400"),
    ],
)
async def test_no_answer_names_a_version_of_what_is_beneath(port: int, request_text: bytes, status: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_text)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.split(b" ")[1] == status
    assert b"aiohttp" not in answer
    assert b"Python" not in answer
    writer.close()
    await writer.wait_closed()


async def test_heads_are_answered_without_a_body(client: ClientSession) -> None:
    async with client.head("/readyz") as response:
        assert response.status == HTTPStatus.OK
        assert not await response.read()

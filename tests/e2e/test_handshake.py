"""Handshakes as OpenIM's clients and others make them: who is let in, and how the others are told why not."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode

import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Op
from tests.support.client import Client, client, metric_is, metrics, nobody_is_left, raw, upgrade_request, websocket
from tests.support.service import SECRET, RunningService, running_service

FLAGS = (
    "--origins=https://chat.example,http://localhost:3000,https://*.Chat.Example:443",
    "--handshake-timeout-ms=1000",
    "--platforms=openim,20:Watch:Wearable",
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

GO, GO_GZIP, JS, JS_GZIP = CODECS
SUCCESS = '{"errCode":0,"errMsg":"","errDlt":""}'

Fields = dict[str, object]


@pytest.fixture(autouse=True)
async def nothing_leaks(service: RunningService) -> AsyncIterator[None]:
    """After each test nobody is connected or online."""
    yield
    await nobody_is_left(service)


def plain(service: RunningService, user_id: str = "user", /, **changes: object) -> str:
    """A URL in the plain form; a change to None leaves the parameter out."""
    fields: Fields = {
        "sendID": user_id,
        "token": service.token(user_id),
        "platformID": 1,
        "operationID": "op",
        "isBackground": "false",
    }
    return f"ws://{service.ws}/?{urlencode(_given(fields | changes))}"


def packed(service: RunningService, user_id: str = "user", /, **changes: object) -> str:
    """A URL in the form of one parameter `v`."""
    fields: Fields = {"userID": user_id, "token": service.token(user_id), "platformID": 1, "operationID": "op"}
    return f"ws://{service.ws}/?v={pack(_given(fields | changes))}"


def pack(fields: Mapping[str, object]) -> str:
    """Unpadded base64url of JSON."""
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def _given(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


async def admitted(url: str, user_id: str = "user", codec: Codec = GO, **more: object) -> None:
    """Fail unless this URL connects and requests in this codec are answered."""
    async with websocket(url, **more) as ws:
        assert not (await Client(ws, user_id, codec).ask(Op.NEWEST_SEQ)).err_code


async def refused(url: str, **more: object) -> tuple[int, str]:
    """Code and detail of the refusal of this URL, which must have the form that OpenIM's clients read."""
    with pytest.raises(InvalidStatus) as caught:
        await websocket(url, **more)
    response = caught.value.response
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "Upgrade" not in response.headers
    body = json.loads(response.body)
    assert list(body) == ["errCode", "errMsg", "errDlt"]
    assert body["errMsg"]
    assert SECRET not in body["errDlt"]
    assert "eyJ" not in body["errDlt"]
    return body["errCode"], body["errDlt"]


def signed(secret: str = SECRET, algorithm: str = "HS256", **changes: object) -> str:
    """A token by an independent library."""
    now = int(time.time())
    claims: Fields = {"UserID": "user", "PlatformID": 1, "exp": now + 3600, "iat": now}
    return jwt.encode(_given(claims | changes), secret, algorithm)


# Let in


@pytest.mark.parametrize("codec", CODECS, ids=str)
async def test_the_plain_form(service: RunningService, codec: Codec) -> None:
    compression = "gzip" if codec.gzip else None
    await admitted(plain(service, sdkType=codec.kind, compression=compression), codec=codec)


@pytest.mark.parametrize("codec", CODECS, ids=str)
async def test_the_packed_form(service: RunningService, codec: Codec) -> None:
    compression = "gzip" if codec.gzip else None
    await admitted(packed(service, sdkType=codec.kind, compression=compression, background=True), codec=codec)


@pytest.mark.parametrize("path", ["/", "/ws", "/a/b%20c/", "//", "/msg_gateway?x=1&"])
async def test_any_path(service: RunningService, path: str) -> None:
    query = plain(service).partition("?")[2]
    await admitted(f"ws://{service.ws}{path}{'' if '?' in path else '?'}{query}")


@pytest.mark.parametrize("user_id", ["ü", "用户", "👩‍🚀", "a b&c=d#e?f/g", "a" * 256, "ü" * 128])
async def test_any_text_is_a_user(service: RunningService, user_id: str) -> None:
    await admitted(plain(service, user_id), user_id)
    await admitted(packed(service, user_id), user_id)


async def test_a_platform_of_ones_own(service: RunningService) -> None:
    await admitted(plain(service, token=service.token("user", 20), platformID=20))


async def test_compression_may_be_asked_by_header(service: RunningService) -> None:
    """In the plain form only, as in OpenIM."""
    header = {"compression": "gzip"}
    await admitted(plain(service), codec=GO_GZIP, additional_headers=header)
    await admitted(plain(service, sdkType="js"), codec=JS_GZIP, additional_headers=header)
    await admitted(packed(service), codec=GO, additional_headers=header)


@pytest.mark.parametrize("origin", ["https://chat.example", "http://localhost:3000", "https://a.chat.example", None])
async def test_listed_origins_and_clients_without_one(service: RunningService, origin: str | None) -> None:
    await admitted(plain(service), origin=origin)


async def test_the_outcome_as_the_first_frame(service: RunningService) -> None:
    """With `isMsgResp` success is the first frame, in text; from then on there is no other text."""
    for url in (plain(service, isMsgResp="true", sdkType="js"), packed(service, sendResponse=True, sdkType="js")):
        async with websocket(url) as ws:
            assert await ws.recv() == SUCCESS
            assert not (await Client(ws, "user", JS).ask(Op.NEWEST_SEQ)).err_code


@pytest.mark.parametrize("wanted", [None, "false", "0", "F"])
async def test_no_text_for_those_who_did_not_ask(service: RunningService, wanted: str | None) -> None:
    """`ask` fails on any text frame: the Go SDK would close."""
    await admitted(plain(service, isMsgResp=wanted))


# Who is refused for the token


async def test_tokens_told_apart(service: RunningService) -> None:
    now = int(time.time())
    none = jwt.encode({"UserID": "user", "PlatformID": 1, "exp": now + 3600}, None, "none")
    good = service.token("user")
    tokens = {
        signed(exp=now - 70): 1501,
        service.token("other"): 1502,
        service.token("user", 2): 1502,
        "rubbish": 1503,
        "a.b.c": 1503,
        "eyJ" + "x" * 9000: 1503,
        good.rpartition(".")[0]: 1503,
        signed(UserID=None): 1503,
        signed(PlatformID="1"): 1503,
        signed(nbf=now + 3000): 1504,
        signed(secret="another secret, just as long as the right one"): 1505,
        signed(secret="another secret, just as long as the right one", exp=now - 1): 1505,
        signed(algorithm="HS512", secret=SECRET * 2): 1505,
        none: 1505,
        good[:-8] + "AAAAAAAA": 1505,
        "ü.ü.ü": 1503,
    }
    for token, code in tokens.items():
        assert (await refused(plain(service, token=token)))[0] == code, token
        assert (await refused(packed(service, token=token)))[0] == code, token
    await admitted(plain(service, token=signed()))
    await admitted(plain(service, token=signed(exp=None)))
    # Clocks differ: for `exp` and `nbf` there is a leeway, and of `iat` nothing is asked.
    await admitted(plain(service, token=signed(exp=now - 1)))
    await admitted(plain(service, token=signed(iat=now + 3000, nbf=now + 30)))


# Who is refused for a parameter


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sendID", (None, "", "x" * 257, "ü" * 129)),
        ("token", (None, "")),
        ("platformID", (None, "", "0", "12", "-1", "63", "1.0", "x", "99999999999999999999", "0x1", " 1")),
        ("operationID", (None, "")),
        ("isBackground", (None, "", "yes", "TRue", "2")),
        ("sdkType", ("rust", "JS")),
        ("isMsgResp", ("maybe",)),
    ],
)
async def test_each_bad_parameter_is_named(service: RunningService, name: str, values: tuple[str | None, ...]) -> None:
    for value in values:
        code, detail = await refused(plain(service, "user", **{name: value}))
        assert (code, name in detail) == (1602, True), (value, detail)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("userID", (None, "", 5, "x" * 257)),
        ("token", (None, "", ["x"])),
        ("platformID", (None, 0, 12, "1", 1.5, 2**70)),
        ("operationID", (None, "", {})),
        ("sdkType", ("rust", 1)),
        ("background", ("true", 1)),
    ],
)
async def test_each_bad_packed_parameter_is_named(
    service: RunningService, name: str, values: tuple[object, ...]
) -> None:
    for value in values:
        code, detail = await refused(packed(service, "user", **{name: value}))
        assert code == 1602
        assert name in detail or (name == "userID" and "sendID" in detail), (value, detail)


async def test_a_v_that_is_not_unpadded_base64url_of_an_object(service: RunningService) -> None:
    good = pack({"userID": "user", "token": service.token("user"), "platformID": 1, "operationID": "~~~???"})
    for v in (good + "=", good.replace("_", "/").replace("-", "+") + "==", "A", "****", pack([]), "bnVsbA", good[:-9]):  # type: ignore[arg-type]
        assert (await refused(f"ws://{service.ws}/?{urlencode({'v': v})}"))[0] == 1602


@pytest.mark.parametrize("query", ["", "?", "?&&&", "?=", "?%zz", "?sendID=%ff&token=x", "?v=", "?" + "a=b&" * 500])
async def test_queries_that_say_nothing(service: RunningService, query: str) -> None:
    assert (await refused(f"ws://{service.ws}/{query}"))[0] == 1602


@pytest.mark.parametrize("origin", ["https://evil.example", "http://chat.example", "null", "https://chat.example.evil"])
async def test_other_origins(service: RunningService, origin: str) -> None:
    assert (await refused(plain(service), origin=origin))[0] == 1002


async def test_a_refused_origin_is_logged_with_what_to_add(service: RunningService) -> None:
    """Once a minute: clients can send as many as they like."""
    for number in range(3):
        await refused(plain(service), origin=f"https://other-{number}.example")
    lines = [line for line in service.log if "to admit the last" in line]
    assert len(lines) == 1
    assert "origins = [..., 'http" in lines[0]


async def test_a_refusal_as_a_frame(service: RunningService) -> None:
    """Browsers can't read a failed upgrade: with `isMsgResp` they are let in, told in one text frame, and closed."""
    urls = {
        plain(service, isMsgResp="true", token="rubbish"): 1503,
        plain(service, isMsgResp="1", platformID=99): 1602,
        plain(service, isMsgResp="t", sendID=None): 1602,
        packed(service, sendResponse=True, token=service.token("other")): 1502,
    }
    for url, code in urls.items():
        async with websocket(url) as ws:
            told = json.loads(await ws.recv())
            assert list(told) == ["errCode", "errMsg", "errDlt"]
            assert told["errCode"] == code
            with pytest.raises(ConnectionClosed) as caught:
                await ws.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008


async def test_refusals_are_counted_by_reason(service: RunningService) -> None:
    name = 'adsum_handshakes_refused_total{reason="TokenMalformedError"}'
    before = (await metrics(service)).get(name, 0)
    await refused(plain(service, token="rubbish"))
    await metric_is(service, name, before + 1)


# What is no handshake at all


@pytest.mark.parametrize("header", ["Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
async def test_a_request_without_a_websocket_header_is_not_upgraded(service: RunningService, header: str) -> None:
    async with raw(service) as one:
        await one.send(upgrade_request(service.url("user"), without=header))
        answer = await one.rest()
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"eyJ" not in answer


@pytest.mark.parametrize(
    "sent",
    [
        b"\0" * 1000,
        b"\xff\xfe\xfd\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        b"GET\r\n\r\n",
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n: empty\r\nno colon\r\n\xff: \xff\r\n\r\n",
    ],
)
async def test_garbage_gets_no_upgrade(service: RunningService, sent: bytes) -> None:
    async with raw(service) as one:
        await one.send(sent)
        assert b" 101 " not in await one.rest()


async def test_a_slow_handshake_is_cut_off(service: RunningService) -> None:
    """Whether the client says nothing, a part, or one byte after another."""

    async def trickle() -> None:
        async with raw(service) as one:
            ended = asyncio.create_task(one.rest())
            with contextlib.suppress(OSError):
                for byte in upgrade_request(service.url("user")):
                    await one.send(bytes([byte]))
                    await asyncio.sleep(0.02)
            assert b" 101 " not in await ended

    async def silent(part: bytes) -> None:
        async with raw(service) as one:
            await one.send(part)
            assert b" 101 " not in await one.rest()

    request = upgrade_request(service.url("user"))
    await asyncio.gather(silent(b""), silent(b"GET"), silent(request[:-2]), trickle())


@pytest.mark.parametrize("header", [True, False])
async def test_an_endless_request_is_cut_off(service: RunningService, header: bool) -> None:  # noqa: FBT001
    """A request beyond all reason is not gathered until it is complete."""
    start = b"GET /?x HTTP/1.1\r\nX: " if header else b"GET /?x="
    async with raw(service) as one:
        with pytest.raises(OSError, match=r"."):
            await one.send(start + b"x" * 100_000_000)


async def test_a_client_that_leaves_within_its_handshake(service: RunningService) -> None:
    for number in range(100):
        async with raw(service) as one:
            await one.send(upgrade_request(service.url(f"hasty-{number}")))
    await admitted(plain(service))


# Room


async def test_no_more_connections_than_configured() -> None:
    """In total and for one user; whom a login kicks makes room; those refused are let in once others left."""
    async with running_service("--max-connections=4", "--max-connections-per-user=2", "--login-policy=1") as service:
        async with client(service, "a"), client(service, "a", 2), client(service, "b"):
            code, detail = await refused(service.url("a", 3))
            assert code == 1601
            assert "this user has 2 connections" in detail
            async with client(service, "b", 2):
                for url in (service.url("c"), service.url("c", 2)):
                    code, detail = await refused(url)
                    assert code == 1601
                    assert "this gateway has 4 connections" in detail
                await admitted(service.url("a", token=signed(UserID="a", exp=2**40)), "a")
        await metric_is(service, "adsum_connections_open", 0)
        await admitted(service.url("c"), "c")

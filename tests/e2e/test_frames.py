"""Requests and heartbeats in all codecs, and what becomes of clients that break the rules."""

import asyncio
import gzip
import json
import struct
from collections.abc import AsyncIterator

import pytest

from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import encode_background, encode_watch
from tests.support.client import (
    BINARY,
    CLOSE,
    PING,
    Client,
    Raw,
    client,
    eventually,
    frame,
    logged,
    nobody_is_left,
    raw,
    websocket,
)
from tests.support.service import RunningService

pytestmark = pytest.mark.asyncio(loop_scope="module")

GO, GO_GZIP, JS, JS_GZIP = CODECS
LIMIT_BYTES = 51_200
every_codec = pytest.mark.parametrize("codec", CODECS, ids=str)


@pytest.fixture(autouse=True)
async def nothing_leaks(service: RunningService) -> AsyncIterator[None]:
    """After each test nobody is connected, watched or online; a bystander heard of its friend throughout."""
    async with client(service, "bystander", 5) as bystander:
        await bystander.watch("bystanders-friend")
        yield
        async with client(service, "bystanders-friend"):
            await bystander.hears("bystanders-friend", 1)
    await nobody_is_left(service)


async def alive(one: Client) -> None:
    """Fail unless the connection still answers."""
    assert not (await one.ask(Op.NEWEST_SEQ)).err_code


# Requests


@every_codec
async def test_newest_sequence_numbers_are_answered_empty(service: RunningService, codec: Codec) -> None:
    """OpenIM's clients wait for this answer after every connect; `ask` checks its msgIncr and operationID."""
    async with client(service, "asks", codec=codec) as one:
        response = await one.ask(Op.NEWEST_SEQ, b"whatever")
        assert (response.err_code, response.err_msg, response.data) == (0, "", b"")


@every_codec
async def test_message_operations_are_refused_and_the_connection_lives(service: RunningService, codec: Codec) -> None:
    async with client(service, "asks", codec=codec) as one:
        for op in range(1002, 1008):
            response = await one.ask(op, b"data")
            assert response.err_code == 1004
            assert "presence only" in response.err_msg
        await alive(one)


@every_codec
async def test_background_is_noted(service: RunningService, codec: Codec) -> None:
    async with client(service, "asks", codec=codec) as one:
        for background in (True, False):
            response = await one.ask(Op.BACKGROUND, encode_background("asks", background=background))
            assert (response.err_code, response.data) == (0, b"")


@every_codec
async def test_logout_is_answered_then_closes(service: RunningService, codec: Codec) -> None:
    async with client(service, "asks", codec=codec) as one:
        assert not (await one.ask(Op.LOGOUT)).err_code
        assert await one.closed() == (1000, "logged out", [])


@every_codec
async def test_subscribing_and_unsubscribing(service: RunningService, codec: Codec) -> None:
    """One request may do either or both; the answer names all of those to watch, in the order asked, and no other."""
    async with client(service, "watcher", codec=codec) as watcher, client(service, "here", 3):
        assert await watcher.watch("away", "here") == {"away": (), "here": (3,)}
        assert await watcher.watch("third", "away", drop=["here"]) == {"third": (), "away": ()}
        assert await watcher.watch(drop=["away", "third", "never watched"]) == {}
        assert await watcher.watch() == {}
        assert await watcher.watch("here", "here") == {"here": (3,)}


@every_codec
async def test_a_bad_payload_is_answered_with_an_error(service: RunningService, codec: Codec) -> None:
    async with client(service, "asks", codec=codec) as one:
        for op in (Op.WATCH, Op.BACKGROUND):
            for data in (b"\x0a\xff", b"\xff" * 20, b"\x0a\x02\xff\xfe"):
                response = await one.ask(op, data)
                assert response.err_code == 90007
                assert response.err_msg
        await alive(one)


async def test_requests_may_follow_each_other_at_once(service: RunningService) -> None:
    """Many requests that are sent without a wait for answers are all answered, in order but for subscribing."""
    async with client(service, "hurries") as one:
        for number in range(500):
            await one.send(Op.NEWEST_SEQ, msg_incr=str(number))
        assert [(await one.next()).msg_incr for _ in range(500)] == [str(number) for number in range(500)]


async def test_a_client_may_offer_compression_by_extension(service: RunningService) -> None:
    """`permessage-deflate` is not agreed to, and the connection works without it."""
    async with websocket(service.url("offers"), compression="deflate") as ws:
        assert not ws.protocol.extensions
        await alive(Client(ws, "offers", GO))


# What ends a connection


@every_codec
@pytest.mark.parametrize("op", [0, -1, 1, 1000, 1008, 2001, 2002, 2006, 3001, 2**31 - 1, -(2**31)])
async def test_an_unknown_identifier_closes(service: RunningService, codec: Codec, op: int) -> None:
    async with client(service, "strange", codec=codec) as one:
        await one.send(op)
        code, reason, before = await one.closed()
        assert (code, before) == (1008, [])
        assert reason == f"unknown reqIdentifier {op}"


@every_codec
@pytest.mark.parametrize("send_id", ["", "victim"])
async def test_a_foreign_sender_closes(service: RunningService, codec: Codec, send_id: str) -> None:
    async with client(service, "strange", codec=codec) as one:
        await one.send(Op.NEWEST_SEQ, send_id=send_id)
        assert (await one.closed())[:2] == (1008, "sendID is not the user of this connection")


@every_codec
@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 100, b"{}" * 20, b"[" * 20_000, b'{"reqIdentifier":"1001"}'])
async def test_undecodable_bytes_close(service: RunningService, codec: Codec, payload: bytes) -> None:
    """With and without a good gzip member around them."""
    for sent in (payload, gzip.compress(payload)):
        async with client(service, "strange", codec=codec) as one:
            await one.ws.send(sent)
            code, reason, _ = await one.closed()
            assert code in (1007, 1008)
            assert reason


@pytest.mark.parametrize("text", ["", "hello", "{}", "[]", '{"type":"other"}', '{"type":1}', "[" * 30_000])
async def test_a_text_frame_that_is_no_heartbeat_closes(service: RunningService, text: str) -> None:
    async with client(service, "strange") as one:
        await one.ws.send(text)
        code, reason, _ = await one.closed()
        assert code == 1007
        assert "a text frame" in reason


async def test_debug_says_why_a_frame_was_broken(service: RunningService) -> None:
    async with client(service, "garbler") as one:
        await one.ws.send("hello")
        _, reason, _ = await one.closed()
    await eventually(logged(service, f"of 'garbler' broke the protocol: {reason}"))


# Heartbeats


async def test_text_pings_are_answered(service: RunningService) -> None:
    """Clients that never asked for text frames get a pong for a ping: it is the only text they know."""
    async with client(service, "beats") as one:
        assert json.loads(await one.text('{"type":"ping"}')) == {"type": "pong"}
        body = {"nested": ["ü", 1.5, None], "big": 2**60}
        assert json.loads(await one.text(json.dumps({"type": "ping", "body": body}))) == {"type": "pong", "body": body}
        assert await one.text('{"body": "x" , "type": "ping"}') == '{"type":"pong","body":"x"}'
        await one.ws.send('{"type":"pong"}')
        await alive(one)


async def test_protocol_pings_are_answered_with_their_payload(service: RunningService) -> None:
    async with client(service, "beats") as one:
        for payload in (b"", b"hello", bytes(range(125))):
            await (await one.ws.ping(payload))
        await one.ws.pong(b"unasked")
        await alive(one)


# Fragments and sizes


async def goodbye(one: Raw) -> int:
    """The code of the close frame that comes next."""
    opcode, payload = await one.next_frame()
    assert opcode == CLOSE, (opcode, payload)
    (code,) = struct.unpack(">H", payload[:2])
    assert payload[2:].decode()
    return int(code)


@every_codec
async def test_fragmented_messages_are_put_together(service: RunningService, codec: Codec) -> None:
    async with client(service, "asks", codec=codec) as one:
        request = Request(Op.WATCH, "", "asks", "op", "1", encode_watch(["a", "b"]))
        data = codec.encode_request(request)
        await one.ws.send([data[at : at + 3] for at in range(0, len(data), 3)])
        assert not (await one.next()).err_code
        assert one.heard == {"a": (), "b": ()}


def watch_of_size(codec: Codec, size: int) -> bytes:
    """A request of exactly so many bytes that asks nothing: an unknown field fills it. Not for gzip."""
    guess = size - len(codec.encode_request(Request(Op.NEWEST_SEQ, send_id="big", msg_incr="1")))
    for count in range(guess, 0, -1):
        data = codec.encode_request(Request(Op.NEWEST_SEQ, "t" * count, "big", "", "1"))
        if len(data) == size:
            return data
    raise AssertionError


@pytest.mark.parametrize("codec", [GO, JS], ids=str)
async def test_a_message_of_the_limit_is_read(service: RunningService, codec: Codec) -> None:
    data = watch_of_size(codec, LIMIT_BYTES)
    async with client(service, "big", codec=codec) as one:
        await one.ws.send(data)
        assert (await one.next()).msg_incr == "1"
        await one.ws.send([data[:30_000], data[30_000:]])
        assert (await one.next()).msg_incr == "1"


@every_codec
async def test_a_message_over_the_limit_closes(service: RunningService, codec: Codec) -> None:
    """In one frame, in two, and in thousands: the code is 1009."""
    data = b"x" * (LIMIT_BYTES + 1)
    for sent in (data, [data[:-1], data[-1:]], [data[at : at + 20] for at in range(0, len(data), 20)]):
        async with client(service, "big", codec=codec) as one:
            await one.ws.send(sent)
            assert (await one.closed())[0] == 1009


@pytest.mark.parametrize("codec", [GO_GZIP, JS_GZIP], ids=str)
async def test_a_gzip_bomb_closes(service: RunningService, codec: Codec) -> None:
    """50 MB of zeros in under 51,200 bytes are refused unpacked."""
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < LIMIT_BYTES
    async with client(service, "bomber", codec=codec) as one:
        await one.ws.send(bomb)
        assert (await one.closed())[0] == 1009


@pytest.mark.parametrize("codec", [GO_GZIP, JS_GZIP], ids=str)
async def test_a_frame_is_one_gzip_member(service: RunningService, codec: Codec) -> None:
    """Cut off, damaged, doubled, not gzip at all: each closes."""
    good = codec.encode_request(Request(Op.NEWEST_SEQ, "", "packs", "", "1"))
    plain = Codec(codec.kind, gzip=False).encode_request(Request(Op.NEWEST_SEQ, "", "packs", "", "1"))
    damaged = good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]
    for sent in (good[:-1], damaged, good + good, good + b"\0", plain):
        async with client(service, "packs", codec=codec) as one:
            await one.ws.send(sent)
            assert (await one.closed())[0] == 1007


async def test_gob_lengths_that_lie_close(service: RunningService) -> None:
    """Counts of up to 2^64 where there are a few bytes: for messages, names, fields and values."""
    good = GO.encode_request(Request(Op.NEWEST_SEQ, "token", "liar", "op", "1", b"data"))
    huge = (b"\xf8" + b"\xff" * 8, b"\xf8\x7f" + b"\xff" * 7, b"\xfc\x7f\xff\xff\xff", b"\xfd\x03\xff\xff")
    places = (0, 1, 2, 3, 5, 20, 60, len(good) - 40, len(good) - 10, len(good) - 5)
    for lie in huge:
        for at in places:
            async with client(service, "liar") as one:
                await one.ws.send(good[:at] + lie + good[at + 1 :])
                code, _, before = await one.closed()
                assert code in (1007, 1008)
                assert not before


# The protocol itself


async def test_nothing_is_read_after_a_goodbye(service: RunningService) -> None:
    """What a client sends after it was told to go is not performed."""
    async with client(service, "watcher", 5) as watcher, raw(service) as one:
        await watcher.watch("breaker")
        await one.upgrade(service.url("breaker"))
        await watcher.hears("breaker", 1)
        bad = frame(BINARY, b"not gob")
        ask = frame(BINARY, GO.encode_request(Request(Op.NEWEST_SEQ, "", "breaker", "", "1")))
        await one.send(bad + ask * 10 + frame(PING, b"x"))
        assert await goodbye(one) == 1007
        await watcher.hears("breaker")
        await one.send(frame(CLOSE))
        assert await one.rest() == b""


async def test_a_client_that_ignores_a_goodbye_is_dropped(service: RunningService) -> None:
    async with raw(service) as one:
        await one.upgrade(service.url("ignores"))
        await one.send(frame(BINARY, b"not gob"))
        assert await goodbye(one) == 1007
        assert await one.rest() == b""


async def test_many_bad_clients_at_once_disturb_nobody(service: RunningService) -> None:
    async def misbehave(number: int) -> None:
        async with client(service, f"bad-{number}", codec=CODECS[number % 4]) as one:
            await one.watch("bystander", "bystanders-friend")
            await one.ws.send(b"garbage")
            await one.closed()

    async with client(service, "good") as good:
        await asyncio.gather(*(misbehave(number) for number in range(100)), *(alive(good),))
        await alive(good)

"""A server that only answers: what the system, one Python loop and the same clients take for what `unpinned` measures.

`python bench/echo.py REDIS_PORT` prints the ports of its WebSocket and gRPC servers. It knows no users. It looks into
nothing but what tells it when to answer, and says the same to all. What the service asks of Redis it asks by the
shortest command: for each call that sets, and for each change.
"""

import asyncio
import sys
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import cast

import uvloop

ACK, END_STREAM = 1, 1
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
PREFACE_BYTES, HEAD_BYTES = 24, 9
OPENING = b"\x88\x00\x0ccontent-type\x10application/grpc"
TRAILERS = b"\x00\x0bgrpc-status\x010"
ONLINE = b"\x0a\x04\x0a\x00\x10\x01"
"""A getUserStatusResp with one user, who is online."""

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SUBJECT = b"sendID=subject"
COME, GONE = b"\x0a\x0c\x0a\x07subject\x12\x01\x01", b"\x0a\x09\x0a\x07subject"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """An HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def message(data: bytes, number: bytes = b"") -> bytes:
    """A WebSocket frame with a response of OpenIM's, in JSON."""
    text = b'{"reqIdentifier":2005,"errCode":0,"errMsg":"","msgIncr":"%b","operationID":"load","data":"%b"}'
    payload = text % (number, b64encode(data))
    # Longer than 125 bytes, shorter than 65,536.
    return b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload


class Redis(asyncio.Protocol):
    """A connection to Redis on which each is called when its answer is there."""

    def __init__(self) -> None:
        self._asked: deque[Callable[[], None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """To be written to."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, then: Callable[[], None]) -> None:
        """Call after the answer to a command."""
        self._asked.append(then)
        self._transport.write(b"PING\r\n")

    def data_received(self, data: bytes) -> None:
        """Answers of a line each."""
        for _ in range(data.count(b"\n")):
            self._asked.popleft()()


class Calls(asyncio.Protocol):
    """A gRPC connection: getUserStatus is answered at once, and whatever sets when Redis has answered."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._input, self._prefaced = b"", False
        self._pongs = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(frame(SETTINGS, 0, 0, b"") + frame(8, 0, 0, (1 << 30).to_bytes(4, "big")))

    def data_received(self, data: bytes) -> None:
        """Answer all that came in one write."""
        self._input += data
        if not self._prefaced:
            self._prefaced, self._input = True, self._input[PREFACE_BYTES:]
        output, at = [], 0
        while len(self._input) - at >= HEAD_BYTES:
            size = int.from_bytes(self._input[at : at + 3], "big")
            if len(self._input) - at - HEAD_BYTES < size:
                break
            kind, flags = self._input[at + 3], self._input[at + 4]
            stream = int.from_bytes(self._input[at + 5 : at + 9], "big")
            payload = self._input[at + HEAD_BYTES : at + HEAD_BYTES + size]
            at += HEAD_BYTES + size
            if kind == DATA:
                if b"asker" in payload:
                    output.append(self._answer(stream, ONLINE))
                else:
                    self._redis.ask(partial(self._answer_set, stream))
            elif kind == SETTINGS and not flags & ACK:
                output.append(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self._pongs += frame(PING, ACK, 0, payload)
        self._input = self._input[at:]
        if output:
            self._transport.write(b"".join(output))

    def _answer_set(self, stream: int) -> None:
        self._transport.write(self._answer(stream, b""))

    def _answer(self, stream: int, body: bytes) -> bytes:
        pongs, self._pongs = self._pongs, b""
        body = b"\x00" + len(body).to_bytes(4, "big") + body
        return (
            pongs
            + frame(HEADERS, 4, stream, OPENING)
            + frame(DATA, 0, stream, body)
            + frame(HEADERS, 4 | END_STREAM, stream, TRAILERS)
        )


class Watcher(asyncio.Protocol):
    """A WebSocket connection: all that are not the subject's hear of it."""

    def __init__(self, redis: Redis, watchers: set["Watcher"]) -> None:
        self._redis, self._watchers = redis, watchers
        self._open = self._subject = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """To be written to."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """The handshake, then the request to watch."""
        if self._open:
            self.transport.write(message(GONE, b"subscribe"))
            return
        self._open = True
        self.transport.write(UPGRADE)
        if SUBJECT in data:
            self._subject = True
            self._redis.ask(partial(self._tell, COME))
        else:
            self._watchers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell of the subject's end."""
        self._watchers.discard(self)
        if self._subject:
            self._redis.ask(partial(self._tell, GONE))

    def _tell(self, data: bytes) -> None:
        push = message(data)
        for watcher in self._watchers:
            watcher.transport.write(push)


async def main(redis_port: int) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    _, redis = await loop.create_connection(Redis, "127.0.0.1", redis_port)
    watchers: set[Watcher] = set()
    ws = await loop.create_server(lambda: Watcher(redis, watchers), "127.0.0.1", 0, backlog=1_024)
    grpc = await loop.create_server(lambda: Calls(redis), "127.0.0.1", 0)
    print(*(server.sockets[0].getsockname()[1] for server in (ws, grpc)), flush=True)
    await loop.create_future()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

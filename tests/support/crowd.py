"""Many clients at once, light enough for thousands in one test process: picows, gob, callbacks."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from urllib.parse import urlsplit

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Op, Request
from adsum.wire.protobuf import decode_tips, encode_watch

LIMIT = 10_000_000


class Member(WSListener):
    """One client. `heard` maps each user it was told of to the platforms it was told last."""

    def __init__(self, user_id: str, codec: Codec = CODECS[0]) -> None:
        self.user_id = user_id
        self.codec = codec
        self.heard: dict[str, tuple[int, ...]] = {}
        self.answered: set[str] = set()
        self.frames = 0
        self.transport: WSTransport | None = None

    async def connect(self, url: str) -> "Member":
        """Connect; returns itself."""
        self.transport, _ = await ws_connect(lambda: self, url, websocket_handshake_timeout=60)
        return self

    def watch(self, user_ids: Iterable[str], msg_incr: str = "w") -> None:
        """Ask to watch users."""
        self._send(Request(Op.WATCH, "", self.user_id, "test", msg_incr, encode_watch(user_ids)))

    def drop(self) -> None:
        """Cut the connection without a goodbye."""
        if self.transport is not None:
            self.transport.disconnect(graceful=False)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.BINARY:
            response = self.codec.decode_response(frame.get_payload_as_bytes(), LIMIT)
            assert not response.err_code, response
            self.frames += 1
            for status in decode_tips(response.data):
                self.heard[status.user_id] = status.platform_ids
            if response.msg_incr:
                self.answered.add(response.msg_incr)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def pause_writing(self) -> None:
        """A test's client writes little."""

    def resume_writing(self) -> None:
        """A test's client writes little."""

    def _send(self, request: Request) -> None:
        assert self.transport is not None
        self.transport.send(WSMsgType.BINARY, self.codec.encode_request(request))


async def knock(url: str) -> None:
    """Send a whole handshake, and leave without waiting for the answer."""
    parts = urlsplit(url)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = f"GET /?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode())
    writer.close()


async def until(true: Callable[[], bool], seconds: float = 60, every: float = 0.02) -> bool:
    """Wait for a condition; whether it came true."""
    end = asyncio.get_running_loop().time() + seconds
    while not (now := true()) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(every)
    return now


async def in_parallel(jobs: Sequence[Callable[[], Awaitable[object]]], at_once: int) -> None:
    """Run jobs, so many at a time."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())

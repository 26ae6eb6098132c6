"""One client's connection: its calls are begun as they come and answered as they end.

All calls of one read that can be answered at once are answered in one write, and cost
no task. Nothing is kept for an idle connection but itself.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from math import inf
from typing import Any, cast

from adsum.adapters.rpc.method import Begun, Desk, Streaming, Unary, as_refusal
from adsum.adapters.rpc.requests import Requests
from adsum.wire import rpc
from adsum.wire.http2 import Http2Limits, ServerConnection
from adsum.wire.http2_sending import Stream
from adsum.wire.rpc import CallHead, RpcRefused, StatusCode

WRITE_HIGH_BYTES = 1 << 20
"""Written and not taken by the system: past that a client is not read from either, until it reads."""

GREETING_TICKS = 10
"""Seconds a client has to begin speaking HTTP/2, or to take the last it is sent."""

SPARE_STREAMS = 100
"""Streams a connection may have above the limit of calls: so a call too many hears why."""

SILENCE_S = 60
"""After that TCP asks whether the other end is still there."""


class _Body:
    """A unary call whose request is not whole yet."""

    __slots__ = ("data",)

    def __init__(self) -> None:
        self.data = bytearray()


class _Running:
    """A call under way in a task, until a time of the loop at most.

    Of a streaming one: its `requests`, and `taken` while an answer waits to be sent.
    """

    __slots__ = ("deadline", "requests", "taken", "task")

    def __init__(self, task: "asyncio.Task[None]", deadline: float, requests: Requests | None) -> None:
        self.task = task
        self.deadline = deadline
        self.requests = requests
        self.taken: asyncio.Future[None] | None = None


class Connection(asyncio.Protocol):
    """A connection, which is the `Receiver` of its own HTTP/2. `lost` is called when it has ended."""

    def __init__(self, desk: Desk, made: "Callable[[Connection], None]", lost: "Callable[[Connection], None]") -> None:
        self._desk = desk
        self._made = made
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._http: ServerConnection[CallHead] = ServerConnection(
            self, rpc.read_call, Http2Limits(max_streams=desk.limits.max_concurrent_calls + SPARE_STREAMS)
        )
        self._sender = self._http.sender
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._leaving = False
        self._ticks = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say which settings hold."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        _keep_alive(transport.get_extra_info("socket"))
        self._made(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Begin the calls that came, and send what is answered."""
        self._http.receive(data)
        self._flush()

    def pause_writing(self) -> None:
        """The client does not read: take nothing from it, and have answers wait."""
        self._sender.hold()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads."""
        self._sender.let_go()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a client that leaves needs no word
        """Cancel what is under way."""
        self._transport = None
        for stream in self._sender.forget_all():
            self.reset(stream)
        self._lost(self)

    # The server calls these

    def tick(self) -> None:
        """To be called once a second."""
        self._http.calm()
        self._end_late_calls()
        if self._transport is None or (self._http.greeted and not self._transport.is_closing()):
            self._ticks = 0
            return
        self._ticks += 1
        if self._ticks > GREETING_TICKS:
            self._transport.abort()

    def leave(self) -> None:
        """Take no more calls, and end when those under way have."""
        self._leaving = True
        self._http.leave()
        self._flush()

    def abort(self) -> "list[asyncio.Task[None]]":
        """End now; the tasks of calls that are thereby cancelled."""
        owners = [stream.owner for stream in self._sender.streams.values()]
        if self._transport is not None:
            self._transport.abort()
        return [owner.task for owner in owners if isinstance(owner, _Running)]

    # HTTP/2 calls these

    def opened(self, stream: Stream[CallHead], *, ended: bool) -> None:
        """A call has begun."""
        head = stream.head
        method = self._desk.methods.get(head.path)
        if head.http_status != rpc.HTTP_OK:
            self._sender.end(stream, rpc.http_refusal(head.http_status))
        elif head.refusal is not None:
            self._refuse(stream, head.refusal)
        elif method is None:
            self._refuse(stream, RpcRefused(StatusCode.UNIMPLEMENTED, f"unknown method {head.path}"))
        elif isinstance(method, Streaming):
            self._begin_streaming(stream, method, ended=ended)
        elif ended:
            self._refuse(stream, RpcRefused(StatusCode.INTERNAL, "the call has no request"))

    def body(self, stream: Stream[CallHead], data: bytes, *, ended: bool) -> None:
        """More of a call's request."""
        owner = stream.owner
        if owner is None and ended:
            self._begin(stream, data)
            return
        try:
            if isinstance(owner, _Running):
                assert owner.requests is not None
                owner.requests.feed(data, ended=ended)
            else:
                self._collect(stream, data, ended=ended)
        except RpcRefused as refused:
            self._cancel(stream, refused)

    def drained(self, stream: Stream[CallHead]) -> None:
        """A streaming call may go on answering."""
        owner = stream.owner
        if isinstance(owner, _Running) and owner.taken is not None and not owner.taken.done():
            owner.taken.set_result(None)

    def reset(self, stream: Stream[CallHead]) -> None:
        """Nobody waits for this call's answer any more."""
        self._stop(self._release(stream))

    # Unary calls

    def _collect(self, stream: Stream[CallHead], data: bytes, *, ended: bool) -> None:
        """Keep a request until it is whole; raises `RpcRefused`."""
        body = stream.owner
        if body is None:
            body = stream.owner = _Body()
        body.data += data
        self._desk.keep(len(data))
        if len(body.data) > rpc.message_end(body.data, self._desk.limits.max_request_bytes):
            raise RpcRefused(StatusCode.INTERNAL, "the request is more than one message")
        if ended:
            self._release(stream)
            self._begin(stream, bytes(body.data))

    def _begin(self, stream: Stream[CallHead], data: bytes) -> None:
        head = stream.head
        method = self._desk.methods[head.path]
        assert isinstance(method, Unary)
        try:
            message = rpc.read_message(data, self._desk.limits.max_request_bytes, gzip=head.gzip)
            timeout_s = rpc.timeout_of(stream.fields)
            self._desk.check_calls()
            answering = method.answer(message, stream.fields)
            begun = Begun(answering, answering.send(None)) if method.prompt else answering
        except StopIteration as done:
            self._sender.answer(stream, rpc.OPENING, rpc.write_message(done.value), rpc.OK_TRAILERS)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self._refuse(stream, as_refusal(error, head))
        else:
            self._run(stream, self._finish(stream, begun), timeout_s)

    async def _finish(self, stream: Stream[CallHead], answering: Awaitable[bytes]) -> None:
        try:
            answer = await answering
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self._refuse(stream, as_refusal(error, stream.head))
        else:
            if self._sender.is_open(stream):
                self._release(stream)
                self._sender.answer(stream, rpc.OPENING, rpc.write_message(answer), rpc.OK_TRAILERS)
        self._flush_soon()

    # Streaming calls

    def _begin_streaming(self, stream: Stream[CallHead], method: Streaming, *, ended: bool) -> None:
        requests = Requests(gzip=stream.head.gzip)
        try:
            timeout_s = rpc.timeout_of(stream.fields)
            self._desk.check_calls()
            requests.feed(b"", ended=ended)
        except RpcRefused as refused:
            self._refuse(stream, refused)
        else:
            self._run(stream, self._answer_all(stream, method, requests), timeout_s, requests)

    async def _answer_all(self, stream: Stream[CallHead], method: Streaming, requests: Requests) -> None:
        begun = False
        try:
            async with aclosing(method.answers(requests, stream.fields)) as answers:
                async for answer in answers:
                    if not begun:
                        self._sender.open(stream, rpc.OPENING)
                        begun = True
                    await self._send(stream, answer)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            end = as_refusal(error, stream.head)
        else:
            end = RpcRefused(StatusCode.OK, "")
        if self._sender.is_open(stream):
            self._release(stream)
            self._sender.end(stream, rpc.trailers(end) if begun else rpc.trailers_only(end))
        self._flush_soon()

    async def _send(self, stream: Stream[CallHead], answer: bytes) -> None:
        """Send one of many answers, and wait until the client lets it come."""
        self._sender.send(stream, rpc.write_message(answer))
        self._flush_soon()
        if stream.unsent and isinstance(stream.owner, _Running):
            stream.owner.taken = self._loop.create_future()
            await stream.owner.taken

    # All calls

    def _run(
        self,
        stream: Stream[CallHead],
        work: Coroutine[Any, Any, None],
        timeout_s: float | None,
        requests: Requests | None = None,
    ) -> None:
        """Have a task do it, within the call's time or up to a tick longer."""
        deadline = inf if timeout_s is None else self._loop.time() + timeout_s
        stream.owner = _Running(self._loop.create_task(work), deadline, requests)
        self._desk.calls += 1

    def _release(self, stream: Stream[CallHead]) -> object:
        """Take back what a call was given; what that was."""
        owner, stream.owner = stream.owner, None
        if isinstance(owner, _Running):
            self._desk.calls -= 1
        elif isinstance(owner, _Body):
            self._desk.let_go(len(owner.data))
        return owner

    def _end_late_calls(self) -> None:
        # The client does so itself, in time. A timer for each call would only serve one that has gone.
        now = self._loop.time()
        for stream in list(self._sender.streams.values()):
            if isinstance(stream.owner, _Running) and stream.owner.deadline <= now:
                self._cancel(stream, RpcRefused(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed"))
                self._flush_soon()

    def _cancel(self, stream: Stream[CallHead], refused: RpcRefused) -> None:
        """End a call that may be under way."""
        self._stop(stream.owner)
        self._refuse(stream, refused)

    def _stop(self, owner: object) -> None:
        if isinstance(owner, _Running):
            # Not before the task has begun: it has to end what a prompt method began.
            self._loop.call_soon(owner.task.cancel)

    def _refuse(self, stream: Stream[CallHead], refused: RpcRefused) -> None:
        if self._sender.is_open(stream):
            self._release(stream)
            self._sender.end(stream, rpc.trailers_only(refused))

    # Writing

    def _flush_soon(self) -> None:
        """Write what there is to, with that of other calls which end in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        output = self._http.take()
        if output:
            transport.write(output)
        if self._http.failed is not None or (self._leaving and not self._sender.streams):
            transport.close()


def _keep_alive(connection: socket.socket | None) -> None:
    """Have the system find out that a client has gone without a goodbye."""
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S)

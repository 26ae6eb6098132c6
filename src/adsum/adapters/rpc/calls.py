"""The calls of one connection: begun as they come, and answered as they end.

Those that can be answered at once cost no task.
Invariant: what a call was given (its place among the calls, bytes kept for it) is
taken back once, in `_release`, whoever ends it.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from math import inf

from adsum.adapters.rpc.method import (
    SHARE,
    STREAM_MESSAGE_BYTES,
    Called,
    Desk,
    Keeper,
    Streaming,
    Unary,
    as_refusal,
)
from adsum.adapters.rpc.requests import Requests
from adsum.adapters.rpc.running import Running, in_task
from adsum.wire import rpc
from adsum.wire.http2 import ServerConnection
from adsum.wire.http2_frames import Code
from adsum.wire.http2_headers import Block
from adsum.wire.http2_streams import Http2Limits, Stream
from adsum.wire.rpc import RpcRefused, StatusCode

STALLED_TICKS = 10
"""Seconds in which more of a request must come."""

WHOLE_TICKS = 60
"""Seconds in which a request must be whole: 4 MiB by then are half a megabit a second."""

UNTAKEN_TICKS = 60
"""Seconds in which a client must take something of an answer, or of what was written to it."""

SHED = 16
"""A connection that has too much kept gives at least one part in so many of it back."""

SPARE_STREAMS = 100
"""Streams a connection may have above the limit of calls: for streaming ones, and for a call too many to hear why."""


class _Call:
    """A call that could not be answered at once, until its answer is out; it has until a time of the loop.

    A unary one whose request is not whole has a `body`, one that is worked on is `running`, and a
    streaming one has its `requests` too, and `taken` while an answer waits to be sent. For `still_ticks`
    it has had `seen_bytes` kept, and for `begun_ticks` its request has not been whole.
    """

    __slots__ = ("begun_ticks", "body", "deadline", "requests", "running", "seen_bytes", "still_ticks", "taken")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.body: bytearray | None = None
        self.running: Running | asyncio.Task[None] | None = None
        self.requests: Requests | None = None
        self.taken: asyncio.Future[None] | None = None
        self.seen_bytes = 0
        self.still_ticks = self.begun_ticks = 0


class Calls:
    """The `Receiver` of a connection's HTTP/2. `keeper` is the connection to the desk; `flush_soon` has it write."""

    def __init__(self, desk: Desk, keeper: Keeper, flush_soon: Callable[[], None]) -> None:
        self._desk = desk
        self._keeper = keeper
        self._flush_soon = flush_soon
        self._loop = asyncio.get_running_loop()
        limits = Http2Limits(
            max_streams=desk.limits.max_concurrent_calls + SPARE_STREAMS,
            max_unsent_bytes=desk.limits.max_kept_bytes // SHARE,
        )
        self.http: ServerConnection[Called] = ServerConnection(self, self._read, limits, desk.too_large)
        self._sender = self.http.sender
        self._streaming = 0

    # The connection calls these

    def tick(self) -> None:
        """To be called once a second. Ends calls whose time is up, or whose client does not go on with its part.

        The client ends a late call itself, in time. A timer for each would only serve one that has
        gone, and cost more than to go over those that are open once a second.
        """
        now = self._loop.time()
        for stream in list(self._sender.streams.values()):
            refused = self._due(stream, now)
            if refused is not None:
                self.finish(stream, refused)
                self._flush_soon()

    def end_largest(self, above: int) -> bool:
        """End the calls that have most kept, if that is more than `above` bytes; whether any was.

        Until a part of all that is kept is given back: to look for one at a time costs more than a small one does.
        """
        streams = sorted(self._sender.streams.values(), key=_kept_for)
        to_give_back = sum(map(_kept_for, streams)) // SHED
        ended = False
        while streams and to_give_back >= 0:
            largest = streams.pop()
            size = _kept_for(largest)
            if size <= above:
                break
            self._shed(largest)
            to_give_back -= size
            ended = True
        return ended

    def _shed(self, stream: Stream[Called]) -> None:
        if stream.unsent:
            self._stop(stream)
            self._sender.drop(stream, Code.ENHANCE_YOUR_CALM)
        else:
            self.finish(stream, RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "too many large requests at a time"))

    def ends(self) -> "list[asyncio.Future[None]]":
        """The ends of the calls that are worked on."""
        owners = [stream.owner for stream in self._sender.streams.values()]
        running = [call.running for call in owners if call is not None and call.running is not None]
        return [one.ended() if isinstance(one, Running) else one for one in running]

    # HTTP/2 calls these

    def opened(self, stream: Stream[Called]) -> None:
        """A call has begun."""
        called = stream.head
        if called.unary is not None:
            self._admit(stream, called.unary)
        elif called.streaming is not None:
            self._begin_streaming(stream, called.streaming)
        elif called.http_status != rpc.HTTP_OK:
            self._sender.end(stream, rpc.http_refusal(called.http_status))
        elif called.refusal is not None:
            self.finish(stream, called.refusal)

    def body(self, stream: Stream[Called], data: bytes) -> None:
        """More of a call's request."""
        call: _Call | None = stream.owner
        if call is None and stream.ended:
            self._begin(stream, data)
            return
        if stream.tail is not None:
            return  # It was refused, and only its answer waits.
        if call is not None and call.requests is not None:
            call.requests.feed(data, ended=stream.ended)
            self.kept(len(data))
            return
        try:
            self._collect(stream, data)
        except RpcRefused as refused:
            self.finish(stream, refused)

    def drained(self, stream: Stream[Called]) -> None:
        """A streaming call may go on answering."""
        call = stream.owner
        if call is not None and call.taken is not None and not call.taken.done():
            call.taken.set_result(None)

    def reset(self, stream: Stream[Called]) -> None:
        """Nobody waits for this call's answer any more."""
        self._stop(stream)

    def kept(self, size: int) -> None:
        """So many more bytes are kept, or fewer."""
        self._desk.keep(self._keeper, size)

    def _read(self, block: Block) -> Called:
        return Called(rpc.read_call(block), self._desk)

    # Unary calls

    def _admit(self, stream: Stream[Called], method: Unary) -> None:
        """Only who may call has anything kept."""
        if stream.ended:
            self.finish(stream, RpcRefused(StatusCode.INTERNAL, "the call has no request"))
            return
        try:
            method.admit(stream.fields)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self.finish(stream, as_refusal(error, stream.head.path))

    def _collect(self, stream: Stream[Called], data: bytes) -> None:
        """Keep a request until it is whole; raises `RpcRefused`."""
        call = self._call(stream)
        if call.body is None:
            call.body = bytearray()
        call.body += data
        self.kept(len(data))
        if not self._sender.is_open(stream):
            return  # It was one too many.
        if len(call.body) > rpc.message_end(call.body, stream.head.max_bytes):
            raise RpcRefused(StatusCode.INTERNAL, "the request is more than one message")
        if stream.ended:
            body = bytes(call.body)
            self._let_go_of_request(call)
            self._begin(stream, body)

    def _begin(self, stream: Stream[Called], data: bytes) -> None:
        called, fields = stream.head, stream.fields
        method = called.unary
        assert method is not None
        try:
            timeout_s = rpc.timeout_of(fields)
            message = rpc.read_message(data, called.max_bytes, gzip=called.gzip)
            self._desk.check_calls()
            answering = method.answer(message, fields)
            if not method.prompt:
                answering = in_task(answering)
            waits_for = answering.send(None)
        except StopIteration as done:
            self._sender.answer(stream, rpc.OPENING, rpc.write_message(done.value), rpc.OK_TRAILERS)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self.finish(stream, as_refusal(error, called.path))
        else:
            call: _Call | None = stream.owner
            if call is None:
                call = stream.owner = _Call(self._until(timeout_s))
            call.running = Running(answering, waits_for, self, stream)
            self._desk.calls += 1

    def answered(self, stream: Stream[Called], answer: bytes) -> None:
        """A call that had to wait has its answer."""
        self._release(stream)
        self._sender.answer(stream, rpc.OPENING, rpc.write_message(answer), rpc.OK_TRAILERS)
        self._flush_soon()

    def failed(self, stream: Stream[Called], error: Exception) -> None:
        """A call that had to wait has none."""
        self._release(stream)
        self.finish(stream, as_refusal(error, stream.head.path))
        self._flush_soon()

    # Streaming calls

    def _begin_streaming(self, stream: Stream[Called], method: Streaming) -> None:
        if self._streaming >= self._desk.limits.max_streaming_calls:
            self.finish(stream, RpcRefused(StatusCode.RESOURCE_EXHAUSTED, "too many streams on this connection"))
            return
        try:
            call = self._call(stream)
        except RpcRefused as refused:
            self.finish(stream, refused)
            return

        def taken(size: int) -> None:
            if call.requests is None:
                return  # The call has ended, and with it all was given back; its task only does not know yet.
            self.kept(-size)
            self.http.give_back(stream, size)
            self._flush_soon()

        stream.gives_back = True
        call.requests = Requests(rpc.Messages(STREAM_MESSAGE_BYTES, gzip=stream.head.gzip), taken)
        call.requests.feed(b"", ended=stream.ended)
        call.running = self._loop.create_task(self._answer_all(stream, method, call.requests))
        self._streaming += 1

    async def _answer_all(self, stream: Stream[Called], method: Streaming, requests: Requests) -> None:
        try:
            async with aclosing(method.answers(requests, stream.fields)) as answers:
                async for answer in answers:
                    if not stream.opened:
                        self._sender.open(stream, rpc.OPENING)
                    await self._send(stream, answer)
        except Exception as error:  # noqa: BLE001 - the last line of defence
            self.finish(stream, as_refusal(error, stream.head.path))
        else:
            self.finish(stream, RpcRefused(StatusCode.OK, ""))
        self._flush_soon()

    async def _send(self, stream: Stream[Called], answer: bytes) -> None:
        """Send one of many answers, and wait until the client lets it come."""
        self._sender.send(stream, rpc.write_message(answer))
        self._flush_soon()
        if stream.unsent and stream.owner is not None:
            stream.owner.taken = self._loop.create_future()
            await stream.owner.taken

    # All calls

    def finish(self, stream: Stream[Called], status: RpcRefused) -> None:
        """End a call with this status, wherever it is; if its end only waits to be sent, without one."""
        self._stop(stream)
        if stream.tail is not None:
            self._sender.drop(stream, Code.CANCEL)
        else:
            self._sender.end(stream, rpc.trailers(status) if stream.opened else rpc.trailers_only(status))

    def _call(self, stream: Stream[Called]) -> _Call:
        """What is known of a call that is not answered at once; raises `RpcRefused`."""
        call: _Call | None = stream.owner
        if call is None:
            call = stream.owner = _Call(self._until(rpc.timeout_of(stream.fields)))
        return call

    def _until(self, timeout_s: float | None) -> float:
        return inf if timeout_s is None else self._loop.time() + timeout_s

    def _stop(self, stream: Stream[Called]) -> None:
        running = self._release(stream)
        if running is not None:
            # Not before a task has begun: what was asked for is counted, and its coroutine awaited.
            self._loop.call_soon(running.cancel)

    def _release(self, stream: Stream[Called]) -> "Running | asyncio.Task[None] | None":
        """Take back what a call was given to be worked on; what works on it."""
        call: _Call | None = stream.owner
        if call is None:
            return None
        running, call.running = call.running, None
        if running is not None and call.requests is None:
            self._desk.calls -= 1
        elif running is not None:
            self._streaming -= 1
        self._let_go_of_request(call)
        return running

    def _let_go_of_request(self, call: _Call) -> None:
        size = _kept_of_request(call)
        call.requests, call.body = None, None
        if size:
            self.kept(-size)

    def _due(self, stream: Stream[Called], now: float) -> RpcRefused | None:
        """Why a call must end now."""
        try:
            call = self._call(stream)
        except RpcRefused as refused:
            return refused
        if call.deadline <= now:
            return RpcRefused(StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
        if call.running is None and self._stalled(stream, call):
            return RpcRefused(StatusCode.DEADLINE_EXCEEDED, "the rest of the request did not come")
        return None

    def _stalled(self, stream: Stream[Called], call: _Call) -> bool:
        """Whether no more of a request came, or not all in time, or nothing of the rest of an answer was taken."""
        size = _kept_for(stream)
        call.still_ticks = call.still_ticks + 1 if size == call.seen_bytes else 0
        call.seen_bytes = size
        if stream.tail is not None:
            return call.still_ticks >= UNTAKEN_TICKS
        call.begun_ticks += 1
        return call.still_ticks >= STALLED_TICKS or call.begun_ticks >= WHOLE_TICKS


def _kept_for(stream: Stream[Called]) -> int:
    """Bytes that a call keeps here."""
    call: _Call | None = stream.owner
    return stream.kept_bytes + len(stream.unsent) + (0 if call is None else _kept_of_request(call))


def _kept_of_request(call: _Call) -> int:
    if call.requests is not None:
        return call.requests.kept_bytes
    return 0 if call.body is None else len(call.body)

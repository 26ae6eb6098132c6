"""Streams of an HTTP/2 connection: one request and its answer each, who is told of them, and what a peer may ask for.

Nothing here acts; that is for `http2`, which receives, and `http2_sending`.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from adsum.wire.http2_frames import Code, ConnectionFault

HeadT = TypeVar("HeadT")

PATIENCE = 1_000
"""Frames that ask nothing, the most in a second besides those that requests pay for."""

PAID_BY_REQUEST = 4
"""Such frames that come with a request: clients of gRPC ping, and widen windows, once or twice for each."""

NOTHING = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Http2Limits:
    """Of one connection: requests at a time, bytes of a request's header (as sent, and decoded), of windows.

    A header of more than `max_header_bytes` is refused, one of more than `most_header_bytes` ends the connection.
    `max_unsent_bytes` of answers wait for the peer's windows; answers past that are reset. As many requests
    as may be there at a time may be taken back in a second, so that a client may give up all it waits for.
    """

    max_streams: int = 1_000
    max_header_bytes: int = 16_384
    most_header_bytes: int = 65_536
    stream_window: int = 1 << 20
    connection_window: int = 8 << 20
    max_unsent_bytes: int = 32 << 20


STREAM_BYTES = 1_024
"""What an open stream takes at most, besides its header and what is to be sent."""

FIELD_BYTES = 128
"""What a field of its own takes at most, besides its texts."""


class Stream(Generic[HeadT]):
    """One request and its answer. `fields` are those that the head says nothing of; `owner` is for who answers it.

    `kept_bytes` is what it takes while it is open, besides what is to be sent.
    """

    __slots__ = (
        "body_left",
        "ended",
        "fields",
        "gives_back",
        "head",
        "id",
        "kept_bytes",
        "opened",
        "owner",
        "room",
        "tail",
        "unacknowledged",
        "unsent",
        "window",
    )

    def __init__(
        self,
        stream_id: int,
        head: HeadT,
        fields: dict[bytes, bytes],
        body_left: int,
        *,
        ended: bool,
        header_bytes: int = 0,
    ) -> None:
        self.id = stream_id
        self.head = head
        self.fields = fields
        self.kept_bytes = STREAM_BYTES + header_bytes + FIELD_BYTES * len(fields)
        self.owner: Any = None
        self.ended = ended  # by the peer
        self.opened = False  # the answer has begun
        self.gives_back = False  # the receiver gives the stream's window back, as it takes what came
        self.window = 0  # bytes we may send
        self.room = 0  # bytes the peer may send
        self.unacknowledged = 0  # bytes the peer has sent that it has not got back
        self.body_left = body_left  # of what the request's content-length promised; -1: not told
        self.unsent = NOTHING  # data waiting for a window
        self.tail: bytes | None = None  # the trailers that go after it


class Receiver(Protocol[HeadT]):
    """What a connection tells of its streams."""

    def opened(self, stream: Stream[HeadT]) -> None:
        """A request has begun; if it has `ended` it has no body."""
        ...

    def body(self, stream: Stream[HeadT], data: bytes) -> None:
        """More of a request's body; if that has `ended` it is all."""
        ...

    def drained(self, stream: Stream[HeadT]) -> None:
        """All data given to a stream so far has been sent, which had to wait."""
        ...

    def reset(self, stream: Stream[HeadT]) -> None:
        """The peer wants no answer any more, or can't get one."""
        ...

    def kept(self, size: int) -> None:
        """So many more bytes of answers (less, if below 0) wait to be sent."""
        ...


class Patience:
    """With frames that cost us something and bring the peer nothing: so many at most, of which `earn` gives back."""

    def __init__(self, most: int, reason: str) -> None:
        self._most = most
        self._spent = 0
        self._reason = reason

    def spend(self, frames: int = 1) -> None:
        """Count such frames; raises `ConnectionFault` if they are too many."""
        self._spent += frames
        if self._spent > self._most:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, self._reason)

    def earn(self, frames: int) -> None:
        """So many more may come, for something useful was done."""
        if self._spent:
            self._spent = max(self._spent - frames, 0)

"""Binary frames: a codec for the messages, and gzip around it or not.

Invariant: there are four codecs, equal by value, so whatever is sent to many
connections is encoded at most four times.
"""

from typing import Literal, NamedTuple

from adsum.domain.errors import FrameError
from adsum.wire import gob, jsonframe
from adsum.wire.compression import MESSAGE_TOO_BIG, compress, decompress
from adsum.wire.messages import Request, Response


class Codec(NamedTuple):
    """How the binary frames of a connection are written, settled by its handshake.

    `kind` is the `sdkType`: Go's gob or JSON. `gzip`: every frame, both ways, is
    one gzip member.
    """

    kind: Literal["go", "js"]
    gzip: bool

    def decode_request(self, data: bytes, limit: int) -> Request:
        """The request in a frame of at most `limit` bytes, before and after decompression.

        Raises `FrameError`, with close code 1009 for a frame over the limit.
        """
        if self.gzip or len(data) > limit:
            data = self._unpack(data, limit)
        return gob.decode_request(data) if self.kind == "go" else jsonframe.decode_request(data)

    def decode_response(self, data: bytes, limit: int) -> Response:
        """The response in a frame, as a client reads it; limit and errors as for `decode_request`."""
        content = self._unpack(data, limit)
        return gob.decode_response(content) if self.kind == "go" else jsonframe.decode_response(content)

    def encode_response(self, response: Response) -> bytes:
        """The frame of a response."""
        content = gob.encode_response(response) if self.kind == "go" else jsonframe.encode_response(response)
        return compress(content) if self.gzip else content

    def encode_request(self, request: Request) -> bytes:
        """The frame of a request, as a client sends it."""
        content = gob.encode_request(request) if self.kind == "go" else jsonframe.encode_request(request)
        return compress(content) if self.gzip else content

    def _unpack(self, data: bytes, limit: int) -> bytes:
        if len(data) > limit:
            raise FrameError(f"the frame is longer than {limit} bytes", MESSAGE_TOO_BIG)
        return decompress(data, limit) if self.gzip else data


CODECS = (
    Codec("go", gzip=False),
    Codec("go", gzip=True),
    Codec("js", gzip=False),
    Codec("js", gzip=True),
)
"""All there are."""


def codec_of(kind: Literal["go", "js"], *, gzip: bool) -> Codec:
    """The one of `CODECS` with these properties."""
    return CODECS[2 * (kind == "js") + gzip]

"""gzip of frames (RFC 1952): one frame is exactly one gzip member.

Invariant: decompression never produces more than one byte over the limit given,
whatever the input claims.
"""

import struct
import zlib

from adsum.domain.errors import FrameError

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
# The type definition and the IDs of a short frame hardly compress (167 bytes
# become 168), yet trying takes twenty times as long as storing them.
_STORED_BELOW = 256
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_STORED = 1
_STORED = struct.Struct("<10sBHH")
_TAIL = struct.Struct("<II")
_FAST = 1
# A smaller hash table than zlib's default is quicker to clear and, for frames, as good.
_MEMORY_LEVEL = 5

MESSAGE_TOO_BIG = 1009
"""The close code for a frame over the limit (RFC 6455 section 7.4.1)."""


def compress(data: bytes) -> bytes:
    """`data` as one gzip member with no time stamp, so equal input gives equal output."""
    size = len(data)
    if size < _STORED_BELOW:
        return _STORED.pack(_GZIP_HEAD, _LAST_STORED, size, size ^ 0xFFFF) + data + _TAIL.pack(zlib.crc32(data), size)
    packer = zlib.compressobj(_FAST, zlib.DEFLATED, _GZIP_WINDOW, _MEMORY_LEVEL)
    return packer.compress(data) + packer.flush()


def decompress(data: bytes, limit: int) -> bytes:
    """The content of the one gzip member `data`, at most `limit` bytes.

    Raises `FrameError`: close code 1009 if the content is longer than `limit`,
    1007 if `data` is not gzip, is cut off, fails its checksum or goes on after
    the member.
    """
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise FrameError(f"the frame is not valid gzip: {error}") from None
    if len(content) > limit:
        raise FrameError(f"the frame is longer than {limit} bytes once decompressed", MESSAGE_TOO_BIG)
    if not unpacker.eof:
        raise FrameError("the gzip data of the frame is cut off")
    if unpacker.unused_data:
        raise FrameError("the frame goes on after its gzip member")
    return content

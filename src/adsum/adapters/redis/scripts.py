"""The scripts by name, and the keys of a partition in the order the scripts know them."""

from binascii import crc_hqx
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files

SLOTS = 16_384
"""Of a Redis cluster."""

ALONE = {"project"}
"""Scripts that use nothing of `common.lua`, which takes some microseconds to set up."""

FOLDER = files("adsum.adapters.redis") / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the SHA-1 that Redis knows it by."""

    text: bytes
    sha: str


@cache
def script(name: str) -> Script:
    """The script of this name, after `common.lua` if it needs that."""
    text = (FOLDER / f"{name}.lua").read_bytes()
    if name not in ALONE:
        text = (FOLDER / "common.lua").read_bytes() + b"\n" + text
    return Script(text, sha1(text, usedforsecurity=False).hexdigest())


def keys_of(prefix: str, partition: int) -> tuple[str, ...]:
    """KEYS 1 to 7 of the scripts: users, feed, channel, deadlines, state, leases, lanes."""
    tag = f"{prefix}:{{{partition}}}"
    return tuple(f"{tag}:{name}" for name in ("users", "feed", "channel", "deadlines", "state", "leases", "lanes"))


def slot_of(partition: int) -> int:
    """The cluster slot of a partition's keys: CRC-16 (XMODEM) of their hash tag."""
    return crc_hqx(str(partition).encode(), 0) % SLOTS

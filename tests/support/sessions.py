"""Connections without sockets: sessions, and links that remember what was sent."""

from collections.abc import Callable
from itertools import count

from adsum.core.session import Session
from adsum.domain.identity import Identity
from adsum.domain.platforms import PRESETS, Platform, PlatformRegistry
from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Op
from adsum.wire.protobuf import decode_tips

PLATFORMS = PlatformRegistry(PRESETS["openim"])
LIMIT = 1 << 24

_serial = count(1)


class RecordingLink:
    """A client's end that remembers frames. `on_send`, if set, is called after each; a `broken` one raises."""

    def __init__(self) -> None:
        self.binary: list[bytes] = []
        self.closed: tuple[int, str] | None = None
        self.on_send: Callable[[], None] | None = None
        self.broken = False

    def send_binary(self, payload: bytes) -> None:
        self._check()
        self.binary.append(payload)
        if self.on_send is not None:
            self.on_send()

    def send_text(self, payload: bytes) -> None:
        pass

    def send_ping(self) -> None:
        pass

    def send_pong(self, payload: bytes) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        self._check()
        self.closed = (code, reason)

    def abort(self) -> None:
        self.closed = (1006, "")
        self._check()

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError("this link is broken")

    def unwritten_bytes(self) -> int:
        return 0


def make_session(user_id: str, platform: int | Platform = 1, token: str = "", codec: Codec = CODECS[0]) -> Session:
    """A session; without a token named, it has one of its own."""
    serial = next(_serial)
    kind = platform if isinstance(platform, Platform) else PLATFORMS.get(platform)
    digest = (token or f"token-{serial}").encode()
    return Session(f"conn-{serial}", user_id, kind, codec, Identity(user_id, kind.id, digest, 0))


def link_up(session: Session) -> RecordingLink:
    """Give a session a link."""
    link = RecordingLink()
    session.link = link
    return link


def pushes(session: Session, link: RecordingLink) -> list[dict[str, tuple[int, ...]]]:
    """What each frame told: platforms by user."""
    told = []
    for frame in link.binary:
        response = session.codec.decode_response(frame, LIMIT)
        assert (response.op, response.msg_incr, response.err_code) == (Op.WATCH, "", 0)
        told.append(tips(response.data))
    return told


def last_words(session: Session, link: RecordingLink) -> dict[str, tuple[int, ...]]:
    """What was told last of each user."""
    words: dict[str, tuple[int, ...]] = {}
    for told in pushes(session, link):
        words.update(told)
    return words


def tips(data: bytes) -> dict[str, tuple[int, ...]]:
    """The users of a payload; each is there once."""
    told = decode_tips(data)
    assert len({status.user_id for status in told}) == len(told)
    return {status.user_id: status.platform_ids for status in told}

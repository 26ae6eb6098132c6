"""Delivers webhooks by HTTP: POST `{url}/{command}`, header `operationID`, a JSON body.

The receiver answers as OpenIM's do: `{actionCode,errCode,errMsg,errDlt,nextCode}`,
zeros meaning fine.
"""

from typing import Final

import aiohttp
import msgspec
from yarl import URL

from adsum.domain.errors import AdsumError, ArgumentError, NetworkError
from adsum.ports import Hook

MAX_ANSWER_BYTES: Final = 65_536
"""No more of an answer is read. OpenIM's has under 100 bytes."""

_TRY_AGAIN: Final = frozenset({408, 425, 429})
"""Statuses of the 4xx that may pass: timeout, too early, too many requests (RFC 9110, 8470, 6585)."""

_MAX_HEADER_CHARS: Final = 256


class _Answer(msgspec.Struct):
    """What of an answer says whether the receiver was content."""

    action_code: int = msgspec.field(name="actionCode", default=0)
    err_code: int = msgspec.field(name="errCode", default=0)


_decode_answer = msgspec.json.Decoder(_Answer).decode


class HttpHookSink:
    """A `HookSink` for one receiver. `url` is http or https; its path is what the command is appended to.

    `timeout_ms` bounds one whole try, from the connecting to the end of the
    answer. At most `connections` are open at a time. Neither proxies from the
    environment nor redirects are followed, and no cookie is kept: events go where
    they are configured to go.

    Raises `ArgumentError` for an unusable URL.
    """

    def __init__(self, url: str, timeout_ms: int, connections: int = 16) -> None:
        try:
            self._base = URL(url.rstrip("/") + "/")
            usable = self._base.scheme in ("http", "https") and bool(self._base.host)
        except ValueError:
            usable = False
        if not usable:
            raise ArgumentError("the webhook URL must be http://HOST[:PORT][/PATH] or https://…")
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, hook: Hook) -> None:
        """Deliver one webhook.

        Raises `NetworkError` where another try may succeed: no connection, no
        answer in time, or an answer of 408, 425, 429 or 5xx. Raises
        `ArgumentError` where it would not: any other status that is not 2xx, or an
        answer in OpenIM's form with a code other than 0.

        A 2xx without such an answer counts as delivered: the receiver took it.
        """
        try:
            async with self._open().post(
                self._base / hook.command,
                data=msgspec.json.encode(hook.body),
                headers={"operationID": _header_text(hook.operation_id)},
                allow_redirects=False,
            ) as response:
                answer = await _read(response) if response.ok else b""
                failure = _judge(response.status, answer)
        except TimeoutError:
            raise NetworkError(f"{hook.command}: no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            # The error's own text may hold the URL, and that a password.
            raise NetworkError(f"{hook.command}: {type(error).__name__}") from None
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """Let go of connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # Made at the first use, because a session belongs to the running loop.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections),
                timeout=self._timeout,
                cookie_jar=aiohttp.DummyCookieJar(),
                # An answer that unpacks itself could be of any size.
                headers={"Content-Type": "application/json; charset=utf-8", "Accept-Encoding": "identity"},
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The answer's body; empty if it is longer than any answer we could understand."""
    body = bytearray()
    while chunk := await response.content.read(MAX_ANSWER_BYTES + 1 - len(body)):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            return b""
    return bytes(body)


def _judge(status: int, answer: bytes) -> AdsumError | None:
    if status >= 500 or status in _TRY_AGAIN:
        return NetworkError(f"the webhook receiver answered with status {status}")
    if not 200 <= status < 300:
        return ArgumentError(f"the webhook receiver answered with status {status}")
    try:
        codes = _decode_answer(answer)
    except (ValueError, RecursionError):
        return None
    if codes.action_code or codes.err_code:
        return ArgumentError(f"the webhook receiver refused: actionCode {codes.action_code}, errCode {codes.err_code}")
    return None


def _header_text(text: str) -> str:
    """An operation ID, which a client may have chosen, as a header can carry it. The body has it unchanged."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:_MAX_HEADER_CHARS])

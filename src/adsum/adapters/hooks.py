"""Delivers webhooks by HTTP: POST `{url}/{command}`, header `operationID`, a JSON body.

The receiver answers as OpenIM's do: `{actionCode,errCode,errMsg,errDlt,nextCode}`,
zeros meaning fine.
"""

import logging
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from adsum.domain.errors import AdsumError, ArgumentError, NetworkError
from adsum.ports import Hook

MAX_ANSWER_BYTES: Final = 65_536
"""No more of an answer is read. OpenIM's has under 100 bytes."""

_FINAL: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.GONE})
"""Statuses that no further try would change. Others of the 4xx may pass: a route not deployed yet, a limit, a proxy."""

log = logging.getLogger(__name__)

_MAX_HEADER_CHARS: Final = 256


class _Answer(msgspec.Struct):
    """What of an answer says whether the receiver was content."""

    action_code: int = msgspec.field(name="actionCode", default=0)
    err_code: int = msgspec.field(name="errCode", default=0)


_decode_answer = msgspec.json.Decoder(_Answer).decode


class HttpHookSink:
    """A `HookSink` for one receiver. `url` is http or https; the command is appended to its path, its query kept.

    `timeout_ms` bounds one whole try, from the connecting to the end of the
    answer. At most `connections` are open at a time. Neither proxies from the
    environment nor redirects are followed, and no cookie is kept: events go where
    they are configured to go.

    Raises `ArgumentError` for an unusable URL.
    """

    def __init__(self, url: str, timeout_ms: int, connections: int = 16) -> None:
        try:
            self._base = URL(url)
            usable = self._base.scheme in ("http", "https") and bool(self._base.host)
        except ValueError:
            usable = False
        if not usable:
            raise ArgumentError("the webhook URL must be http://HOST[:PORT][/PATH] or https://…")
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1000)
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._gone = False

    async def deliver(self, hook: Hook) -> None:
        """Deliver one webhook.

        Raises `NetworkError` where another try may succeed: no connection, no
        answer in time, or an answer of 4xx or 5xx but for those that follow. Raises
        `ArgumentError` where it would not: 400, 401, 410, 3xx, or an answer in OpenIM's
        form with a code other than 0. After 410 nothing more is sent.

        A 2xx without such an answer counts as delivered: the receiver took it.
        """
        if self._gone:
            raise ArgumentError("the webhook receiver said that it is gone (410): nothing more is sent to it")
        try:
            async with self._open().post(
                self._address(hook.command),
                data=msgspec.json.encode(hook.body),
                headers={"operationID": _header_text(hook.operation_id)},
                allow_redirects=False,
            ) as response:
                answer = await _read(response) if response.ok else b""
                status, failure = response.status, _judge(response.status, answer)
        except TimeoutError:
            raise NetworkError(f"{hook.command}: no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            # The error's own text may hold the URL, and that a password.
            raise NetworkError(f"{hook.command}: {type(error).__name__}") from None
        if status == HTTPStatus.GONE and not self._gone:
            self._gone = True
            log.error("the webhook receiver said that it is gone (410): no webhooks are sent until a restart")
        if failure is not None:
            raise failure

    def _address(self, command: str) -> URL:
        return self._base.with_path(f"{self._base.raw_path.rstrip('/')}/{command}", encoded=True, keep_query=True)

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
    if status >= 400 and status not in _FINAL:
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

"""The HTTP port: liveness, readiness and metrics.

`GET /livez` answers while the loop turns. `GET /readyz` says whether this node
should be given work, check by check. `GET /metrics` is Prometheus' text format, or
OpenMetrics for a scraper that prefers it.
Errors have OpenIM's form `{errCode,errMsg,errDlt}`.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from adsum.adapters.crowds import Crowds
from adsum.adapters.listener import address_of, http_files, listening_sockets
from adsum.domain.errors import AdsumError, ArgumentError, InternalError, NotServed
from adsum.ports import PageFormat, PortLoad

log = logging.getLogger(__name__)

METRICS_TYPES: Final[Mapping[PageFormat, str]] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
"""Every scraper reads the text format; some prefer the other."""

_JSON_TYPE: Final = "application/json"
_SERVER: Final = "adsum"
"""aiohttp would tell its version and Python's."""

_METHODS: Final = ("GET", "HEAD")
_MAX_HEADER_BYTES: Final = 8_190
_MAX_HEADERS: Final = 64
_HEADER_TIME_S: Final = 20
"""How long a connection may go without a complete request. Prometheus' usual interval, 15 s, finds it still open."""

_QUALITY: Final = re.compile(r"[01](?:\.[0-9]{0,3})?")
_LINGER_S: Final = 2
_STOP_S: Final = 2


class Check(NamedTuple):
    """Whether one thing that readiness depends on is well, and a sentence for the person who looks."""

    ok: bool
    text: str


Readiness = Callable[[], Awaitable[Mapping[str, Check]]]
Metrics = Callable[[PageFormat], Awaitable[bytes]]
Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def _uncounted(_reason: str) -> None:
    """For a process without metrics of its own."""


class HttpServer:
    """The HTTP port of this process.

    `readiness` gives the checks by name: all must be well. `metrics` gives the
    page in the format asked for. `turned_away` is told of each connection that gave its place to another, and why.
    """

    def __init__(self, readiness: Readiness, metrics: Metrics, turned_away: Callable[[str], None] = _uncounted) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._turned_away = turned_away
        self._pages = {"/livez": self._livez, "/readyz": self._readyz, "/metrics": self._metrics_page}
        self._runner: web.ServerRunner | None = None
        self._server: _Server | None = None
        self._gate = asyncio.Lock()

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which is chosen by the system if `port` is 0. Raises `OSError` if it cannot."""
        sockets = await listening_sockets(host, port, shared=False)
        self._server = _Server(
            self._answer,
            self._turned_away,
            access_log=None,
            logger=log,
            # aiohttp counts this from the connecting, so it bounds a header that never ends too.
            keepalive_timeout=_HEADER_TIME_S,
            lingering_time=_LINGER_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
        )
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=_STOP_S)
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening; requests under way may take a moment to end."""
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def load(self) -> PortLoad:
        """What there is of it."""
        return PortLoad(0 if self._server is None else len(self._server.crowds))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request; an error has OpenIM's form.

        Of all that came, one begins in a turn of the loop: they are none that anybody needs many of.
        """
        async with self._gate:
            await asyncio.sleep(0)
        response = await self._page(request)
        if isinstance(request.protocol, _Connection) and request.protocol.is_last:
            response.force_close()
        return response

    async def _page(self, request: web.BaseRequest) -> web.Response:
        answer = self._pages.get(request.path)
        if answer is None:
            return _refusal(404, NotServed(f"there is nothing at this path: see {', '.join(self._pages)}"))
        if request.method not in _METHODS:
            response = _refusal(405, ArgumentError(f"use {' or '.join(_METHODS)} here"))
            response.headers["Allow"] = ", ".join(_METHODS)
            return response
        try:
            return await answer(request)
        except Exception:
            log.exception("%s failed", request.path)
            return _refusal(500, InternalError("the service's log has the reason"))

    async def _livez(self, _request: web.BaseRequest) -> web.Response:
        return _json({"alive": True})

    async def _readyz(self, _request: web.BaseRequest) -> web.Response:
        checks = await self._readiness()
        ready = all(check.ok for check in checks.values())
        body = {"ready": ready, "checks": {name: check._asdict() for name, check in checks.items()}}
        return _json(body, 200 if ready else 503)

    async def _metrics_page(self, request: web.BaseRequest) -> web.Response:
        form = preferred_format(request.headers.get("Accept", ""))
        headers = {"Content-Type": METRICS_TYPES[form], "Vary": "Accept", "Server": _SERVER}
        return web.Response(body=await self._metrics(form), headers=headers)


def preferred_format(accept: str) -> PageFormat:
    """OpenMetrics if an `Accept` header names it, and likes plain text no better (RFC 9110 section 12.5.1)."""
    likings: dict[str, float] = {}
    for member in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in member.split(";"))
        quality = next((text[2:].strip() for text in parameters if text.startswith("q=")), "1")
        liking = float(quality) if _QUALITY.fullmatch(quality) else 0.0
        likings[kind] = max(liking, likings.get(kind, 0.0))
    asked = likings.get("application/openmetrics-text", 0.0)
    return "openmetrics" if asked > 0 and asked >= likings.get("text/plain", 0.0) else "text"


class _Connection(web.RequestHandler):
    """A connection: a client that has ended its side is answered, and one that speaks no HTTP is told so."""

    __slots__ = ("_half_closed",)

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(manager, loop=loop, **options)
        self._half_closed = False

    @property
    def is_last(self) -> bool:
        """Whether nothing is left to answer after the request under way."""
        return self._half_closed and not self._messages

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has ended its side; what it has asked for is still answered."""
        self._half_closed = True
        waiting = self._waiter is not None and not self._waiter.done()
        if waiting:
            self.force_close()
        return not waiting

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's, which repeats what was sent
    ) -> web.StreamResponse:
        """Answer what was no request; nothing is logged, or everybody who can connect could fill the log."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun")
        if isinstance(exc, HttpProcessingError):
            response = _refusal(status, ArgumentError("this is no HTTP/1 request, or a part of it is too long"))
        else:
            log.error("a request failed", exc_info=exc)
            response = _refusal(status, InternalError("the service's log has the reason"))
        response.force_close()
        return response


class _Server(web.Server):
    """Makes our kind of connections, and not more than there is room for, so that a probe finds some.

    Past that the oldest of the address with most gives its place to a new one.
    """

    def __init__(self, answer: Answer, turned_away: Callable[[str], None], **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(answer, **options)
        self._most = http_files()
        self._turned_away = turned_away
        self.crowds: Crowds[web.RequestHandler] = Crowds()

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.crowds.join(handler, address_of(transport))
        if len(self.crowds) > self._most:
            oldest = next(iter(self.crowds.as_large_as_of(handler)[0]))
            self.crowds.leave(oldest)
            self._connections[oldest].abort()
            self._turned_away("displaced")

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.crowds.leave(handler)


def _refusal(status: int, error: AdsumError) -> web.Response:
    return _json({"errCode": error.code, "errMsg": error.name, "errDlt": error.detail}, status)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type=_JSON_TYPE, headers={"Server": _SERVER}
    )

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
from aiohttp.typedefs import Handler

from adsum.adapters.listener import listening_sockets
from adsum.domain.errors import AdsumError, ArgumentError, InternalError, NotServed
from adsum.ports import PageFormat

log = logging.getLogger(__name__)
_aiohttp_log = logging.getLogger(f"{__name__}.aiohttp")

METRICS_TYPES: Final[Mapping[PageFormat, str]] = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
"""Every scraper reads the text format; some prefer the other."""

_JSON_TYPE: Final = "application/json"
_MAX_BODY_BYTES: Final = 65_536
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


class HttpServer:
    """The HTTP port of this process.

    `readiness` gives the checks by name: all must be well. `metrics` gives the
    page in the format asked for.
    """

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness = readiness
        self._metrics = metrics
        self._gate = asyncio.Lock()
        app = web.Application(middlewares=[self._one_a_turn, _errors], client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_aiohttp_log,
            handle_signals=False,
            shutdown_timeout=_STOP_S,
            # aiohttp counts this from the connecting, so it bounds a header that never ends too.
            keepalive_timeout=_HEADER_TIME_S,
            lingering_time=_LINGER_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which is chosen by the system if `port` is 0. Raises `OSError` if it cannot."""
        sockets = await listening_sockets(host, port, shared=False)
        await self._runner.setup()
        try:
            for one in sockets:
                await web.SockSite(self._runner, one).start()
        except OSError:
            await self._runner.cleanup()
            raise
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Stop listening; requests under way may take a moment to end."""
        await self._runner.cleanup()

    @web.middleware
    async def _one_a_turn(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Begin one request in a turn of the loop, of all that came: they are none that anybody needs many of."""
        async with self._gate:
            await asyncio.sleep(0)
        return await handler(request)

    async def _livez(self, _request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        checks = await self._readiness()
        ready = all(check.ok for check in checks.values())
        body = {"ready": ready, "checks": {name: check._asdict() for name, check in checks.items()}}
        return _json(body, 200 if ready else 503)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        form = preferred_format(request.headers.get("Accept", ""))
        headers = {"Content-Type": METRICS_TYPES[form], "Vary": "Accept"}
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


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Whether a line is not just of somebody who did not speak HTTP, and was told so: they could fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_aiohttp_log.addFilter(_is_a_fault)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as JSON, in OpenIM's form."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _refusal(404, NotServed("there is nothing at this path: see /livez, /readyz and /metrics"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = _refusal(405, ArgumentError(f"use {allowed} here"))
        response.headers["Allow"] = allowed
        return response
    except web.HTTPException as error:
        return _refusal(error.status, ArgumentError(error.reason))
    except Exception:
        log.exception("%s failed", request.path)
        return _refusal(500, InternalError("the service's log has the reason"))


def _refusal(status: int, error: AdsumError) -> web.Response:
    return _json({"errCode": error.code, "errMsg": error.name, "errDlt": error.detail}, status)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type=_JSON_TYPE)

"""gRPC's standard health service (grpc.health.v1), for one state that all services here share.

A watcher that takes no data (an HTTP/2 window of 0) only delays itself, and a watch
ends with the service.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import DESCRIPTOR, HealthCheckRequest, HealthCheckResponse

from adsum.adapters.rpc.method import Method, Streaming, Unary
from adsum.wire.rpc import Metadata, RpcRefused, StatusCode

SERVICE_NAME = DESCRIPTOR.services_by_name["Health"].full_name
OVERALL = ""
"""The name that stands for the whole server."""

MAX_REQUEST_BYTES = 4_096
"""A request names one service."""


class Health:
    """Tells whether the named services serve; at first they don't."""

    def __init__(self, services: frozenset[str]) -> None:
        self._services = services
        self._status: int = HealthCheckResponse.NOT_SERVING
        self._stopping = False
        self._changed = asyncio.Event()

    def methods(self) -> dict[str, Method]:
        """The methods by path."""
        return {
            f"/{SERVICE_NAME}/Check": Unary(self._check, prompt=True, max_bytes=MAX_REQUEST_BYTES),
            f"/{SERVICE_NAME}/Watch": Streaming(self._watch),
        }

    def set_serving(self, *, serving: bool) -> None:
        """Change the state, for all services. Without effect once stopping."""
        if not self._stopping:
            self._tell(HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)

    def stop(self) -> None:
        """Say NOT_SERVING for good, and end the watches with it."""
        self._stopping = True
        self._tell(HealthCheckResponse.NOT_SERVING)

    def _tell(self, status: int) -> None:
        self._status = status
        self._changed.set()
        self._changed = asyncio.Event()

    async def _check(self, body: bytes, _metadata: Metadata) -> bytes:
        """The present state; NOT_FOUND for a service unknown here."""
        if _service(body) not in self._services:
            raise RpcRefused(StatusCode.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=self._status).SerializeToString()

    async def _watch(self, requests: AsyncIterator[bytes], _metadata: Metadata) -> AsyncGenerator[bytes, None]:
        """The present state and each later one, until the service stops; SERVICE_UNKNOWN for one unknown here."""
        async for body in requests:
            async for status in self._states(_service(body)):
                yield HealthCheckResponse(status=status).SerializeToString()
            return

    async def _states(self, service: str) -> AsyncIterator[int]:
        told: int | None = None
        while True:
            changed = self._changed
            status = self._status if service in self._services else HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                yield status
                told = status
            elif self._stopping:
                return
            else:
                await changed.wait()


def _service(body: bytes) -> str:
    try:
        return HealthCheckRequest.FromString(body).service
    except DecodeError:
        raise RpcRefused(StatusCode.INTERNAL, "the request is not a HealthCheckRequest") from None

"""gRPC's standard health service (grpc.health.v1), for one state that all services here share.

The servicer that comes with grpcio-health-checking holds a lock while it writes
to a watcher: one watcher that takes no data (an HTTP/2 window of 0) keeps it from
ever saying NOT_SERVING, and open watches keep a server from stopping before its
grace has passed. Here a watcher only delays itself, and a watch ends with the
service.
"""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

MAX_WATCHES = 100
"""Watches at a time: each is a call under way, of which the server takes only so many, and asks for no token."""

Context = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]


class Health(HealthServicer):
    """Tells whether the named services serve; at first they don't."""

    def __init__(self, services: frozenset[str]) -> None:
        self._services = services
        self._status: int = HealthCheckResponse.NOT_SERVING
        self._stopping = False
        self._changed = asyncio.Event()
        self._watches = 0

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

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        """The present state; NOT_FOUND for a service unknown here."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=self._status)

    async def Watch(self, request: HealthCheckRequest, context: Context) -> AsyncIterator[HealthCheckResponse]:  # noqa: N802
        """The present state and each later one, until the service stops; SERVICE_UNKNOWN for one unknown here.

        RESOURCE_EXHAUSTED beyond `MAX_WATCHES`.
        """
        if self._watches >= MAX_WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many health watches")
        self._watches += 1
        try:
            async for response in self._states(request.service):
                yield response
        finally:
            self._watches -= 1

    async def _states(self, service: str) -> AsyncIterator[HealthCheckResponse]:
        told: int | None = None
        while True:
            changed = self._changed
            status = self._status if service in self._services else HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                yield HealthCheckResponse(status=status)
                told = status
            elif self._stopping:
                return
            else:
                await changed.wait()

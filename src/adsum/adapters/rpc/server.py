"""The gRPC server: listens, tells its health, and stops without cutting calls off."""

from dataclasses import dataclass

import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from adsum.adapters.rpc.health import Health
from adsum.adapters.rpc.user import SERVICE_NAME, UserService

HEALTH_SERVICES = frozenset((health.OVERALL_HEALTH, SERVICE_NAME))


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Bytes of one request, and calls worked on at a time; beyond either a call gets RESOURCE_EXHAUSTED.

    4 MiB (gRPC's own default) hold setUserOnlineStatus for 10,000 users with IDs
    of 256 bytes and 60 bytes of platforms and connection ID each.
    """

    max_request_bytes: int = 4 * 1024 * 1024
    max_concurrent_calls: int = 1_000


class RpcServer:
    """`openim.user.user` with the standard health and reflection services on one port.

    Health starts as NOT_SERVING. Used once: `start`, `set_serving`, `stop`.
    """

    def __init__(self, service: UserService, limits: RpcLimits | None = None) -> None:
        self._service = service
        self._limits = limits or RpcLimits()
        self._health = Health(HEALTH_SERVICES)
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str, *, shared: bool = False) -> int:
        """Listen on `HOST:PORT` (port 0: any free one); the port. Raises `OSError` if it can't be had.

        `shared`: other processes listen on it too, and the system spreads connections over all.
        """
        server = grpc.aio.server(
            options=(
                # Its default is to share: two services on one port would start without an error.
                ("grpc.so_reuseport", int(shared)),
                ("grpc.max_receive_message_length", self._limits.max_request_bytes),
            ),
            maximum_concurrent_rpcs=self._limits.max_concurrent_calls,
        )
        server.add_generic_rpc_handlers((self._service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(f"gRPC can't listen on {address}: is the port in use, or the address not ours?") from None
        await server.start()
        self._server = server
        return port

    def set_serving(self, *, serving: bool) -> None:
        """Tell health clients whether calls are welcome. Without effect once stopping."""
        self._health.set_serving(serving=serving)

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new call, give those under way the grace, then cancel them."""
        self._health.stop()
        if self._server is not None:
            await self._server.stop(grace_seconds)

"""The gRPC server: listens, tells its health, and stops without cutting calls off."""

import asyncio
import logging
from functools import partial
from itertools import islice

from adsum.adapters.crowds import Crowds
from adsum.adapters.listener import address_of, files_are_short, rpc_files, serve
from adsum.adapters.rpc import reflection
from adsum.adapters.rpc.connection import Connection
from adsum.adapters.rpc.health import OVERALL, Health
from adsum.adapters.rpc.method import Desk, RpcLimits
from adsum.adapters.rpc.user import SERVICE_NAME, UserService
from adsum.adapters.turns import Turns
from adsum.ports import PortLoad
from adsum.service.each import each

log = logging.getLogger(__name__)

LEAVING_SHARE = 8
"""Of those that gave their place away, one for so many connections may take its time to hang up."""

BACKLOG = 128
"""Connections the system holds until they are accepted."""


class RpcServer:
    """`openim.user.user` with the standard health and reflection services on one port.

    `turns` are shared with the other ports. Health starts as NOT_SERVING. Used once: `start`, `set_serving`, `stop`.
    """

    def __init__(self, service: UserService, limits: RpcLimits | None = None, turns: Turns | None = None) -> None:
        self._health = Health(frozenset((OVERALL, SERVICE_NAME)))
        methods = {**service.methods(), **self._health.methods(), **reflection.methods()}
        self._desk = Desk(
            methods,
            limits or RpcLimits(),
            partial(service.meter.closing, "flood"),
            partial(service.meter.turned_away, "grpc"),
        )
        self._turns = turns or Turns()
        self._servers: list[asyncio.Server] = []
        self._connections: dict[Connection, None] = {}
        self._crowds: Crowds[Connection] = Crowds()
        self._displaced: dict[Connection, None] = {}
        self._max_connections = 0
        self._turned_away = 0
        self._gave_way = 0
        self._stopping = False
        self._gone = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self, address: str, *, shared: bool = False) -> int:
        """Listen on `HOST:PORT` (port 0: any free one); the port. Raises `OSError` if it can't be had.

        `shared`: other processes listen on it too, and the system spreads connections over all.
        """
        host, _, port = address.rpartition(":")
        self._max_connections = rpc_files(self._desk.limits.max_connections)
        try:
            self._servers, taken = await serve(
                self._connection, host.strip("[]"), int(port), shared=shared, backlog=BACKLOG
            )
        except OSError as error:
            raise OSError(error.errno, f"gRPC can't listen on {address}: {error.strerror or error}") from None
        self._tick()
        return taken

    @property
    def load(self) -> PortLoad:
        """What there is of it, and what is kept for it."""
        return PortLoad(len(self._connections), self._desk.kept_bytes)

    def set_serving(self, *, serving: bool) -> None:
        """Tell health clients whether calls are welcome. Without effect once stopping."""
        self._health.set_serving(serving=serving)

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, take no new call, give those under way the grace, then cancel them."""
        self._health.stop()
        self._stopping = True
        for server in self._servers:
            server.close()
        for connection in tuple(self._connections):
            connection.leave()
        if not await self._all_gone(grace_seconds):
            ends = [end for connection in tuple(self._connections) for end in connection.abort()]
            await asyncio.gather(*ends, return_exceptions=True)
            await self._all_gone(grace_seconds)
        if self._ticking is not None:
            self._ticking.cancel()

    async def _all_gone(self, limit_s: float) -> bool:
        """Wait for the connections to end; whether they have."""
        self._gone.clear()
        if self._connections:
            try:
                async with asyncio.timeout(limit_s):
                    await self._gone.wait()
            except TimeoutError:
                pass
        return not self._connections

    def _connection(self) -> Connection:
        return Connection(self._desk, self._turns, self._made, self._lost)

    def _made(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._connections[connection] = None
        self._crowds.join(connection, address_of(transport))
        self._desk.keepers.add(connection)
        full = len(self._crowds) > self._max_connections
        if (full or files_are_short(transport)) and not self._make_room(connection):
            self._turned_away += 1
            self._desk.turned_away("full")
            transport.abort()
        elif self._stopping:
            connection.leave()

    def _make_room(self, newcomer: Connection) -> bool:
        """Have the connection that is idle longest give its place to a new one; whether there is such.

        It is one of the address with most connections that has an idle one, and none of an
        address with fewer than the newcomer's: who has many takes nothing from who has few.
        """
        for crowd in self._crowds.as_large_as_of(newcomer):
            # Of those idle as long the first: the older one.
            found = max((one for one in crowd if one.idle and one is not newcomer), key=_idle_ticks, default=None)
            if found is not None:
                self._displace(found)
                return True
        return False

    def _displace(self, connection: Connection) -> None:
        self._gave_way += 1
        self._desk.turned_away("displaced")
        self._crowds.leave(connection)
        self._displaced[connection] = None
        connection.leave()
        over = len(self._displaced) - self._max_connections // LEAVING_SHARE
        for one in tuple(islice(self._displaced, max(0, over))):
            one.abort()

    def _lost(self, connection: Connection) -> None:
        self._crowds.leave(connection)
        del self._connections[connection]
        self._displaced.pop(connection, None)
        self._desk.keepers.discard(connection)
        if not self._connections:
            self._gone.set()

    def _tick(self) -> None:
        each("looking after gRPC connections", tuple(self._connections), Connection.tick, Connection.abort)
        if self._turned_away:
            log.warning("turned %d gRPC clients away: there are too many connections, or files", self._turned_away)
            self._turned_away = 0
        if self._gave_way:
            log.warning("ended %d idle gRPC connections: others needed their place", self._gave_way)
            self._gave_way = 0
        self._ticking = asyncio.get_running_loop().call_later(1, self._tick)


def _idle_ticks(connection: Connection) -> int:
    return connection.ticks

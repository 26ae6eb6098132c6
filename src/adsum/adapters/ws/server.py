"""Listens for WebSocket clients, on one address and for one gateway.

What the protocol is, `adsum.wire.upgrade` and `adsum.wire.websocket` know.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from adsum.adapters.listener import serve
from adsum.adapters.turns import Turns
from adsum.adapters.ws.connection import Host
from adsum.adapters.ws.guests import Guests
from adsum.core.budget import Share
from adsum.domain.platforms import PlatformRegistry
from adsum.ports import PortLoad


@dataclass(frozen=True, slots=True)
class WsOptions:
    """`handshake_timeout_ms` until the request is complete; messages of at most `max_message_bytes`.

    `share` is what each client may have of the loop. `rpc_connections` are left room for.
    """

    handshake_timeout_ms: int = 10_000
    max_message_bytes: int = 51_200
    backlog: int = 4_096
    share: Share = field(default_factory=Share)
    rpc_connections: int = 0


class WsServer:
    """Listens on one address and feeds one gateway. `turns` are shared with the other ports.

    `ready` tells whether load balancers should send clients here; `turned_away` is told of each connection that
    had to go before it was open, and why.
    """

    def __init__(
        self,
        gateway: Host,
        platforms: PlatformRegistry,
        options: WsOptions,
        turns: Turns | None = None,
        ready: Callable[[], bool] = lambda: True,
        turned_away: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._guests = Guests(
            gateway,
            platforms,
            options.handshake_timeout_ms,
            options.max_message_bytes,
            turns or Turns(),
            options.share,
            ready,
            options.rpc_connections,
            turned_away,
        )
        self._backlog = options.backlog
        self._servers: list[asyncio.Server] = []

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listen; returns the port, chosen if 0 was asked. Raises `OSError` if the address can't be had.

        `shared`: other processes listen on it too, and the system spreads connections over all.
        """
        self._guests.begin()
        self._servers, chosen = await serve(self._guests.arrive, host, port, shared=shared, backlog=self._backlog)
        return chosen

    @property
    def load(self) -> PortLoad:
        """What there is of it, and what is kept for it."""
        return self._guests.load

    def stop_accepting(self) -> None:
        """Listen no longer; connections stay."""
        for server in self._servers:
            server.close()

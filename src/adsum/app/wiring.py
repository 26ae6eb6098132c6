"""Puts one service together: the only module that knows every part.

What a part needs it is given here; nothing looks anything up at run time.
"""

import os
import random
import secrets
import socket
from dataclasses import dataclass
from functools import partial
from random import Random

from adsum.adapters.clock import SystemClock
from adsum.adapters.hooks import HttpHookSink
from adsum.adapters.http import Check, HttpServer, Metrics, Readiness
from adsum.adapters.memory import MemoryStore
from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.adapters.metrics.page import LoopLag, MetricsPage
from adsum.adapters.redis.projection import RedisProjection
from adsum.adapters.redis.server import LinkOptions
from adsum.adapters.redis.store import RedisOptions, RedisStore
from adsum.adapters.redis.url import parse_store_url
from adsum.adapters.rpc.method import RpcLimits
from adsum.adapters.rpc.server import RpcServer
from adsum.adapters.rpc.user import AdminGate, UserService
from adsum.adapters.tokens import JwtAuthenticator
from adsum.adapters.turns import Turns
from adsum.adapters.ws.server import WsOptions, WsServer
from adsum.app.settings import Settings
from adsum.core.origins import Origins
from adsum.core.writer import WriterOptions
from adsum.domain.login import LoginPolicy
from adsum.domain.platforms import PlatformRegistry, parse_platforms
from adsum.ports import Clock, Meter, PortLoad, Store
from adsum.service.gateway import GatewayOptions
from adsum.service.keeper import KeeperOptions
from adsum.service.node import Node, NodeOptions
from adsum.service.presence import PresenceLimits
from adsum.service.projection import Projector, ProjectorOptions
from adsum.service.watching import WatchingLimits
from adsum.service.webhooks import WebhookOptions, Webhooks

BYTES_A_USER = 420
"""Of a request, for one user: the longest ID allowed by default, platforms and a connection ID."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole service, not started."""

    node: Node
    ws: WsServer
    rpc: RpcServer
    readiness: Readiness
    metrics: Metrics
    http: HttpServer
    lag: LoopLag
    authenticator: JwtAuthenticator


def build(settings: Settings, secret: str) -> Parts:
    """All parts of a service with these settings; tokens are signed with `secret`.

    Raises `AdsumError` if two settings contradict each other.
    """
    clock, meter = SystemClock(), PrometheusMeter()
    platforms = parse_platforms(settings.platforms)
    authenticator = JwtAuthenticator(secret, settings.token_leeway_ms)
    store = _store(settings, clock, meter)
    node = Node(
        node_name(settings),
        store,
        clock,
        meter,
        authenticator,
        platforms,
        _node_options(settings),
        Random(secrets.randbits(64)),
        _webhooks(settings, platforms, clock, meter),
        _projector(settings, store, clock, meter),
    )
    gate = None
    if settings.grpc_require_admin:
        gate = AdminGate(authenticator, frozenset(settings.admins), node.ledger.is_ended)
    request_bytes = max(RpcLimits().max_request_bytes, settings.max_users_per_call * BYTES_A_USER)
    rpc_limits = RpcLimits(max_request_bytes=request_bytes)

    async def readiness() -> dict[str, Check]:
        return checks(node)

    def checked() -> dict[str, bool]:
        return {name: check.ok for name, check in checks(node).items()}

    def loads() -> dict[str, PortLoad]:
        return {"ws": ws.load, "grpc": rpc.load, "http": http.load}

    turns = Turns()
    metrics = MetricsPage(meter, platforms, store.census, node.snapshot, checked, loads)
    http = HttpServer(readiness, metrics, partial(meter.turned_away, "http"))
    rpc = RpcServer(UserService(node.presence, meter, gate), rpc_limits, turns)
    ws = WsServer(
        node.gateway,
        platforms,
        WsOptions(
            settings.handshake_timeout_ms, settings.max_message_bytes, rpc_connections=rpc_limits.max_connections
        ),
        turns,
        lambda: all(checked().values()),
        partial(meter.turned_away, "ws"),
    )
    return Parts(
        node=node,
        ws=ws,
        rpc=rpc,
        readiness=readiness,
        metrics=metrics,
        http=http,
        lag=LoopLag(meter.loop_lag),
        authenticator=authenticator,
    )


def node_name(settings: Settings) -> str:
    """A name that no other process has: two may share the one in the settings by mistake, but never this."""
    return f"{settings.node or f'{socket.gethostname()}-{os.getpid()}'}-{secrets.token_hex(4)}"


def checks(node: Node) -> dict[str, Check]:
    """Whether a node may be sent clients, by what that takes."""
    keeper = node.keeper
    doing = "draining" if node.gateway.draining else "about to stop" if node.leaving else ""
    found = {
        "gateway": Check(not doing, doing or "accepting connections"),
        "store": Check(not keeper.trouble, keeper.trouble or "; ".join(filter(None, ("answers", node.store.caution)))),
        "lease": Check(keeper.held, "held" if keeper.held else "not renewed in time"),
        "feed": _feed_check(node),
    }
    if node.projector:
        # What others read elsewhere is no reason to send nobody here: it is only shown.
        found["projection"] = Check(ok=True, text=node.projector.trouble or "written")
    return found


def _feed_check(node: Node) -> Check:
    if behind := node.relay.behind:
        return Check(ok=False, text=f"catching up with {behind} partitions")
    sound = node.relay.sound() is not None
    return Check(sound, "whole" if sound else "interrupted, or not compared with the store in time")


def _node_options(settings: Settings) -> NodeOptions:
    return NodeOptions(
        policy=LoginPolicy(settings.login_policy),
        max_connections=settings.max_connections,
        max_connections_per_user=settings.max_connections_per_user,
        query_cache_users=settings.query_cache_users,
        flush_max_wait_ms=settings.flush_max_wait_ms,
        writer=WriterOptions(
            settings.flush_workers, settings.flush_batch, settings.retry_min_ms, settings.retry_max_ms
        ),
        keeper=KeeperOptions(settings.lease_ttl_ms, settings.sweep_interval_ms),
        watching=WatchingLimits(settings.max_subscribers, settings.max_watched_per_subscriber, settings.max_watches),
        gateway=_gateway_options(settings),
        presence=PresenceLimits(
            settings.max_user_id_bytes, settings.max_users_per_call, settings.page_size, settings.stale_queries
        ),
        consumer_margin_ms=settings.store_timeout_ms,
    )


def _projector(settings: Settings, store: Store, clock: Clock, meter: Meter) -> Projector | None:
    if not settings.projection_url:
        return None
    links = LinkOptions(settings.store_timeout_ms, settings.retry_min_ms, settings.retry_max_ms)
    projection = RedisProjection(parse_store_url(settings.projection_url), links)
    return Projector(store, projection, clock, meter, ProjectorOptions(), random.random)


def _store(settings: Settings, clock: Clock, meter: Meter) -> Store:
    if settings.store == "memory:":
        return MemoryStore(
            clock,
            partitions=settings.partitions,
            timed_ttl_ms=settings.timed_ttl_ms,
            max_timed=settings.max_timed_statuses,
            history=settings.feed_history,
        )
    options = RedisOptions(
        prefix=settings.store_prefix,
        partitions=settings.partitions,
        timed_ttl_ms=settings.timed_ttl_ms,
        max_timed=settings.max_timed_statuses,
        lease_ttl_ms=settings.lease_ttl_ms,
        history=settings.feed_history,
        # Half, or the sweeps of a node alone would now and then come a moment too early.
        sweep_ms=settings.sweep_interval_ms // 2,
        timeout_ms=settings.store_timeout_ms,
        retry_min_ms=settings.retry_min_ms,
        retry_max_ms=settings.retry_max_ms,
        alike={"login_policy": str(settings.login_policy), "platforms": ",".join(settings.platforms)},
    )
    return RedisStore(parse_store_url(settings.store), options, meter.store_read)


def _gateway_options(settings: Settings) -> GatewayOptions:
    return GatewayOptions(
        origins=Origins(settings.origins),
        max_message_bytes=settings.max_message_bytes,
        max_unwritten_bytes=settings.max_unwritten_bytes,
        max_user_id_bytes=settings.max_user_id_bytes,
        max_watched_per_connection=settings.max_watched_per_connection,
        heartbeat_timeout_ms=settings.heartbeat_timeout_ms,
        web_ping_interval_ms=settings.web_ping_interval_ms,
    )


def _webhooks(settings: Settings, platforms: PlatformRegistry, clock: Clock, meter: Meter) -> Webhooks | None:
    if not settings.webhook_url:
        return None
    options = WebhookOptions(
        online=settings.webhook_online,
        offline=settings.webhook_offline,
        kick=settings.webhook_kick,
        max_attempts=settings.webhook_max_attempts,
        retry_min_ms=settings.webhook_retry_min_ms,
        retry_max_ms=settings.webhook_retry_max_ms,
        queue=settings.webhook_queue,
        concurrency=settings.webhook_concurrency,
    )
    sink = HttpHookSink(settings.webhook_url, settings.webhook_timeout_ms, settings.webhook_concurrency)
    return Webhooks(sink, meter, clock, platforms, options, random.random)

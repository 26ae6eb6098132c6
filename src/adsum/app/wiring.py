"""Puts one service together: the only module that knows every part.

What a part needs it is given here; nothing looks anything up at run time.
"""

import os
import random
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass

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
from adsum.adapters.ws import WsOptions, WsServer
from adsum.app.settings import Settings
from adsum.core.feed import FeedCursor
from adsum.core.logins import LoginLedger
from adsum.core.opids import OpIds
from adsum.core.registry import Registry
from adsum.core.writer import Writer, WriterOptions
from adsum.domain.login import LoginPolicy
from adsum.domain.platforms import PlatformRegistry, parse_platforms
from adsum.ports import Clock, FeedListener, Meter, Snapshot, Store
from adsum.service.consumer import ConsumerOptions, FeedConsumer
from adsum.service.flusher import Flusher
from adsum.service.gateway import Gateway, GatewayOptions
from adsum.service.keeper import Keeper, KeeperOptions
from adsum.service.logins import Logins
from adsum.service.presence import Presence, PresenceLimits
from adsum.service.projection import Projector, ProjectorOptions
from adsum.service.relay import Relay
from adsum.service.states import States
from adsum.service.watching import Watching, WatchingLimits
from adsum.service.webhooks import WebhookOptions, Webhooks

BYTES_A_USER = 420
"""Of a request, for one user: the longest ID allowed by default, platforms and a connection ID."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole service, not started."""

    node: str
    clock: Clock
    store: Store
    registry: Registry
    writer: Writer
    flusher: Flusher
    watching: Watching
    relay: Relay
    keeper: Keeper
    gateway: Gateway
    presence: Presence
    webhooks: Webhooks | None
    projector: Projector | None
    consumers: Sequence[FeedConsumer]
    ws: WsServer
    rpc: RpcServer
    readiness: Readiness
    metrics: Metrics
    http: HttpServer
    lag: LoopLag


def build(settings: Settings, secret: str) -> Parts:
    """All parts of a service with these settings; tokens are signed with `secret`.

    Raises `AdsumError` if two settings contradict each other.
    """
    node = settings.node or f"{socket.gethostname()}-{os.getpid()}"
    # Two processes may share a node's name by mistake, but never this.
    process = f"{node}-{secrets.token_hex(4)}"
    clock = SystemClock()
    platforms = parse_platforms(settings.platforms)
    authenticator = JwtAuthenticator(secret)
    store = _store(settings, clock)
    next_op_id = OpIds(process)
    registry = Registry(LoginPolicy(settings.login_policy), settings.max_connections, settings.max_connections_per_user)
    writer = Writer("", _writer_options(settings), secrets.randbits(64), next_op_id)

    def snapshot() -> Snapshot:
        now_ms = clock.monotonic_ms()
        ages = [now_ms - flight.taken_ms if flight else 0 for flight in writer.flights]
        waiting = webhooks.waiting if webhooks else 0
        return Snapshot(
            writer.dirty_users,
            ages,
            states.table.links,
            states.table.watched_users,
            states.table.hot_users,
            waiting,
            {consumer.role: len(consumer.owned) for consumer in consumers},
            projector.waiting if projector else 0,
            projector.lag_ms if projector else 0,
        )

    meter = PrometheusMeter()
    ledger = LoginLedger(LoginPolicy(settings.login_policy), platforms, registry)
    flusher = Flusher(
        writer,
        ledger,
        store,
        clock,
        meter,
        settings.flush_max_wait_ms,
        random.random,
        lambda batch, told_ms: logins.written(batch, told_ms),
    )

    def sound() -> FeedCursor | None:
        return relay.sound()

    states = States(store, sound, meter, settings.query_cache_users)
    watching = Watching(
        states,
        registry.sessions,
        meter,
        WatchingLimits(settings.max_subscribers, settings.max_watched_per_subscriber, settings.max_watches),
    )
    webhooks = _webhooks(settings, platforms, clock, meter)
    logins = Logins(ledger, flusher, store.partitions, lambda session: gateway.kick(session))
    listeners: list[FeedListener] = [states.on_feed, logins.on_feed]
    consumers: list[FeedConsumer] = []
    projector = _projector(settings, store, clock, meter)

    async def resync(partition: int, *, restarted: bool) -> None:
        await states.resync(partition, restarted=restarted)
        # Not before: others who tell again as well must find this node listening.
        logins.missed(partition)

    def interrupted() -> None:
        relay.read_lost(states.interrupted())
        # Whatever the store has lost: a new name and everything written again mends it.
        flusher.lease_lost.set()

    relay = Relay(
        store,
        listeners,
        resync,
        meter,
        interrupted=interrupted,
        # By then every living node has found out, by a write or a renewal, and written.
        grace_ms=settings.lease_ttl_ms * 2 // 3,
    )
    keeper = Keeper(
        store,
        flusher,
        clock,
        meter,
        KeeperOptions(settings.lease_ttl_ms, settings.sweep_interval_ms),
        OpIds(process),
        next_op_id,
    )
    if webhooks:
        consumers.append(FeedConsumer("webhooks", store, keeper, webhooks, meter, ConsumerOptions()))
    if projector:
        consumers.append(FeedConsumer("projection", store, keeper, projector, meter, ConsumerOptions()))
    listeners += [consumer.on_feed for consumer in consumers]
    gateway = Gateway(
        ledger,
        flusher,
        watching,
        authenticator,
        platforms,
        clock,
        meter,
        _gateway_options(settings),
        OpIds(process),
        lambda session: webhooks.on_kick(session.user_id, session.platform.id, next_op_id()) if webhooks else None,
    )
    presence = Presence(
        store,
        states,
        watching,
        platforms,
        PresenceLimits(
            settings.max_user_id_bytes, settings.max_users_per_call, settings.page_size, settings.stale_queries
        ),
        next_op_id,
    )
    gate = AdminGate(authenticator, frozenset(settings.admins)) if settings.grpc_require_admin else None
    request_bytes = max(RpcLimits().max_request_bytes, settings.max_users_per_call * BYTES_A_USER)

    async def readiness() -> dict[str, Check]:
        # What others read elsewhere is no reason to send nobody here: it is only shown.
        copy = {"projection": Check(ok=True, text=projector.trouble or "written")} if projector else {}
        return {
            "gateway": Check(not gateway.draining, "draining" if gateway.draining else "accepting connections"),
            "store": Check(not keeper.trouble, keeper.trouble or "answers"),
            "lease": Check(keeper.held, "held" if keeper.held else "not renewed in time"),
            "feed": Check(not relay.behind, f"catching up with {relay.behind} partitions" if relay.behind else "whole"),
            **copy,
        }

    metrics = MetricsPage(meter, platforms, store.census, snapshot)
    return Parts(
        node=node,
        clock=clock,
        store=store,
        registry=registry,
        writer=writer,
        flusher=flusher,
        watching=watching,
        relay=relay,
        keeper=keeper,
        gateway=gateway,
        presence=presence,
        webhooks=webhooks,
        projector=projector,
        consumers=consumers,
        ws=WsServer(gateway, platforms, WsOptions(settings.handshake_timeout_ms, settings.max_message_bytes)),
        rpc=RpcServer(UserService(presence, meter, gate), RpcLimits(max_request_bytes=request_bytes)),
        readiness=readiness,
        metrics=metrics,
        http=HttpServer(readiness, metrics),
        lag=LoopLag(meter.loop_lag),
    )


def _projector(settings: Settings, store: Store, clock: Clock, meter: Meter) -> Projector | None:
    if not settings.projection_url:
        return None
    links = LinkOptions(settings.store_timeout_ms, settings.retry_min_ms, settings.retry_max_ms)
    projection = RedisProjection(parse_store_url(settings.projection_url), links)
    return Projector(store, projection, clock, meter, ProjectorOptions(), random.random)


def _store(settings: Settings, clock: Clock) -> Store:
    if settings.store == "memory:":
        return MemoryStore(
            clock, partitions=settings.partitions, timed_ttl_ms=settings.timed_ttl_ms, history=settings.feed_history
        )
    options = RedisOptions(
        prefix=settings.store_prefix,
        partitions=settings.partitions,
        timed_ttl_ms=settings.timed_ttl_ms,
        history=settings.feed_history,
        # Half, or the sweeps of a node alone would now and then come a moment too early.
        sweep_ms=settings.sweep_interval_ms // 2,
        timeout_ms=settings.store_timeout_ms,
        retry_min_ms=settings.retry_min_ms,
        retry_max_ms=settings.retry_max_ms,
    )
    return RedisStore(parse_store_url(settings.store), options)


def _writer_options(settings: Settings) -> WriterOptions:
    return WriterOptions(settings.flush_workers, settings.flush_batch, settings.retry_min_ms, settings.retry_max_ms)


def _gateway_options(settings: Settings) -> GatewayOptions:
    return GatewayOptions(
        origins=frozenset(settings.origins),
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

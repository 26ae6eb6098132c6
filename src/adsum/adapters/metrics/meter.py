"""A `Meter` that counts for Prometheus: counters are added to as things happen."""

import math
import platform
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from prometheus_client import Gauge, ProcessCollector

from adsum import __version__
from adsum.adapters.metrics.book import Book, Label, MetricDoc, Tally
from adsum.adapters.metrics.lanes import Lanes
from adsum.build import COMPILED
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import Census
from adsum.ports import PageFormat, PortLoad, Snapshot
from adsum.proto import user_pb2

LATENCIES_S: Final = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
USERS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)

OUTCOME: Final = Label("outcome", ("ok", "failed"))
ROLE: Final = Label("role", ("webhooks", "projection"))
METHODS: Final = tuple(user_pb2.DESCRIPTOR.services_by_name["user"].methods_by_name)
ERROR: Final = "the name of an error (below)"
PORT: Final = Label("port", ("ws", "grpc", "http"))
KEEPING: Final = ("ws", "grpc")
TURNED_AWAY: Final = {"ws": ("displaced", "silent"), "grpc": ("full", "displaced", "silent"), "http": ("displaced",)}
"""What happens on each port."""
BUILD: Final = (
    Label("version", words="Adsum's version"),
    Label("python", words="Python's version"),
    Label("compiled", ("true", "false")),
)


def readiness_gauge(book: Book) -> Gauge:
    """The metric of readiness, which a process and its supervisor have alike."""
    checks = Label("check", ("gateway", "store", "lease", "feed", "projection", "workers"))
    return book.gauge("adsum_ready", "Each check of `/readyz`: 1 if it is ok, 0 if not.", checks)


def tell_readiness(gauge: Gauge, checks: Mapping[str, bool]) -> None:
    """Have the metric say how things are."""
    gauge.clear()
    for check, ok in checks.items():
        gauge.labels(check).set(ok)


def readiness_page(checks: Mapping[str, bool], form: PageFormat) -> bytes:
    """A page of readiness alone."""
    book = Book()
    tell_readiness(readiness_gauge(book), checks)
    return book.page(form)


class PrometheusMeter:
    """A `Meter` that counts in a registry of its own."""

    def __init__(self) -> None:
        book = Book()
        self._book = book
        facts = (__version__, platform.python_version(), str(COMPILED).lower())
        book.info("adsum_build_info", "What is running; always 1.", dict(zip(BUILD, facts, strict=True)))
        self._ready = readiness_gauge(book)
        self._add_presence(book)
        self._add_connections(book)
        self._add_store(book)
        self._add_feed(book)
        self._add_consumers(book)
        self._lag = book.histogram(
            "adsum_event_loop_lag_duration_seconds", "How late a timer of the event loop came, sampled.", LATENCIES_S
        ).labels()
        ProcessCollector(registry=book.registry)

    def _add_consumers(self, book: Book) -> None:
        self._webhooks = book.counters(
            "adsum_webhooks_total",
            "Webhooks that are over and done with: `failed` was given up or refused, `dropped` never tried, for lack "
            "of room or time.",
            Label("outcome", ("sent", "failed", "dropped")),
        )
        self._webhook_retries = book.counter(
            "adsum_webhook_retries_total", "Tries of a webhook that went wrong and will be repeated."
        )
        self._webhooks_waiting = book.gauge(
            "adsum_webhooks_waiting", "Webhooks not yet delivered, those in flight included."
        )
        self._projected = book.counters("adsum_projection_users_total", "Users written to the projection.", OUTCOME)
        self._projection_waiting = book.gauge(
            "adsum_projection_waiting_users", "Users whose present state is not yet in the projection."
        )
        self._projection_lag = book.gauge(
            "adsum_projection_lag_seconds", "For how long the oldest of them has waited; 0 if none does."
        )

    def _add_presence(self, book: Book) -> None:
        self._users_online = book.gauge(
            "adsum_users_online", "Users online, on all nodes of the store; NaN while the store does not answer."
        )
        self._users_by_platform = book.gauge(
            "adsum_users_online_by_platform",
            "Users online on each platform, on all nodes; absent while the store does not answer.",
            Label("platform", words="its name as in the setting `platforms`; its ID if only other nodes have it"),
        )
        changes = book.counter(
            "adsum_user_changes_total",
            "Users that came online or went offline, as this node's feed tells.",
            Label("to", ("online", "offline")),
        )
        self._came, self._went = Tally(changes.labels("online")), Tally(changes.labels("offline"))
        self._calls = book.histogram(
            "adsum_call_duration_seconds",
            "Calls of the API: how many and how long.",
            LATENCIES_S,
            Label("method", METHODS),
            Label("outcome", words=f"`ok`, or {ERROR}; `operationID error` if that was missing"),
        )

    def _add_connections(self, book: Book) -> None:
        self._open = book.gauge("adsum_connections_open", "WebSocket connections open.")
        self._open_now = 0
        self._opened = Tally(book.counter("adsum_connections_opened_total", "WebSocket connections opened."))
        self._refused = book.counters(
            "adsum_handshakes_refused_total", "Handshakes refused.", Label("reason", words=ERROR)
        )
        self._closed = book.counters(
            "adsum_connections_closed_total",
            "Connections that ended, by who ended them: the client, or this service: `slow` is a watcher or client "
            "that does not read, `flood` one that asked for too much work for too long, `frame` one that broke the "
            "protocol.",
            Label("reason", ("client", "timeout", "slow", "flood", "kicked", "frame", "drain", "logout", "defect")),
        )
        self._sockets = book.gauge(
            "adsum_port_connections",
            "Connections of each port, those included that are in their handshake or about to end.",
            PORT,
        )
        self._guests = book.gauge(
            "adsum_handshakes_pending", "WebSocket connections that have not asked for anything yet."
        )
        self._kept = book.gauge(
            "adsum_kept_bytes",
            "What is kept for connections: of messages that are not whole or wait for their turn, and on gRPC also of "
            "headers and of answers that are not taken.",
            Label("port", KEEPING),
        )
        turned_away = book.counter(
            "adsum_connections_turned_away_total",
            "Connections that had to go before they were of use, or idle: `full`: there was no place; `displaced`: it "
            "gave its place to another; `silent`: it did not ask in time. Refused handshakes are none of them.",
            PORT,
            Label("reason", ("full", "displaced", "silent")),
        )
        self._turned_away = {
            (port, reason): turned_away.labels(port, reason)
            for port, reasons in TURNED_AWAY.items()
            for reason in reasons
        }

    def _add_store(self, book: Book) -> None:
        self._reads = book.histogram(
            "adsum_store_read_duration_seconds",
            "How long the store (Redis) took for a read. Callers who ask for users at the same moment share one.",
            LATENCIES_S,
            Label("operation", ("users", "listing", "census", "feed")),
            OUTCOME,
        )
        self._batch_users = book.histogram("adsum_store_write_users", "Users in a write to the store.", USERS).labels()
        writes = book.histogram(
            "adsum_store_write_duration_seconds", "How long the store took for a write.", LATENCIES_S, OUTCOME
        )
        self._write_ok, self._write_failed = writes.labels("ok"), writes.labels("failed")
        self._waits = book.histogram(
            "adsum_store_write_wait_duration_seconds",
            "For how long the oldest change in a write had waited when it was begun.",
            LATENCIES_S,
        ).labels()
        self._lanes = Lanes(book)
        self._renewals = book.counters(
            "adsum_lease_renewals_total", "Renewals of this node's lease that were tried.", OUTCOME
        )

    def _add_feed(self, book: Book) -> None:
        self._gaps = book.counter("adsum_feed_gaps_total", "Holes found in the feed of changes, each caught up with.")
        self._repaired = book.counters(
            "adsum_users_repaired_total",
            "Users held here and written again because the store had forgotten them: with a whole partition, or one "
            "by one as a comparison found.",
            Label("sign", ("loss", "comparison")),
        )
        self._feed_lost = book.counters(
            "adsum_feed_lost_total",
            "How often a consumer of the feed found that changes it had not seen are no longer kept.",
            ROLE,
        )
        self._owned = book.gauge(
            "adsum_owned_partitions", "Partitions whose changes this node consumes in a role.", ROLE
        )
        self._frames = Tally(book.counter("adsum_push_frames_total", "Frames pushed to watchers."))
        self._merged = Tally(
            book.counter(
                "adsum_push_merged_total",
                "Changes that a newer one of the same user replaced before a watcher was sent them.",
            )
        )
        self._watches = book.gauge("adsum_watches", "Pairs of a connection or subscriber here and a user it watches.")
        self._watched = book.gauge("adsum_watched_users", "Users watched by somebody here.")
        self._hot = book.gauge(
            "adsum_hot_users", "Users kept in memory because they were asked for lately, not counting the watched."
        )
        lookups = book.counter(
            "adsum_user_lookups_total",
            "Users whose state was asked for, by queries and by new watches, and where it came from.",
            Label("source", ("memory", "store")),
        )
        self._hits, self._misses = Tally(lookups.labels("memory")), Tally(lookups.labels("store"))

    @property
    def docs(self) -> Sequence[MetricDoc]:
        """Every metric there is, but for those of the process, which the library defines."""
        return self._book.docs

    def connections(self, opened: int, closed: int) -> None:
        """Connections opened and closed."""
        self._open_now += opened - closed
        self._opened.count += opened

    def refused(self, reason: str) -> None:
        """A handshake refused."""
        self._refused.add(reason)

    def closing(self, reason: str) -> None:
        """A connection begins to end."""
        self._closed.add(reason)

    def turned_away(self, port: str, reason: str) -> None:
        """A connection had to go."""
        self._turned_away[port, reason].inc()

    def changes(self, online: int, offline: int) -> None:
        """Users that came online and went offline."""
        self._came.count += online
        self._went.count += offline

    def query(self, method: str, outcome: str, seconds: float) -> None:
        """One call of the API."""
        self._calls.labels(method, outcome).observe(seconds)

    def batch(self, lane: int, users: int, waited_ms: float, took_ms: float, *, ok: bool) -> None:
        """One write of a lane."""
        took_s = took_ms / 1000
        self._batch_users.observe(users)
        self._waits.observe(waited_ms / 1000)
        (self._write_ok if ok else self._write_failed).observe(took_s)
        self._lanes.wrote(lane, users, took_s, ok=ok)

    def store_read(self, operation: str, outcome: str, seconds: float) -> None:
        """One read of the store."""
        self._reads.labels(operation, outcome).observe(seconds)

    def renewal(self, *, ok: bool) -> None:
        """One renewal of the lease tried."""
        self._renewals.add("ok" if ok else "failed")

    def lookups(self, hits: int, misses: int) -> None:
        """Users asked for, known here and not."""
        self._hits.count += hits
        self._misses.count += misses

    def feed_gap(self) -> None:
        """The feed of a partition had a hole."""
        self._gaps.inc()

    def feed_lost(self, role: str) -> None:
        """Entries that a consumer had not seen are no longer kept."""
        self._feed_lost.add(role)

    def repaired(self, sign: str, users: int) -> None:
        """Users held here that the store had forgotten."""
        self._repaired.add(sign, users)

    def pushed(self, frames: int, merged: int) -> None:
        """Frames pushed, and changes merged."""
        self._frames.count += frames
        self._merged.count += merged

    def hook(self, outcome: str) -> None:
        """A webhook is over and done with, or will be tried again."""
        if outcome == "retried":
            self._webhook_retries.inc()
        else:
            self._webhooks.add(outcome)

    def projected(self, users: int, *, ok: bool) -> None:
        """One write of the projection."""
        self._projected.add("ok" if ok else "failed", users)

    def loop_lag(self, seconds: float) -> None:
        """How late a timer of the event loop came."""
        self._lag.observe(seconds)

    def page(
        self,
        snapshot: Snapshot,
        checks: Mapping[str, bool],
        census: Census | None,
        platforms: PlatformRegistry,
        form: PageFormat = "text",
        loads: Mapping[str, PortLoad] = MappingProxyType({}),
    ) -> bytes:
        """All metrics. `checks` are those of readiness, `loads` by port; no census: the store did not answer."""
        for tally in (self._came, self._went, self._opened, self._frames, self._merged, self._hits, self._misses):
            tally.flush()
        self._open.set(self._open_now)
        self._lanes.observe(snapshot)
        tell_readiness(self._ready, checks)
        for port, load in loads.items():
            self._sockets.labels(port).set(load.connections)
            if port in KEEPING:
                self._kept.labels(port).set(load.kept_bytes)
        if "ws" in loads:
            self._guests.set(loads["ws"].guests)
        self._watches.set(snapshot.watches)
        self._watched.set(snapshot.watched_users)
        self._hot.set(snapshot.hot_users)
        self._webhooks_waiting.set(snapshot.hooks_waiting)
        for role, partitions in snapshot.owned_partitions.items():
            self._owned.labels(role).set(partitions)
        self._projection_waiting.set(snapshot.projection_waiting)
        self._projection_lag.set(snapshot.projection_lag_ms / 1000)
        self._users_online.set(math.nan if census is None else census.online)
        self._users_by_platform.clear()
        if census is not None:
            names = {platform.id: platform.name for platform in platforms}
            for platform_id in names.keys() | census.by_platform.keys():
                # Another node may know platforms that this one does not.
                label = names.get(platform_id, str(platform_id))
                self._users_by_platform.labels(label).set(census.by_platform.get(platform_id, 0))
        return self._book.page(form)

"""A `Meter` that counts for Prometheus: counters are added to as things happen."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import ProcessCollector, generate_latest

from adsum.adapters.metrics.book import Book, Counters, MetricDoc, Tally
from adsum.adapters.metrics.workers import Workers
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import Census
from adsum.ports import Snapshot

LATENCIES_S: Final = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
USERS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)


class PrometheusMeter:
    """A `Meter` that counts in a registry of its own. `now_s` is a monotonic clock, for the workers' load."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        book = Book()
        self._registry = book.registry
        self._book = book
        self._add_presence(book)
        self._add_connections(book)
        self._add_writes(book, now_s)
        self._add_feed(book)
        self._webhooks = Counters(
            book.counter(
                "adsum_webhooks_total",
                "Webhooks by outcome: sent, retried (a try that will be repeated), failed (given up or refused), "
                "dropped (never tried, for lack of room or time).",
                "outcome",
            ),
            ("sent", "retried", "failed", "dropped"),
        )
        self._webhooks_waiting = book.gauge(
            "adsum_webhooks_waiting", "Webhooks not yet delivered, those in flight included."
        )
        self._add_projection(book)
        self._lag = book.histogram(
            "adsum_event_loop_lag_seconds", "How late a timer of the event loop came, sampled.", LATENCIES_S
        ).labels()
        ProcessCollector(registry=self._registry)

    def _add_projection(self, book: Book) -> None:
        users = book.counter(
            "adsum_projection_users_total", "Users written to the projection; the outcome is ok or failed.", "outcome"
        )
        self._projected, self._not_projected = users.labels("ok"), users.labels("failed")
        self._projection_waiting = book.gauge(
            "adsum_projection_waiting", "Users whose present state is not yet in the projection."
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
            "platform",
        )
        changes = book.counter(
            "adsum_user_changes_total", "Users that came online or went offline, as this node's feed tells.", "to"
        )
        self._came, self._went = Tally(changes.labels("online")), Tally(changes.labels("offline"))
        self._query_seconds = book.histogram(
            "adsum_query_seconds",
            "Calls of the API: how many and how long; the outcome is `ok` or the error's name.",
            LATENCIES_S,
            "method",
            "outcome",
        )

    def _add_connections(self, book: Book) -> None:
        self._open = book.gauge("adsum_connections_open", "WebSocket connections open.")
        self._open_now = 0
        self._opened = Tally(book.counter("adsum_connections_opened_total", "WebSocket connections opened."))
        self._refused = Counters(
            book.counter("adsum_handshakes_refused_total", "Handshakes refused, by the error's name.", "reason")
        )
        self._closed = Counters(
            book.counter(
                "adsum_connections_closed_total",
                "Connections closed by this service: timeout, slow (a watcher or client that does not read), "
                "flood (a client that asks for too much work for too long), kicked, "
                "frame (broke the protocol), drain, logout.",
                "reason",
            ),
            ("timeout", "slow", "flood", "kicked", "frame", "drain", "logout"),
        )

    def _add_writes(self, book: Book, now_s: Callable[[], float]) -> None:
        self._batch_users = book.histogram("adsum_write_batch_users", "Users in a write to the store.", USERS).labels()
        write_seconds = book.histogram(
            "adsum_write_seconds",
            "How long the store took for a write; the outcome is ok or failed.",
            LATENCIES_S,
            "outcome",
        )
        self._write_ok, self._write_failed = write_seconds.labels("ok"), write_seconds.labels("failed")
        self._wait_seconds = book.histogram(
            "adsum_write_wait_seconds",
            "Age of the oldest change in a write when it was begun.",
            LATENCIES_S,
        ).labels()
        self._workers = Workers(book, now_s)
        self._renewals = Counters(
            book.counter(
                "adsum_lease_renewals_total",
                "Renewals of this node's lease: tried, and of these succeeded or failed.",
                "outcome",
            ),
            ("tried", "succeeded", "failed"),
        )

    def _add_feed(self, book: Book) -> None:
        self._gaps = book.counter("adsum_feed_gaps_total", "Holes found in the feed of changes, each caught up with.")
        self._feed_lost = Counters(
            book.counter(
                "adsum_feed_lost_total",
                "How often a consumer of the feed (by role) found that changes it had not seen are no longer kept.",
                "role",
            ),
            ("webhooks", "projection"),
        )
        self._owned = book.gauge(
            "adsum_owned_partitions", "Partitions whose changes this node consumes in a role.", "role"
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
            "source",
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

    def closed_by_us(self, reason: str) -> None:
        """A connection this service closed."""
        self._closed.add(reason)

    def changes(self, online: int, offline: int) -> None:
        """Users that came online and went offline."""
        self._came.count += online
        self._went.count += offline

    def query(self, method: str, outcome: str, seconds: float) -> None:
        """One call of the API."""
        self._query_seconds.labels(method, outcome).observe(seconds)

    def batch(self, worker: int, users: int, waited_ms: float, took_ms: float, *, ok: bool) -> None:
        """One write of a worker."""
        took_s = took_ms / 1000
        self._batch_users.observe(users)
        self._wait_seconds.observe(waited_ms / 1000)
        (self._write_ok if ok else self._write_failed).observe(took_s)
        self._workers.wrote(worker, users, took_s, ok=ok)

    def renewal(self, *, ok: bool) -> None:
        """One renewal of the lease tried."""
        self._renewals.add("tried")
        self._renewals.add("succeeded" if ok else "failed")

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

    def pushed(self, frames: int, merged: int) -> None:
        """Frames pushed, and changes merged."""
        self._frames.count += frames
        self._merged.count += merged

    def hook(self, outcome: str) -> None:
        """A webhook's outcome."""
        self._webhooks.add(outcome)

    def projected(self, users: int, *, ok: bool) -> None:
        """One write of the projection."""
        (self._projected if ok else self._not_projected).inc(users)

    def loop_lag(self, seconds: float) -> None:
        """How late a timer of the event loop came."""
        self._lag.observe(seconds)

    def page(self, snapshot: Snapshot, census: Census | None, platforms: PlatformRegistry) -> bytes:
        """All metrics in Prometheus' text format (0.0.4). No census: the store did not answer."""
        for tally in (self._came, self._went, self._opened, self._frames, self._merged, self._hits, self._misses):
            tally.flush()
        self._open.set(self._open_now)
        self._workers.observe(snapshot)
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
        return generate_latest(self._registry)

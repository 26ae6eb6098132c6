"""What the operator sees: a `Meter` that counts for Prometheus, and the page it is read from.

Counters are added to as things happen. What is known at any moment (queues, the
census of the store) is asked for when the page is read, and costs nothing between.

Run as a program, this prints the documentation of all metrics.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from adsum.domain.errors import StoreError
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import Census
from adsum.ports import Snapshot

CENSUS_TIMEOUT_S: Final = 2
"""Metrics matter most while the store is in trouble, so reading them does not wait for it for long."""

_LATENCIES_S: Final = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_USERS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000)
_MIN_LOAD_WINDOW_S: Final = 1.0


class MetricDoc(NamedTuple):
    """One metric, as documented."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class _Book:
    """Makes metrics in one registry and writes down what was made."""

    def __init__(self) -> None:
        # In this format the library's creation times are a gauge for every series:
        # as many lines again, which tell no more than the process's start.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.docs: list[MetricDoc] = []

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        self.docs.append(MetricDoc(name, "counter", labels, meaning))
        return Counter(name, meaning, labels, registry=self.registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        self.docs.append(MetricDoc(name, "gauge", labels, meaning))
        return Gauge(name, meaning, labels, registry=self.registry)

    def histogram(self, name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
        self.docs.append(MetricDoc(name, "histogram", labels, meaning))
        return Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)


class _Counters:
    """The counters of one name by the values of its one label, which are few and ours."""

    def __init__(self, counter: Counter, known: Iterable[str] = ()) -> None:
        self._counter = counter
        # Looking a child up in the library costs more than adding to it. Those
        # known before exist from the start: an alert on one that is absent never fires.
        self._children = {value: counter.labels(value) for value in known}

    def add(self, value: str, amount: float = 1) -> None:
        child = self._children.get(value)
        if child is None:
            child = self._children[value] = self._counter.labels(value)
        child.inc(amount)


class _Workers:
    """The status writer's workers, each metric by worker."""

    def __init__(self, book: _Book, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        users = book.counter("adsum_worker_users_total", "Users written, by worker of the status writer.", "worker")
        blocked = book.counter(
            "adsum_worker_blocked_seconds_total",
            "Time a worker waited for the store to take a write, failed writes included; complete writes only.",
            "worker",
        )
        self._users = _Counters(users)
        self._blocked = _Counters(blocked)
        self._dirty = book.gauge(
            "adsum_worker_dirty_users", "Users waiting to be written: the queue's depth.", "worker"
        )
        self._age = book.gauge(
            "adsum_worker_write_age_seconds",
            "For how long the present write has been in flight; 0 if none is.",
            "worker",
        )
        self._load = book.gauge(
            "adsum_worker_load_ratio",
            "Share of the time since metrics were last read (at least 1 s) with a write in flight; 1 is saturated.",
            "worker",
        )
        self._unevenness = book.gauge(
            "adsum_worker_unevenness_ratio",
            "Users written by the busiest worker over the mean of all workers since the start; 1 is even.",
        )
        self._written: list[int] = []
        self._busy_s: list[float] = []
        self._window_from_s = now_s()
        self._window_busy_s: list[float] = []

    def wrote(self, worker: int, users: int, took_s: float, *, ok: bool) -> None:
        self._grow(worker + 1)
        label = str(worker)
        self._busy_s[worker] += took_s
        self._blocked.add(label, took_s)
        if ok:
            self._written[worker] += users
            self._users.add(label, users)

    def observe(self, snapshot: Snapshot) -> None:
        self._grow(len(snapshot.dirty_users))
        ages_s = [age_ms / 1000 for age_ms in snapshot.write_ages_ms]
        for worker, users in enumerate(snapshot.dirty_users):
            self._dirty.labels(str(worker)).set(users)
        for worker, age_s in enumerate(ages_s):
            self._age.labels(str(worker)).set(age_s)
        total = sum(self._written)
        self._unevenness.set(max(self._written) * len(self._written) / total if total else 1)
        self._observe_load(ages_s)

    def _observe_load(self, ages_s: list[float]) -> None:
        now_s = self._now_s()
        window_s = now_s - self._window_from_s
        if window_s < _MIN_LOAD_WINDOW_S:
            return
        busy_s = [busy + (ages_s[i] if i < len(ages_s) else 0) for i, busy in enumerate(self._busy_s)]
        for worker, busy in enumerate(busy_s):
            before = self._window_busy_s[worker] if worker < len(self._window_busy_s) else 0
            self._load.labels(str(worker)).set(min(1, max(0, (busy - before) / window_s)))
        self._window_from_s, self._window_busy_s = now_s, busy_s

    def _grow(self, workers: int) -> None:
        missing = workers - len(self._written)
        if missing > 0:
            for worker in range(len(self._written), workers):
                self._users.add(str(worker), 0)
                self._blocked.add(str(worker), 0)
            self._written += [0] * missing
            self._busy_s += [0] * missing


class PrometheusMeter:
    """A `Meter` that counts in a registry of its own. `now_s` is a monotonic clock, for the workers' load."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        book = _Book()
        self._registry = book.registry
        self._book = book
        self._add_presence(book)
        self._add_connections(book)
        self._add_writes(book, now_s)
        self._add_feed(book)
        self._webhooks = _Counters(
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
            "adsum_event_loop_lag_seconds", "How late a timer of the event loop came, sampled.", _LATENCIES_S
        )
        ProcessCollector(registry=self._registry)

    def _add_projection(self, book: _Book) -> None:
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

    def _add_presence(self, book: _Book) -> None:
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
        self._came, self._went = changes.labels("online"), changes.labels("offline")
        self._query_seconds = book.histogram(
            "adsum_query_seconds",
            "Calls of the API: how many and how long; the outcome is `ok` or the error's name.",
            _LATENCIES_S,
            "method",
            "outcome",
        )
        self._queries: dict[tuple[str, str], Histogram] = {}

    def _add_connections(self, book: _Book) -> None:
        self._open = book.gauge("adsum_connections_open", "WebSocket connections open.")
        self._opened = book.counter("adsum_connections_opened_total", "WebSocket connections opened.")
        self._refused = _Counters(
            book.counter("adsum_handshakes_refused_total", "Handshakes refused, by the error's name.", "reason")
        )
        self._closed = _Counters(
            book.counter(
                "adsum_connections_closed_total",
                "Connections closed by this service: timeout, slow (a watcher or client that does not read), kicked, "
                "frame (broke the protocol), drain, logout.",
                "reason",
            ),
            ("timeout", "slow", "kicked", "frame", "drain", "logout"),
        )

    def _add_writes(self, book: _Book, now_s: Callable[[], float]) -> None:
        self._batch_users = book.histogram("adsum_write_batch_users", "Users in a write to the store.", _USERS)
        write_seconds = book.histogram(
            "adsum_write_seconds",
            "How long the store took for a write; the outcome is ok or failed.",
            _LATENCIES_S,
            "outcome",
        )
        self._write_ok, self._write_failed = write_seconds.labels("ok"), write_seconds.labels("failed")
        self._wait_seconds = book.histogram(
            "adsum_write_wait_seconds",
            "Age of the oldest change in a write when it was begun.",
            _LATENCIES_S,
        )
        self._workers = _Workers(book, now_s)
        self._renewals = _Counters(
            book.counter(
                "adsum_lease_renewals_total",
                "Renewals of this node's lease: tried, and of these succeeded or failed.",
                "outcome",
            ),
            ("tried", "succeeded", "failed"),
        )

    def _add_feed(self, book: _Book) -> None:
        self._gaps = book.counter("adsum_feed_gaps_total", "Holes found in the feed of changes, each caught up with.")
        self._feed_lost = _Counters(
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
        self._frames = book.counter("adsum_push_frames_total", "Frames pushed to watchers.")
        self._merged = book.counter(
            "adsum_push_merged_total",
            "Changes that a newer one of the same user replaced before a watcher was sent them.",
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
        self._hits, self._misses = lookups.labels("memory"), lookups.labels("store")

    @property
    def docs(self) -> Sequence[MetricDoc]:
        """Every metric there is, but for those of the process, which the library defines."""
        return self._book.docs

    def connections(self, opened: int, closed: int) -> None:
        """Connections opened and closed."""
        self._open.inc(opened - closed)
        if opened:
            self._opened.inc(opened)

    def refused(self, reason: str) -> None:
        """A handshake refused."""
        self._refused.add(reason)

    def closed_by_us(self, reason: str) -> None:
        """A connection this service closed."""
        self._closed.add(reason)

    def changes(self, online: int, offline: int) -> None:
        """Users that came online and went offline."""
        if online:
            self._came.inc(online)
        if offline:
            self._went.inc(offline)

    def query(self, method: str, outcome: str, seconds: float) -> None:
        """One call of the API."""
        child = self._queries.get((method, outcome))
        if child is None:
            child = self._queries[method, outcome] = self._query_seconds.labels(method, outcome)
        child.observe(seconds)

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
        if hits:
            self._hits.inc(hits)
        if misses:
            self._misses.inc(misses)

    def feed_gap(self) -> None:
        """The feed of a partition had a hole."""
        self._gaps.inc()

    def feed_lost(self, role: str) -> None:
        """Entries that a consumer had not seen are no longer kept."""
        self._feed_lost.add(role)

    def pushed(self, frames: int, merged: int) -> None:
        """Frames pushed, and changes merged."""
        self._frames.inc(frames)
        if merged:
            self._merged.inc(merged)

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


class MetricsPage:
    """The page of metrics; awaiting a call gives it. `census` is the store's, `snapshot` the services'."""

    def __init__(
        self,
        meter: PrometheusMeter,
        platforms: PlatformRegistry,
        census: Callable[[], Awaitable[Census]],
        snapshot: Callable[[], Snapshot],
    ) -> None:
        self._meter = meter
        self._platforms = platforms
        self._census = census
        self._snapshot = snapshot

    async def __call__(self) -> bytes:
        """The page, in Prometheus' text format; the store's part is missing if it does not answer within 2 s."""
        census: Census | None = None
        try:
            async with asyncio.timeout(CENSUS_TIMEOUT_S):
                census = await self._census()
        except (StoreError, TimeoutError):
            pass
        return self._meter.page(self._snapshot(), census, self._platforms)


class LoopLag:
    """Samples how late the running loop is: one timer every `interval_ms`."""

    def __init__(self, observe: Callable[[float], None], interval_ms: int = 1_000) -> None:
        self._observe = observe
        self._interval_s = interval_ms / 1000
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._interval_s
        self._timer = loop.call_at(due_s, self._sample, due_s)

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _sample(self, due_s: float) -> None:
        self._observe(max(0.0, asyncio.get_running_loop().time() - due_s))
        self.start()


def documentation() -> str:
    """The content of `docs/metrics.md`."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` on the HTTP port, in Prometheus' text format. A histogram has `_bucket`, `_sum` and `_count`;",
        "its `_count` is how many there were. Besides these there are the `process_*` metrics of the Prometheus client",
        "library (CPU, memory, open files, start time), on Linux.",
        "",
        "This page is generated: `python -m adsum.adapters.metrics > docs/metrics.md`.",
        "",
        "| name | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for doc in PrometheusMeter().docs:
        labels = ", ".join(f"`{label}`" for label in doc.labels)
        lines.append(f"| `{doc.name}` | {doc.kind} | {labels} | {doc.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(documentation(), end="")  # noqa: T201 -- what it is run for

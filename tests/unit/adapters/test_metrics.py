"""Metrics: what is counted is what the page says, and the page's documentation is true."""

import asyncio
import math
import platform
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from adsum import __version__
from adsum.adapters.metrics import page as metrics
from adsum.adapters.metrics.__main__ import documentation
from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.adapters.metrics.page import LoopLag, MetricsPage
from adsum.build import COMPILED
from adsum.domain.errors import StoreError
from adsum.domain.platforms import PRESETS, PlatformRegistry
from adsum.domain.presence import Census
from adsum.ports import Meter, PageFormat, PortLoad, Snapshot

PLATFORMS = PlatformRegistry(PRESETS["openim"])
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(page: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def samples(meter: PrometheusMeter, snapshot: Snapshot | None = None, census: Census | None = None) -> Samples:
    return read(meter.page(snapshot or Snapshot(), {}, census, PLATFORMS))


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"adsum_{name}", tuple(sorted(labels.items()))]


@pytest.fixture
def meter() -> PrometheusMeter:
    return PrometheusMeter()


def test_events_are_counted(meter: PrometheusMeter) -> None:
    port: Meter = meter
    port.connections(3, 0)
    port.connections(0, 1)
    port.refused("TokenExpiredError")
    port.closing("slow")
    port.closing("something new")
    port.turned_away("grpc", "full")
    port.changes(5, 2)
    port.changes(1, 0)
    port.renewal(ok=True)
    port.renewal(ok=False)
    port.feed_gap()
    port.repaired("loss", 3)
    port.pushed(4, 3)
    port.pushed(1, 0)
    for outcome in ("sent", "sent", "retried", "failed", "dropped"):
        port.hook(outcome)
    found = samples(meter)
    assert value(found, "connections_open") == 2
    assert value(found, "connections_opened_total") == 3
    assert value(found, "handshakes_refused_total", reason="TokenExpiredError") == 1
    assert value(found, "connections_closed_total", reason="slow") == 1
    assert value(found, "connections_closed_total", reason="something new") == 1
    assert value(found, "connections_closed_total", reason="drain") == 0
    assert value(found, "user_changes_total", to="online") == 6
    assert value(found, "user_changes_total", to="offline") == 2
    assert [value(found, "lease_renewals_total", outcome=o) for o in ("ok", "failed")] == [1, 1]
    assert value(found, "feed_gaps_total") == 1
    assert [value(found, "users_repaired_total", sign=s) for s in ("loss", "comparison")] == [3, 0]
    assert (value(found, "push_frames_total"), value(found, "push_merged_total")) == (5, 3)
    outcomes = [value(found, "webhooks_total", outcome=o) for o in ("sent", "failed", "dropped")]
    assert outcomes == [2, 1, 1]
    assert value(found, "webhook_retries_total") == 1


def test_calls_are_timed_by_method_and_outcome(meter: PrometheusMeter) -> None:
    meter.query("getUserStatus", "ok", 0.003)
    meter.query("getUserStatus", "ok", 0.004)
    meter.query("getUserStatus", "ArgsError", 0.1)
    found = samples(meter)
    good = {"method": "getUserStatus", "outcome": "ok"}
    assert value(found, "call_duration_seconds_count", **good) == 2
    assert value(found, "call_duration_seconds_sum", **good) == pytest.approx(0.007)
    assert value(found, "call_duration_seconds_bucket", **good, le="0.0025") == 0
    assert value(found, "call_duration_seconds_bucket", **good, le="0.005") == 2
    assert value(found, "call_duration_seconds_count", method="getUserStatus", outcome="ArgsError") == 1


def test_writes_are_told_by_lane(meter: PrometheusMeter) -> None:
    meter.batch(0, 30, 20.0, 5.0, ok=True)
    meter.batch(1, 10, 0.0, 1.0, ok=True)
    meter.batch(1, 10, 0.0, 500.0, ok=False)
    found = samples(meter, Snapshot(dirty_users=(7, 0, 3, 0), write_ages_ms=(0, 250, 0, 0)))
    assert value(found, "store_write_users_count") == 3
    assert value(found, "store_write_users_sum") == 50
    assert value(found, "store_write_wait_duration_seconds_sum") == pytest.approx(0.02)
    assert value(found, "store_write_duration_seconds_count", outcome="ok") == 2
    assert value(found, "store_write_duration_seconds_sum", outcome="failed") == pytest.approx(0.5)
    assert [value(found, "writer_users_total", lane=lane) for lane in "0123"] == [30, 10, 0, 0]
    assert value(found, "writer_busy_seconds_total", lane="1") == pytest.approx(0.751)
    assert [value(found, "writer_waiting_users", lane=lane) for lane in "0123"] == [7, 0, 3, 0]
    assert value(found, "writer_write_age_seconds", lane="1") == 0.25


def test_reads_of_the_store_are_timed(meter: PrometheusMeter) -> None:
    meter.store_read("users", "ok", 0.002)
    meter.store_read("users", "failed", 1.5)
    found = samples(meter)
    assert value(found, "store_read_duration_seconds_count", operation="users", outcome="failed") == 1
    assert value(found, "store_read_duration_seconds_sum", operation="users", outcome="ok") == 0.002


def test_the_rate_of_busy_seconds_is_the_load_also_of_a_write_not_yet_done(meter: PrometheusMeter) -> None:
    meter.batch(0, 1, 0.0, 1_000.0, ok=True)

    def busy(*ages_ms: float) -> list[float]:
        found = samples(meter, Snapshot((0, 0), ages_ms))
        return [value(found, "writer_busy_seconds_total", lane=lane) for lane in "01"]

    assert busy(0, 2_000) == [1, 2]
    assert busy(0, 2_500) == [1, 2.5]
    meter.batch(1, 1, 0.0, 4_000.0, ok=True)
    assert busy(500, 0) == [1.5, 4]
    # A write that was told of when it was under way, by a clock that is rounded: a counter never goes back.
    meter.batch(0, 1, 0.0, 499.0, ok=False)
    assert busy(0, 0) == [1.5, 4]


def test_the_moment_is_told(meter: PrometheusMeter) -> None:
    found = samples(meter, Snapshot(watches=3, watched_users=40, hooks_waiting=5), Census(7, {1: 4, 5: 3, 33: 1}))
    assert [value(found, name) for name in ("watches", "watched_users", "webhooks_waiting")] == [3, 40, 5]
    assert value(found, "users_online") == 7
    by_platform = {p: value(found, "users_online_by_platform", platform=p) for p in ("IOS", "Web", "Linux", "33")}
    assert by_platform == {"IOS": 4, "Web": 3, "Linux": 0, "33": 1}


def page_with(census: Callable[[], Awaitable[Census]]) -> MetricsPage:
    return MetricsPage(
        PrometheusMeter(),
        PLATFORMS,
        census,
        lambda: Snapshot(watches=1),
        lambda: {"store": True, "feed": False},
        lambda: {"ws": PortLoad(5, 1_000, 2), "grpc": PortLoad(3, 50), "http": PortLoad(1)},
    )


async def test_the_page_has_the_census() -> None:
    async def census() -> Census:
        return Census(2, {1: 2})

    assert value(read(await page_with(census)()), "users_online") == 2


async def test_the_page_has_what_there_is_of_each_port() -> None:
    async def census() -> Census:
        return Census(0, {})

    found = read(await page_with(census)())
    assert [value(found, "port_connections", port=port) for port in ("ws", "grpc", "http")] == [5, 3, 1]
    assert [value(found, "kept_bytes", port=port) for port in ("ws", "grpc")] == [1_000, 50]
    assert value(found, "handshakes_pending") == 2


async def test_the_page_does_without_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> Census:
        raise StoreError("away")

    async def hanging() -> Census:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(metrics, "CENSUS_TIMEOUT_S", 0.05)
    for census in (broken, hanging):
        found = read(await page_with(census)())
        assert math.isnan(value(found, "users_online"))
        assert not any(name == "adsum_users_online_by_platform" for name, _ in found)
        assert value(found, "watches") == 1
        assert (value(found, "ready", check="store"), value(found, "ready", check="feed")) == (1, 0)


async def test_platforms_vanish_with_the_store_and_come_back(meter: PrometheusMeter) -> None:
    for census in (Census(1, {1: 1}), None, Census(1, {2: 1})):
        found = samples(meter, census=census)
        assert (("adsum_users_online_by_platform", (("platform", "IOS"),)) in found) == (census is not None)


async def test_the_loop_is_sampled() -> None:
    seen: list[float] = []
    sampled = asyncio.Event()

    def observe(lag_s: float) -> None:
        seen.append(lag_s)
        if len(seen) == 3:
            sampled.set()

    lag = LoopLag(observe, interval_ms=1)
    lag.start()
    await asyncio.wait_for(sampled.wait(), 20)
    lag.stop()
    assert min(seen) >= 0
    LoopLag(observe).stop()


def test_the_lag_is_counted(meter: PrometheusMeter) -> None:
    meter.loop_lag(0.5)
    assert value(samples(meter), "event_loop_lag_duration_seconds_sum") == 0.5


def test_what_runs_is_told(meter: PrometheusMeter) -> None:
    facts = {"version": __version__, "python": platform.python_version(), "compiled": str(COMPILED).lower()}
    assert value(samples(meter), "build_info", **facts) == 1


def test_names_follow_prometheus_practice(meter: PrometheusMeter) -> None:
    """What `promtool check metrics` asks, and that a time is in seconds."""
    for doc in meter.docs:
        words = doc.name.split("_")
        assert re.fullmatch(r"adsum(_[a-z]+)+", doc.name)
        assert doc.name.endswith("_total") == (doc.kind == "counter")
        assert doc.name.endswith("_info") == (doc.kind == "info")
        assert words[-1] not in {"count", "sum", "bucket", "ratio", "created"}
        assert {"counter", "gauge", "histogram", "summary"}.isdisjoint(words)
        assert {"ms", "milliseconds", "minutes", "hours", "kb", "mb", "percent"}.isdisjoint(words)
        assert doc.name.endswith("_duration_seconds") == (doc.kind == "histogram" and "seconds" in words)
        assert {"le", "quantile"}.isdisjoint(doc.label_names)
        assert doc.meaning.endswith(".")
        assert all(label.values or label.words for label in doc.labels)


def test_a_word_is_a_label_of_one_thing(meter: PrometheusMeter) -> None:
    """`worker` is a process here, and only the page of several has it."""
    assert not any("worker" in doc.label_names or "process" in doc.label_names for doc in meter.docs)


def test_values_of_a_label_that_are_told_are_documented(meter: PrometheusMeter) -> None:
    known = {doc.name: {label.name: label.values for label in doc.labels if label.values} for doc in meter.docs}
    meter.batch(0, 1, 0, 1, ok=True)
    for name, labels in samples(meter, Snapshot(owned_partitions={"webhooks": 1})):
        for label, text in labels:
            if label in known.get(name, {}):
                assert text in known[name][label]


@pytest.mark.parametrize("form", ["text", "openmetrics"])
def test_every_metric_on_the_page_is_documented_and_the_reverse(meter: PrometheusMeter, form: PageFormat) -> None:
    page = meter.page(Snapshot(), {}, Census(0, {}), PLATFORMS, form).decode()
    families = {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE")}
    ours = {name: kind for name, kind in families.items() if not name.startswith("process_")}
    expected = {doc.name: doc.kind for doc in meter.docs}
    if form == "text":  # has no type for facts
        assert ours == expected | {"adsum_build_info": "gauge"}
    else:  # where a counter's name, and that of facts, has no suffix
        assert ours == {name.removesuffix("_total").removesuffix("_info"): kind for name, kind in expected.items()}


def test_openmetrics_is_well_formed_and_tells_the_same(meter: PrometheusMeter) -> None:
    meter.query("getUserStatus", "ok", 0.003)
    meter.connections(2, 0)
    page = meter.page(Snapshot(), {"store": True}, Census(1, {1: 1}), PLATFORMS, "openmetrics").decode()
    text = meter.page(Snapshot(), {"store": True}, Census(1, {1: 1}), PLATFORMS)
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(page)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if family.name.startswith("adsum_")
    }
    assert found == {key: number for key, number in read(text).items() if key[0].startswith("adsum_")}


def test_the_documentation_is_up_to_date() -> None:
    committed = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert committed.read_text() == documentation(), "run: python -m adsum.adapters.metrics > docs/metrics.md"

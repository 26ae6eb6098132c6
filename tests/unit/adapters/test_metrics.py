"""Metrics: what is counted is what the page says, and the page's documentation is true."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adsum.adapters.metrics import page as metrics
from adsum.adapters.metrics.__main__ import documentation
from adsum.adapters.metrics.meter import PrometheusMeter
from adsum.adapters.metrics.page import LoopLag, MetricsPage
from adsum.domain.errors import StoreError
from adsum.domain.platforms import PRESETS, PlatformRegistry
from adsum.domain.presence import Census
from adsum.ports import Meter, Snapshot

PLATFORMS = PlatformRegistry(PRESETS["openim"])
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Time:
    """A clock that a test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def read(page: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def samples(meter: PrometheusMeter, snapshot: Snapshot | None = None, census: Census | None = None) -> Samples:
    return read(meter.page(snapshot or Snapshot(), census, PLATFORMS))


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
    port.closed_by_us("slow")
    port.closed_by_us("something new")
    port.changes(5, 2)
    port.changes(1, 0)
    port.renewal(ok=True)
    port.renewal(ok=False)
    port.feed_gap()
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
    assert [value(found, "lease_renewals_total", outcome=o) for o in ("tried", "succeeded", "failed")] == [2, 1, 1]
    assert value(found, "feed_gaps_total") == 1
    assert (value(found, "push_frames_total"), value(found, "push_merged_total")) == (5, 3)
    outcomes = [value(found, "webhooks_total", outcome=o) for o in ("sent", "retried", "failed", "dropped")]
    assert outcomes == [2, 1, 1, 1]


def test_calls_are_timed_by_method_and_outcome(meter: PrometheusMeter) -> None:
    meter.query("getUserStatus", "ok", 0.003)
    meter.query("getUserStatus", "ok", 0.004)
    meter.query("getUserStatus", "ArgsError", 0.1)
    found = samples(meter)
    good = {"method": "getUserStatus", "outcome": "ok"}
    assert value(found, "query_seconds_count", **good) == 2
    assert value(found, "query_seconds_sum", **good) == pytest.approx(0.007)
    assert value(found, "query_seconds_bucket", **good, le="0.0025") == 0
    assert value(found, "query_seconds_bucket", **good, le="0.005") == 2
    assert value(found, "query_seconds_count", method="getUserStatus", outcome="ArgsError") == 1


def test_writes_are_told_by_worker(meter: PrometheusMeter) -> None:
    meter.batch(0, 30, 20.0, 5.0, ok=True)
    meter.batch(1, 10, 0.0, 1.0, ok=True)
    meter.batch(1, 10, 0.0, 500.0, ok=False)
    found = samples(meter, Snapshot(dirty_users=(7, 0, 3, 0), write_ages_ms=(0, 250, 0, 0)))
    assert value(found, "write_batch_users_count") == 3
    assert value(found, "write_batch_users_sum") == 50
    assert value(found, "write_wait_seconds_sum") == pytest.approx(0.02)
    assert value(found, "write_seconds_count", outcome="ok") == 2
    assert value(found, "write_seconds_sum", outcome="failed") == pytest.approx(0.5)
    assert [value(found, "worker_users_total", worker=w) for w in "0123"] == [30, 10, 0, 0]
    assert value(found, "worker_blocked_seconds_total", worker="1") == pytest.approx(0.501)
    assert [value(found, "worker_dirty_users", worker=w) for w in "0123"] == [7, 0, 3, 0]
    assert value(found, "worker_write_age_seconds", worker="1") == 0.25
    assert value(found, "worker_unevenness_ratio") == 3  # 30, where the mean of four is 10


def test_an_idle_writer_is_even(meter: PrometheusMeter) -> None:
    assert value(samples(meter), "worker_unevenness_ratio") == 1
    assert value(samples(meter, Snapshot((0, 0), (0, 0))), "worker_unevenness_ratio") == 1


def test_load_is_the_share_of_time_with_a_write_in_flight_also_of_one_not_yet_done() -> None:
    time = Time()
    meter = PrometheusMeter(time)
    meter.batch(0, 1, 0.0, 1_000.0, ok=True)
    time.now_s += 4
    assert value(samples(meter, Snapshot((0, 0), (0, 2_000))), "worker_load_ratio", worker="0") == 0.25
    time.now_s += 0.5
    found = samples(meter, Snapshot((0, 0), (0, 2_500)))
    assert value(found, "worker_load_ratio", worker="1") == 0.5  # too soon to tell anew
    time.now_s += 1.5
    found = samples(meter, Snapshot((0, 0), (0, 4_000)))
    assert [value(found, "worker_load_ratio", worker=w) for w in "01"] == [0, 1]
    meter.batch(1, 1, 0.0, 4_000.0, ok=True)
    time.now_s += 2
    assert value(samples(meter, Snapshot((0, 0), (0, 0))), "worker_load_ratio", worker="1") == 0


def test_the_moment_is_told(meter: PrometheusMeter) -> None:
    found = samples(meter, Snapshot(watches=3, watched_users=40, hooks_waiting=5), Census(7, {1: 4, 5: 3, 33: 1}))
    assert [value(found, name) for name in ("watches", "watched_users", "webhooks_waiting")] == [3, 40, 5]
    assert value(found, "users_online") == 7
    by_platform = {p: value(found, "users_online_by_platform", platform=p) for p in ("IOS", "Web", "Linux", "33")}
    assert by_platform == {"IOS": 4, "Web": 3, "Linux": 0, "33": 1}


def page_with(census: Callable[[], Awaitable[Census]]) -> MetricsPage:
    return MetricsPage(PrometheusMeter(), PLATFORMS, census, lambda: Snapshot(watches=1))


async def test_the_page_has_the_census() -> None:
    async def census() -> Census:
        return Census(2, {1: 2})

    assert value(read(await page_with(census)()), "users_online") == 2


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
    assert value(samples(meter), "event_loop_lag_seconds_sum") == 0.5


def test_names_follow_prometheus_practice(meter: PrometheusMeter) -> None:
    for doc in meter.docs:
        assert doc.name.startswith("adsum_")
        assert doc.name.endswith("_total") == (doc.kind == "counter")
        assert not doc.name.endswith(("_ms", "_count", "_sum"))
        assert doc.meaning.endswith(".")


def test_every_metric_on_the_page_is_documented_and_the_reverse(meter: PrometheusMeter) -> None:
    page = meter.page(Snapshot(), Census(0, {}), PLATFORMS).decode()
    families = {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE")}
    ours = {name: kind for name, kind in families.items() if not name.startswith("process_")}
    assert ours == {doc.name: doc.kind for doc in meter.docs}


def test_the_documentation_is_up_to_date() -> None:
    committed = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert committed.read_text() == documentation(), "run: python -m adsum.adapters.metrics > docs/metrics.md"

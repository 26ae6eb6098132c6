"""The capacity model: cases worked out by hand, and what must grow with what."""

from dataclasses import replace
from math import exp

import pytest

from bench import capacity
from bench.capacity_texts import WORDS
from bench.interest import World, simulate
from bench.record import Cost, Figure, Part, Phase, Results
from bench.sizing import (
    LIMITS,
    MOST_GATEWAYS,
    Load,
    Machines,
    cores,
    gateway_bytes,
    least,
    limits,
    size,
    users_until,
    watched_share,
    work_of_users,
)
from bench.unit_costs import Costs, Line, Missing, read_costs

COSTS = Costs(
    connect=200,
    disconnect=100,
    ping=12,
    push=10,
    ask=4,
    ask_redis=2,
    set=5,
    idle_share=0.01,
    base_bytes=1e8,
    connection_bytes=10_000,
    watch_bytes=500,
    further_watch_bytes=100,
    user_bytes=80,
    entry_bytes=150,
    change_bytes=50,
    hear_apart=20,
    hear_together=20,
    publish_apart=Line(50, 2),
    publish_together=Line(50, 2),
    upkeep=Line(1_000, 50),
)
"""Apart as dear as together, so that cores are plain products."""

LOAD = Load(
    users=36_000,
    session_min=30,
    watch_list=20,
    watched_online=0.5,
    device_changes_per_hour=0,
    queries_per_hour=1,
    sets_per_hour=2,
    ping_s=24,
)


def test_what_users_do_a_second() -> None:
    assert LOAD.connects_per_s == pytest.approx(20)
    assert LOAD.sets_per_s == pytest.approx(20)
    assert LOAD.changes_per_s == pytest.approx(2 * 20 + 20)
    assert LOAD.pushes_per_s == pytest.approx(60 * 20 * 0.5)
    assert LOAD.asked_per_s == pytest.approx(20 * 20 + 10 * 100)
    assert LOAD.everyone == 72_000
    assert replace(LOAD, device_changes_per_hour=4).connects_per_s == pytest.approx(20 + 20)


def test_what_comes_alone_pays_its_turn_and_what_comes_at_once_shares_it() -> None:
    assert cores(1_000, 100, 100) == pytest.approx(0.1)
    # 10,000 a second together, and turns that would take a whole core: half of it.
    assert cores(10_000, 110, 10) == pytest.approx(0.1 + 0.5)
    assert cores(1, 110, 10) == pytest.approx(110e-6, rel=1e-3)
    # Where noise has made the one that comes alone the cheaper, there is no turn to pay.
    assert cores(1_000, 90, 100) == pytest.approx(0.1)


def test_cores_of_gateways_by_hand() -> None:
    by_hand = 20 * (200 + 100) + 1_500 * 12 + 600 * 10 + 1_400 * 4 + 20 * 5
    assert work_of_users(LOAD, COSTS) == pytest.approx(by_hand / 1e6)
    # 0.0357 cores of users, and in each gateway 60 entries of 20 µs and 1 % of a core.
    found = size(LOAD, Machines(utilisation=0.03), COSTS)
    assert found.gateways_by_cpu == 2  # 0.0357 / (0.03 - 0.0112) = 1.9
    assert found.feed_share == pytest.approx(60 * 20e-6 / 0.03)


def test_memory_of_a_gateway_by_hand() -> None:
    share = 1 - exp(-20 / 2 * 0.5)
    assert watched_share(LOAD, 2) == pytest.approx(share)
    watched = 72_000 * share
    expected = 1e8 + 18_000 * 10_000 + watched * 500 + (18_000 * 20 - watched) * 100
    assert gateway_bytes(LOAD, 2, COSTS) == pytest.approx(expected)


def test_masters_by_hand() -> None:
    # 5,000 changes a second at 50 µs and 2 µs a gateway.
    load = Load(9e6, session_min=60, watch_list=0, device_changes_per_hour=0, queries_per_hour=0, sets_per_hour=0)
    found = size(load, Machines(), replace(COSTS, hear_apart=1, hear_together=1))
    gateways = found.gateways
    assert gateways is not None
    by_hand = {
        "writes": 5_000 * 50e-6,
        "fan-out": 5_000 * 2e-6 * gateways,
        "upkeep": gateways * (1e-3 + 2 * 50e-6),
    }
    for cause, used in by_hand.items():
        assert found.masters_by[cause] == -int(-used // 0.5)
    assert found.masters == -int(-sum(by_hand.values()) // 0.5)
    assert found.feed_in_bits_per_s == pytest.approx(5_000 * 150 * 8)
    assert found.feed_out_bits_per_s == pytest.approx(5_000 * 150 * 8 * gateways)


def test_past_what_one_gateway_can_hear_no_number_of_gateways_is_enough() -> None:
    # Of half a core, less 1 %, 24,500 entries of 20 µs leave nothing.
    until = users_until(LOAD, lambda load: size(load, Machines(), COSTS).gateways is not None)
    assert until is not None
    assert replace(LOAD, users=until).changes_per_s == pytest.approx(24_500, rel=0.01)
    assert size(replace(LOAD, users=until * 1.1), Machines(), COSTS).gateways_by_cpu is None


def test_routed_a_gateway_hears_its_share_and_the_store_is_followed_by_two() -> None:
    load = replace(LOAD, users=10e6)
    plain, routed = (size(load, Machines(), COSTS, routed=routed) for routed in (False, True))
    assert routed.gateways is not None
    assert routed.heard_per_s == pytest.approx(load.changes_per_s * watched_share(load, routed.gateways))
    assert routed.heard_per_s < plain.heard_per_s / 2
    assert routed.feed_out_bits_per_s == pytest.approx(load.changes_per_s * 2 * 150 * 8)


@pytest.mark.parametrize("more", [{"users": 2e6}, {"session_min": 10}, {"watch_list": 100}, {"queries_per_hour": 10}])
def test_more_of_anything_takes_no_fewer_machines(more: dict[str, float]) -> None:
    before = size(replace(LOAD, users=1e6), Machines(), COSTS)
    after = size(replace(LOAD, **{"users": 1e6, **more}), Machines(), COSTS)
    assert (after.gateways_by_cpu or 0) > (before.gateways_by_cpu or MOST_GATEWAYS)
    assert (after.masters or 0) >= (before.masters or Machines().masters)
    assert after.feed_share >= before.feed_share


def test_limits_hold_up_to_their_number_of_users_and_no_further() -> None:
    machines = Machines()
    for limit, users in limits(LOAD, machines, COSTS).items():
        if users is not None:
            assert limit.holds(size(replace(LOAD, users=users), machines, COSTS), machines)
            assert not limit.holds(size(replace(LOAD, users=users * 1.01), machines, COSTS), machines)
    assert len({limit.name for limit in LIMITS}) == len(LIMITS)


@pytest.mark.parametrize("enough", [1, 2, 3, 7, 64])
def test_the_least_number_that_fits(enough: int) -> None:
    assert least(lambda number: number >= enough, 64) == enough
    assert least(lambda number: number >= enough, enough - 1 or 1) == (1 if enough == 1 else None)


def results(**left_out: str) -> Results:
    figures = {
        "connections.redis.10000.connect.service_us": Figure((200,), "µs"),
        "connections.redis.10000.disconnect.service_us": Figure((100,), "µs"),
        "connections.redis.10000.pinged.service_us": Figure((12,), "µs"),
        "connections.redis.10000.idle.percent": Figure((1,), "%"),
        "connections.redis.10000.bytes": Figure((10_000,), "B"),
        "latency.redis.100.push.service_us": Figure((10,), "µs"),
        "users.redis.cold.100.32.service_us": Figure((400,), "µs"),
        "users.redis.cold.100.32.redis_us": Figure((200,), "µs"),
        "writes.redis.many.32.service_us": Figure((5,), "µs"),
        "redis.ours.bytes": Figure((80,), "B"),
        "feed.watch.first.bytes": Figure((500,), "B"),
        "feed.watch.further.bytes": Figure((100,), "B"),
        "feed.wire.1.bytes": Figure((150,), "B"),
        "feed.wire.100.bytes": Figure((150 + 99 * 50,), "B"),
        "feed.node.apart.1.service_us": Figure((20,), "µs"),
        "feed.node.together.1.service_us": Figure((20,), "µs"),
        "feed.publish.apart.1.redis_us": Figure((52,), "µs"),
        "feed.publish.apart.16.redis_us": Figure((1_000,), "µs"),
        "feed.publish.apart.64.redis_us": Figure((178,), "µs"),
        "feed.publish.together.1.redis_us": Figure((52,), "µs"),
        "feed.publish.together.64.redis_us": Figure((178,), "µs"),
        "feed.upkeep.1.redis_us": Figure((1_050,), "µs"),
        "feed.upkeep.512.redis_us": Figure((26_600,), "µs"),
    }
    for name in left_out.values():
        del figures[name]
    phase = Phase(10_000, 1, 1, 1, 1, 200_000_000)
    part = Part([1], figures=figures, costs={"connections.redis.10000.connect": Cost("connection", 1, [phase])})
    machine = {"cores": "2 (some)", "Redis": "Redis server v=7.0.15 sha=0"}
    return Results(machine, "some day", 0, quick=False, parts={"all": part})


def test_unit_costs_come_from_the_figures_and_lines_from_the_least_and_the_largest_size() -> None:
    found = read_costs(results())
    for name in ("publish_apart", "publish_together", "upkeep"):
        line, expected = getattr(found, name), getattr(COSTS, name)
        assert (line.base, line.each) == (pytest.approx(expected.base), pytest.approx(expected.each))
        found = replace(found, **{name: expected})
    assert found == COSTS


@pytest.mark.parametrize("name", ["redis.ours.bytes", "feed.upkeep.512.redis_us"])
def test_a_figure_that_was_not_measured_is_named_with_the_command_that_measures_it(name: str) -> None:
    with pytest.raises(Missing, match="make bench") as raised:
        read_costs(results(missing=name))
    assert name.replace("512", "*") in str(raised.value)


def test_the_page_has_every_unit_cost_every_limit_and_every_world() -> None:
    traffic = simulate(World(4, 5, per_gateway=20), sessions=20)
    page = capacity.page(results(), read_costs(results()), [traffic])
    assert capacity.measured(results()) in page
    for text in [*WORDS.values(), *(limit.name for limit in LIMITS)]:
        assert page.count(f"| {text} |") + page.count(f"| **{text}** |") >= 1
    assert "| 5 · anyone | 4 · " in page
    assert "{" not in page


def test_the_written_page_is_of_the_results_beside_it() -> None:
    path = capacity.ROOT / "results.json"
    if not (path.exists() and capacity.PAGE.exists()):
        pytest.skip("written by `make bench`, then `make capacity`")
    assert capacity.measured(capacity.read(path)) in capacity.PAGE.read_text(encoding="utf-8")

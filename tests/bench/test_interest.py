"""Interest routing, counted in worlds small enough to be worked out by hand."""

import pytest

from bench.interest import COPIES, Traffic, Wire, World, simulate
from bench.routers import Counts, Routers
from bench.sizing import Load, watched_share


def test_a_change_goes_to_the_gateways_where_somebody_watches_and_to_no_other() -> None:
    routers = Routers(gateways=3, routers=1, users=4, linger_s=60)
    routers.watch(0, [1, 2])
    routers.watch(0, [1])
    routers.watch(2, [1])
    assert [list(routers.told_of(user)) for user in range(4)] == [[], [0, 2], [0], []]
    for user in range(4):
        routers.change(user)
    routers.tick(0)
    # Asked: user 1 and 2 by gateway 0 in one message, user 1 by gateway 2. Told: user 1 to both, user 2 to
    # gateway 0, in one message to each.
    assert routers.counts == Counts(changes=4, told_items=3, told_messages=2, asked_items=3, asked_messages=2)
    assert routers.interests == 3
    assert routers.known == 2


def test_each_router_and_each_tick_has_messages_of_its_own() -> None:
    routers = Routers(gateways=1, routers=2, users=4, linger_s=60)
    routers.watch(0, [0, 1, 2])  # users 0 and 2 with the first router, 1 and 3 with the second
    routers.tick(0)
    assert routers.counts.asked_messages == 2
    routers.change(0)
    routers.change(2)
    routers.tick(1)
    routers.change(0)
    routers.change(1)
    routers.tick(2)
    routers.tick(3)
    assert routers.counts.told_messages == 3
    assert routers.counts.told_items == 4


def test_interest_ends_a_while_after_the_last_watcher_and_not_if_one_has_come_back() -> None:
    routers = Routers(gateways=2, routers=1, users=2, linger_s=60)
    for gateway in (0, 1):
        routers.watch(gateway, [1])
        routers.unwatch(gateway, [1], now_s=10)
    routers.tick(69)
    assert list(routers.told_of(1)) == [0, 1]
    routers.watch(1, [1])
    routers.tick(70)
    assert list(routers.told_of(1)) == [1]
    # Two begun, one ended; nobody was told that the second had lingered.
    assert routers.counts.asked_items == 3


def test_traffic_is_what_was_counted_a_second_for_all_users() -> None:
    world = World(gateways=10, watch_list=20, per_gateway=5, scale=100)
    counts = Counts(changes=50, told_items=100, told_messages=40, asked_items=30, asked_messages=20)
    traffic = Traffic(world, counts, took_s=10, interests=7, known=3)
    wire = Wire(entry=160, change=50, version=8, head=24, interest=12)
    assert traffic.online == 10 * 5 * 100
    assert traffic.changes == 500
    assert traffic.plain_messages == 5_000
    assert traffic.plain_bytes(wire) == 5_000 * 160
    assert traffic.store_bytes(wire) == 500 * COPIES * 160
    assert traffic.told_gateways == 2
    assert traffic.heard == 100
    # 400 a second with changes, and one of each of two routers, twice, to each gateway, with 32 versions.
    assert traffic.told_messages == 400 + 40
    assert traffic.told_bytes(wire) == 440 * 24 + 40 * 32 * 8 + 1_000 * (50 + 8)
    assert traffic.asked_messages == 200 * 2 * 2
    assert traffic.asked_bytes(wire) == 800 * 24 + 300 * 2 * 12


@pytest.mark.parametrize("who", ["uniform", "popular", "communities"])
def test_lists_are_of_users_that_there_are_and_stay_the_same(who: str) -> None:
    world = World(gateways=4, watch_list=20, who=who)
    for user in (0, 17, world.users - 1):
        watched = world.watched_by(user)
        assert 10 < len(watched) <= 20
        assert max(watched) < world.users
        assert world.watched_by(user) == watched


def test_a_simulation_is_the_same_each_time_and_its_rates_are_those_asked_for() -> None:
    world = World(gateways=8, watch_list=5, per_gateway=50)
    found = simulate(world, sessions=500)
    assert simulate(world, sessions=500) == found
    assert found.changes == pytest.approx(2 * found.online / world.session_s, rel=0.1)
    # 1.5 watchers online on average, and those whose interest has not ended yet.
    assert 1 < found.told_gateways < 2
    assert found.heard == pytest.approx(found.changes * found.told_gateways / 8)


def test_the_model_and_the_simulation_agree_on_what_a_gateway_hears() -> None:
    world = World(gateways=16, watch_list=20, per_gateway=60)
    load = Load(world.online, watch_list=world.watch_list, watched_online=world.online_share)
    found = simulate(world, sessions=500)
    assert found.told_gateways / 16 == pytest.approx(watched_share(load, 16), rel=0.1)


def test_placing_a_community_at_one_gateway_spares_telling_others() -> None:
    anywhere, placed = (
        simulate(World(16, 10, "communities", placed=placed, per_gateway=40), sessions=500) for placed in (False, True)
    )
    assert placed.told_gateways < anywhere.told_gateways / 2
    assert placed.counts.asked_items < anywhere.counts.asked_items / 2

"""Crowds: whatever the number and the hurry, the last word is the truth."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from adsum.wire.frames import CODECS
from tests.e2e.rpc import listed_users
from tests.support.crowd import Member, in_parallel, knock, until
from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def service() -> AsyncIterator[RunningService]:
    async with running_service("--max-connections-per-user=1000", "--max-watched-per-connection=30000") as running:
        yield running


async def test_a_burst_of_visits_leaves_nobody_online(service: RunningService) -> None:
    """20,000 clients that connect and leave at once, half of them before they are answered: nobody stays online."""
    visitors = [f"visitor-{number}" for number in range(20_000)]
    stayers = [f"stayer-{number}" for number in range(50)]
    watcher = await Member("watcher").connect(service.url("watcher", 5))
    for start in range(0, len(visitors), 2_000):
        watcher.watch([*visitors[start : start + 2_000], *stayers], f"part-{start}")
    assert await until(lambda: len(watcher.answered) == 10)

    token = service.token  # signing 20,000 tokens up front keeps the burst a burst
    urls = {user: service.url(user, 1, token=token(user)) for user in visitors}

    def visit(user: str) -> Callable[[], Awaitable[None]]:
        async def job() -> None:
            if int(user.rpartition("-")[2]) % 2:
                await knock(urls[user])
            else:
                (await Member(user).connect(urls[user])).drop()

        return job

    staying = [await Member(user).connect(service.url(user)) for user in stayers]
    await in_parallel([visit(user) for user in visitors], at_once=200)

    def told_all() -> bool:
        return all(not watcher.heard[user] for user in visitors) and all(watcher.heard[user] for user in stayers)

    heard = watcher.heard
    assert await until(told_all, seconds=120), f"heard online: {[user for user, on in heard.items() if on][:100]}"
    assert await listed_users(service.grpc) == {"watcher": (5,), **dict.fromkeys(stayers, (1,))}
    newcomer = await Member("newcomer").connect(service.url("newcomer"))
    newcomer.watch(visitors[-1_000:])
    assert await until(lambda: "w" in newcomer.answered)
    assert not any(newcomer.heard.values())
    # A late word would be a wrong one: none comes.
    await asyncio.sleep(1)
    assert told_all()
    for member in (*staying, watcher, newcomer):
        member.drop()


async def test_every_watcher_ends_with_the_truth_under_churn(service: RunningService) -> None:
    """1,000 users who each watch 50 others, 50 reconnects a second for 20 s: every last word is true."""
    chance = random.Random(7)
    users = [f"user-{number}" for number in range(1_000)]
    watched = {user: chance.sample(users, 50) for user in users}
    members: dict[str, Member] = {}

    async def come(user: str) -> None:
        codec = chance.choice(CODECS)
        member = Member(user, codec)
        url = service.url(user, chance.choice((1, 2, 3, 5)), gzip=codec.gzip, sdk_type=codec.kind)
        members[user] = await member.connect(url)
        member.watch(watched[user])

    await in_parallel([lambda user=user: come(user) for user in users], at_once=50)  # type: ignore[misc]
    loop = asyncio.get_running_loop()
    started = loop.time()
    for turn in range(1_000):
        await asyncio.sleep(max(0.0, started + turn / 50 - loop.time()))
        user = chance.choice(users)
        members[user].drop()
        await come(user)
    away = users[:100]
    for user in away:
        members.pop(user).drop()

    def wrong() -> int:
        return sum(
            1
            for user, member in members.items()
            for other in watched[user]
            if bool(member.heard.get(other)) != (other in members)
        )

    assert await until(lambda: wrong() == 0), f"{wrong()} of {len(members) * 50} last words are wrong"
    truth = await listed_users(service.grpc)
    assert set(truth) == set(members)
    assert all(member.heard[other] == truth.get(other, ()) for u, member in members.items() for other in watched[u])
    for member in members.values():
        member.drop()


async def test_one_client_hears_of_ten_thousand(service: RunningService) -> None:
    """One client that watches 10,000 users who all come online at once hears of every one, in few frames."""
    users = [f"user-{number}" for number in range(10_000)]
    watcher = await Member("watcher").connect(service.url("watcher", 5))
    for start in range(0, len(users), 2_000):
        watcher.watch(users[start : start + 2_000], f"part-{start}")
    assert await until(lambda: len(watcher.answered) == 5)
    asked = watcher.frames

    members = [Member(user) for user in users]
    urls = [service.url(user) for user in users]
    jobs = [lambda member=member, url=url: member.connect(url) for member, url in zip(members, urls, strict=True)]
    await in_parallel(jobs, at_once=200)

    assert await until(lambda: all(watcher.heard[user] == (1,) for user in users))
    assert watcher.frames - asked < len(users)
    for member in (*members, watcher):
        member.drop()

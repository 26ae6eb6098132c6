"""Webhooks to a real receiver: what they say, in which order, and what becomes of them when it fails."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from aiohttp import web

from adsum.app.settings import Settings
from adsum.proto import user_pb2 as pb
from tests.e2e.conftest import check_log
from tests.e2e.rpc import call
from tests.support.client import client, metric_is, metrics
from tests.support.receiver import GOOD, Behaviour, Received, Receiver, accept, receiver
from tests.support.redis import redis_server
from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

IOS, WEB = 1, 5
ONLINE, OFFLINE = "callbackAfterUserOnlineCommand", "callbackAfterUserOfflineCommand"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hooks() -> AsyncIterator[Receiver]:
    """The receiver of all services here."""
    async with receiver() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(hooks: Receiver) -> AsyncIterator[RunningService]:
    """A service that tells everything, and does not wait long."""
    flags = ("--webhook-timeout-ms=500", "--webhook-retry-min-ms=20", "--webhook-retry-max-ms=100")
    attempts = "--webhook-max-attempts=1000"
    async with running_service("--log-level=debug", f"--webhook-url={hooks.url}", attempts, *flags) as running:
        yield running
    check_log(running)


@pytest.fixture(autouse=True)
async def all_is_told(service: RunningService, hooks: Receiver) -> AsyncIterator[None]:
    """Each test begins and ends with a good receiver and nothing that waits."""
    yield
    hooks.behaviour = accept
    await metric_is(service, "adsum_connections_open", 0)
    await metric_is(service, "adsum_webhooks_waiting", 0)


def told(events: list[Received]) -> list[tuple[str, object]]:
    """Command and platform of each."""
    return [(event.command, event.body["platformID"]) for event in events]


async def ends_offline(hooks: Receiver, user_id: str) -> list[tuple[str, object]]:
    """Wait until a user's last event is that they went; their events, each once, in the order they first came."""
    events = await hooks.events_of(user_id, 2)
    while told(events)[-1] != (OFFLINE, IOS):
        events = await hooks.events_of(user_id, len(events) + 1)
    return list(dict.fromkeys(told(events)))


async def test_what_a_webhook_says(service: RunningService, hooks: Receiver) -> None:
    """OpenIM's paths, header and bodies; online and offline name the connection."""
    started_ms = int(time.time() * 1000)
    async with client(service, "says", WEB, background=True):
        (online,) = await hooks.events_of("says", 1)
    _, offline = await hooks.events_of("says", 2)
    for event, command in ((online, ONLINE), (offline, OFFLINE)):
        assert event.path == f"/hooks/{command}"
        assert event.headers["operationID"] == event.body["operationID"]
        assert event.headers["Content-Type"].startswith("application/json")
        assert (event.body["platformID"], event.body["platform"], event.body["userID"]) == (WEB, "Web", "says")
        assert event.body["seq"] >= started_ms - 1000
    common = {
        "callbackCommand",
        "operationID",
        "platformID",
        "platform",
        "userID",
        "seq",
        "status",
        "onlinePlatformIDs",
    }
    assert set(online.body) == common | {"isAppBackground", "connID"}
    assert set(offline.body) == common | {"connID"}
    assert online.body["isAppBackground"] is True
    assert online.body["connID"] == offline.body["connID"] != ""
    assert online.body["operationID"] != offline.body["operationID"]


async def test_only_real_changes_are_told(service: RunningService, hooks: Receiver) -> None:
    """A platform held twice comes once and goes once; each platform is told for itself."""
    async with client(service, "real"):
        async with client(service, "real"), client(service, "real", WEB):
            await hooks.events_of("real", 2)
        await hooks.events_of("real", 3)
    events = await hooks.events_of("real", 4)
    assert told(events) == [(ONLINE, IOS), (ONLINE, WEB), (OFFLINE, WEB), (OFFLINE, IOS)]


async def test_what_is_set_by_call_is_told_too(service: RunningService, hooks: Receiver) -> None:
    for online, offline in (([IOS, WEB], []), ([], [IOS, WEB])):
        edit = pb.userOnlineStatus(userID="set", connID="mine", online=online, offline=offline)
        request = pb.setUserOnlineStatusReq(status=[edit])
        await call(service.grpc, "setUserOnlineStatus", request, pb.setUserOnlineStatusResp.FromString)
    events = await hooks.events_of("set", 4)
    assert told(events) == [(ONLINE, IOS), (ONLINE, WEB), (OFFLINE, IOS), (OFFLINE, WEB)]
    assert {event.body["connID"] for event in events} == {"mine"}


async def test_any_text_as_a_user(service: RunningService, hooks: Receiver) -> None:
    user_id = 'ü用户👩‍🚀"\\\n'
    async with client(service, user_id):
        await hooks.events_of(user_id, 1)
    await hooks.events_of(user_id, 2)


async def refuse(_received: Received) -> web.StreamResponse:
    """A receiver in trouble."""
    return web.Response(status=500)


async def hang(_received: Received) -> web.StreamResponse:
    """A receiver that takes webhooks and says nothing."""
    await asyncio.sleep(3600)
    return web.Response()


async def say_too_many(_received: Received) -> web.StreamResponse:
    """A receiver that asks to be left alone for now."""
    return web.Response(status=429)


async def hang_up(received: Received) -> web.StreamResponse:
    """A receiver whose connection breaks before it answers."""
    assert received.transport is not None
    received.transport.abort()
    return web.Response()


TROUBLES: dict[str, Behaviour] = {"500": refuse, "429": say_too_many, "hangs": hang, "hangs up": hang_up}


@pytest.mark.parametrize("name", TROUBLES)
async def test_a_receiver_that_fails_and_recovers(service: RunningService, hooks: Receiver, name: str) -> None:
    """Everything arrives, at least once and in the user's order; nobody is slowed down meanwhile."""
    user_id = f"troubled-{name}"
    hooks.behaviour = TROUBLES[name]
    async with client(service, "watcher") as watcher:
        await watcher.watch(user_id)
        for _ in range(3):
            async with client(service, user_id):
                await watcher.hears(user_id, IOS)
            await watcher.hears(user_id)
        await hooks.events_of(user_id, 2)
        first = hooks.of(user_id)[0].body
        assert all(event.body == first for event in hooks.of(user_id))
        accepted: list[Received] = []

        async def recover(received: Received) -> web.StreamResponse:
            accepted.append(received)
            return web.json_response(GOOD)

        hooks.behaviour = recover
    await metric_is(service, "adsum_connections_open", 0)
    await metric_is(service, "adsum_webhooks_waiting", 0)
    mine = [event for event in accepted if event.body["userID"] == user_id]
    assert told(mine) == [(ONLINE, IOS), (OFFLINE, IOS)] * 3


async def test_a_troubled_user_does_not_hold_others_up(service: RunningService, hooks: Receiver) -> None:
    async def fail_one(received: Received) -> web.StreamResponse:
        return await (hang if received.body["userID"] == "unlucky" else accept)(received)

    hooks.behaviour = fail_one
    async with client(service, "unlucky"):
        await hooks.events_of("unlucky", 1)
        async with client(service, "lucky"):
            await hooks.events_of("lucky", 1)
        await hooks.events_of("lucky", 2)
        hooks.behaviour = accept
    while told(hooks.of("unlucky"))[-1] != (OFFLINE, IOS):
        await hooks.events_of("unlucky", len(hooks.of("unlucky")) + 1)


@pytest.mark.parametrize("status", [301, 400, 401])
async def test_a_receiver_that_refuses_for_good(service: RunningService, hooks: Receiver, status: int) -> None:
    """It is not asked again; what was refused is counted and logged, and later events are told."""
    failed = 'adsum_webhooks_total{outcome="failed"}'
    before = (await metrics(service))[failed]

    async def reject(_received: Received) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": hooks.url})

    hooks.behaviour = reject
    user_id = f"refused-{status}"
    async with client(service, user_id):
        await metric_is(service, failed, before + 1)
        hooks.behaviour = accept
    events = await hooks.events_of(user_id, 2)
    assert told(events) == [(ONLINE, IOS), (OFFLINE, IOS)]


async def test_a_receiver_with_an_error_code(service: RunningService, hooks: Receiver) -> None:
    """An answer in OpenIM's form with a code other than 0 is a refusal; one in no form at all is fine."""
    failed, sent = 'adsum_webhooks_total{outcome="failed"}', 'adsum_webhooks_total{outcome="sent"}'
    for body, outcome in ((json.dumps(GOOD | {"errCode": 5}), failed), ("<html>", sent), ("", sent)):
        before = (await metrics(service))[outcome]

        async def answer(_received: Received, body: str = body) -> web.StreamResponse:
            return web.Response(text=body)

        hooks.behaviour = answer
        async with client(service, "coded"):
            await metric_is(service, outcome, before + 1)
        await metric_is(service, "adsum_webhooks_waiting", 0)


@pytest.mark.parametrize("off", ["online", "offline", "kick"])
async def test_each_kind_can_be_switched_off(hooks: Receiver, off: str) -> None:
    flags = (f"--no-webhook-{off}", f"--webhook-url={hooks.url}", "--login-policy=4")
    user_id = f"without-{off}"
    async with running_service(*flags) as service:
        async with client(service, user_id) as old, client(service, user_id, 2):
            await old.closed()
            # Not before the new one is written: who leaves earlier was never there.
            await hooks.events_of(user_id, {"online": 2, "offline": 3, "kick": 3}[off])
        await hooks.events_of(user_id, {"online": 3, "offline": 3, "kick": 4}[off])
        await metric_is(service, "adsum_connections_open", 0)
        await service.stop()
    commands = {event.command for event in hooks.of(user_id)}
    names = {"online": ONLINE, "offline": OFFLINE, "kick": "callbackAfterUserKickOffCommand"}
    assert commands == {name for kind, name in names.items() if kind != off}


async def test_a_full_queue_slows_nobody_and_loses_nothing(hooks: Receiver) -> None:
    """What finds no room is read of the feed later."""
    hooks.behaviour = hang
    patience = ("--webhook-timeout-ms=2000", "--webhook-max-attempts=1000", "--webhook-retry-max-ms=200")
    flags = ("--webhook-queue=5", f"--webhook-url={hooks.url}", *patience)
    async with running_service(*flags) as service:
        for number in range(10):
            async with client(service, "watcher") as watcher, client(service, f"queued-{number}"):
                await watcher.watch(f"queued-{number}")
                await watcher.hears(f"queued-{number}", IOS)
        await metric_is(service, "adsum_connections_open", 0)
        await metric_is(service, "adsum_webhooks_waiting", 5)
        hooks.behaviour = accept
        for number in range(10):
            assert await ends_offline(hooks, f"queued-{number}") == [(ONLINE, IOS), (OFFLINE, IOS)]
        await service.stop()
    check_log(service)


@pytest.mark.parametrize("behaviour", [accept, hang], ids=["accepts", "hangs"])
async def test_what_a_killed_node_had_not_told_another_tells(hooks: Receiver, behaviour: Behaviour) -> None:
    """Each change, in order, whoever made it and whoever was to tell it: also that the dead node's users went."""
    hooks.behaviour = behaviour
    async with redis_server() as redis:
        flags = (f"--store={redis.url}", "--lease-ttl-ms=2000", f"--webhook-url={hooks.url}")
        async with running_service(*flags, "--webhook-timeout-ms=600000") as doomed:
            users = [f"{behaviour.__name__}-{number}" for number in range(40)]
            async with AsyncExitStack() as connections:
                for user in users:
                    await connections.enter_async_context(client(doomed, user))
                async with running_service(*flags, "--webhook-timeout-ms=500", "--webhook-retry-max-ms=500") as other:
                    await metric_is(other, "adsum_users_online", len(users))
                    doomed.process.kill()
                    hooks.behaviour = accept
                    for user in users:
                        assert await ends_offline(hooks, user) == [(ONLINE, IOS), (OFFLINE, IOS)]
                    await metric_is(other, 'adsum_owned_partitions{role="webhooks"}', Settings().partitions)

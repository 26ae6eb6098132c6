"""The HTTP port: life, readiness, and metrics that follow what happens."""

import asyncio
import json

import aiohttp
import grpc.aio
import pytest

from adsum.client.errors import ServerError
from adsum.client.rpc import RpcClient
from adsum.proto import user_pb2 as pb
from adsum.wire.messages import Op
from adsum.wire.protobuf import encode_watch
from tests.e2e.rpc import call
from tests.support.client import client, eventually, http_get, logged, metric_is, metrics, websocket
from tests.support.redis import redis_server
from tests.support.service import RunningService, running_service

FLAGS = ("--lease-ttl-ms=1500",)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_life_and_readiness(service: RunningService) -> None:
    status, body = await http_get(service, "/livez")
    assert (status, json.loads(body)) == (200, {"alive": True})
    status, body = await http_get(service, "/readyz")
    ready = json.loads(body)
    assert (status, ready["ready"]) == (200, True)
    assert set(ready["checks"]) == {"gateway", "lease", "feed", "store"}
    assert all(check["ok"] for check in ready["checks"].values())


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("POST", "/metrics", 405), ("GET", "/user/x", 404)]
)
async def test_other_requests_are_refused_in_openims_form(
    service: RunningService, method: str, path: str, status: int
) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, f"http://{service.http}{path}") as response:
        assert response.status == status
        body = await response.json()
    assert set(body) == {"errCode", "errMsg", "errDlt"}
    assert body["errCode"]


async def test_callers_are_not_told_where_the_store_is() -> None:
    """The log and `/readyz` have it."""
    async with (
        redis_server() as redis,
        running_service(f"--store={redis.url}", "--retry-max-ms=50") as service,
        client(service, "a") as one,
        RpcClient(service.grpc) as rpc,
    ):
        await redis.stop()
        with pytest.raises(ServerError) as caught:
            await rpc.statuses(["somebody"])
        assert caught.value.detail == "the store cannot be reached"
        refused = await one.ask(Op.WATCH, encode_watch(("somebody",), ()))
        assert (refused.err_code, refused.err_msg) == (90002, "the store cannot be reached")
        await eventually(logged(service, f"127.0.0.1:{redis.port}: connection refused"))


async def test_all_ports_listen_on_both_families() -> None:
    flags = ("--ws=[::]:0", "--grpc=[::]:0", "--http=[::]:0")
    async with running_service(*flags) as service:
        for listening in (service.ws, service.grpc, service.http):
            host, _, port = listening.rpartition(":")
            assert host == "[::]"
            for address in ("127.0.0.1", "::1"):
                _, writer = await asyncio.open_connection(address, int(port))
                writer.close()


async def test_connections_and_users(service: RunningService) -> None:
    """Users online in total and by platform, connections open and opened, changes, watchers."""
    before = await metrics(service)
    async with client(service, "a", 1), client(service, "a", 5), client(service, "b", 5) as watcher:
        await watcher.watch("a", "b", "c")
        await metric_is(service, "adsum_users_online", 2)
        now = await metrics(service)
        assert now["adsum_connections_open"] == 3
        assert now['adsum_users_online_by_platform{platform="IOS"}'] == 1
        assert now['adsum_users_online_by_platform{platform="Web"}'] == 2
        assert now['adsum_users_online_by_platform{platform="Android"}'] == 0
        assert now["adsum_watched_users"] == 3
        pushes = now["adsum_push_frames_total"]
        async with client(service, "c"):
            await watcher.hears("c", 1)
        await watcher.hears("c")
        assert (await metrics(service))["adsum_push_frames_total"] == pushes + 2
    await metric_is(service, "adsum_users_online", 0)
    after = await metrics(service)
    assert after["adsum_connections_open"] == 0
    assert after["adsum_watched_users"] == 0
    assert after['adsum_users_online_by_platform{platform="Web"}'] == 0
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["adsum_connections_opened_total"] == 4
    assert grown['adsum_user_changes_total{to="online"}'] == 3
    assert grown['adsum_user_changes_total{to="offline"}'] == 3


async def test_writes(service: RunningService) -> None:
    """Each change of a connection is written; nothing waits once all is quiet."""
    before = await metrics(service)
    async with client(service, "writes"):
        await metric_is(service, "adsum_users_online", 1)
    await metric_is(service, "adsum_users_online", 0)
    after = await metrics(service)
    for name in ("adsum_store_write_users_count", "adsum_store_write_wait_duration_seconds_count"):
        assert after[name] - before[name] == 2
    assert (
        after['adsum_store_write_duration_seconds_count{outcome="ok"}']
        - before['adsum_store_write_duration_seconds_count{outcome="ok"}']
        == 2
    )
    workers = [name for name in after if name.startswith("adsum_writer_waiting_users")]
    assert len(workers) == 8
    assert not any(after[name] for name in workers)
    assert after["adsum_feed_gaps_total"] == 0


async def test_the_lease_is_renewed(service: RunningService) -> None:
    """At a third of its length, and none fails."""
    renewed = 'adsum_lease_renewals_total{outcome="ok"}'
    await metric_is(service, renewed, (await metrics(service))[renewed] + 1)
    now = await metrics(service)
    assert now['adsum_lease_renewals_total{outcome="failed"}'] == 0


async def test_queries(service: RunningService) -> None:
    """By method and outcome, with how long they took."""
    ok = 'adsum_call_duration_seconds_{}{{method="getUserStatus",outcome="ok"}}'
    bad = 'adsum_call_duration_seconds_count{method="getUserStatus",outcome="ArgsError"}'
    before = await metrics(service)
    good = pb.getUserStatusReq(userIDs=["a"])
    for _ in range(3):
        await call(service.grpc, "getUserStatus", good, pb.getUserStatusResp.FromString)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(service.grpc, "getUserStatus", pb.getUserStatusReq(), pb.getUserStatusResp.FromString)
    after = await metrics(service)
    assert after[ok.format("count")] - before.get(ok.format("count"), 0) == 3
    assert after[ok.format("sum")] > before.get(ok.format("sum"), 0)
    assert after[bad] - before.get(bad, 0) == 1


async def test_connections_closed_by_reason(service: RunningService) -> None:
    name = 'adsum_connections_closed_total{{reason="{}"}}'
    before = await metrics(service)
    async with client(service, "closes") as one:
        await one.ask(Op.LOGOUT)
        await one.closed()
    async with client(service, "closes") as one:
        await one.ws.send(b"garbage")
        await one.closed()
    async with client(service, "closes") as one:
        await one.close()
    after = await metrics(service)
    grown = {
        reason: after[name.format(reason)] - before[name.format(reason)]
        for reason in ("client", "logout", "frame", "slow")
    }
    assert grown == {"client": 1, "logout": 1, "frame": 1, "slow": 0}


async def test_the_metrics_are_well_formed(service: RunningService) -> None:
    """Every metric has a help text, a type and, but for those with labels yet unknown, a value; all are ours."""
    _, text = await http_get(service, "/metrics")
    described = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert described == typed
    assert all(name.startswith(("adsum_", "process_")) for name in described)


async def test_no_token_is_logged_when_all_goes_wrong(service: RunningService) -> None:
    """The log of every service of these tests is searched when it ends; this one has refusals and bad clients."""
    for user_id, platform_id in (("x" * 300, 1), ("a", 99)):
        with pytest.raises(Exception, match="HTTP 200"):
            await websocket(service.url(user_id, platform_id))
    async with client(service, "logs") as one:
        await one.ws.send(service.token("logs").encode())
        await one.closed()
    async with client(service, "logs") as one:
        await one.ws.send(service.token("logs"))
        code, reason, _ = await one.closed()
        assert code == 1007
        assert "eyJ" not in reason

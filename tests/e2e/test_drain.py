"""How a service ends, and what keeps one from starting."""

import asyncio
import signal
import socket
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from websockets.exceptions import InvalidHandshake

from adsum.wire.messages import Op
from tests.e2e.conftest import check_log
from tests.support.balancer import balancer
from tests.support.client import Client, client, eventually, http_get, raw, upgrade_request, websocket
from tests.support.receiver import receiver
from tests.support.redis import redis_server
from tests.support.service import RunningService, running_service


def terminate(service: RunningService) -> None:
    """Send SIGTERM, as operators and orchestrators do."""
    service.process.send_signal(signal.SIGTERM)


async def not_ready(service: RunningService) -> bool:
    """Whether readiness says 503."""
    return (await http_get(service, "/readyz"))[0] == 503


async def test_goodbyes_are_spread_over_the_drain() -> None:
    """All clients get 1012, one after another; meanwhile the port takes nobody, and those left are served."""
    async with running_service("--log-level=debug", "--drain-ms=4000") as service, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(service, f"user-{number}")) for number in range(4)]
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(service.grpc))
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        await clients[-1].watch("user-0")
        terminate(service)
        assert await clients[0].closed() == (1012, "the service restarts: connect again", [])
        assert await not_ready(service)
        assert (await http_get(service, "/livez"))[0] == 200
        assert (await check(HealthCheckRequest())).status == HealthCheckResponse.NOT_SERVING
        with pytest.raises(ConnectionRefusedError):
            async with raw(service):
                pass
        await clients[-1].hears("user-0")
        assert not (await clients[-1].ask(Op.NEWEST_SEQ)).err_code
        for one in clients[1:]:
            assert (await one.closed())[0] == 1012
        assert await service.process.wait() == 0
    check_log(service)


@pytest.mark.parametrize("workers", [1, 2])
async def test_behind_a_balancer_no_client_notices_a_stop(workers: int) -> None:
    """The balancer hears that one of two services is not ready while that one's port is still open."""
    delay = "--shutdown-delay-ms=3000"
    async with AsyncExitStack() as stack:
        flags = [delay, f"--workers={workers}"]
        if workers > 1:
            flags.append(f"--store={(await stack.enter_async_context(redis_server())).url}")
        leaving = await stack.enter_async_context(running_service(*flags))
        staying = await stack.enter_async_context(running_service(delay))
        address = await stack.enter_async_context(balancer(leaving, staying))
        url = replace(staying, ws=address).url("guest")
        terminate(leaving)
        connects = failed = 0
        while leaving.process.returncode is None:
            connects += 1
            try:
                async with asyncio.timeout(10):
                    await (await websocket(url)).close()
            except (OSError, EOFError, InvalidHandshake):
                failed += 1
        assert await leaving.process.wait() == 0
        assert connects > 10
        assert not failed
        staying.process.send_signal(signal.SIGINT)
        assert await staying.process.wait() == 0


async def test_who_is_about_to_stop_is_not_ready_and_serves_on() -> None:
    """Until the delay is over; a second signal ends it."""
    async with running_service("--shutdown-delay-ms=3600000") as service, client(service, "a") as before:
        async with grpc.aio.insecure_channel(service.grpc) as channel:
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
            )(HealthCheckRequest())
            states = aiter(watch)
            assert (await anext(states)).status == HealthCheckResponse.SERVING
            terminate(service)
            assert (await anext(states)).status == HealthCheckResponse.NOT_SERVING
            watch.cancel()
        assert await not_ready(service)
        assert "about to stop" in (await http_get(service, "/readyz"))[1]
        async with aiohttp.ClientSession() as session, session.get(f"http://{service.ws}/readyz") as response:
            assert response.status == 503
        async with client(service, "b") as late:
            for one in (before, late):
                assert not (await one.ask(Op.NEWEST_SEQ)).err_code
        terminate(service)
        assert await service.process.wait() == -signal.SIGTERM


async def test_an_interrupt_waits_for_no_balancer() -> None:
    async with running_service("--shutdown-delay-ms=3600000") as service, client(service, "a") as one:
        service.process.send_signal(signal.SIGINT)
        assert (await one.closed())[0] == 1012
        assert await service.process.wait() == 0


async def test_a_drain_without_time() -> None:
    """A hundred clients at once; those who never answer the goodbye don't hold the service up."""
    async with running_service("--drain-ms=0") as service, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(client(service, f"user-{number}")) for number in range(100)]
        deaf = [await stack.enter_async_context(raw(service)) for _ in range(5)]
        for number, one in enumerate(deaf):
            await one.upgrade(service.url(f"deaf-{number}"))
        terminate(service)
        codes = await asyncio.gather(*(one.closed() for one in clients))
        assert {code for code, _, _ in codes} == {1012}
        assert await service.process.wait() == 0
    check_log(service)


async def test_a_handshake_under_way_when_the_drain_begins_is_refused() -> None:
    async with running_service("--drain-ms=2000") as service, client(service, "a") as first, client(service, "b"):
        async with raw(service) as late:
            request = upgrade_request(service.url("late"))
            await late.send(request[:-4])
            terminate(service)
            await first.closed()
            await late.send(request[-4:])
            assert b'"errCode":1601' in await late.rest()
        assert await service.process.wait() == 0
    check_log(service)


async def test_the_last_offlines_are_told_by_webhook() -> None:
    async with receiver() as hooks:
        async with (
            running_service(f"--webhook-url={hooks.url}") as service,
            client(service, "a") as one,
            client(service, "b", 2) as other,
        ):
            terminate(service)
            await asyncio.gather(one.closed(), other.closed())
            assert await service.process.wait() == 0
        for user_id in ("a", "b"):
            assert [hook.command for hook in hooks.of(user_id)] == [
                "callbackAfterUserOnlineCommand",
                "callbackAfterUserOfflineCommand",
            ]
    check_log(service)


async def test_a_second_signal_ends_at_once() -> None:
    """An operator who does not want to wait for the drain need not."""
    async with running_service("--drain-ms=600000") as service, client(service, "a") as one, client(service, "b"):
        terminate(service)
        await one.closed()
        terminate(service)
        assert await service.process.wait() == -signal.SIGTERM


async def test_an_interrupt_is_a_stop_too() -> None:
    """What Ctrl-C sends."""
    async with running_service() as service, client(service, "a") as one:
        service.process.send_signal(signal.SIGINT)
        assert (await one.closed())[0] == 1012
        assert await service.process.wait() == 0
    check_log(service)


async def test_a_service_that_is_killed_leaves_its_ports() -> None:
    """The next one can have them at once."""
    async with running_service() as service, AsyncExitStack() as stack:
        one: Client = await stack.enter_async_context(client(service, "a"))
        service.process.kill()
        await service.process.wait()
        with pytest.raises(AssertionError, match="without a goodbye"):
            await one.closed()
        flags = (f"--ws={service.ws}", f"--grpc={service.grpc}", f"--http={service.http}")
        async with running_service(*flags) as next_one, client(next_one, "a") as again:
            assert not (await again.ask(Op.NEWEST_SEQ)).err_code


@pytest.mark.parametrize("port", ["ws", "grpc", "http"])
async def test_a_taken_port_is_named(port: str) -> None:
    """The second service ends, and says which setting to change; the first is not disturbed."""
    async with running_service() as service:
        taken = getattr(service, port)
        with pytest.raises(AssertionError) as caught:
            async with running_service(f"--{port}={taken}"):
                pass
        message = str(caught.value)
        assert f"{port} = {taken}" in message
        assert "Traceback" not in message
        async with client(service, "a") as one:
            assert not (await one.ask(Op.NEWEST_SEQ)).err_code


async def test_open_requests_of_the_http_port_do_not_hold_the_end_up() -> None:
    """Neither a connection kept alive nor one that never said what it wants."""
    async with running_service() as service, aiohttp.ClientSession() as session:
        async with session.get(f"http://{service.http}/livez") as response:
            assert response.status == 200
        host, _, port = service.http.rpartition(":")
        with socket.create_connection((host, int(port))) as idle:
            idle.send(b"GET /me")
            terminate(service)
            assert await service.process.wait() == 0


async def test_nobody_is_connected() -> None:
    """An idle service ends as well."""
    async with running_service() as service:

        async def ready() -> bool:
            return (await http_get(service, "/readyz"))[0] == 200

        await eventually(ready)
        assert await service.stop() == 0

"""A process with few file descriptors, and clients that would take them all."""

import asyncio
import contextlib
import json
import socket

import grpc.aio

from adsum.proto import user_pb2 as pb
from tests.e2e.rpc import call
from tests.support.client import http_get
from tests.support.redis import eventually, redis_server
from tests.support.service import RunningService, running_service

FILES = 200
SILENT = 260


async def answers(service: RunningService) -> bool:
    """Whether calls find the store."""
    request = pb.getUserStatusReq(userIDs=["ann"])
    try:
        await call(service.grpc, "getUserStatus", request, pb.getUserStatusResp.FromString)
    except grpc.aio.AioRpcError:
        return False
    return True


async def ask(service: RunningService) -> bytes:
    """What a handshake is answered, until the service hangs up."""
    host, _, port = service.ws.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = service.url("ann").partition(service.ws)[2]
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {service.ws}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = await reader.read()
    writer.close()
    return answer


async def test_silent_clients_leave_files_to_all_others() -> None:
    """The WebSocket port cuts off who asks nothing: probes, calls, the store and clients that do ask get through."""
    async with redis_server() as redis, running_service(f"--store={redis.url}", files=FILES) as service:
        host, _, port = service.ws.rpartition(":")
        with contextlib.ExitStack() as clients:
            for _ in range(SILENT):
                clients.enter_context(socket.create_connection((host, int(port))))
            assert (await http_get(service, "/livez"))[0] == 200
            assert await answers(service)
            assert json.loads((await ask(service)).partition(b"\r\n\r\n")[2])["errCode"] == 1601
            await redis.run("CLIENT", "KILL", "TYPE", "normal")
            await eventually(lambda: answers(service))
            assert (await http_get(service, "/livez"))[0] == 200
    assert "Too many open files" not in "".join(service.log)

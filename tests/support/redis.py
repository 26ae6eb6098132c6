"""Real redis-servers of the tests' own, on free ports, gone when the tests are."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.metadata import files
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
START_S = 30
SLOTS = 16_384


def packaged_server(package: str) -> str:
    """The path of the server that a Python package has; raises `PackageNotFoundError` if it is not installed."""
    return next(str(file.locate()) for file in files(package) or () if file.name == "valkey-server")


def free_port() -> int:
    """A port nobody listens on, nor (as a cluster's bus) on the one 10,000 above."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            if port + 10_000 > 65_535:
                continue
            with contextlib.suppress(OSError):
                two.bind(("127.0.0.1", port + 10_000))
                return port


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition of another process, which has no event here."""
    async with asyncio.timeout(START_S):
        while not await true():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.02)


class RedisServer:
    """One server process. Nothing is kept on disk but what a test asks for; a stopped one can be started again."""

    def __init__(self, port: int, folder: Path, *flags: str, program: str | None = SERVER) -> None:
        self.program = program
        self.port = port
        self.folder = folder
        self._flags = flags
        # Not asyncio's: it would end with the loop it was started on, and some outlive a test's loop.
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start, and wait until it answers."""
        self.launch()
        await eventually(self.answers)

    def launch(self) -> None:
        """Start without waiting."""
        if self.program is None:
            pytest.fail("redis-server is not installed: `make test` installs it on Debian")
        self._process = subprocess.Popen(
            [self.program, *self._arguments()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    async def stop(self, *, gently: bool = False) -> None:
        """Kill it; `gently` lets it write to disk what it is set to keep."""
        process, self._process = self._process, None
        if process is not None:
            (process.terminate if gently else process.kill)()
            await asyncio.to_thread(process.wait)

    def _arguments(self) -> Sequence[str]:
        return (
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--daemonize", "no", "--loglevel", "warning", *self._flags),
        )

    def kill(self) -> None:
        """Kill it at once, where nothing can be awaited."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def send_signal(self, number: int) -> None:
        """Signal the process, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> Redis:
        """A client of the tests' own."""
        return Redis(port=self.port)

    async def run(self, *command: str | int) -> Any:  # noqa: ANN401 - as Redis answers
        """The answer to one command."""
        async with self.client() as client:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]

    async def answers(self) -> bool:
        """Whether it takes commands."""
        try:
            return bool(await self.run("PING"))
        except Exception:  # noqa: BLE001 - whatever it is, it does not answer yet
            return False


class Sentinel(RedisServer):
    """A Sentinel that watches one master, under the name `main`, and alone decides that it is dead."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(free_port(), folder)
        self._config = folder / "sentinel.conf"
        self._config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 3000\n",
            encoding="utf-8",
        )

    def _arguments(self) -> Sequence[str]:
        return (str(self._config), "--sentinel")


@contextlib.asynccontextmanager
async def redis_server(*flags: str, program: str | None = SERVER) -> AsyncIterator[RedisServer]:
    """A server on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(free_port(), Path(folder), *flags, program=program)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()


class RedisCluster:
    """A cluster: its masters as they were at the start, then the replicas, the first of the first master and so on."""

    def __init__(self, servers: Sequence[RedisServer], masters: int) -> None:
        self.servers = servers
        self.masters = servers[:masters]
        self.replicas = servers[masters:]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}"

    async def form(self) -> None:
        """Make the servers one cluster, and wait until every one sees it whole."""
        first, masters = self.servers[0], len(self.masters)
        for index, server in enumerate(self.servers):
            await server.run("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            if server is not first:
                await server.run("CLUSTER", "MEET", "127.0.0.1", first.port)
        bounds = [SLOTS * index // masters for index in range(masters + 1)]
        for server, start, end in zip(self.masters, bounds, bounds[1:], strict=False):
            await server.run("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        await eventually(self._all_met)
        for index, replica in enumerate(self.replicas):
            await replica.run("CLUSTER", "REPLICATE", await self.masters[index % masters].run("CLUSTER", "MYID"))
        await eventually(self._whole)

    async def clear(self) -> None:
        """Forget every key."""
        for server in self.masters:
            await server.run("FLUSHALL")

    async def took_over(self, replica: RedisServer) -> bool:
        """Whether a replica is a master now."""
        return bool((await replica.run("ROLE"))[0] == b"master")

    async def _all_met(self) -> bool:
        states = [await _cluster_info(server) for server in self.servers]
        return all(state["cluster_known_nodes"] == str(len(states)) for state in states)

    async def _whole(self) -> bool:
        for server in self.servers:
            if (await _cluster_info(server))["cluster_state"] != "ok":
                return False
        return all([(await replica.run("ROLE"))[3] == b"connected" for replica in self.replicas])


async def _cluster_info(server: RedisServer) -> dict[str, str]:
    found = await server.run("CLUSTER", "INFO")
    text = found.decode() if isinstance(found, bytes) else found
    if isinstance(text, dict):
        return text
    return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)


class SharedCluster:
    """A cluster started when it is first needed, on whatever event loop, and killed without one."""

    def __init__(self, masters: int = 3, replicas: int = 0, *flags: str, node_timeout_ms: int = 1_000) -> None:
        self._masters = masters
        self._count = masters * (1 + replicas)
        quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self._flags = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout_ms), *quick, *flags)
        self._folders = contextlib.ExitStack()
        self._servers: list[RedisServer] = []
        self._cluster: RedisCluster | None = None

    async def get(self) -> RedisCluster:
        """The cluster, whole."""
        if self._cluster is None:
            for _ in range(self._count):
                folder = Path(self._folders.enter_context(tempfile.TemporaryDirectory()))
                self._servers.append(RedisServer(free_port(), folder, *self._flags))
                self._servers[-1].launch()
            for server in self._servers:
                await eventually(server.answers)
            self._cluster = RedisCluster(self._servers, self._masters)
            await self._cluster.form()
        return self._cluster

    def kill(self) -> None:
        """Kill every server."""
        for server in self._servers:
            server.kill()
        self._folders.close()


@contextlib.asynccontextmanager
async def redis_cluster(masters: int = 3, replicas: int = 0, *flags: str) -> AsyncIterator[RedisCluster]:
    """A cluster with so many masters, and replicas for each."""
    shared = SharedCluster(masters, replicas, *flags)
    try:
        yield await shared.get()
    finally:
        shared.kill()

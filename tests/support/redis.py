"""Real redis-servers of the tests' own, on free ports, gone when the tests are."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")
START_S = 20


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


class RedisServer:
    """One server process. Nothing is kept on disk but what a test asks for."""

    def __init__(self, port: int, folder: Path, *flags: str) -> None:
        self.port = port
        self._folder = folder
        self._flags = flags
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start, and wait until it answers."""
        if SERVER is None:
            pytest.fail("redis-server is not installed: `make test` installs it on Debian")
        self._process = await asyncio.create_subprocess_exec(
            SERVER,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
            *("--save", "", "--daemonize", "no", "--loglevel", "warning", *self._flags),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(START_S):
            while not await self._answers():  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Kill it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def send_signal(self, number: int) -> None:
        """Signal the process, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    def client(self) -> Redis:
        """A client of the tests' own."""
        return Redis(port=self.port)

    async def _answers(self) -> bool:
        async with self.client() as client:
            try:
                return bool(await client.ping())
            except Exception:  # noqa: BLE001 - whatever it is, it does not answer yet
                return False


@contextlib.asynccontextmanager
async def redis_server(*flags: str) -> AsyncIterator[RedisServer]:
    """A server on a free port."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(free_port(), Path(folder), *flags)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()

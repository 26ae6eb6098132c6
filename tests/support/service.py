"""A real service in a process of its own, on free ports, for tests over real sockets."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from adsum.adapters.tokens import JwtAuthenticator
from adsum.wire.handshake import Handshake, build_query

SECRET = "a secret of the tests, 32 bytes at least"
READY = re.compile(r"ready: ws=(\S+) grpc=(\S+) http=(\S+)")
START_S = 30
HOUR_MS = 3_600_000


@dataclass
class RunningService:
    """Where a service listens, and its process."""

    process: asyncio.subprocess.Process
    ws: str
    grpc: str
    http: str
    log: list[str] = field(default_factory=list)

    def token(self, user_id: str, platform_id: int = 1) -> str:
        """A good token."""
        return JwtAuthenticator(SECRET).issue(user_id, platform_id, HOUR_MS)

    def url(self, user_id: str, platform_id: int = 1, **more: object) -> str:
        """A URL to connect to; `more` are fields of `Handshake`."""
        fields: dict[str, object] = {"token": self.token(user_id, platform_id), "operation_id": "test", **more}
        handshake = Handshake(user_id=user_id, platform_id=platform_id, **fields)  # type: ignore[arg-type]
        return f"ws://{self.ws}/?{build_query(handshake)}"

    async def stop(self) -> int:
        """Ask it to stop as an operator would; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@contextlib.asynccontextmanager
async def running_service(
    *flags: str, sources: Path | None = None, files: int | None = None
) -> AsyncIterator[RunningService]:
    """A service with these flags besides free ports and the tests' secret, unless they name its file.

    `sources` is the folder it imports `adsum` from, if not the one from which this process does.
    It may have so many `files` open, if that is given.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ADSUM_")}
    secret = () if any(flag.startswith("--secret-file") for flag in flags) else (f"--secret={SECRET}",)
    if sources is not None:
        environment["PYTHONPATH"] = str(sources)
    limit = None if files is None else partial(resource.setrlimit, resource.RLIMIT_NOFILE, (files, files))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "adsum.cli",
        "serve",
        *("--ws=127.0.0.1:0", "--grpc=127.0.0.1:0", "--http=127.0.0.1:0", *secret, "--drain-ms=0"),
        "--shutdown-delay-ms=0",
        *flags,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        preexec_fn=limit,
    )
    assert process.stderr is not None
    log: list[str] = []
    reader: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(START_S):
            ready = await _until_ready(process.stderr, log)
        service = RunningService(process, *ready, log)
        reader = asyncio.create_task(_keep_reading(process.stderr, log))
        yield service
        await service.stop()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if reader is not None:
            await reader


async def _until_ready(stderr: asyncio.StreamReader, log: list[str]) -> tuple[str, str, str]:
    while line := (await stderr.readline()).decode():
        log.append(line)
        if found := READY.search(line):
            return found[1], found[2], found[3]
    raise AssertionError("the service did not start:\n" + "".join(log))


async def _keep_reading(stderr: asyncio.StreamReader, log: list[str]) -> None:
    while line := (await stderr.readline()).decode():
        log.append(line)

"""The service as a user starts it, with a Redis of its own if it needs one, and the load generator at it.

Each is a process of its own. Where there are cores enough, the service has one (one a worker)
and the others share the rest, unless it is started unpinned.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from bench import machine, reference
from bench.record import LoadResult
from tests.support.redis import SERVER, RedisServer, redis_server
from tests.support.service import SECRET, RunningService, running_service

ROOT = Path(__file__).parent
BUILT = ROOT.parent / "build" / "bench"
GENERATOR = BUILT / "load"

ENGINES = ("redis", "memory")

WINDOW: Final = "-for=1.2s"
"""How long a rate is looked at in one window, as a flag of the load generator."""


# What stops the machine from taking part, as opposed to what a step failed at.
class Unable(Exception):
    """The bench cannot run here; the message says what is missing."""


def prepare() -> str:
    """Build the load generator; its compiler's version. Raises `Unable` for what is missing here."""
    if not sys.platform.startswith("linux"):
        raise Unable("it reads CPU time and memory from /proc, which only Linux has")
    if SERVER is None:
        raise Unable("redis-server or valkey-server is missing: install it (Debian: apt-get install redis-server)")
    go = shutil.which("go")
    if go is None:
        raise Unable("its load generator needs Go 1.24 or later to be built: install it (https://go.dev/dl)")
    BUILT.mkdir(parents=True, exist_ok=True)
    built = subprocess.run([go, "build", "-o", GENERATOR, "."], cwd=ROOT / "load", check=False)
    if built.returncode:
        raise Unable("its load generator could not be built (above)")
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout.strip()
    return f"bench/load, {version}"


@dataclass(frozen=True)
class Target:
    """A running service; `redis` is its store unless that is embedded.

    It has `own_cores` to itself, if there are more: the others share the rest.
    """

    service: RunningService
    redis: RedisServer | None
    own_cores: int

    @property
    def load_cores(self) -> int:
        """How many cores the load generator and Redis share."""
        return len(machine.cores_of_others(self.own_cores))

    async def load(self, command: str, *flags: str, in_turns: bool = False) -> LoadResult:
        """Run a subcommand of the load generator. Raises `RuntimeError` with what it said if it failed.

        `in_turns`: it waits for each answer, so that it, the service and Redis never work at the same
        time; they share the service's core then, or each turn would begin with waking another.
        """
        before_us = reference.measure()
        with self._redis_on(machine.cores_of_service(self.own_cores)) if in_turns else nullcontext():
            result = await self._load(command, *flags, in_turns=in_turns)
        around_us = (before_us + reference.measure()) / 2
        phases = {name: replace(phase, reference_us=around_us) for name, phase in result.phases.items()}
        return replace(result, phases=phases)

    @contextmanager
    def _redis_on(self, cores: list[int]) -> Iterator[None]:
        if self.redis is None:
            yield
            return
        before = os.sched_getaffinity(self.redis.pid)
        os.sched_setaffinity(self.redis.pid, cores)
        try:
            yield
        finally:
            os.sched_setaffinity(self.redis.pid, before)

    async def _load(self, command: str, *flags: str, in_turns: bool) -> LoadResult:
        service = self.service
        pids = ",".join(str(pid) for pid in machine.family(service.process.pid))
        common = [f"-ws={service.ws}", f"-grpc={service.grpc}", f"-secret={SECRET}", f"-service={pids}"]
        if self.redis is not None:
            common.append(f"-redis={self.redis.pid}")
        cores = machine.cores_of_service if in_turns else machine.cores_of_others
        with machine.pinned(cores(self.own_cores)):
            process = await asyncio.create_subprocess_exec(
                GENERATOR, *common, command, *flags, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        try:
            printed, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise RuntimeError(
                said.decode(errors="replace").strip() or f"the load generator ended with {process.returncode}"
            )
        return msgspec.json.decode(printed, type=LoadResult)


@asynccontextmanager
async def started(
    engine: str, workers: int = 1, sources: Path | None = None, *, pinned: bool = True
) -> AsyncIterator[Target]:
    """A service on an engine of `ENGINES`, everything else as by default.

    It runs what this process imports as `adsum`, or what is in the folder `sources`. Unless it is
    `pinned`, all cores are its own and everybody's.
    """
    own_cores = workers if pinned else len(machine.cores())
    async with AsyncExitStack() as stack:
        redis: RedisServer | None = None
        flags = [f"--workers={workers}"]
        if engine == "redis":
            with machine.pinned(machine.cores_of_others(own_cores)):
                redis = await stack.enter_async_context(redis_server())
            flags.append(f"--store={redis.url}")
        with machine.pinned(machine.cores_of_service(own_cores)):
            service = await stack.enter_async_context(running_service(*flags, sources=sources))
        yield Target(service, redis, own_cores)

"""Several processes on the same ports, over a real Redis: spread, kept alive, replaced and stopped by a supervisor."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from adsum.adapters.tokens import JwtAuthenticator
from adsum.wire.messages import Op
from tests.e2e.conftest import check_log
from tests.support.client import Client, client, eventually, http_get, logged, metrics, raw
from tests.support.redis import RedisServer, free_port, redis_server
from tests.support.service import HOUR_MS, SECRET, RunningService, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

CROWD = 24
"""Clients, so that of two workers neither is without any: the chance is 2 in 2 to the power of 24."""

SHORT_LEASE = ("--lease-ttl-ms=1500", "--sweep-interval-ms=200")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    """One for all tests of this module; each has keys of its own."""
    async with redis_server() as server:
        yield server


@pytest.fixture
def shared(redis: RedisServer) -> tuple[str, ...]:
    """Flags of a service of two workers."""
    return (f"--store={redis.url}", f"--store-prefix={secrets.token_hex(8)}", "--workers=2")


@asynccontextmanager
async def crowd(service: RunningService, count: int = CROWD) -> AsyncIterator[list[Client]]:
    """Users u0, u1 and so on, who all watch each other."""
    async with AsyncExitStack() as stack:
        users = [f"u{number}" for number in range(count)]
        clients = [await stack.enter_async_context(client(service, user)) for user in users]
        for one in clients:
            await one.watch(*users)
            for user in users:
                await one.hears(user, 1)
        yield clients


async def processes() -> dict[int, int]:
    """The parent of each process that runs."""
    ps = await asyncio.create_subprocess_exec("ps", "-A", "-o", "pid=,ppid=,stat=", stdout=asyncio.subprocess.PIPE)
    output, _ = await ps.communicate()
    rows = [line.split() for line in output.decode().splitlines()]
    return {int(pid): int(parent) for pid, parent, state, *_ in rows if not state.startswith("Z")}


async def workers(service: RunningService) -> list[int]:
    """The process IDs of a service's workers."""
    return [pid for pid, parent in (await processes()).items() if parent == service.process.pid]


async def none_runs(pids: list[int]) -> bool:
    return not set(pids) & (await processes()).keys()


async def answers(one: Client) -> bool:
    """Whether a connection is still good."""
    try:
        return not (await one.ask(Op.NEWEST_SEQ)).err_code
    except ConnectionClosed:
        return False


async def open_by_worker(service: RunningService) -> list[float]:
    now = await metrics(service)
    return [now[f'adsum_connections_open{{worker="{number}"}}'] for number in range(2)]


def check_end(service: RunningService) -> None:
    """Nothing of what is never logged is in the log, and nobody had to be forced to end."""
    check_log(service)
    assert not any("do not end" in line for line in service.log), "".join(service.log)


async def test_connections_are_spread_and_watchers_hear_of_users_on_the_other_worker(shared: tuple[str, ...]) -> None:
    async with running_service(*shared) as service, crowd(service) as clients:
        counts = await open_by_worker(service)
        assert sum(counts) == CROWD
        assert all(counts), "one worker has all connections"
        async with client(service, "guest", 5):
            for one in clients:
                await one.watch("guest")
                await one.hears("guest", 5)
        for one in clients:
            await one.hears("guest")
    check_end(service)


async def test_the_http_port_tells_of_all_workers(shared: tuple[str, ...]) -> None:
    async with running_service(*shared) as service:
        assert await http_get(service, "/livez") == (200, '{"alive":true}')
        status, body = await http_get(service, "/readyz")
        checks = json.loads(body)["checks"]
        assert status == 200
        assert checks.pop("workers") == {"ok": True, "text": "2 of 2 take connections"}
        names = {name.removeprefix("worker 0 ") for name in checks if name.startswith("worker 0 ")}
        assert {"gateway", "lease", "feed"} <= names
        assert set(checks) == {f"worker {number} {name}" for number in range(2) for name in names}
        _, page = await http_get(service, "/metrics")
        lines = page.splitlines()
        described = [line.split()[2] for line in lines if line.startswith("# HELP")]
        assert len(described) == len(set(described)), "a metric stands in two places"
        for number in range(2):
            assert any(line.startswith(f'adsum_users_online{{worker="{number}"}}') for line in lines)
            lane = f'adsum_writer_waiting_users{{worker="{number}",lane="0"}}'
            assert any(line.startswith(lane) for line in lines)
            assert f'adsum_ready{{worker="{number}",check="store"}} 1.0' in lines
        assert 'adsum_ready{check="workers"} 1.0' in lines
        for pid in await workers(service):
            os.kill(pid, signal.SIGSTOP)
        status, body = await http_get(service, "/readyz")
        assert status == 503
        assert json.loads(body)["checks"]["worker 1 process"] == {"ok": False, "text": "does not answer"}
        for pid in await workers(service):
            os.kill(pid, signal.SIGCONT)
    check_end(service)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
async def test_no_secret_is_in_a_workers_command_line_or_environment(shared: tuple[str, ...]) -> None:
    async with running_service(*shared) as service:
        for pid in await workers(service):
            for name in ("cmdline", "environ"):
                content = await asyncio.to_thread(Path(f"/proc/{pid}/{name}").read_bytes)
                assert SECRET.encode() not in content
                assert b"ADSUM_" not in content


async def test_a_second_service_does_not_get_the_ports(shared: tuple[str, ...]) -> None:
    """Neither one of many processes nor a single one joins them by mistake."""
    async with running_service(*shared) as service:
        for name in ("ws", "grpc", "http"):
            taken = f"--{name}={getattr(service, name)}"
            for more in ((), shared):
                with pytest.raises(AssertionError, match=f"{name} = {getattr(service, name)}: "):
                    async with running_service(*more, taken):
                        pass
        async with client(service, "a") as one:
            assert await answers(one)


async def test_a_killed_worker_is_replaced_and_its_users_go_offline(shared: tuple[str, ...]) -> None:
    """Its users are offline to those on the other worker, whose connections go on."""
    async with running_service(*shared, *SHORT_LEASE) as service, crowd(service) as clients:
        before = await workers(service)
        os.kill(before[0], signal.SIGKILL)
        alive = [await answers(one) for one in clients]
        lost = [one.user_id for one, good in zip(clients, alive, strict=True) if not good]
        left = [one for one, good in zip(clients, alive, strict=True) if good]
        assert lost
        assert left
        for one in left:
            for user_id in lost:
                await one.hears(user_id)
        await eventually(logged(service, "was ended by SIGKILL: starting another"))

        async def complete() -> bool:
            return '"2 of 2 take connections"' in (await http_get(service, "/readyz"))[1]

        await eventually(complete)
        after = await workers(service)
        assert before[0] not in after
        assert before[1] in after
        async with AsyncExitStack() as stack:
            for user_id in lost:
                await stack.enter_async_context(client(service, user_id))
            for one in left:
                for user_id in lost:
                    await one.hears(user_id, 1)
                assert await answers(one)
                assert not any(one.pushes_of(other.user_id)[1:] for other in left), "others were harmed"
    check_end(service)


async def test_a_roll_brings_new_settings_and_leaves_no_gap(shared: tuple[str, ...], tmp_path: Path) -> None:
    """All workers are replaced, one after another; a client can connect all along."""
    file = tmp_path / "adsum.toml"
    file.write_text("max_user_id_bytes = 100")
    async with running_service(*shared, f"--config={file}") as service, crowd(service, 8) as clients:
        async with client(service, "a" * 100):
            pass
        before = await workers(service)
        file.write_text("max_user_id_bytes = 99")
        done = asyncio.Event()
        knocking = asyncio.create_task(knock(service, done))
        service.process.send_signal(signal.SIGHUP)
        for one in clients:
            assert (await one.closed())[0] == 1012
        await eventually(logged(service, "rolled: all workers are new"))
        done.set()
        assert await knocking
        after = await workers(service)
        assert len(after) == 2
        assert not set(before) & set(after)
        with pytest.raises(InvalidStatus):
            async with client(service, "a" * 100):
                pass

        file.write_text("max_user_id_bytes = 0")
        service.process.send_signal(signal.SIGHUP)
        await eventually(logged(service, "the settings cannot be used, all stays as it is"))
        assert await workers(service) == after
        async with client(service, "a" * 99) as one:
            assert await answers(one)
    check_end(service)


NEXT_SECRET = "the next secret of the tests, of 32 bytes"


@pytest.mark.parametrize("count", [1, 2])
async def test_a_hangup_reads_the_settings_again(shared: tuple[str, ...], count: int, tmp_path: Path) -> None:
    """In each process, and ends none: secret and log at once; who is connected stays."""
    own, file = tmp_path / "secret", tmp_path / "adsum.toml"
    own.write_text(SECRET)
    file.write_text("")
    flags = (*shared, f"--workers={count}", f"--secret-file={own}", f"--config={file}")
    async with running_service(*flags) as service, crowd(service, 8) as clients:
        before = await workers(service) if count > 1 else []
        own.write_text(f"{NEXT_SECRET}\n")
        file.write_text('log_level = "debug"')
        for pid in [*before, service.process.pid]:
            os.kill(pid, signal.SIGHUP)
        await eventually(logged(service, "the settings are read again"))

        async def by_next_secret() -> bool:
            """In every process, by the chance of `CROWD`."""
            for number in range(CROWD):
                token = JwtAuthenticator(NEXT_SECRET).issue(f"next{number}", 1, HOUR_MS)
                try:
                    async with client(service, f"next{number}", token=token):
                        pass
                except InvalidStatus:
                    return False
            return True

        await eventually(by_next_secret)
        for _ in range(CROWD):
            with pytest.raises(InvalidStatus):
                async with client(service, "late"):
                    pass
        assert any("DEBUG" in line and "a handshake was refused" in line for line in service.log)
        assert all([await answers(one) for one in clients])
        assert (await workers(service) if count > 1 else []) == before
        # What is no good changes nothing.
        own.write_text("")
        file.write_text("log_level = 'loud'")
        service.process.send_signal(signal.SIGHUP)
        await eventually(logged(service, "the settings cannot be used, all stays as it is: log_level = 'loud'"))
        assert await by_next_secret()
    assert NEXT_SECRET not in "".join(service.log)
    check_end(service)


async def test_one_process_names_what_takes_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "adsum.toml"
    file.write_text("page_size = 10")
    async with running_service(f"--config={file}") as service, client(service, "a") as one:
        file.write_text("page_size = 20")
        service.process.send_signal(signal.SIGHUP)
        await eventually(logged(service, "page_size has changed, which takes a restart: it stays as it is"))
        await eventually(logged(service, "the settings are read again"))
        assert not any("login_policy has changed" in line for line in service.log)
        assert await answers(one)
    check_end(service)


async def knock(service: RunningService, done: asyncio.Event) -> int:
    """Connect again and again; how often. The port is never found closed, and a stopping worker never counted.

    A handshake that a stopping worker had begun may be refused or cut off. A feed may have to catch up with what we do.
    """
    count = 0
    while not done.is_set():
        checks = json.loads((await http_get(service, "/readyz"))[1])["checks"]
        assert all(check["ok"] for name, check in checks.items() if not name.endswith(" feed")), checks
        try:
            async with client(service, "guest"):
                count += 1
        except (InvalidHandshake, ConnectionClosed, ConnectionResetError, EOFError):
            pass
    return count


async def test_a_roll_that_fails_leaves_the_old_workers(shared: tuple[str, ...], tmp_path: Path) -> None:
    """Settings that only a worker finds bad are not kept: one that dies later is replaced with the old ones."""
    file = tmp_path / "adsum.toml"
    file.write_text("partitions = 64")
    async with running_service(*shared, f"--config={file}") as service, client(service, "a") as one:
        before = await workers(service)
        file.write_text("partitions = 32")
        service.process.send_signal(signal.SIGHUP)
        await eventually(logged(service, "the roll ends here"))
        assert await workers(service) == before
        assert await answers(one)
        os.kill(before[0], signal.SIGTERM)
        await eventually(logged(service, f"(process {before[0]}) ended with exit code 0: starting another"))

        async def replaced() -> bool:
            return len(await workers(service)) == 2 and (await http_get(service, "/readyz"))[0] == 200

        await eventually(replaced)
    check_end(service)


@pytest.mark.parametrize("to_all", [False, True])
async def test_a_stop_drains_all_workers(shared: tuple[str, ...], to_all: bool) -> None:  # noqa: FBT001 - of the test
    """Also where every process gets the signal, as from systemd."""
    async with running_service(*shared) as service, crowd(service) as clients:
        pids = await workers(service)
        for pid in pids if to_all else ():
            os.kill(pid, signal.SIGTERM)
        service.process.send_signal(signal.SIGTERM)
        assert {(await one.closed())[0] for one in clients} == {1012}
        assert await service.process.wait() == 0
        assert await none_runs(pids)
    check_end(service)


async def test_a_second_signal_ends_all_at_once(shared: tuple[str, ...]) -> None:
    async with running_service(*shared, "--drain-ms=600000") as service, crowd(service, 8) as clients:
        pids = await workers(service)
        service.process.send_signal(signal.SIGTERM)
        await eventually(logged(service, "the workers say goodbye"))
        service.process.send_signal(signal.SIGTERM)
        assert await service.process.wait() == -signal.SIGTERM

        async def ended() -> bool:
            return await none_runs(pids)

        await eventually(ended)
        assert not any([await answers(one) for one in clients])


async def test_no_worker_outlives_its_supervisor(shared: tuple[str, ...]) -> None:
    """Killed, it can't tell them; they say goodbye by themselves and leave the ports."""
    async with running_service(*shared, "--drain-ms=600000") as service, crowd(service) as clients:
        pids = await workers(service)
        service.process.kill()
        assert {(await one.closed())[0] for one in clients} == {1012}

        async def ended() -> bool:
            return await none_runs(pids)

        await eventually(ended)
        with pytest.raises(ConnectionRefusedError):
            async with raw(service):
                pass
    check_end(service)


async def test_when_no_worker_can_be_had_any_more_the_service_ends() -> None:
    """Whoever runs it must see that, and a supervisor alone is of no use."""
    async with redis_server() as own, running_service(f"--store={own.url}", "--workers=2") as service:
        await own.stop()
        for pid in await workers(service):
            os.kill(pid, signal.SIGKILL)
        assert await service.process.wait() == 1
        await eventually(logged(service, "adsum: no worker is left, and 5 starts in a row have failed"))
    check_end(service)


async def test_what_keeps_workers_from_starting_is_told() -> None:
    for flags, message in (
        ((), "workers = 2 cannot share store = memory:"),
        ((f"--store=redis://127.0.0.1:{free_port()}",), "before it was ready: its own message is above"),
    ):
        with pytest.raises(AssertionError, match=message):
            async with running_service("--workers=2", *flags):
                pass

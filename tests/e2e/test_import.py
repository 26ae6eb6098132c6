"""`adsum import` against Redis servers filled as OpenIM fills them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.rpc import listed_users
from tests.support.redis import RedisServer, redis_cluster, redis_server
from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG_AGO_S, LATER_S = -10, 1_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def openim() -> AsyncIterator[RedisServer]:
    """OpenIM's Redis, with all that can be in it."""
    async with redis_server() as server:
        now_s = (await server.run("TIME"))[0]
        keys: dict[str | bytes, dict[int | str, int]] = {
            "ONLINE:partly": {2: LATER_S, 3: LONG_AGO_S},
            "ONLINE:expired": {1: LONG_AGO_S},
            "ONLINE:用户:{a}": {7: LATER_S},
            "ONLINE:odd": {1: LATER_S, 63: LATER_S, "x": LATER_S},
            "ONLINE:unknown": {77: LATER_S},
            "ONLINE:" + "l" * 300: {1: LATER_S},
            "ONLINE:": {1: LATER_S},
            b"ONLINE:\xff": {1: LATER_S},
            "OTHER:user": {1: LATER_S},
        }
        for number in range(2_500):
            keys[f"ONLINE:user-{number}"] = {1: LATER_S, 5: LATER_S}
        async with server.client() as client:
            for key, members in keys.items():
                scores = [word for member, for_s in members.items() for word in (now_s + for_s, member)]
                await client.execute_command("ZADD", key, *scores)  # type: ignore[no-untyped-call]
        await server.run("SET", "ONLINE:text", "1")
        await server.run("HSET", "ONLINE:hash", "1", "1")
        yield server


EXPECTED = {f"user-{number}": (1, 5) for number in range(2_500)} | {"partly": (2,), "用户:{a}": (7,), "odd": (1,)}
COUNTS = {
    "users": 2_503,
    "platforms": 5_003,
    "expired": 1,
    "unknown_platforms": 3,
    "bad_users": 1,
    "foreign": 4,
}


@pytest_asyncio.fixture(loop_scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as running:
        yield running


async def run(tmp_path: Path, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors of `adsum import`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADSUM_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adsum.cli", "import", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=kept | {"XDG_STATE_HOME": str(tmp_path)},
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_everybody_online_is_taken_over(openim: RedisServer, service: RunningService, tmp_path: Path) -> None:
    """Doing it again changes nothing; the source is left as it was."""
    keys = await openim.run("DBSIZE")
    for _ in range(2):
        code, out, err = await run(tmp_path, "--from", openim.url, "--grpc", service.grpc, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == COUNTS | {"dryRun": False}
        assert await listed_users(service.grpc) == EXPECTED
    assert await openim.run("DBSIZE") == keys


async def test_a_dry_run_needs_no_service_and_sets_nothing(
    openim: RedisServer, service: RunningService, tmp_path: Path
) -> None:
    code, out, _ = await run(tmp_path, "--from", openim.url, "--dry-run")
    assert code == 0
    assert "2,503 users online" in out
    assert "4 keys skipped" in out
    assert "dry run" in out
    assert await listed_users(service.grpc) == {}


async def test_what_is_wrong_is_one_clear_line(openim: RedisServer, service: RunningService, tmp_path: Path) -> None:
    """A source or a service out of reach, and a URL that is none; a password is shown nowhere."""
    for arguments, wanted_code, wanted in (
        (("--from", "redis://me:hunter2@127.0.0.1:1"), 1, "127.0.0.1:1: connection refused"),
        (("--from", openim.url, "--grpc", "127.0.0.1:1"), 1, "127.0.0.1:1 cannot be reached"),
        (("--from", "http://me:hunter2@host"), 2, "not of a known form"),
        ((), 2, "Missing option '--from'"),
    ):
        code, out, err = await run(tmp_path, "--grpc", service.grpc, *arguments)
        assert (code, out) == (wanted_code, "")
        assert wanted in err
        assert "Traceback" not in err
        assert "hunter2" not in err


async def test_the_services_own_copy_is_not_taken_over(openim: RedisServer, tmp_path: Path) -> None:
    """With `projection_url` set to it, nothing is read or set; another database of the server is another matter."""
    config = tmp_path / "adsum.toml"
    config.write_text(f'projection_url = "{openim.url}"')
    code, out, err = await run(tmp_path, "--config", str(config), "--from", openim.url)
    assert (code, out) == (1, "")
    assert "the service's own copy" in err
    config.write_text(f'projection_url = "redis://127.0.0.1:{openim.port}/1"')
    code, out, _ = await run(tmp_path, "--config", str(config), "--from", openim.url, "--dry-run")
    assert code == 0
    assert "2,503 users online" in out


async def test_every_master_of_a_cluster_is_read(service: RunningService, tmp_path: Path) -> None:
    async with redis_cluster(3) as cluster:
        for number in range(60):
            key = f"ONLINE:user-{number}"
            slot = await cluster.masters[0].run("CLUSTER", "KEYSLOT", key)
            master = cluster.masters[[slot < 5_461, slot < 10_922, True].index(True)]
            await master.run("ZADD", key, (await master.run("TIME"))[0] + LATER_S, 1)
        code, out, err = await run(tmp_path, "--from", cluster.url, "--grpc", service.grpc, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["users"] == 60
    assert await listed_users(service.grpc) == {f"user-{number}": (1,) for number in range(60)}

"""Opening a store: what is refused, and how one gets in."""

import shutil
import subprocess
from pathlib import Path

import pytest

from adsum.domain.errors import ArgumentError, StoreError
from adsum.domain.presence import TimedEdit
from tests.support.redis import free_port, redis_server
from tests.support.world import IOS, hold_batch
from tests.unit.adapters.redis.conftest import OpenStore

ACL = ("on", ">secret word", "~adsum:*", "&adsum:*", "+@read", "+@write", "+@scripting", "+@pubsub", "+@connection")
MORE = ("+info", "+time")


async def test_another_number_of_partitions_is_refused(open_store: OpenStore) -> None:
    """Users would be looked for where they are not; the number that is right is told."""
    async with redis_server() as redis:
        await open_store(redis.url, partitions=8)
        await open_store(redis.url, partitions=8)
        with pytest.raises(ArgumentError, match="has 8 partitions, and this node is set to 16: set partitions = 8"):
            await open_store(redis.url, partitions=16)


async def test_settings_other_than_those_of_the_node_before_are_a_warning(
    open_store: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """They may be on their way to all nodes: each that starts is compared with the one that did before it."""
    async with redis_server() as redis:
        for policy in ("1", "1", "4", "4"):
            await open_store(redis.url, alike={"login_policy": policy, "platforms": "openim"})
        lines = [record.getMessage() for record in caplog.records if "set both alike" in record.getMessage()]
        assert len(lines) == 1
        assert lines[0].startswith("login_policy = 4 here, and the node that started last has 1")


async def test_another_layout_is_refused(open_store: OpenStore) -> None:
    """A later version of Adsum may have written keys that this one would misread."""
    async with redis_server() as redis:
        await redis.run("HSET", "adsum:{0}:state", "layout", "3")
        with pytest.raises(ArgumentError, match="has layout 3, and this version of Adsum needs 4"):
            await open_store(redis.url)


async def test_a_server_that_may_evict_is_a_warning(open_store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
    """It would forget users who are connected; the store works with it all the same."""
    async with redis_server() as redis:
        assert (await open_store(redis.url)).caution == ""
    async with redis_server("--maxmemory-policy", "allkeys-lru") as redis:
        store = await open_store(redis.url)
        assert store.caution.startswith("maxmemory-policy is allkeys-lru")
        assert any("set it to noeviction" in record.getMessage() for record in caplog.records)


async def test_a_dead_store_is_told_at_once(open_store: OpenStore) -> None:
    """By its address and the reason, without the password."""
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1: connection refused") as failure:
        await open_store("redis://me:hunter2@127.0.0.1:1")
    assert "hunter2" not in str(failure.value)


async def test_one_who_may_not_in_is_told(open_store: OpenStore) -> None:
    """As the server says it, without the password."""
    async with redis_server() as redis:
        await redis.run("CONFIG", "SET", "requirepass", "right")
        with pytest.raises(StoreError, match="WRONGPASS") as failure:
            await open_store(f"redis://:hunter2@127.0.0.1:{redis.port}")
        assert "hunter2" not in str(failure.value)
        with pytest.raises(StoreError, match="NOAUTH"):
            await open_store(redis.url)
        await open_store(f"redis://:right@127.0.0.1:{redis.port}")


async def test_a_cluster_url_of_no_cluster_is_told(open_store: OpenStore) -> None:
    """A single server says so itself."""
    async with redis_server() as redis:
        with pytest.raises(StoreError, match="cluster support disabled"):
            await open_store(f"redis+cluster://127.0.0.1:{redis.port}")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of this machine, made for the test; its key is beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    files = ("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"))
    subject = ("-subj", "/CN=adsum test", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    subprocess.run([openssl, "req", *kind, *subject, *files], check=True, capture_output=True)
    return tmp_path / "cert.pem"


async def test_tls_and_a_user_with_few_rights(open_store: OpenStore, certificate: Path) -> None:
    """The certificate is checked, and the user needs no more than is documented."""
    port = free_port()
    key = certificate.with_name("key.pem")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    server = redis_server("--tls-port", str(port), "--tls-auth-clients", "no", *files)
    try:
        redis = await server.__aenter__()
    except TimeoutError:
        pytest.skip("this redis-server is built without TLS")
    try:
        await redis.run("ACL", "SETUSER", "presence", *ACL, *MORE)
        login = f"presence:secret%20word@127.0.0.1:{port}"
        store = await open_store(f"rediss://{login}?ca={certificate}")
        await store.grant("a", 10_000)
        await store.write_timed("op", [TimedEdit("u", IOS, 0)])
        await store.sweep("op")
        assert [reading.mask for reading in await store.read(["u"])] == [IOS]
        assert (await store.census()).online == 1
        await store.release("a", "op")
        with pytest.raises(StoreError, match="certificate is not trusted"):
            await open_store(f"rediss://{login}")
    finally:
        await server.__aexit__(None, None, None)


async def test_of_many_sweeps_one_looks_for_ended_leases(open_store: OpenStore) -> None:
    """What another node has looked at a moment ago is not looked at again."""
    async with redis_server() as redis:
        one, other = [await open_store(redis.url, sweep_ms=3_600_000) for _ in range(2)]
        await one.sweep("op")
        await one.grant("a", 60_000)
        await one.write_holds(hold_batch("a", 1, {"u": IOS}))
        for partition in range(one.partitions):
            await redis.run("HSET", f"adsum:{{{partition}}}:leases", "a", "1:1")
        await other.sweep("op")
        assert [reading.mask for reading in await one.read(["u"])] == [IOS]
        eager = await open_store(redis.url)
        await eager.sweep("op")
        assert [reading.mask for reading in await one.read(["u"])] == [0]

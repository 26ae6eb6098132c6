"""OpenIM's own SDKs, as published, against a real service: what an app is told of presence is true.

They are the Go SDK (the core of all native ones), the JavaScript SDK, and the generated
gRPC client with OpenIM's client interceptor. Skipped where Go or Node is missing.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adsum.adapters.tokens import JwtAuthenticator
from tests.sdk.apps import App, Apps, Sdk, apps_on, build_go, install_js
from tests.support.service import HOUR_MS, SECRET, RunningService, running_service

pytestmark = pytest.mark.timeout(300)

IOS, ANDROID, WEB = 1, 2, 5


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_go(tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="module", params=["go", "js"])
def sdk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sdk:
    if request.param == "go":
        binary: Path = request.getfixturevalue("binaries") / "client"
        return Sdk("go", (str(binary), "{files}"), resubscribes=False)
    script = install_js(tmp_path_factory.mktemp("js"))
    return Sdk("js", ("node", "--experimental-websocket", "--no-warnings", str(script)), resubscribes=True)


@pytest.fixture
async def apps(sdk: Sdk, tmp_path: Path) -> AsyncIterator[Apps]:
    async with apps_on(sdk, tmp_path) as running:
        yield running


@pytest.fixture
async def service() -> AsyncIterator[RunningService]:
    async with running_service("--login-policy=1") as running:
        yield running


def presence(user: str, *platforms: int) -> dict[str, object]:
    """A user's state as the SDKs tell it."""
    return {"userID": user, "status": int(bool(platforms)), "platformIDs": list(platforms)}


def token(user: str, platform: int, ttl_ms: int = HOUR_MS, age_s: int = 0, secret: str = SECRET) -> str:
    return JwtAuthenticator(secret, now=lambda: time.time() - age_s).issue(user, platform, ttl_ms)


async def connected(apps: Apps, service: RunningService, user: str, platform: int, ttl_ms: int = HOUR_MS) -> App:
    app = await apps.start(f"ws://{service.ws}", platform)
    app.tell("login", user=user, token=token(user, platform, ttl_ms))
    await app.until("connected")
    return app


async def test_watchers_hear_of_every_coming_and_going(apps: Apps, service: RunningService) -> None:
    """The answer has the present state, each push the whole list of platforms, also after a goodbye or a crash."""
    watcher = await connected(apps, service, "alice", WEB)
    watcher.tell("subscribe", users=["bob"])
    await watcher.until("subscribe", [presence("bob")])
    phone = await connected(apps, service, "bob", ANDROID)
    await watcher.until("changed", presence("bob", ANDROID))
    browser = await connected(apps, service, "bob", WEB)
    await watcher.until("changed", presence("bob", ANDROID, WEB))
    browser.tell("logout")
    await browser.until("logout")
    await watcher.until("changed", presence("bob", ANDROID))
    late = await connected(apps, service, "carol", WEB)
    late.tell("subscribe", users=["bob"])
    await late.until("subscribe", [presence("bob", ANDROID)])
    phone.end()
    await watcher.until("changed", presence("bob"))
    await late.until("changed", presence("bob"))


async def test_apps_come_back_after_a_restart(apps: Apps, service: RunningService) -> None:
    """They connect again by themselves, and watch on."""
    watcher = await connected(apps, service, "alice", WEB)
    watcher.tell("subscribe", users=["bob"])
    await watcher.until("subscribe", [presence("bob")])
    assert await service.stop() == 0
    async with running_service("--login-policy=1", f"--ws={service.ws}") as again:
        await watcher.until("connected")
        # The answer to another subscription comes after what the SDK itself asked on connecting.
        watcher.tell("subscribe", users=["carol"] if apps.sdk.resubscribes else ["bob", "carol"])
        await watcher.until("subscribe")
        await connected(apps, again, "bob", ANDROID)
        await watcher.until("changed", presence("bob", ANDROID))


async def test_a_kicked_app_knows_it_and_stays_away(apps: Apps, service: RunningService) -> None:
    first = await connected(apps, service, "alice", WEB)
    second = await connected(apps, service, "alice", WEB, 2 * HOUR_MS)
    await first.until("kicked")
    second.tell("subscribe", users=["alice"])
    await second.until("subscribe", [presence("alice", WEB)])


@pytest.mark.parametrize(
    ("event", "bad"),
    [
        ("expired", token("alice", IOS, age_s=7_200)),
        ("invalid", token("alice", IOS, secret="another secret, also of 32 bytes or more")),
        ("invalid", token("bob", IOS)),
        ("invalid", "no-token-at-all"),
    ],
    ids=["expired", "unknown", "of-another-user", "malformed"],
)
async def test_an_app_learns_why_its_token_is_refused(
    apps: Apps, service: RunningService, event: str, bad: str
) -> None:
    app = await apps.start(f"ws://{service.ws}", IOS)
    app.tell("login", user="alice", token=bad)
    await app.until(event)


async def test_the_go_sdk_stops_trying_and_tells_of_its_background(
    binaries: Path, tmp_path: Path, service: RunningService
) -> None:
    async with apps_on(Sdk("go", (str(binaries / "client"), "{files}"), resubscribes=False), tmp_path) as apps:
        refused = await apps.start(f"ws://{service.ws}", IOS)
        refused.tell("login", user="alice", token=token("alice", IOS, age_s=7_200))
        await refused.until("connecting")
        await refused.until("expired")
        app = await connected(apps, service, "bob", IOS)
        for behind in (True, False):
            app.tell("background", behind=behind)
            await app.until("background", "")
        assert await refused.never("connecting", seconds=2)  # its first retry would come after 1 s


async def test_the_generated_grpc_client_gets_states_and_codes(binaries: Path, service: RunningService) -> None:
    """All presence methods of `openim.user`; errors keep OpenIM's numbers, message and detail."""
    process = await asyncio.create_subprocess_exec(
        binaries / "rpc", service.grpc, stdout=asyncio.subprocess.PIPE, cwd=binaries
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    said = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    erin = presence("erin", IOS, WEB)
    argument_error = [1001, "ArgsError", True]
    assert {line["event"]: line["data"] for line in said} == {
        "set": {},
        "set many": {},
        "get": [erin, {**presence("nobody"), "platformIDs": None}],
        "all": [[erin], 0],
        "subscribe": [erin],
        "watched": [erin],
        "cancel": None,
        "watched no more": None,
        "bad genre": argument_error,
        "no users": argument_error,
    }

"""One service for each module of tests, started with the module's `FLAGS`; at the end its log must hold no secret."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.service import SECRET, RunningService, running_service

JSON_START = "eyJ"
"""How JSON objects begin in base64, and with them every token and every packed handshake (`v`)."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(request: pytest.FixtureRequest) -> AsyncIterator[RunningService]:
    """The module's service. Tests share it, so each has users of its own and ends its connections."""
    flags: tuple[str, ...] = getattr(request.module, "FLAGS", ())
    async with running_service("--log-level=debug", *flags) as running:
        yield running
    check_log(running)
    assert running.process.returncode == 0


def check_log(service: RunningService) -> None:
    """No secret, no token and no defect is in the log of a service that has ended."""
    log = "".join(service.log)
    assert SECRET not in log
    assert JSON_START not in log
    assert "Traceback" not in log, log

"""No pause here is longer than a moment."""

import pytest

from adsum.service import forever, relay


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forever, "PAUSE_S", 0.001)
    monkeypatch.setattr(relay, "RETRY_S", 0.001)

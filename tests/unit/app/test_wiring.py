"""Readiness, as the parts tell it."""

from adsum.app.settings import Settings
from adsum.app.wiring import build, checks

SECRET = "0123456789abcdef0123456789abcdef"


async def test_a_feed_that_nobody_follows_is_not_whole() -> None:
    """Before it is followed, and from then on, while it is compared with the store."""
    node = build(Settings(), SECRET).node
    assert not checks(node)["feed"].ok
    assert node.relay.behind == 0
    await node.start()
    assert checks(node)["feed"].ok
    await node.stop()

"""Pages of all who are online."""

import pytest

from adsum.adapters.redis.store import LEAST_SCAN, RedisStore
from adsum.domain.presence import TimedEdit
from tests.support.redis import RedisServer, redis_server
from tests.support.world import IOS
from tests.unit.adapters.redis.conftest import OpenStore

USERS = 600


async def limit_whose_page_ends_with_cursor_one(redis: RedisServer, prefix: str) -> int | None:
    """The length of a page of partition 0 that ends just in the middle of the users' table, if one does.

    Redis's cursors count with their bits reversed, so the second half of a table begins with 1.
    """
    async with redis.client() as client:
        pipe = client.pipeline(transaction=False)
        for limit in range(LEAST_SCAN, USERS):
            pipe.execute_command("HSCAN", f"{prefix}:{{0}}:users", 0, "COUNT", limit)
        for limit, (following, _) in enumerate(await pipe.execute(), LEAST_SCAN):
            if int(following) == 1:
                return limit
    return None


async def listed(store: RedisStore, limit: int) -> set[str]:
    shown: set[str] = set()
    cursor = 0
    while True:
        page = await store.page(cursor, limit)
        shown.update(user for user, _ in page.users)
        cursor = page.next_cursor
        if not cursor:
            return shown


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_listing_goes_on_after_a_page_whose_cursor_is_one(open_store: OpenStore, partitions: int) -> None:
    """With the partition in it, that cursor is the number of partitions, which isn't the end of all."""
    # As a table, not as the list of a small hash, which has no cursor.
    async with redis_server("--hash-max-listpack-entries", "0") as redis:
        # Where in the table a user is can't be known; with about every second set of names there is such a page.
        for attempt in range(40):
            users = {f"user-{attempt}-{n}" for n in range(USERS)}
            store = await open_store(redis.url, partitions=partitions, prefix=f"p{attempt}")
            await store.write_timed("op", [TimedEdit(user, IOS, 0) for user in users])
            limit = await limit_whose_page_ends_with_cursor_one(redis, f"p{attempt}")
            if limit is not None:
                assert await listed(store, limit) == users
                return
    raise AssertionError("no page ended in the middle of the table")

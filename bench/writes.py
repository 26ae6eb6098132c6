"""What one changed user costs in the embedded store, by batch size: the logic alone, in one process."""

from time import process_time

from adsum.adapters.clock import SystemClock
from adsum.adapters.memory import MemoryStore
from adsum.domain.presence import HoldBatch, HoldState

USERS = 100_000


async def main() -> None:
    """Measure and print."""
    print(f"\nembedded store, {USERS} users written, each a change, CPU µs a user")
    print(f"{'batch':>9} {'µs a user':>10}")
    for size in (1, 100, 1_000):
        print(f"{size:>9} {await measure(size):>10.2f}")


async def measure(size: int) -> float:
    """CPU microseconds a user, written in batches of `size`."""
    store = MemoryStore(SystemClock())
    await store.grant("bench", 3_600_000)
    start = process_time()
    for seq, first in enumerate(range(0, USERS, size), 1):
        states = tuple(HoldState(f"user-{number}", 2) for number in range(first, first + size))
        await store.write_holds(HoldBatch("bench", 0, seq, f"bench-{seq}", states))
    return (process_time() - start) / USERS * 1e6

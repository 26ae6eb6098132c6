"""Ends leases and deadlines that are over, and removes what their holders hold.

A holder is removed in steps, each a script of its own: its lease is marked as ended, a scan
removes its holds a portion at a time, and once a whole scan has found none it is forgotten.
A replica that takes over in between may know less than was done. So each step does nothing
where the mark is missing, and a scan that found holds is followed by another, some time
later, before the holder is forgotten: what no lease names any more would stay online for ever.

A server may also lose single keys, such as by eviction. So each sweep looks at some users of each
partition, and mends what that leaves behind (`mend.lua`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence

from adsum.adapters.redis.codec import pairs
from adsum.adapters.redis.scripts import script
from adsum.adapters.redis.trips import Call, Trips
from adsum.domain.errors import StoreError

USERS = 0
"""The index of the key."""

USERS_A_CALL = 1_000

USERS_A_LOOK = 100
"""Looked at in one sweep of a partition, at least: that takes Redis about 0.1 ms."""

log = logging.getLogger(__name__)

Numbers = Mapping[bytes, bytes]
"""Holders by their number in a partition."""


class Sweeps:
    """Of all sweeps of all nodes within `sweep_ms`, one has its turn in a partition.

    What a lost key leaves behind is given `lease_ms` or `timed_ttl_ms` until it ends.
    `session` is the number of the feed's subscription, which changes when a server was
    lost and found again; 0 while one is lost.
    """

    def __init__(
        self,
        trips: Trips,
        partitions: int,
        history: int,
        sweep_ms: int,
        lease_ms: int,
        timed_ttl_ms: int,
        session: Callable[[], int],
    ) -> None:
        self._trips = trips
        self._partitions = range(partitions)
        self._history = history
        self._sweep_ms = sweep_ms
        self._lease_ms = lease_ms
        self._timed_ttl_ms = timed_ttl_ms
        self._session = session

    async def sweep(self, op_id: str) -> None:
        """End what is over wherever it is this node's turn; raises `StoreError` if some partitions can't be reached."""
        calls = [Call(p, script("end_leases"), ("", "", self._sweep_ms)) for p in self._partitions]
        answers = await self._trips.ask(calls)
        # What one server does not answer must not wait on the others' account.
        turns = [p for p, answer in enumerate(answers) if isinstance(answer, list)]
        for partition in turns:
            await self._remove(partition, _numbers(answers[partition]), "", op_id)
        await self._end_deadlines(turns, op_id)
        await self._mend(turns, op_id)
        for answer in answers:
            if isinstance(answer, StoreError):
                raise answer

    async def release(self, holder: str, successor: str, op_id: str) -> None:
        """End one holder; raises `LeaseLost` if a successor is named and has no lease."""
        calls = [Call(p, script("end_leases"), (holder, successor, 0)) for p in self._partitions]
        for partition, answer in enumerate(await self._trips.run(calls)):
            await self._remove(partition, _numbers(answer), successor, op_id)

    async def _end_deadlines(self, due: Sequence[int], op_id: str) -> None:
        while due:
            calls = [Call(p, script("end_deadlines"), (op_id, self._history, p, USERS_A_CALL)) for p in due]
            ended = await self._trips.run(calls)
            due = [partition for partition, count in zip(due, ended, strict=True) if count == USERS_A_CALL]

    async def _mend(self, partitions: Sequence[int], op_id: str) -> None:
        given = (self._lease_ms, self._timed_ttl_ms, USERS_A_LOOK)
        calls = [Call(p, script("mend"), (op_id, self._history, p, *given)) for p in partitions]
        mended = await self._trips.run(calls)
        holders, endless, unset = (sum(counts) for counts in zip((0, 0, 0), *mended, strict=True))
        if holders or endless or unset:
            log.warning(
                "the store has lost keys: mended %d holders without a lease, %d set platforms without an end, "
                "and %d users who were no longer set",
                *(holders, endless, unset),
            )

    async def _remove(self, partition: int, numbers: Numbers, successor: str, op_id: str) -> None:
        """Remove the holds of these holders in one scan, a portion at a time, so that nobody waits long."""
        if not numbers:
            return
        session, scan, seen = self._session(), 0, set[bytes]()
        while True:
            call = Call(partition, "HSCAN", (scan, "COUNT", USERS_A_CALL), USERS)
            ((cursor, flat),) = await self._trips.run([call])
            users: dict[bytes, dict[bytes, None]] = {}
            for user, record in pairs(flat):
                if not user:
                    continue  # The summary, of nobody.
                for number in _holders(record):
                    if number in numbers:
                        users.setdefault(number, {})[user] = None
            calls = [
                Call(
                    partition,
                    script("end_holder"),
                    (op_id, self._history, partition, numbers[number], number, successor, *held),
                )
                for number, held in users.items()
            ]
            await self._trips.run(calls)
            seen |= users.keys()
            scan = int(cursor)
            if not scan:
                break
        # A scan that went on at another server may have stepped over some.
        if session and session == self._session():
            gone = [number for number in numbers if number not in seen]
            await self._trips.run([Call(partition, script("forget_holder"), (numbers[n], n)) for n in gone])


def _numbers(flat: list[bytes]) -> Numbers:
    return {number: holder for holder, number in pairs(flat)}


def _holders(record: bytes) -> list[bytes]:
    return [part.partition(b":")[0] for part in record.split(b",")]

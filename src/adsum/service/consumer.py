"""Consumes the feed in one role: each partition on one node at a time, each entry at least once.

The store keeps who owns a partition and up to where all is done, so when a node dies
the next owner goes on there. An owner reads on from the cursor and then follows the
feed that all nodes hear; what it lacks it fetches.

Invariant: in one ownership the target is handed every entry after the cursor, in order,
once, but for those the store no longer keeps, which are counted and logged.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from adsum.core.consuming import Course, excess, fair_share
from adsum.core.partition import partition_of
from adsum.domain.claims import Bid, Claim
from adsum.domain.errors import LeaseLost, StoreError
from adsum.domain.presence import FeedEntry
from adsum.ports import Meter, Store
from adsum.service.calm import Calm
from adsum.service.forever import end, forever
from adsum.service.target import Handed, Owned, Target

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Between tries to fetch while the store does not answer, or does not have yet what it told of."""


class Lease(Protocol):
    """This node's lease."""

    @property
    def holder(self) -> str:
        """Under which name."""
        ...

    def held_for(self, ms: int) -> bool:
        """Whether it is good for so long yet, as far as is known."""
        ...


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """How often the store is told what is done, and asked what to own.

    A partition that another node is to have is kept for at most `handover_ms` until what is under way is done.
    Nothing is begun in the last `margin_ms` of a lease: what is sent then could arrive after the next owner's.
    """

    interval_ms: int = 1_000
    handover_ms: int = 5_000
    margin_ms: int = 0


class FeedConsumer:
    """The consumer of one role in this process."""

    def __init__(
        self, role: str, store: Store, lease: Lease, target: Target, meter: Meter, options: ConsumerOptions
    ) -> None:
        self.role = role
        self._store = store
        self._lease = lease
        self._target = target
        self._meter = meter
        self._interval_s = options.interval_ms / 1000
        self._margin_ms = options.margin_ms
        self._handover_s = options.handover_ms / 1000
        self._holder = ""
        self._courses: dict[int, Course] = {}
        self._share = store.partitions
        self._turn = 0
        """The partition from which on others are looked at next."""
        self._ahead: list[int] = []
        """Those to be bid for before it is their turn."""
        self._waiting: dict[Course, None] = {}
        """Those behind for which the target had no room."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._calm = Calm(log, f"{role}: fetching changes")
        self._stopping = False
        self._progress = asyncio.Event()

    @property
    def owned(self) -> list[int]:
        """The partitions this node owns."""
        return list(self._courses)

    @property
    def behind(self) -> int:
        """How many of them are not read up to the present."""
        return sum(course.behind for course in self._courses.values())

    async def start(self) -> None:
        """Begin: own what is free. Raises `StoreError`."""
        await self._bid()
        self._spawn(forever(f"{self.role}: claiming partitions", self._step))

    async def stop(self, grace_ms: int) -> None:
        """Go on until all that has happened is done, for at most `grace_ms`; then give everything up."""
        self._stopping = True
        try:
            async with asyncio.timeout(grace_ms / 1000):
                await self._finish()
        except (TimeoutError, StoreError):
            log.warning("%s: not all could be done in time; the next owner goes on there", self.role)
        await end(self._tasks)
        done = dict.fromkeys(range(self._store.partitions), 0)
        done |= {course.partition: course.done for course in self._courses.values()}
        self._drop_all()
        if self._holder:
            try:
                await self._store.disown(self.role, self._holder, done)
            except StoreError as error:
                log.warning("%s: cannot give up partitions, they are free when the lease ends: %s", self.role, error)

    def on_feed(self, entry: FeedEntry) -> None:
        """Hand an entry over if it is the next of a partition owned; a `FeedListener`."""
        course = self._courses.get(entry.partition)
        if course is None or course.leaves_s is not None:
            return
        was_behind = course.behind
        if course.follows(entry):
            if self._target.room:
                self._hand(course, entry)
                return
            course.behind = True
        if course.behind and not was_behind:
            self._catch_up_with(course)

    def owns(self, course: Course) -> bool:
        """Whether this node still owns what a course consumes."""
        if not self._lease.held_for(self._margin_ms) or self._lease.holder != self._holder:
            # Another node may own it by now, and nobody here could know.
            self._drop_all()
        return not course.dropped

    def done(self, course: Course, version: int) -> None:
        """An entry is dealt with."""
        course.finish(version)
        self._progress.set()
        self._resume()

    # Owning

    async def _step(self) -> None:
        await asyncio.sleep(self._interval_s)
        await self._bid()

    async def _bid(self) -> None:
        """Tell what is done, and find out what is this node's."""
        holder = self._lease.holder
        if holder != self._holder or not self._lease.held_for(self._margin_ms):
            self._drop_all()
        if holder != self._holder:
            self._holder = holder
            # Nobody knows this name yet. Each begins elsewhere, so that together they see all.
            self._ahead += range(self._store.partitions)
            self._turn = partition_of(holder, self._store.partitions)
        if not self._lease.held_for(self._margin_ms):
            return
        bids = self._bids()
        try:
            claims = await self._store.claim(self.role, holder, bids)
        except LeaseLost:
            # The keeper finds out too, and takes another name.
            self._drop_all()
            return
        if holder != self._lease.holder or not self._lease.held_for(self._margin_ms):
            return
        for bid, claim in zip(bids, claims, strict=True):
            self._settle(bid.partition, claim)
        self._resume()
        if not self._stopping:
            self._share = fair_share(self._store.partitions, max(claim.contenders for claim in claims))
            await self._hand_over()

    def _bids(self) -> list[Bid]:
        """What to say of those owned, and of as many others: all nodes together look at each about once a time."""
        count = self._store.partitions
        others = dict.fromkeys(self._ahead)
        others |= dict.fromkeys((self._turn + step) % count for step in range(self._share))
        self._ahead, self._turn = [], (self._turn + self._share) % count
        free_hands = 0 if self._stopping else self._share - len(self._courses)
        bids = [Bid(course.partition, take=False, done=course.done) for course in self._courses.values()]
        foreign = (partition for partition in others if partition not in self._courses)
        return bids + [Bid(partition, take=place < free_hands) for place, partition in enumerate(foreign)]

    def _settle(self, partition: int, claim: Claim) -> None:
        course = self._courses.get(partition)
        if claim.free:
            self._ahead.append(partition)
        if claim.cursor is None:
            if course is not None:
                log.warning("%s: partition %d is another node's now", self.role, partition)
                self._drop(course)
        elif course is None:
            self._begin(Course(partition, claim.cursor, claim.version))
        elif not course.behind:
            missing = course.reach(claim.version) if self._stopping else course.look(claim.version)
            if missing:
                self._catch_up_with(course)

    async def _hand_over(self) -> None:
        """Give up what is beyond a fair share, once what is under way is done."""
        now_s = asyncio.get_running_loop().time()
        for course in excess(self._courses.values(), self._share):
            course.leaves_s = now_s + self._handover_s
        left = [
            course
            for course in self._courses.values()
            if course.leaves_s is not None and (course.clear or now_s >= course.leaves_s)
        ]
        for course in left:
            self._drop(course)
            # It stays among those who would have it.
            self._ahead.append(course.partition)
        if left:
            await self._store.disown(self.role, self._holder, {course.partition: course.done for course in left})

    def _begin(self, course: Course) -> None:
        self._courses[course.partition] = course
        self._target.begin(Owned(self, course))
        if course.behind:
            self._catch_up_with(course)

    def _drop(self, course: Course) -> None:
        course.dropped = True
        self._courses.pop(course.partition, None)
        self._waiting.pop(course, None)
        self._progress.set()

    def _drop_all(self) -> None:
        # Should it only be for another name of this node, they are still nobody else's.
        self._ahead += self._courses
        for course in list(self._courses.values()):
            self._drop(course)

    async def _finish(self) -> None:
        """Have all that has happened until now handed over, and wait until it is done."""
        await self._bid()
        while any(self._is_busy_with(course) for course in self._courses.values()):
            self._progress.clear()
            await self._progress.wait()

    @staticmethod
    def _is_busy_with(course: Course) -> bool:
        return not course.clear or (course.behind and course.leaves_s is None)

    # Reading

    def _hand(self, course: Course, entry: FeedEntry) -> None:
        course.hand(entry.version)
        self._target.take(Handed(Owned(self, course), entry))

    def _resume(self) -> None:
        """Read on where the target had no room."""
        if self._waiting and self._target.room:
            waiting, self._waiting = self._waiting, {}
            for course in waiting:
                self._catch_up_with(course)

    def _catch_up_with(self, course: Course) -> None:
        self._spawn(self._catch_up(course))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _catch_up(self, course: Course) -> None:
        """Fetch until the feed goes on from there, the target is full, or the partition is another's."""
        while not course.dropped and course.leaves_s is None and course.behind:
            if not self._target.room:
                self._waiting[course] = None
                return
            try:
                await self._fetch(course)
            except Exception as error:  # noqa: BLE001 - logged
                self._calm.failed(error)
                await asyncio.sleep(RETRY_S)
            else:
                self._calm.passed()
        self._progress.set()

    async def _fetch(self, course: Course) -> None:
        entries = await self._store.changes_since(course.partition, course.position)
        if entries is None:
            await self._mend(course)
            return
        for entry in entries:
            if course.dropped or not self._target.room:
                return
            self._hand(course, entry)
        if course.caught_up:
            course.behind = False
        elif not entries:
            # Told of and not there: not yet, or it went with a past that the store has lost.
            await asyncio.sleep(RETRY_S)
            course.forget_told()

    async def _mend(self, course: Course) -> None:
        """The store has no entries from the course's position on.

        It may have another past than the one seen, in which the cursor is older: then all
        is told from there. Or it no longer keeps what was missed.
        """
        partition = course.partition
        (claim,) = await self._store.claim(self.role, self._holder, [Bid(partition, take=False)])
        if course.dropped:
            return
        if claim.cursor is None:
            self._drop(course)
        elif claim.cursor != course.position and await self._store.changes_since(partition, claim.cursor) is not None:
            log.warning("%s: partition %d has another past: going on from its cursor", self.role, partition)
            self._drop(course)
            self._begin(Course(partition, claim.cursor, claim.version))
        else:
            self._meter.feed_lost(self.role)
            log.warning("%s: changes of partition %d are no longer kept, and are passed over", self.role, partition)
            self._target.lost(Owned(self, course), course.position, claim.version)
            course.skip(claim.version)

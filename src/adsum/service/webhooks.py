"""Tells another service who came online, went offline or was kicked, in OpenIM's form.

Hooks follow the store's feed, so only real changes that the store has acknowledged
are told, and the hooks of one user arrive in the feed's order. Delivery is at least
once: an entry is done when all its hooks are delivered or given up, and whatever a
node had not done when it died, the next owner of the partition does. Kicks are no
changes: the node that did it tells, and they go with it.

No client waits for a hook. While the queue is full the feed is not read any further.
Only hooks in flight have a task; an idle service has neither task nor timer.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from adsum.core.hookqueue import HookQueue, HookQueueOptions, Taken
from adsum.domain.errors import ArgumentError, NetworkError
from adsum.domain.platforms import PlatformRegistry, ids_of
from adsum.domain.presence import Change
from adsum.ports import Clock, Hook, HookSink, Meter
from adsum.service.forever import end
from adsum.service.target import Handed, Owned

log = logging.getLogger(__name__)

ONLINE_COMMAND = "callbackAfterUserOnlineCommand"
OFFLINE_COMMAND = "callbackAfterUserOfflineCommand"
KICK_COMMAND = "callbackAfterUserKickOffCommand"

_SUMMARY_INTERVAL_S = 10
_MAX_REASONS = 8
"""Reasons told apart in one summary; the receiver's answers are among them."""


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Which events are told, and how hard it is tried. How long one try may take is the sink's to know.

    With `queue` hooks waiting no further entry is taken, and kicks are dropped;
    `concurrency` are sent at a time; a hook is tried `max_attempts` times, after pauses
    that double from `retry_min_ms` up to `retry_max_ms`.
    """

    online: bool = True
    offline: bool = True
    kick: bool = True
    max_attempts: int = 8
    retry_min_ms: int = 200
    retry_max_ms: int = 30_000
    queue: int = 100_000
    concurrency: int = 16


class _Parcel:
    """The hooks of one entry: when the last is over, the entry is done."""

    __slots__ = ("handed", "left")

    def __init__(self, handed: Handed) -> None:
        self.handed = handed
        self.left = 1
        """Hooks not over yet, and one while they are being made."""

    def over(self) -> None:
        self.left -= 1
        if not self.left:
            self.handed.done()


class _Item(NamedTuple):
    """A hook in the queue, and the entry it is of; none for a kick."""

    hook: Hook
    parcel: _Parcel | None

    @property
    def good(self) -> bool:
        """Whether it is this node's to send."""
        return self.parcel is None or self.parcel.handed.owned.good


class Webhooks:
    """The webhooks of this process, a `Target` of the feed. `jitter` gives random numbers in [0, 1).

    Everything is called on the loop's thread, and `take` and `on_kick` neither
    wait nor raise. Hooks that come before `start` are kept; those that come after
    `stop` has begun are dropped.
    """

    def __init__(
        self,
        sink: HookSink,
        meter: Meter,
        clock: Clock,
        platforms: PlatformRegistry,
        options: WebhookOptions,
        jitter: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._meter = meter
        self._clock = clock
        self._names = {platform.id: platform.name for platform in platforms}
        self._options = options
        self._jitter = jitter
        self._queue: HookQueue[_Item] = HookQueue(
            HookQueueOptions(options.concurrency, options.max_attempts, options.retry_min_ms, options.retry_max_ms)
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_ms: int | None = None
        self._started = False
        self._stopping = False
        self._drained = asyncio.Event()
        self._losses = _Losses()
        self._full = False

    @property
    def waiting(self) -> int:
        """Hooks not yet delivered, those in flight included."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to deliver."""
        self._started = True
        self._pump()

    async def stop(self, grace_ms: int) -> None:
        """Deliver what is waiting and this node's to tell for at most `grace_ms`, drop the rest, and close the sink."""
        self._stopping = True
        if self._started and any(item.good for item in self._queue.items()):
            try:
                async with asyncio.timeout(grace_ms / 1000):
                    await self._drained.wait()
            except TimeoutError:
                log.debug("webhooks: not all could be delivered within %d ms", grace_ms)
        if self._timer is not None:
            self._timer.cancel()
        await end(self._tasks)
        for item in self._queue.clear():
            if item.good:
                self._lose("dropped", "the service stopped before they could be delivered")
        self._losses.close()
        await self._sink.close()

    @property
    def room(self) -> bool:
        """Whether an entry is taken now; a queue that was full takes none until it is half empty."""
        waiting = len(self._queue)
        self._full = waiting > self._options.queue // 2 if self._full else waiting >= self._options.queue
        return not self._full

    def take(self, handed: Handed) -> None:
        """Tell each change of an entry, platform by platform.

        Where platforms went and came in one change, those that went are told first.
        """
        parcel = _Parcel(handed)
        for change in handed.entry.changes:
            if self._options.offline:
                for platform_id in ids_of(change.before & ~change.after):
                    self._add(self._offline(change, platform_id, handed.entry.op_id), parcel)
            if self._options.online:
                for platform_id in ids_of(change.after & ~change.before):
                    self._add(self._online(change, platform_id, handed.entry.op_id), parcel)
        parcel.over()
        self._pump()

    def begin(self, owned: Owned) -> None:
        """Nothing to prepare."""

    def lost(self, owned: Owned, position: int, version: int) -> None:
        """Nothing can be told of entries that are no longer kept: the consumer says so."""

    def on_kick(self, user_id: str, platform_id: int, operation_id: str) -> None:
        """Tell that a connection of the user was ended by another login or by an administrator."""
        if not self._options.kick:
            return
        if self._stopping:
            self._lose("dropped", "the service is stopping")
        elif len(self._queue) >= self._options.queue:
            self._lose("dropped", "the queue is full")
        else:
            self._queue.add(user_id, _Item(self._hook(KICK_COMMAND, user_id, platform_id, operation_id, {}), None))
            self._pump()

    def _online(self, change: Change, platform_id: int, operation_id: str) -> Hook:
        cause = change.cause
        more: dict[str, object] = {"isAppBackground": cause.background, "connID": cause.conn_id}
        return self._hook(ONLINE_COMMAND, change.user_id, platform_id, operation_id, more | _state(change.after))

    def _offline(self, change: Change, platform_id: int, operation_id: str) -> Hook:
        more: dict[str, object] = {"connID": change.cause.conn_id}
        return self._hook(OFFLINE_COMMAND, change.user_id, platform_id, operation_id, more | _state(change.after))

    def _hook(self, command: str, user_id: str, platform_id: int, operation_id: str, more: dict[str, object]) -> Hook:
        body: dict[str, object] = {
            "callbackCommand": command,
            "operationID": operation_id,
            "platformID": platform_id,
            # A platform this node is not configured for has no name here; as in OpenIM, it is empty then.
            "platform": self._names.get(platform_id, ""),
            "userID": user_id,
            "seq": self._clock.unix_ms(),
        }
        return Hook(command, user_id, operation_id, body | more)

    def _add(self, hook: Hook, parcel: _Parcel) -> None:
        parcel.left += 1
        self._queue.add(hook.user_id, _Item(hook, parcel))

    def _pump(self) -> None:
        """Start a task for each hook that may go now. A task goes on with further hooks when it is done with one."""
        if not self._started:
            return
        while (taken := self._next()) is not None:
            task = asyncio.create_task(self._work(taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._set_timer()

    def _next(self) -> Taken[_Item] | None:
        """The next hook to send; those that another node sends now are let go of."""
        while (taken := self._queue.take(self._clock.monotonic_ms())) is not None:
            if taken.item.good:
                return taken
            self._over(taken)
        return None

    async def _work(self, first: Taken[_Item]) -> None:
        taken: Taken[_Item] | None = first
        while taken is not None:
            await self._try(taken)
            taken = self._next()
        self._set_timer()
        if not self._queue and self._stopping:
            self._drained.set()

    async def _try(self, taken: Taken[_Item]) -> None:
        try:
            await self._sink.deliver(taken.item.hook)
        except NetworkError as error:
            if self._queue.retry(taken.user_id, self._clock.monotonic_ms(), self._jitter()):
                self._meter.hook("retried")
                return
            self._lose("failed", error.detail)
        except ArgumentError as error:
            self._lose("failed", error.detail)
        except Exception:
            # A defect must not end the deliveries of this user, or of the service.
            log.exception("webhook %s could not be sent", taken.item.hook.command)
            self._lose("failed", "internal error")
        else:
            self._meter.hook("sent")
        self._over(taken)

    def _over(self, taken: Taken[_Item]) -> None:
        self._queue.finish(taken.user_id)
        if taken.item.parcel is not None:
            taken.item.parcel.over()

    def _set_timer(self) -> None:
        """Have the first pause that ends wake us."""
        due_ms = self._queue.next_due_ms()
        if due_ms == self._wakes_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_ms = due_ms
        if due_ms is not None:
            wait_ms = max(0, due_ms - self._clock.monotonic_ms())
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._wake)

    def _wake(self) -> None:
        # A timer may fire a moment early by our clock: forgetting it has it set again.
        self._timer = self._wakes_ms = None
        self._pump()

    def _lose(self, outcome: str, reason: str) -> None:
        self._meter.hook(outcome)
        self._losses.add(outcome, reason)


class _Losses:
    """Logs lost hooks: the first at once, then a summary now and then, whatever their number."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, outcome: str, reason: str) -> None:
        key = (outcome, reason)
        if key not in self._counts and len(self._counts) >= _MAX_REASONS:
            key = (outcome, "other reasons")
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._timer is None:
            self._write()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._log()

    def _write(self) -> None:
        self._timer = None
        if self._counts:
            self._log()
            self._timer = asyncio.get_running_loop().call_later(_SUMMARY_INTERVAL_S, self._write)

    def _log(self) -> None:
        for (outcome, reason), count in self._counts.items():
            log.warning("webhooks %s: %d (%s)", outcome, count, reason)
        self._counts.clear()


def _state(mask: int) -> dict[str, object]:
    """What the user is after the whole change, so that nobody need guess whether they are still online elsewhere."""
    return {"status": int(bool(mask)), "onlinePlatformIDs": list(ids_of(mask))}

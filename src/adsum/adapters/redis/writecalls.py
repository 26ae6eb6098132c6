"""Calls of the scripts that write: which partitions share one, and what it is told.

A script call has its cost, and on one server it may be for several partitions: their keys follow
each other, and so does what each is told. On a cluster a script sees only keys of one slot.

Invariant: a call names each partition once, and in it each user once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from functools import lru_cache
from typing import Any

from adsum.adapters.redis.codec import pack, split_mask
from adsum.adapters.redis.scripts import keys_of, script
from adsum.adapters.redis.trips import Call
from adsum.core.partition import part_of
from adsum.domain.presence import Cause, HoldBatch, HoldState, TimedEdit

USERS_A_CALL = 250
"""Partitions are added until there are so many: that takes Redis about a millisecond, while all others wait."""

TIMED_KEYS = 4
"""Those that `write_timed` takes: of many partitions the others would cost."""

SharedCall = tuple[Sequence[int], Call]
"""A call, and the partitions it is for."""


class WriteCalls:
    """Makes calls. `may_share` tells whether one server, and no cluster, has all partitions now."""

    def __init__(
        self,
        prefix: str,
        partitions: int,
        history: int,
        timed_ttl_ms: int,
        max_timed: int,
        may_share: Callable[[], bool],
    ) -> None:
        self._keys = [keys_of(prefix, partition) for partition in range(partitions)]
        self._numbers = list(map(pack, range(partitions)))
        self._timed_keys = [keys[:TIMED_KEYS] for keys in self._keys]
        self._history = history
        self._timed_ttl_ms = timed_ttl_ms
        self._max_timed = part_of(max_timed, partitions)
        self._may_share = may_share

    def holds(self, batch: HoldBatch, parts: Mapping[int, Sequence[HoldState]]) -> list[SharedCall]:
        """A batch's calls, from its states by partition."""
        head = (batch.holder, batch.lane, batch.seq, pack(batch.op_id), self._history)
        return [self._call("write_holds", self._keys, head, share, parts, pack_states) for share in self._shares(parts)]

    def timed(self, op_id: str, parts: Mapping[int, Mapping[str, TimedEdit]]) -> list[SharedCall]:
        """The calls for edits by partition and user."""
        head = (pack(op_id), self._history, self._timed_ttl_ms, self._max_timed)
        return [
            self._call("write_timed", self._timed_keys, head, share, parts, pack_edits) for share in self._shares(parts)
        ]

    def _shares(self, parts: Mapping[int, Sized]) -> list[list[int]]:
        if not self._may_share():
            return [[partition] for partition in parts]
        shares: list[list[int]] = []
        room = 0
        for partition, part in parts.items():
            if room <= 0:
                shares.append([])
                room = USERS_A_CALL
            shares[-1].append(partition)
            room -= len(part)
        return shares

    def _call(
        self,
        name: str,
        keys_of_each: Sequence[tuple[str, ...]],
        head: tuple[Any, ...],
        share: Sequence[int],
        parts: Mapping[int, Any],
        told: Callable[[Any], tuple[str | bytes, ...]],
    ) -> SharedCall:
        keys: list[str] = []
        args: list[Any] = [*head]
        for partition in share:
            keys += keys_of_each[partition]
            args.append(self._numbers[partition])
            args += told(parts[partition])
        return share, Call(share[0], script(name), tuple(args), keys=tuple(keys))


def pack_edits(edits: Mapping[str, TimedEdit]) -> tuple[str | bytes, ...]:
    """One partition's edits, by user, as `write_timed` takes them after its number."""
    _, online, offline, causes = zip(*edits.values(), strict=True)
    masks: str | bytes = _masks_text(online[0], offline[0])
    if online.count(online[0]) < len(online) or offline.count(offline[0]) < len(offline):
        masks = pack(list(map(_masks_text, online, offline)))
    return masks, pack(list(edits)), _pack_causes(causes)


def pack_states(states: Sequence[HoldState]) -> tuple[str | bytes, ...]:
    """One partition's states as `write_holds` takes them after its number; a user's last one counts."""
    last = {state.user_id: state for state in states}
    masks = [half for state in last.values() for half in split_mask(state.mask)]
    logins: list[str | int] = []
    ended: list[str] = []
    for user_id, _, _, new_logins, ended_tokens in states:
        for platform_id, token, kicked, *times in new_logins:
            logins += (user_id, platform_id, token, *split_mask(kicked), *times)
        for token in ended_tokens:
            ended += (user_id, token)
    causes = _pack_causes([state.cause for state in last.values()])
    return pack(list(last)), causes, pack((masks, logins, ended))


def _pack_causes(causes: Iterable[Cause]) -> bytes:
    conns, backgrounds = zip(*causes, strict=True)
    return pack((conns if any(conns) else (), backgrounds if any(backgrounds) else ()))


@lru_cache(maxsize=4_096)
def _masks_text(online: int, offline: int) -> str:
    return " ".join(map(str, (*split_mask(online), *split_mask(offline))))

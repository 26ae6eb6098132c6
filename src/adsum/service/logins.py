"""Multi-login across gateways: carries the ledger's verdicts out.

No login waits for another gateway: it is admitted by what is known here, written like
any change, and what it ends elsewhere is ended when the feed has brought it there.
"""

import asyncio
from collections.abc import Callable, Mapping

from adsum.core.logins import LoginLedger, Verdict
from adsum.core.partition import partition_of
from adsum.core.session import Session
from adsum.domain.presence import Cause, FeedEntry, HoldBatch
from adsum.service.flusher import Flusher

USERS_A_TURN = 1_000
"""Looked at in one turn of the event loop: about a millisecond."""


class Logins:
    """Ends connections here (`kick`) for logins elsewhere, of users spread over `partitions`."""

    def __init__(
        self,
        ledger: LoginLedger,
        flusher: Flusher,
        partitions: int,
        kick: Callable[[Session], None],
    ) -> None:
        self._ledger = ledger
        self._registry = ledger.registry
        self._flusher = flusher
        self._partitions = partitions
        self._kick = kick
        self._missed: set[int] = set()
        self._telling_again = False

    def on_feed(self, entry: FeedEntry) -> None:
        """Judge by what an entry tells of logins; a `FeedListener`."""
        for ended in entry.ended_tokens:
            for session in self._ledger.ended_elsewhere(ended):
                self._kick(session)
        for login in entry.logins:
            self._execute(self._ledger.heard(login))

    def written(self, batch: HoldBatch, told_ms: Mapping[str, int]) -> None:
        """The store has the batch, and told of new logins at these times: judge what had to wait for that."""
        self._execute(self._ledger.written(batch.states, told_ms))
        for state in batch.states:
            # Where the answer got lost and the write went twice, the second answer has no times.
            if any(not login.at_ms for login in state.logins) and state.user_id not in told_ms:
                self._flusher.changed(state.user_id, state.cause)

    async def missed(self, partition: int) -> None:
        """Entries of a partition were lost: tell of its logins again, so that who knows newer ones answers.

        Where that is under way for others, it is done for this one right after them.
        """
        if not self._ledger.judges:
            return
        self._missed.add(partition)
        if self._telling_again:
            return
        self._telling_again = True
        try:
            while self._missed:
                # Of all partitions one hears at the same moment: let the others come too.
                await asyncio.sleep(0)
                missed, self._missed = self._missed, set()
                await self._tell_again(missed)
        finally:
            self._telling_again = False

    async def _tell_again(self, partitions: set[int]) -> None:
        for looked_at, user_id in enumerate(list(self._registry.users())):
            if looked_at % USERS_A_TURN == USERS_A_TURN - 1:
                await asyncio.sleep(0)
            if partition_of(user_id, self._partitions) in partitions:
                self._ledger.tell_again(self._registry.sessions(user_id))
                for session in self._registry.sessions(user_id):
                    self._flusher.changed(user_id, session.cause)

    def _execute(self, verdict: Verdict) -> None:
        for session in verdict.ended:
            self._kick(session)
        for user_id in verdict.again:
            self._flusher.changed(user_id, Cause())

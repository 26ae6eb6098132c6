"""Whether it is worth calling someone who failed: a circuit breaker without a clock of its own.

Closed, every call may go. A failure opens it: for a while, which doubles with each
further failure, nobody calls and callers fail at once instead of each waiting for
its time limit. After that it is half-open: one caller probes, and the outcome
closes or opens it again.

Invariant: while it is not closed, at most one call is under way.
"""

from adsum.core.backoff import backoff_ms


class Circuit:
    """The circuit to one server. `now_ms` is monotonic; `jitter` is a random number in [0, 1)."""

    def __init__(self, retry_min_ms: int, retry_max_ms: int) -> None:
        self._retry_min_ms = retry_min_ms
        self._retry_max_ms = retry_max_ms
        self._probe_at_ms = 0
        self._probing = False
        self.failures = 0
        """Failures in a row; 0 means closed."""
        self.refused = 0
        """Calls refused since it opened."""

    def admits(self, now_ms: int) -> bool:
        """Whether a call may go now. One that may must end with `succeeded`, `failed` or `given_up`."""
        if self.failures and (self._probing or now_ms < self._probe_at_ms):
            self.refused += 1
            return False
        self._probing = bool(self.failures)
        return True

    def succeeded(self) -> bool:
        """A call was answered; True if that closed the circuit."""
        closed = bool(self.failures)
        self.failures, self._probing = 0, False
        return closed

    def failed(self, now_ms: int, jitter: float) -> bool:
        """A call failed; True if that opened the circuit, False if it was open before."""
        opened = not self.failures
        if opened:
            self.refused = 0
        self.failures += 1
        self._probing = False
        self._probe_at_ms = now_ms + backoff_ms(self.failures, self._retry_min_ms, self._retry_max_ms, jitter)
        return opened

    def given_up(self) -> None:
        """A call's outcome will never be known: the next may try."""
        self._probing = False

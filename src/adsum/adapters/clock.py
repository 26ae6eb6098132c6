"""This machine's clocks."""

import time


class SystemClock:
    """The `Clock` of a running service."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never steps."""
        return time.monotonic_ns() // 1_000_000

    def unix_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

"""How long to wait before trying again."""


def backoff_ms(attempt: int, least_ms: int, most_ms: int, jitter: float) -> int:
    """The wait before retry number `attempt` (1 the first): doubling from `least_ms` up to `most_ms`.

    `jitter` in [0, 1) spreads it over the upper half, so that many who failed at
    once do not come back at once.
    """
    # 2**40 ms is 35 years: a larger exponent says nothing more.
    full_ms: int = min(most_ms, least_ms << min(attempt - 1, 40))
    return full_ms // 2 + int(full_ms / 2 * jitter)

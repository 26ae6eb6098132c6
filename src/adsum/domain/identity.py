"""What a token proves."""

from typing import NamedTuple


class Identity(NamedTuple):
    """What a good token says: whose it is and for which platform.

    `digest` stands for the token where it must be recognised again; `expires_ms`
    is unix time, 0 if it never does.
    """

    user_id: str
    platform_id: int
    digest: bytes
    expires_ms: int

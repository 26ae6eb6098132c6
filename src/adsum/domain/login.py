"""Multi-login policies: which connections of a user a new one ends."""

from collections.abc import Iterable
from enum import IntEnum

from adsum.domain.platforms import PC, Platform, mask_of


class LoginPolicy(IntEnum):
    """OpenIM's `multiLogin.policy` values."""

    KICK_NOBODY = 0
    KICK_SAME_PLATFORM = 1
    KICK_SAME_CLASS = 4
    PC_AND_ONE_OTHER = 5
    """A PC login kicks nobody; any other login kicks every other connection that is not a PC's."""


def kicks(policy: LoginPolicy, newcomer: Platform, other: Platform) -> bool:
    """Whether a login on `newcomer` ends the same user's connection on `other`.

    A connection that shows the same token is the caller's to spare: a client's
    reconnect must not kick itself.
    """
    match policy:
        case LoginPolicy.KICK_NOBODY:
            return False
        case LoginPolicy.KICK_SAME_PLATFORM:
            return newcomer.id == other.id
        case LoginPolicy.KICK_SAME_CLASS:
            return newcomer.kind == other.kind
        case LoginPolicy.PC_AND_ONE_OTHER:  # pragma: no branch  # there is no other
            return PC not in (newcomer.kind, other.kind)


def kicked_platforms(policy: LoginPolicy, newcomer: Platform, platforms: Iterable[Platform]) -> int:
    """The platforms (a mask) whose connections a login on `newcomer` ends."""
    return mask_of(other.id for other in platforms if kicks(policy, newcomer, other))

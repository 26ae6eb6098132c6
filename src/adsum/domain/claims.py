"""Who consumes a partition of the feed in a role, and up to where that is done.

A role is a kind of consumer, such as the webhooks. In each role a partition has at most
one owner, a holder, for as long as that holder's lease in the partition lives; its
cursor is the version up to which everything is done.
"""

from typing import NamedTuple


class Bid(NamedTuple):
    """What a holder says of one partition: all is done up to version `done` (0: nothing new); `take` it if free."""

    partition: int
    take: bool
    done: int = 0


class Claim(NamedTuple):
    """How things stand in one partition after a bid.

    `cursor` is None unless the bidder is the owner; `free` is whether nobody is.
    `version` is the partition's present one; `contenders` are the living holders that
    bid for the role there, the bidder included.
    """

    cursor: int | None
    version: int
    contenders: int
    free: bool

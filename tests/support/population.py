"""Users spread over several nodes, who watch each other, come and go; and what is wrong about what they were told."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from picows import WSError, WSFrame, WSMsgType, WSTransport

from adsum.wire.frames import CODECS
from adsum.wire.protobuf import decode_tips
from tests.e2e.rpc import listed_users
from tests.support.crowd import LIMIT, Member, in_parallel
from tests.support.service import RunningService

ASK_AGAIN_S = 0.3
COMING_AT_ONCE = 50
MAX_SHOWN = 5


class Inhabitant(Member):
    """A client that asks again if told to, counts the offlines it hears, and notes the end of its connection."""

    def __init__(self, user_id: str, platform_id: int, watched: Sequence[str], lost: Callable[..., None]) -> None:
        super().__init__(user_id, CODECS[0])
        self.platform_id = platform_id
        self.watched = watched
        self.offlines: Counter[str] = Counter()
        """By user, how often a push said that they went offline."""
        self._lost = lost

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.BINARY:
            transport.disconnect()
            return
        response = self.codec.decode_response(frame.get_payload_as_bytes(), LIMIT)
        if response.err_code:
            asyncio.get_running_loop().call_later(ASK_AGAIN_S, self.ask)
            return
        for status in decode_tips(response.data):
            self.heard[status.user_id] = status.platform_ids
            if not response.msg_incr and not status.platform_ids:
                self.offlines[status.user_id] += 1

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        del transport
        self.transport = None
        self._lost(self)

    def ask(self) -> None:
        """Watch whom it watches."""
        if self.transport is not None and self.watched:
            self.watch(self.watched)


class Population:
    """Users by name; each has one connection at most. `nodes` are where those who come connect."""

    def __init__(self, nodes: Iterable[RunningService], seed: int) -> None:
        self.nodes = list(nodes)
        self.chance = random.Random(seed)
        self.members: dict[str, Inhabitant] = {}
        self.watched: dict[str, Sequence[str]] = {}

    async def settle_in(self, users: Sequence[str], watched_each: int, node: RunningService | None = None) -> None:
        """Have these users come, each watching so many of them for good."""
        for user in users:
            self.watched[user] = self.chance.sample(users, watched_each) if watched_each else ()
        await self.come_all(users, node)

    async def come_all(self, users: Iterable[str], node: RunningService | None = None) -> None:
        """Have users come, several at once."""
        await in_parallel([lambda user=user: self.come(user, node) for user in users], COMING_AT_ONCE)  # type: ignore[misc]

    async def come(self, user: str, node: RunningService | None = None, platform_id: int = 0) -> bool:
        """Connect a user; whether it was let in."""
        platform_id = platform_id or self.chance.choice((1, 2, 3, 5))
        member = Inhabitant(user, platform_id, self.watched.get(user, ()), self._lost)
        url = (node or self.chance.choice(self.nodes)).url(user, platform_id)
        try:
            await member.connect(url)
        except (WSError, OSError, TimeoutError):
            return False
        self.members[user] = member
        member.ask()
        return True

    def leave(self, user: str) -> None:
        """Cut a user's connection."""
        member = self.members.pop(user, None)
        if member is not None:
            member.drop()

    async def churn(self, users: Sequence[str], a_second: int, until: Callable[[], bool]) -> int:
        """Have a random user reconnect, to a random node, so many times a second; returns how many did."""
        loop = asyncio.get_running_loop()
        started, count = loop.time(), 0
        while not until():
            await asyncio.sleep(max(0.0, started + count / a_second - loop.time()))
            count += 1
            user = self.chance.choice(users)
            self.leave(user)
            # One in ten stays away for a while: until it is chosen again.
            if self.chance.random() < 0.9:
                await self.come(user)
        return count

    def truth(self) -> dict[str, tuple[int, ...]]:
        """Who is connected now, with the platform."""
        return {user: (member.platform_id,) for user, member in self.members.items()}

    def wrong_words(self) -> list[str]:
        """Each last word of a watcher that is not the truth."""
        truth = self.truth()
        return [
            f"{user} heard {member.heard.get(other)} of {other}, which is {truth.get(other, ())}"
            for user, member in self.members.items()
            for other in member.watched
            if member.heard.get(other) != truth.get(other, ())
        ]

    async def wrong_listing(self) -> list[str]:
        """Each user whom the listing of some node shows other than the truth."""
        wrong = []
        for node in self.nodes:
            listed, truth = await listed_users(node.grpc), self.truth()
            wrong += [
                f"{user} is listed as {listed.get(user)}, and is {truth.get(user)}"
                for user in {*listed, *truth}
                if listed.get(user) != truth.get(user)
            ]
        return wrong

    async def comes_true(self, seconds: float = 60) -> None:
        """Wait until not one state is wrong anywhere; fails with what is."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while wrong := self.wrong_words() or await self.wrong_listing():
            shown = "\n".join(wrong[:MAX_SHOWN])
            assert loop.time() < ends, f"{len(wrong)} states are wrong, such as:\n{shown}"
            await asyncio.sleep(0.1)

    def offlines_of(self, users: Iterable[str]) -> Counter[str]:
        """How often each of these was told offline to one who hears it, added up over those connected now."""
        counted: Counter[str] = Counter()
        chosen = set(users)
        for member in self.members.values():
            counted.update({user: count for user, count in member.offlines.items() if user in chosen})
        return counted

    def disperse(self) -> None:
        """Cut every connection."""
        for user in tuple(self.members):
            self.leave(user)

    def _lost(self, member: Inhabitant) -> None:
        if self.members.get(member.user_id) is member:
            del self.members[member.user_id]

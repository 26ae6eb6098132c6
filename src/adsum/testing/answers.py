"""Whether what nodes answer queries is true: no older than it may be, never going back, never behind a write.

An answer from a node's memory may be behind the store by what the feed has still to bring.
It is placed in the user's history as early as can be, so that whatever is complained of
is wrong however the answer came about.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from adsum.domain.presence import Status
from adsum.service.relay import SOUND_LOOKS
from adsum.testing.node import Node


@dataclass(frozen=True, slots=True)
class Moment:
    """A user's platforms from some time on. `by_loss`: because a server lost its state, not because they changed."""

    at_s: float
    mask: int
    by_loss: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A query or a write on its way: when and where it was asked, and how far each user's answers there had come.

    What was so after `since_s` may be answered.
    """

    asked_s: float
    since_s: float
    node: Node
    places: Mapping[str, int]
    losses: Mapping[str, int]


class Answers:
    """Judges answers by the histories of users, which `history` gives."""

    def __init__(
        self,
        now_s: Callable[[], float],
        history: Callable[[str], Sequence[Moment]],
        complain: Callable[[str], None],
    ) -> None:
        self._now_s = now_s
        self._history = history
        self._complain = complain
        self._places: dict[tuple[str, str], int] = {}
        """By node and user: what place in the user's history the node's answers have reached."""
        self._losses: dict[str, int] = {}
        """By user: how often its server has begun another life."""

    def lost(self, users: Iterable[str]) -> None:
        """The users' server has another past: what was answered before does not count."""
        gone = dict.fromkeys(users)
        for user_id in gone:
            self._losses[user_id] = self._losses.get(user_id, 0) + 1
        self._places = {key: place for key, place in self._places.items() if key[1] not in gone}

    def ask(self, node: Node, users: Sequence[str]) -> Question:
        """A query, or a write, of users begins."""
        places = {user: self._places[node.name, user] for user in users if (node.name, user) in self._places}
        now_s = self._now_s()
        return Question(
            now_s, self._since_s(node, now_s), node, places, {user: self._losses.get(user, 0) for user in users}
        )

    def answered(self, question: Question, statuses: Sequence[Status]) -> None:
        """A query was answered: each user was so lately enough, and not before earlier answers."""
        node, since_s = question.node, question.since_s
        for user_id, mask in statuses:
            least = question.places.get(user_id, 0) if self._same(question, user_id) else 0
            moments = self._between(user_id, since_s)
            place = next((place for place, moment in moments if place >= least and moment.mask == mask), None)
            if place is None:
                self._complain(
                    f"a query asked of {node.name} at {question.asked_s:.3f} s answers {user_id}={mask:x}; from place "
                    f"{least} on and {since_s:.3f} s it was {[f'{moment.mask:x}' for _, moment in moments]}"
                )
            else:
                self._reached(question, user_id, place)

    def written(self, question: Question, user_id: str, platform_id: int, *, online: bool) -> None:
        """A platform was set: what is answered from now on there is no older than the write."""
        # When it landed is not known. Set online, the user was on that platform then.
        moments = self._between(user_id, question.asked_s)
        landed = [place for place, moment in moments if not online or moment.mask >> platform_id & 1]
        if landed:
            self._reached(question, user_id, landed[0])

    def _since_s(self, node: Node, now_s: float) -> float:
        """Since when a node knows all that the store has, or knows what it lacks; now if it is in doubt."""
        relay = node.relay
        if relay.sound() is None:
            return now_s
        return max(relay.looked_s, now_s - node.options.look_interval_ms / 1000 * SOUND_LOOKS)

    def _reached(self, question: Question, user_id: str, place: int) -> None:
        if self._same(question, user_id):
            key = (question.node.name, user_id)
            self._places[key] = max(place, self._places.get(key, 0))

    def _same(self, question: Question, user_id: str) -> bool:
        return question.losses[user_id] == self._losses.get(user_id, 0)

    def _between(self, user_id: str, since_s: float) -> list[tuple[int, Moment]]:
        """The places in a user's history that lasted beyond a time, and what the user was there."""
        history = self._history(user_id)
        ends_s = [*(moment.at_s for moment in history[1:]), float("inf")]
        return [(place, moment) for place, moment in enumerate(history) if ends_s[place] >= since_s]

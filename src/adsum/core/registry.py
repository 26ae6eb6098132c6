"""The connections of this gateway, by user, and what a login does to the others.

Connecting and leaving go through here in the order they happen, at once: the mask
of a user is always that of the connections that are registered now.
"""

from collections.abc import Iterable

from adsum.core.session import Session
from adsum.domain.errors import TooManyConnections
from adsum.domain.login import LoginPolicy, kicks


class Registry:
    """At most `max_connections` in all and `max_per_user` for one user, under one login policy."""

    def __init__(self, policy: LoginPolicy, max_connections: int, max_per_user: int) -> None:
        self._policy = policy
        self._max_connections = max_connections
        self._max_per_user = max_per_user
        self._users: dict[str, list[Session]] = {}
        self._count = 0

    def check_room(self, newcomer: Session) -> None:
        """Raise `TooManyConnections` if the newcomer finds no room, those it would kick not counted."""
        kicked = len(self._kicked_by(newcomer))
        if self._count - kicked >= self._max_connections:
            raise TooManyConnections(f"this gateway has {self._max_connections} connections, its limit")
        if len(self._users.get(newcomer.user_id, ())) - kicked >= self._max_per_user:
            raise TooManyConnections(f"this user has {self._max_per_user} connections, the limit for one user")

    def add(self, newcomer: Session) -> list[Session]:
        """Register a connection; returns those its login kicks, which are registered no longer."""
        kicked = self._kicked_by(newcomer)
        for session in kicked:
            self.remove(session)
            newcomer.login_after_ms = max(newcomer.login_after_ms, session.login_ms, session.login_after_ms)
            newcomer.login_tried = newcomer.login_tried or session.login_tried
        self._users.setdefault(newcomer.user_id, []).append(newcomer)
        self._count += 1
        return kicked

    def remove(self, session: Session) -> bool:
        """Forget a connection; False if it was not registered."""
        sessions = self._users.get(session.user_id)
        if sessions is None or session not in sessions:
            return False
        sessions.remove(session)
        if not sessions:
            del self._users[session.user_id]
        self._count -= 1
        return True

    def mask(self, user_id: str) -> int:
        """The platforms the user is connected on here."""
        mask = 0
        for session in self._users.get(user_id, ()):
            mask |= 1 << session.platform.id
        return mask

    def sessions(self, user_id: str) -> Iterable[Session]:
        """The user's connections here."""
        return self._users.get(user_id, ())

    def all_sessions(self) -> list[Session]:
        """Every connection here."""
        return [session for sessions in self._users.values() for session in sessions]

    def users(self) -> list[str]:
        """Every user connected here."""
        return list(self._users)

    def __len__(self) -> int:
        return self._count

    def _kicked_by(self, newcomer: Session) -> list[Session]:
        return [
            session
            for session in self._users.get(newcomer.user_id, ())
            if session.identity.digest != newcomer.identity.digest
            and kicks(self._policy, newcomer.platform, session.platform)
        ]

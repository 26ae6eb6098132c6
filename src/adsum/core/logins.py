"""What logins on other gateways mean for the connections here, and what others must hear of ours.

The store tells all followers of a login when another holder has a platform it ends. A
connection here whose login was before that one is ended; one whose login came after is
told of again, since the other gateway must have missed it. A connection whose own time
the store has not told yet waits for it, and what was heard meanwhile is judged then.

Invariant: of two connections that the policy does not allow side by side, on whatever
gateways, the one that logged in later stays, once both gateways have heard of both.

Two rules make that hold whatever is lost or late: the times told of one login only grow
(after a write with an unknown outcome it counts as made now), and an ended token ends
whoever shows it, and is never judged.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from adsum.core.registry import Registry
from adsum.core.revoked import Revoked
from adsum.core.session import Session
from adsum.domain.login import LoginPolicy, kicked_platforms, kicks
from adsum.domain.platforms import PlatformRegistry
from adsum.domain.presence import Cause, EndedToken, HoldState, Login, OwnLogin


class Verdict(NamedTuple):
    """Connections that a login elsewhere ends, and users whom it missed something of; sets, kept in order."""

    ended: dict[Session, None]
    again: dict[str, None]
    """Users to be told of again."""


class LoginLedger:
    """The logins of the connections in `registry`, and the tokens that logins ended."""

    def __init__(self, policy: LoginPolicy, platforms: PlatformRegistry, registry: Registry) -> None:
        self._policy = policy
        self._platforms = platforms
        self.registry = registry
        self._kicked = {platform.id: kicked_platforms(policy, platform, platforms) for platform in platforms}
        # By user and platform, the latest login elsewhere that a connection here may still have been before.
        self._heard: dict[str, dict[int, Login]] = {}
        self._untold_ends: dict[str, dict[str, None]] = {}
        self._ended = Revoked()

    @property
    def judges(self) -> bool:
        """Whether a login can end another at all."""
        return self._policy is not LoginPolicy.KICK_NOBODY

    def tell(self, user_id: str, cause: Cause, now_ms: int) -> HoldState:
        """What the store is told of a user, before `written` or `failed`; `now_ms` by the clock of `opened_ms`."""
        mask = self.registry.mask(user_id)
        if self._policy is LoginPolicy.KICK_NOBODY:
            return HoldState(user_id, mask, cause)
        untold = [session for session in self.registry.sessions(user_id) if not session.login_told]
        logins = tuple(self._own_login(session, now_ms) for session in untold)
        for session in untold:
            # Already now: whoever is heard of while the write is under way may undo it.
            session.login_told = True
        return HoldState(user_id, mask, cause, logins, tuple(self._untold_ends.get(user_id, ())))

    def written(self, states: Sequence[HoldState], told_ms: Mapping[str, int]) -> Verdict:
        """The store has these states, and told of new logins of these users at these times.

        The verdict is on those that were heard of meanwhile.
        """
        verdict = Verdict({}, {})
        if self._policy is LoginPolicy.KICK_NOBODY:
            return verdict
        for state in states:
            self._forget_told(state)
            self._note_times(state, told_ms.get(state.user_id))
            for login in self._heard.pop(state.user_id, {}).values():
                self._judge(login, verdict)
        return verdict

    def failed(self, states: Iterable[HoldState]) -> None:
        """A write of these states failed; the store may or may not have them, or have them yet."""
        for state in states:
            for session in self.registry.sessions(state.user_id) if state.logins else ():
                session.login_told = False
                # Also where it came after: it may have ended one of those told.
                session.login_tried = not session.login_ms

    def heard(self, login: Login) -> Verdict:
        """A login on another gateway, or one of ours coming round."""
        verdict = Verdict({}, {})
        if self.is_ended(bytes.fromhex(login.token)):
            # Who let it in has missed that.
            self._untold_ends.setdefault(login.user_id, {})[login.token] = None
            verdict.again[login.user_id] = None
        else:
            self._judge(login, verdict)
        return verdict

    def _judge(self, login: Login, verdict: Verdict) -> None:
        for session in self._rivals(login):
            if not session.login_ms:
                waiting = self._heard.setdefault(login.user_id, {})
                known = waiting.get(login.platform_id)
                if known is None or (known.at_ms, known.token) < (login.at_ms, login.token):
                    waiting[login.platform_id] = login
            elif _is_before(session, login):
                verdict.ended[session] = None
            else:
                session.login_told = False
                verdict.again[session.user_id] = None

    def tell_again(self, sessions: Iterable[Session]) -> None:
        """The store, or another gateway, may not know of these logins: they go with the next writes."""
        for session in sessions:
            session.login_told = False

    def end(self, session: Session) -> None:
        """A login ended this connection: its token opens no other, here or, once told, elsewhere."""
        if not self.is_ended(session.identity.digest):
            self._ended.add(session.identity.digest)
            self._untold_ends.setdefault(session.user_id, {})[_token(session)] = None

    def ended_elsewhere(self, ended: EndedToken) -> list[Session]:
        """A login elsewhere ended this token; the connections here that showed it before that was known."""
        self._ended.add(bytes.fromhex(ended.token))
        return [session for session in self.registry.sessions(ended.user_id) if _token(session) == ended.token]

    def is_ended(self, digest: bytes) -> bool:
        """Whether a login ended the token of this digest."""
        return digest in self._ended

    def _own_login(self, session: Session, now_ms: int) -> OwnLogin:
        platform_id = session.platform.id
        return OwnLogin(
            platform_id,
            _token(session),
            self._kicked[platform_id],
            0 if session.login_tried else now_ms - session.opened_ms,
            session.login_after_ms,
            session.login_ms,
        )

    def _rivals(self, login: Login) -> list[Session]:
        """The connections here that the policy does not allow beside this login's."""
        if login.platform_id not in self._platforms:
            return []
        newcomer = self._platforms.get(login.platform_id)
        return [
            session
            for session in self.registry.sessions(login.user_id)
            if _token(session) != login.token and kicks(self._policy, newcomer, session.platform)
        ]

    def _note_times(self, state: HoldState, told_ms: int | None) -> None:
        """`told_ms` is None where the answer with it was lost: new logins then have to be told again."""
        if told_ms is None and any(not login.at_ms for login in state.logins):
            self.failed((state,))
            return
        told = {(login.platform_id, login.token): login.when(told_ms or 0) for login in state.logins}
        latest_ms = max(told.values(), default=0)
        for session in self.registry.sessions(state.user_id):
            if session.login_ms:
                continue
            at_ms = told.get((session.platform.id, _token(session)))
            if at_ms is not None:
                session.login_ms = at_ms
            else:
                # It came while the write was under way, and may have ended one of those told.
                session.login_after_ms = max(session.login_after_ms, latest_ms)

    def _forget_told(self, state: HoldState) -> None:
        untold = self._untold_ends.get(state.user_id)
        if untold is None:
            return
        for token in state.ended_tokens:
            untold.pop(token, None)
        if not untold:
            del self._untold_ends[state.user_id]


def _token(session: Session) -> str:
    return session.identity.digest.hex()


def _is_before(session: Session, login: Login) -> bool:
    return (session.login_ms, _token(session)) < (login.at_ms, login.token)

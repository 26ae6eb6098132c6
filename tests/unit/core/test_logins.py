"""Logins on several gateways: whatever the order of things, one connection stays, and the right one."""

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from adsum.core.logins import LoginLedger, Verdict
from adsum.core.partition import Partition
from adsum.core.registry import Registry
from adsum.core.session import Session
from adsum.domain.login import LoginPolicy
from adsum.domain.presence import Cause, EndedToken, FeedEntry, HoldBatch, HoldState, Login
from tests.support.sessions import PLATFORMS, make_session

NODES = 3
IOS_ID, ANDROID_ID, WINDOWS_ID = 1, 2, 3


def make(policy: LoginPolicy = LoginPolicy.KICK_SAME_PLATFORM) -> LoginLedger:
    return LoginLedger(policy, PLATFORMS, Registry(policy, 100, 100))


def log_in(ledger: LoginLedger, token: str, platform_id: int = IOS_ID, opened_ms: int = 0) -> Session:
    session = make_session("u", platform_id, token)
    session.opened_ms = opened_ms
    ledger.registry.add(session)
    return session


def tell(ledger: LoginLedger, told_ms: int, now_ms: int = 0) -> Verdict:
    """Write the user's present state, and take note of the answer."""
    return ledger.written([ledger.tell("u", Cause(), now_ms)], {"u": told_ms})


def elsewhere(token: str, at_ms: int, platform_id: int = IOS_ID) -> Login:
    return Login("u", platform_id, token.encode().hex(), at_ms)


def test_a_later_login_elsewhere_ends_a_connection_and_an_earlier_one_does_not() -> None:
    """Who is newer here is told of again instead: the other gateway has missed it."""
    ledger = make()
    session = log_in(ledger, "here")
    tell(ledger, told_ms=1_000)
    assert ledger.tell("u", Cause(), 0).logins == ()
    earlier = ledger.heard(elsewhere("there", 999))
    assert (list(earlier.ended), list(earlier.again)) == ([], ["u"])
    (again,) = ledger.tell("u", Cause(), 0).logins
    assert again.at_ms == 1_000
    assert list(ledger.heard(elsewhere("there", 1_001)).ended) == [session]


def test_a_login_is_as_old_as_its_connection() -> None:
    """However late it could be written."""
    ledger = make()
    session = log_in(ledger, "here", opened_ms=5_000)
    tell(ledger, told_ms=90_000, now_ms=7_500)
    assert session.login_ms == 87_500


def test_what_is_heard_before_ones_own_time_is_known_waits() -> None:
    """Nobody is ended on a guess; the verdict comes with the answer to the write."""
    for at_ms, ended in ((999, False), (1_001, True)):
        ledger = make()
        session = log_in(ledger, "here")
        assert ledger.heard(elsewhere("there", at_ms)) == Verdict({}, {})
        verdict = tell(ledger, told_ms=1_000)
        assert (session in verdict.ended, "u" in verdict.again) == (ended, not ended)


@pytest.mark.parametrize("heard_ms", [(500, 1_500), (1_500, 500)])
def test_of_those_heard_while_waiting_the_latest_counts(heard_ms: tuple[int, int]) -> None:
    ledger = make()
    session = log_in(ledger, "here")
    for at_ms in heard_ms:
        ledger.heard(elsewhere(f"at {at_ms}", at_ms))
    assert tell(ledger, told_ms=1_000) == Verdict({session: None}, {})


def test_the_same_token_and_other_platforms_are_spared() -> None:
    ledger = make()
    log_in(ledger, "here")
    tell(ledger, told_ms=1_000)
    assert ledger.heard(elsewhere("here", 2_000)) == Verdict({}, {})
    assert ledger.heard(elsewhere("there", 2_000, ANDROID_ID)) == Verdict({}, {})
    assert ledger.heard(elsewhere("there", 2_000, 61)) == Verdict({}, {}), "a platform that is unknown here"


def test_a_login_that_ended_another_here_is_after_it() -> None:
    """Also if the answers to their writes had it the other way round."""
    ledger = make()
    log_in(ledger, "one")
    tell(ledger, told_ms=1_000)
    two = log_in(ledger, "two")
    tell(ledger, told_ms=990)
    assert two.login_ms == 1_001


def test_a_login_is_after_one_that_was_being_written_when_it_ended_it() -> None:
    ledger = make()
    log_in(ledger, "one")
    flight = [ledger.tell("u", Cause(), 0)]
    two = log_in(ledger, "two")
    ledger.written(flight, {"u": 1_000})
    tell(ledger, told_ms=990)
    assert two.login_ms == 1_001


@pytest.mark.parametrize("lost", ["the answer", "the times"])
def test_a_login_with_an_unknown_outcome_is_told_again_as_made_now(lost: str) -> None:
    """It may be known by any time up to now, and the times told of one login only grow.

    (The second answer to a write that went twice has no times.)
    """
    ledger = make()
    session = log_in(ledger, "here", opened_ms=1_000)
    state = ledger.tell("u", Cause(), 1_500)
    assert ledger.tell("u", Cause(), 1_500).logins == (), "it is being told"
    if lost == "the answer":
        ledger.failed([state])
    else:
        ledger.written([state], {})
    assert session.login_ms == 0
    (again,) = ledger.tell("u", Cause(), 2_000).logins
    assert (state.logins[0].age_ms, again.age_ms) == (500, 0)


def test_who_ends_a_login_with_an_unknown_outcome_is_after_it() -> None:
    """Whether it came before that was known or after."""
    ledger = make()
    log_in(ledger, "one")
    state = ledger.tell("u", Cause(), 0)
    log_in(ledger, "two")
    ledger.failed([state])
    log_in(ledger, "three", opened_ms=10)
    (login,) = ledger.tell("u", Cause(), 500).logins
    assert login.token == b"three".hex()
    assert login.age_ms == 0


def test_one_who_is_newer_while_told_again_is_told_once_more() -> None:
    """What was on its way when the older login was heard of may have been told to nobody."""
    ledger = make()
    session = log_in(ledger, "here")
    tell(ledger, told_ms=1_000)
    ledger.tell_again([session])
    state = ledger.tell("u", Cause(), 0)
    ledger.heard(elsewhere("there", 999))
    ledger.written([state], {})
    assert len(ledger.tell("u", Cause(), 0).logins) == 1


def test_an_ended_token_is_never_judged() -> None:
    """Its login, heard of late or made where that was not known, ends nobody; who let it in is told of the end."""
    ledger = make()
    log_in(ledger, "here")
    tell(ledger, told_ms=1_000)
    ledger.ended_elsewhere(EndedToken("u", b"there".hex()))
    assert ledger.heard(elsewhere("there", 2_000)) == Verdict({}, {"u": None})
    assert ledger.tell("u", Cause(), 0).ended_tokens == (b"there".hex(),)


def test_ended_tokens_are_told_until_the_store_has_them() -> None:
    """And are refused here at once."""
    ledger = make()
    session = log_in(ledger, "here")
    ledger.end(session)
    assert ledger.is_ended(b"here")
    state = ledger.tell("u", Cause(), 0)
    assert state.ended_tokens == (b"here".hex(),)
    ledger.written([state], {"u": 1_000})
    assert ledger.tell("u", Cause(), 0).ended_tokens == ()
    other = make()
    there = log_in(other, "here")
    log_in(other, "there", ANDROID_ID)
    assert other.ended_elsewhere(EndedToken("u", state.ended_tokens[0])) == [there], "who shows it is ended too"
    assert other.is_ended(b"here")
    other.end(there)
    assert other.tell("u", Cause(), 0).ended_tokens == (), "everybody has heard of it"


def test_without_a_policy_nothing_is_told() -> None:
    ledger = make(LoginPolicy.KICK_NOBODY)
    log_in(ledger, "here")
    assert ledger.tell("u", Cause(), 0) == HoldState("u", 1 << IOS_ID)


class Node:
    """A gateway's ledger, the write it has under way, and the entries on their way to it."""

    def __init__(self, name: str, policy: LoginPolicy) -> None:
        self.name = name
        self.ledger = make(policy)
        self.dirty = False
        self.seq = 0
        self.flight: HoldBatch | None = None
        self.answer: dict[str, int] | None = None
        self.feed: deque[FeedEntry] = deque()
        self.late: list[HoldBatch] = []
        """Writes that were given up and have not arrived."""

    def execute(self, verdict: Verdict) -> None:
        for session in verdict.ended:
            self.ledger.registry.remove(session)
            self.ledger.end(session)
        self.dirty = self.dirty or bool(verdict.ended or verdict.again)


class LoginsMachine(RuleBasedStateMachine):
    """Gateways whose writes, answers and feeds go at any pace: in the end the policy holds over all of them."""

    policy = LoginPolicy.KICK_SAME_PLATFORM

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000
        self.store = Partition(0, 1, 60_000, 1_000)
        self.nodes = [Node(f"n{index}", self.policy) for index in range(NODES)]
        self.last: dict[int, Session] = {}

    @rule(ms=st.integers(1, 5))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @rule(index=st.integers(0, NODES - 1), platform_id=st.sampled_from([IOS_ID, ANDROID_ID, WINDOWS_ID]))
    def log_in(self, index: int, platform_id: int) -> None:
        node = self.nodes[index]
        session = make_session("u", platform_id)
        session.opened_ms = self.now_ms
        for kicked in node.ledger.registry.add(session):
            node.ledger.end(kicked)
        node.dirty = True
        self.last[platform_id] = session

    @rule(index=st.integers(0, NODES - 1))
    def write(self, index: int) -> None:
        """The node sends its state."""
        node = self.nodes[index]
        if not node.dirty or node.flight is not None:
            return
        node.dirty = False
        node.seq += 1
        state = node.ledger.tell("u", Cause(), self.now_ms)
        node.flight = HoldBatch(node.name, 0, node.seq, f"op-{node.name}-{node.seq}", (state,))

    def land(self, batch: HoldBatch) -> dict[str, int]:
        """The store takes a write."""
        written = self.store.write_holds(batch, batch.states, self.now_ms)
        if written.entry is not None:
            for other in self.nodes:
                other.feed.append(written.entry)
        return written.told_ms

    @rule(index=st.integers(0, NODES - 1))
    def arrive(self, index: int) -> None:
        """The write arrives; its answer is on its way."""
        node = self.nodes[index]
        if node.flight is not None and node.answer is None:
            node.answer = self.land(node.flight)

    @rule(index=st.integers(0, NODES - 1))
    def give_up(self, index: int) -> None:
        """The node waits no longer: the write may have landed, or does so later."""
        node = self.nodes[index]
        if node.flight is not None:
            if node.answer is None:
                node.late.append(node.flight)
            node.ledger.failed(node.flight.states)
            node.flight = node.answer = None
            node.dirty = True

    @rule(index=st.integers(0, NODES - 1))
    def arrive_late(self, index: int) -> None:
        node = self.nodes[index]
        if node.late:
            self.land(node.late.pop(0))

    @rule(index=st.integers(0, NODES - 1))
    def tell_again(self, index: int) -> None:
        """As after a lost lease, or a part of the feed that is no longer kept."""
        node = self.nodes[index]
        node.ledger.tell_again(node.ledger.registry.sessions("u"))
        node.dirty = True

    @rule(index=st.integers(0, NODES - 1))
    def hear_answer(self, index: int) -> None:
        node = self.nodes[index]
        if node.flight is not None and node.answer is not None:
            flight, answer = node.flight, node.answer
            node.flight = node.answer = None
            node.execute(node.ledger.written(flight.states, answer))
            if any(not login.at_ms for login in flight.states[0].logins) and not answer:
                node.dirty = True

    @rule(index=st.integers(0, NODES - 1))
    def hear_feed(self, index: int) -> None:
        node = self.nodes[index]
        if node.feed:
            entry = node.feed.popleft()
            for ended in entry.ended_tokens:
                node.execute(Verdict(dict.fromkeys(node.ledger.ended_elsewhere(ended)), {}))
            for login in entry.logins:
                node.execute(node.ledger.heard(login))

    def teardown(self) -> None:
        for _ in range(100):
            for index in range(NODES):
                self.arrive_late(index)
                self.write(index)
                self.arrive(index)
                self.hear_answer(index)
                self.hear_feed(index)
        assert not any(node.dirty or node.flight or node.feed for node in self.nodes), "it comes to rest"
        left = [session for node in self.nodes for session in node.ledger.registry.sessions("u")]
        self.check(left)

    def check(self, left: list[Session]) -> None:
        platforms = [session.platform.id for session in left]
        assert sorted(platforms) == sorted(self.last), "one of each platform"


class ClassMachine(LoginsMachine):
    policy = LoginPolicy.KICK_SAME_CLASS

    def check(self, left: list[Session]) -> None:
        kinds = [session.platform.kind for session in left]
        assert len(set(kinds)) == len(kinds), "one of each class"
        assert set(kinds) == {session.platform.kind for session in self.last.values()}


TestLoginsMachine = pytest.mark.timeout(120)(LoginsMachine.TestCase)
TestClassMachine = pytest.mark.timeout(120)(ClassMachine.TestCase)
TestLoginsMachine.settings = TestClassMachine.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None
)

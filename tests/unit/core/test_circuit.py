"""The circuit breaker: callers of the dead fail at once, and one of them finds out when the dead are back."""

from hypothesis import given
from hypothesis import strategies as st

from adsum.core.circuit import Circuit


def test_closed_everybody_may_call() -> None:
    """Nothing is held back from a server that answers."""
    circuit = Circuit(100, 1_000)
    assert all(circuit.admits(now_ms) for now_ms in range(5))
    assert not circuit.succeeded()
    assert circuit.refused == 0


def test_a_failure_opens_it_for_a_while() -> None:
    """Callers fail at once until the wait is over."""
    circuit = Circuit(100, 1_000)
    assert circuit.failed(0, 0.0)
    assert not circuit.admits(0)
    assert not circuit.admits(49)
    assert circuit.admits(50)
    assert circuit.refused == 2


def test_half_open_one_probes() -> None:
    """While one finds out, the others fail at once; its outcome decides for all."""
    circuit = Circuit(100, 1_000)
    circuit.failed(0, 0.0)
    assert circuit.admits(50)
    assert not circuit.admits(50)
    assert circuit.succeeded()
    assert circuit.admits(51)
    assert circuit.admits(51)


def test_a_probe_that_fails_makes_the_wait_longer() -> None:
    """The wait doubles up to its limit, and only the first failure is news."""
    circuit = Circuit(100, 400)
    now_ms = 0
    waits = []
    for attempt in range(6):
        assert circuit.failed(now_ms, 0.0) == (attempt == 0)
        wait = next(wait for wait in range(1_000) if circuit.admits(now_ms + wait))
        waits.append(wait)
        now_ms += wait
    assert waits == [50, 100, 200, 200, 200, 200]


def test_a_probe_that_is_given_up_lets_the_next_try() -> None:
    """Whoever probes may be cancelled: the circuit does not stay half-open for ever."""
    circuit = Circuit(100, 1_000)
    circuit.failed(0, 0.0)
    assert circuit.admits(50)
    circuit.given_up()
    assert circuit.admits(51)


@given(st.lists(st.tuples(st.sampled_from(["call", "ok", "fail", "give up"]), st.integers(0, 300))))
def test_at_most_one_calls_while_it_is_not_closed(steps: list[tuple[str, int]]) -> None:
    """Whatever happens, and whenever."""
    circuit = Circuit(50, 500)
    now_ms, under_way = 0, 0
    for step, passed_ms in steps:
        now_ms += passed_ms
        if step == "call":
            was_open = bool(circuit.failures)
            if circuit.admits(now_ms):
                assert not (was_open and under_way)
                under_way += was_open
            continue
        if step == "ok":
            circuit.succeeded()
        elif step == "fail":
            circuit.failed(now_ms, 0.5)
        else:
            circuit.given_up()
        under_way = 0

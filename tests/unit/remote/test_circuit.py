"""When a server gets requests."""

from app.remote.circuit import MOST_FAILURES, Circuit


def state(circuit: Circuit) -> str:
    """A function, because mypy does not see that a method changes it."""
    return circuit.state


def found_well() -> Circuit:
    circuit = Circuit()
    circuit.found_well()
    return circuit


def test_it_is_down_until_it_has_answered() -> None:
    assert Circuit().state == "down"
    assert found_well().state == "up"


def test_failures_in_a_row_take_it_out() -> None:
    circuit = found_well()
    for _ in range(MOST_FAILURES - 1):
        circuit.failed(surely=False)
    assert state(circuit) == "up"
    circuit.answered()
    for _ in range(MOST_FAILURES - 1):
        circuit.failed(surely=False)
    assert state(circuit) == "up"
    circuit.failed(surely=False)
    assert state(circuit) == "down"
    assert circuit.failures == 2 * MOST_FAILURES - 1


def test_one_that_surely_cannot_answer_is_out_at_once() -> None:
    circuit = found_well()
    circuit.failed(surely=True)
    assert state(circuit) == "down"


def test_the_first_answer_after_it_was_down_decides() -> None:
    circuit = found_well()
    circuit.failed(surely=True)
    circuit.found_well()
    assert state(circuit) == "trial"
    circuit.failed(surely=False)
    assert state(circuit) == "down"
    circuit.found_well()
    circuit.began()
    assert state(circuit) == "up"
    circuit.failed(surely=False)
    assert state(circuit) == "down", "it began and did not end"
    circuit.found_well()
    circuit.began()
    circuit.answered()
    circuit.failed(surely=False)
    assert state(circuit) == "up"

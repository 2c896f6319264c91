"""Admission: bounded by places and by tokens, and a refusal says when to come again."""

import pytest

from app.contract.engine import Capacity
from app.contract.errors import Overloaded
from app.serving.admission import KV_OVERBOOKING, Admission, Limits, TokenRate

CAPACITY = Capacity(sequences=2, kv_tokens=100)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_places_are_those_that_run_and_those_that_wait() -> None:
    admission = Admission(max_waiting=1)
    inside = [admission.enter(CAPACITY) for _ in range(3)]
    with pytest.raises(Overloaded, match="full: 2 running, 1 queued"):
        admission.enter(CAPACITY)
    inside[0].release()
    inside[0].release()  # twice frees one place, not two
    admission.enter(CAPACITY)
    with pytest.raises(Overloaded):
        admission.enter(CAPACITY)


def test_what_remains_is_what_nobody_holds() -> None:
    admission = Admission(max_waiting=3)
    assert admission.limits(CAPACITY) == Limits(requests=5, remaining_requests=5, tokens=400, remaining_tokens=400)
    with admission.enter(CAPACITY) as inside:
        inside.take(10, 20, CAPACITY)
        assert admission.limits(CAPACITY) == Limits(
            requests=5, remaining_requests=4, tokens=400, remaining_tokens=370
        )
    assert admission.limits(CAPACITY).remaining_requests == 5


def test_tokens_are_bounded_and_given_back() -> None:
    admission = Admission(max_waiting=100)
    bound = CAPACITY.kv_tokens * KV_OVERBOOKING
    with admission.enter(CAPACITY) as first:
        first.take(10, bound - 20, CAPACITY)
        with admission.enter(CAPACITY) as second, pytest.raises(Overloaded, match=f"of {bound} tokens"):
            second.take(6, 5, CAPACITY)
        with admission.enter(CAPACITY) as third:
            third.take(5, 5, CAPACITY)  # what was refused holds nothing
    with admission.enter(CAPACITY) as fourth:
        fourth.take(0, bound, CAPACITY)


def test_the_wait_follows_from_what_is_outstanding_and_the_measured_rate() -> None:
    clock = Clock()
    admission = Admission(max_waiting=0, clock=clock)
    one, two = admission.enter(CAPACITY), admission.enter(CAPACITY)
    one.take(10, 60, CAPACITY)
    two.take(10, 60, CAPACITY)
    with pytest.raises(Overloaded) as nothing_measured:
        admission.enter(CAPACITY)
    assert nothing_measured.value.retry_after == 3  # 60 tokens for each, at the assumed 20 per second
    for reservation in (one, two):  # 40 tokens within one second; 40 for each are left
        for _ in range(20):
            reservation.count_token()
    with pytest.raises(Overloaded) as measured:
        admission.enter(CAPACITY)
    assert measured.value.retry_after == 1
    clock.now += 3600  # an hour ago says nothing about now
    one.count_token()
    with pytest.raises(Overloaded) as slow:
        admission.enter(CAPACITY)
    assert slow.value.retry_after == 40  # 79 tokens at 1 per second, shared by two


def test_the_wait_is_bounded() -> None:
    big = Capacity(sequences=1, kv_tokens=1_000_000)
    admission = Admission(max_waiting=0)
    with admission.enter(big) as long:
        for _ in range(2000):
            long.count_token()
    admission.rate = TokenRate()  # at the assumed rate again
    admission.enter(big).take(1, 1_000_000, big)
    with pytest.raises(Overloaded) as refusal:
        admission.enter(big)
    assert refusal.value.retry_after == 60


def test_32_chats_without_max_tokens_are_taken_at_once() -> None:
    """The embedded model's cache. Each may use its whole context of 8,192 tokens and uses some hundreds."""
    embedded = Capacity(sequences=32, kv_tokens=24_576)
    admission = Admission(max_waiting=0)
    for _ in range(32):
        admission.enter(embedded).take(70, 8122, embedded)
    assert admission.limits(embedded).remaining_tokens > 0


def test_what_is_reserved_for_an_answer_follows_the_last_answers() -> None:
    capacity = Capacity(sequences=4, kv_tokens=10_000)
    admission = Admission(max_waiting=0)
    for length in (400, 600):
        with admission.enter(capacity) as reservation:
            for _ in range(length):
                reservation.count_token()
    before = admission.limits(capacity).remaining_tokens
    with admission.enter(capacity) as reservation:
        reservation.take(10, 8000, capacity)
        assert before - admission.limits(capacity).remaining_tokens == 10 + 2 * 500
    with admission.enter(capacity) as reservation:
        reservation.take(10, 30, capacity)
        assert before - admission.limits(capacity).remaining_tokens == 10 + 30, "never more than its max_tokens"

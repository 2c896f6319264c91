"""Admission: bounded by number, by prompt tokens and by the expected wait; a refusal says when to come again."""

import pytest

from app.contract.engine import Capacity
from app.contract.errors import Overloaded, PromptTooLong
from app.contract.events import Timings, Usage
from app.contract.terms import NO_TERMS, Terms
from app.serving.admission import PROMPT_CACHES, Admission, Limits, Reservation, Size

CAPACITY = Capacity(sequences=2, kv_tokens=1000)


def admit(
    admission: Admission,
    prompt: int,
    longest: int,
    capacity: Capacity = CAPACITY,
    tenant: str = "a",
    *,
    terms: Terms = NO_TERMS,
) -> Reservation:
    reservation = admission.enter(capacity, tenant, terms)
    admission.take([reservation], [Size(prompt, longest)], capacity)
    return reservation


def answer(reservation: Reservation, tokens: int, gap: float, prefill: float = 0.0) -> None:
    """A whole answer, a token every `gap` seconds."""
    for _ in range(tokens):
        reservation.count_tokens(1)
    timings = Timings(prefill=prefill, decode=(tokens - 1) * gap)
    reservation.count_speed(Usage(reservation.prompt_tokens, tokens), timings)
    reservation.count_length()
    reservation.release()


class TestNumber:
    def test_places_are_those_that_run_and_those_that_wait(self) -> None:
        admission = Admission(max_waiting=1, max_wait=60)
        inside = [admission.enter(CAPACITY, "a") for _ in range(3)]
        with pytest.raises(Overloaded, match=r"are 3 requests of this API key, .* may be 3 at"):
            admission.enter(CAPACITY, "a")
        inside[0].release()
        inside[0].release()  # twice frees one place, not two
        admission.enter(CAPACITY, "a")
        with pytest.raises(Overloaded):
            admission.enter(CAPACITY, "a")

    def test_what_remains_is_what_nobody_holds(self) -> None:
        admission = Admission(max_waiting=3, max_wait=60)
        everything = Limits(requests=5, remaining_requests=5, tokens=4000, remaining_tokens=4000)
        assert admission.limits(CAPACITY, "a") == everything
        with admit(admission, 10, 20):
            held = Limits(requests=5, remaining_requests=4, tokens=4000, remaining_tokens=3990)
            assert admission.limits(CAPACITY, "a") == held
        assert admission.limits(CAPACITY, "a") == everything

    def test_the_retry_is_when_the_first_answer_is_expected_to_end(self) -> None:
        admission = Admission(max_waiting=0, max_wait=60)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        early, late = admit(admission, 10, 900), admit(admission, 10, 900)
        for _ in range(60):
            early.count_tokens(1)
        late.count_tokens(1)
        with pytest.raises(Overloaded) as refusal:
            admission.enter(CAPACITY, "a")
        assert refusal.value.retry_after == 20  # 40 tokens of the expected 100, at two tokens a second

    def test_the_retry_is_bounded(self) -> None:
        admission = Admission(max_waiting=0, max_wait=60)
        capacity = Capacity(sequences=1, kv_tokens=1_000_000)
        admission.enter(capacity, "a")
        with pytest.raises(Overloaded) as now:
            admission.enter(capacity, "a")
        assert now.value.retry_after == 1
        patient = Admission(max_waiting=0, max_wait=60)
        admit(patient, 900_000, 10_000, capacity)
        with pytest.raises(Overloaded) as much_later:
            patient.enter(capacity, "a")
        assert much_later.value.retry_after == 600


class TestPrompts:
    def test_their_tokens_are_bounded_and_given_back(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        bound = CAPACITY.kv_tokens * PROMPT_CACHES
        with admit(admission, bound - 5, 20):
            with pytest.raises(
                Overloaded, match=f"have {bound - 5} tokens, this request's have 6: .* may have {bound} at"
            ):
                admit(admission, 6, 5)
            admit(admission, 5, 5).release()
        admit(admission, bound, 1)

    def test_the_retry_is_when_enough_of_them_are_expected_to_have_ended(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        for _ in range(4):
            admit(admission, 1000, 20)  # one after the other: each fills the cache, and takes 2 seconds
        with pytest.raises(Overloaded) as little:
            admit(admission, 500, 20)
        with pytest.raises(Overloaded) as much:
            admit(admission, 2500, 20)
        assert (little.value.retry_after, much.value.retry_after) == (2, 6)


class TestWait:
    def test_a_long_wait_is_refused_and_a_short_one_is_not(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)  # each takes 50 seconds
        for _ in range(4):  # two run, two wait for 50 seconds
            admit(admission, 10, 900)
        with pytest.raises(Overloaded, match="begin in about 100 seconds, and may wait for 60") as refusal:
            admit(admission, 10, 900)
        assert refusal.value.retry_after == 40

    def test_nothing_is_refused_for_a_time_that_is_a_guess(self) -> None:
        admission = Admission(max_waiting=100, max_wait=1)
        first, *_ = [admit(admission, 10, 900) for _ in range(50)]
        answer(first, tokens=100, gap=0.5)
        with pytest.raises(Overloaded):
            admit(admission, 10, 900)

    def test_clients_that_leave_do_not_make_answers_short(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        for _ in range(200):
            with admit(admission, 10, 900) as left:
                left.count_tokens(1)
        for _ in range(4):
            admit(admission, 10, 900)
        with pytest.raises(Overloaded, match="about 100 seconds"):
            admit(admission, 10, 900)

    def test_short_answers_wait_less(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        for _ in range(20):  # at most five tokens each, so 2.5 seconds
            admit(admission, 10, 5)
        admit(admission, 10, 900)

    def test_a_long_prompt_is_waited_for(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        answer(admit(admission, 100, 10), tokens=2, gap=0.01, prefill=20.0)
        for _ in range(2):
            admit(admission, 400, 10)
        with pytest.raises(Overloaded, match="about 81 seconds"):
            admit(admission, 10, 10)

    def test_the_answers_to_one_request_wait_for_each_other(self) -> None:
        admission = Admission(max_waiting=100, max_wait=1)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        reservations = [admission.enter(CAPACITY, "a") for _ in range(16)]
        admission.take(reservations, [Size(10, 900)] * 16, CAPACITY)
        with pytest.raises(Overloaded):
            admit(admission, 10, 900)

    def test_what_was_refused_holds_nothing(self) -> None:
        admission = Admission(max_waiting=100, max_wait=1)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        admit(admission, 10, 900), admit(admission, 10, 900)
        before = admission.limits(CAPACITY, "a")
        with admission.enter(CAPACITY, "a") as refused, pytest.raises(Overloaded):
            admission.take([refused], [Size(10, 900)], CAPACITY)
        assert admission.limits(CAPACITY, "a") == before


def test_32_chats_without_max_tokens_are_taken_at_once() -> None:
    """The embedded model's cache. Each may use its whole context of 8,192 tokens and uses some hundreds."""
    embedded = Capacity(sequences=32, kv_tokens=24_576)
    admission = Admission(max_waiting=0, max_wait=60)
    answer(admit(admission, 70, 8122, embedded), tokens=200, gap=0.1)
    for _ in range(32):
        admit(admission, 70, 8122, embedded)


class TestShares:
    def test_a_flood_leaves_every_other_tenant_an_equal_share(self) -> None:
        admission = Admission(max_waiting=10, max_wait=60)
        flood = [admit(admission, 300, 900, tenant="flood") for _ in range(12)]
        with pytest.raises(Overloaded):
            admission.enter(CAPACITY, "flood")
        for tenants, tenant in enumerate(("blue", "red", "green"), start=2):
            for _ in range(12 // tenants):
                admission.enter(CAPACITY, tenant)
            with pytest.raises(
                Overloaded, match=f"are {12 // tenants} requests of this API key, .* {12 // tenants} at"
            ):
                admission.enter(CAPACITY, tenant)
        flood[0].release()
        with pytest.raises(Overloaded, match=r"are 11 requests of this API key, .* may be 3 at"):
            admission.enter(CAPACITY, "flood")

    def test_so_it_is_with_the_tokens_of_prompts(self) -> None:
        admission = Admission(max_waiting=100, max_wait=60)
        admit(admission, 4000, 10, tenant="flood")
        admit(admission, 2000, 10, tenant="other")
        with pytest.raises(Overloaded, match=r"have 2000 tokens, this request's have 1: .* may have 2000 at"):
            admit(admission, 1, 10, tenant="other")

    def test_who_has_nothing_inside_does_not_wait_for_a_flood(self) -> None:
        admission = Admission(max_waiting=100, max_wait=1)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        for _ in range(2):
            admit(admission, 10, 900, tenant="flood")
        with pytest.raises(Overloaded, match="begin in about"):
            admit(admission, 10, 900, tenant="flood")
        admit(admission, 10, 900, tenant="other")

    def test_a_tenant_is_told_its_own_share(self) -> None:
        admission = Admission(max_waiting=10, max_wait=60)
        for _ in range(5):
            admit(admission, 100, 10, tenant="flood")
        assert admission.limits(CAPACITY, "flood") == Limits(12, 7, 4000, 3500)
        assert admission.limits(CAPACITY, "other") == Limits(6, 6, 2000, 2000)


class TestTerms:
    """What an API key may have, on a server that has room for more."""

    def test_a_key_with_its_own_limit_of_requests_gets_no_more(self) -> None:
        admission, terms = Admission(max_waiting=10, max_wait=60), Terms(requests=2)
        answer(admit(admission, 10, 900), tokens=100, gap=0.5)
        early, _ = [admit(admission, 10, 900, terms=terms) for _ in range(2)]
        for _ in range(60):
            early.count_tokens(1)
        with pytest.raises(Overloaded, match="are 2 requests of this API key inside, and its limit is 2") as refusal:
            admission.enter(CAPACITY, "a", terms)
        assert refusal.value.retry_after == 20, "when its first answer is expected to end"
        admission.enter(CAPACITY, "other")
        early.release()
        admission.enter(CAPACITY, "a", terms)

    def test_a_key_with_its_own_limit_of_prompt_tokens_gets_no_more(self) -> None:
        admission, terms = Admission(max_waiting=10, max_wait=60), Terms(prompt_tokens=100)
        first = admit(admission, 60, 10, terms=terms)
        with pytest.raises(Overloaded, match="have 60 tokens, this request's have 41: the limit of this key is 100"):
            admit(admission, 41, 10, terms=terms)
        admit(admission, 41, 10, tenant="other")
        admit(admission, 40, 10, terms=terms).release()
        first.release()
        admit(admission, 100, 10, terms=terms)

    def test_a_prompt_that_a_key_may_never_have_is_no_reason_to_come_again(self) -> None:
        with pytest.raises(PromptTooLong, match="have 101 tokens, and this API key's limit is 100") as refusal:
            admit(Admission(max_waiting=10, max_wait=60), 101, 10, terms=Terms(prompt_tokens=100))
        assert refusal.value.retry_after is None

    def test_a_key_is_told_the_lesser_of_its_limit_and_its_share(self) -> None:
        admission = Admission(max_waiting=10, max_wait=60)
        admit(admission, 30, 10, terms=Terms(2, 100))
        assert admission.limits(CAPACITY, "a", Terms(2, 100)) == Limits(2, 1, 100, 70)
        assert admission.limits(CAPACITY, "a", Terms(500, 100_000)) == Limits(12, 11, 4000, 3970)


def test_an_answer_whose_prompt_was_not_counted_has_the_size_that_was_reserved() -> None:
    admission = Admission(max_waiting=1, max_wait=60)
    reservation = admit(admission, 100, 20)
    reservation.count_speed(Usage(0, 11), Timings(upstream=1.0, decode=1.0))
    assert admission.speed.seconds(100, 10) == pytest.approx(2.0)

"""What was measured lately, and what is expected from it."""

import pytest

from app.serving.speed import AnswerLengths, Speed


class TestAnswerLengths:
    def test_an_answer_is_expected_to_be_as_long_as_the_last_ones(self) -> None:
        lengths = AnswerLengths()
        assert lengths.remaining(0, 8000) == 512, "nothing was measured"
        for tokens in (100, 300):
            lengths.count(tokens)
        assert lengths.remaining(0, 8000) == 200
        assert lengths.remaining(0, 30) == 30, "never more than its max_tokens"

    def test_one_that_runs_is_compared_with_those_that_were_longer(self) -> None:
        lengths = AnswerLengths()
        for tokens in (10, 10, 10, 1000):
            lengths.count(tokens)
        assert lengths.remaining(50, 8000) == 950
        assert lengths.remaining(1000, 8000) == 1000, "longer than all: as long again"
        assert lengths.remaining(1000, 1400) == 400
        assert lengths.remaining(1400, 1400) == 1

    def test_old_answers_are_forgotten(self) -> None:
        lengths = AnswerLengths()
        for tokens in [8000] * 100 + [20] * 64:
            lengths.count(tokens)
        assert lengths.remaining(0, 8000) == 20


class TestSpeed:
    def test_a_speed_is_measured_from_the_second_token_on(self) -> None:
        speed = Speed()
        assert not speed.measured
        assert speed.seconds(1000, 20) == pytest.approx(2.0)
        speed.count_gap(0.5)
        assert speed.measured
        assert speed.seconds(0, 20) == pytest.approx(10.0)

    def test_it_follows_what_changes(self) -> None:
        speed = Speed()
        for gap in [0.01] * 1000 + [0.1] * 1500:
            speed.count_gap(gap)
        assert speed.seconds(0, 100) == pytest.approx(10.0, rel=0.01)

    def test_prompts_take_what_the_last_ones_took_per_token(self) -> None:
        speed = Speed()
        speed.count_prefill(10, 1.0)
        speed.count_prefill(90, 1.0)
        assert speed.seconds(100, 0) == pytest.approx(2.0)

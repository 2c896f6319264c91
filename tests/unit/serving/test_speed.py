"""What was measured lately, and what is expected from it."""

import pytest

from app.contract.events import Timings, Usage
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
    def test_it_is_measured_once_an_answer_has_two_tokens(self) -> None:
        speed = Speed()
        speed.count(Usage(10, 1), Timings(prefill=1.0))
        assert not speed.measured
        assert speed.seconds(1000, 20) == pytest.approx(2.0)
        speed.count(Usage(10, 21), Timings(prefill=1.0, decode=10.0))
        assert speed.measured
        assert speed.seconds(0, 20) == pytest.approx(10.0)
        assert speed.seconds(100, 0) == pytest.approx(10.0)

    def test_it_follows_what_changes(self) -> None:
        speed = Speed()
        for gap in [0.01] * 100 + [0.1] * 64:
            speed.count(Usage(10, 11), Timings(decode=10 * gap))
        assert speed.seconds(0, 100) == pytest.approx(10.0)

    def test_each_token_weighs_the_same(self) -> None:
        speed = Speed()
        speed.count(Usage(10, 2), Timings(prefill=1.0, decode=1.0))
        speed.count(Usage(90, 100), Timings(prefill=1.0, decode=9.0))
        assert speed.seconds(100, 0) == pytest.approx(2.0)
        assert speed.seconds(0, 100) == pytest.approx(10.0)

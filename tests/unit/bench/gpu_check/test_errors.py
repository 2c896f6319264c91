"""One finding of many cases is as good as the worst of them."""

import pytest
import torch

from bench.gpu_check.errors import relative, worst


def test_the_worst_case_is_said() -> None:
    row = worst("a kernel", {"1 row": 0.001, "8 rows": 0.003, "64 rows": 0.002}, 0.01)
    assert (row.value, row.ok) == (0.003, True)
    assert "8 rows" in row.note


@pytest.mark.parametrize("error", [0.01, float("inf"), float("nan")])
def test_one_wrong_case_fails_it_and_is_said(error: float) -> None:
    row = worst("a kernel", {"1 row": 0.001, "8 rows": error, "64 rows": 0.002}, 0.01)
    assert row.ok is False
    assert "8 rows" in row.note


def test_an_output_that_is_not_finite_has_no_error_below_a_bound() -> None:
    output, expected = torch.ones(3), torch.ones(3).double()
    assert relative(output, expected) == 0.0
    output[1] = float("nan")
    assert not relative(output, expected) < 1.0

"""An engine whose devices or weights are wrong does not come up."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.engine.errors import SelfCheckFailed
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import greedy
from app.engine.loading import self_check
from app.engine.loading.loader import load
from app.engine.loading.self_check import check, check_copies, check_golden
from app.models.catalogue import COUNTING, DEEPSEEK, EMBEDDED, Golden
from app.models.placement import Plan
from tests.support import simgpu
from tests.support.driving import over_pages, reference
from tests.support.split import split
from tests.support.tiny import tiny_deepseek, tiny_llama


@pytest.mark.parametrize("make", [tiny_llama, lambda: tiny_deepseek(yarn=True)])
def test_its_greedy_tokens_are_the_models_own(make: Callable[[], nn.Module]) -> None:
    prompt = list(range(5, 40))
    with torch.inference_mode():
        model = make()
        expected = reference(model, prompt, 6)
        assert greedy(Decoder(over_pages(model)), [prompt], 6, chunk=16) == [expected]


def test_two_gpus_that_copy_right_pass() -> None:
    with simgpu.crossings() as crossed:
        check_copies(simgpu.gpus())
    assert [crossing.between_gpus for crossing in crossed].count(True) == 2, "there and back"


def test_one_device_has_nothing_to_copy() -> None:
    check_copies([torch.device("cpu")])


def test_a_copy_that_comes_back_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(returned: Tensor, sent: Tensor) -> bool:
        broken = returned + (torch.arange(returned.shape[0]) == 77).to(returned.device)
        return bool((broken == sent).all())

    monkeypatch.setattr(self_check, "_equal", changed)
    with pytest.raises(SelfCheckFailed, match=r"IOMMU"):
        check_copies(simgpu.gpus())


def test_a_split_model_is_checked_over_both_gpus() -> None:
    with torch.inference_mode():
        model = tiny_llama()
        expected = reference(model, [3, 4, 5, 6, 7, 8, 9, 10], 4)
        split(over_pages(model), 2)
        assert greedy(Decoder(model), [[3, 4, 5, 6, 7, 8, 9, 10]], 4, chunk=16) == [expected]


@pytest.fixture(params=[torch.float32, torch.bfloat16], scope="module")
def model(request: pytest.FixtureRequest, embedded_model: Path) -> nn.Module:
    return load(embedded_model, request.param, Plan(0, 0, 0, 1024, ()), lambda _: None)


class TestEmbedded:
    """With the real weights."""

    pytestmark = pytest.mark.model

    def test_the_golden_prompt_is_continued_as_known(self, model: nn.Module, embedded_model: Path) -> None:
        with torch.inference_mode():
            check_golden(Decoder(model), embedded_model, EMBEDDED.golden, verified=True)

    def test_another_answer_is_refused(self, model: nn.Module, embedded_model: Path) -> None:
        with torch.inference_mode(), pytest.raises(SelfCheckFailed, match="golden"):
            check_golden(Decoder(model), embedded_model, Golden(COUNTING.prompt, " print(j)"), verified=True)

    def test_another_answer_than_an_assumed_one_is_logged_and_the_start_goes_on(
        self,
        model: nn.Module,
        embedded_model: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        assumed = replace(DEEPSEEK, golden=Golden(COUNTING.prompt, " print(j)"))
        monkeypatch.setattr(self_check, "CATALOGUE", {assumed.name: assumed})
        with torch.inference_mode(), caplog.at_level(logging.WARNING, logger=self_check.__name__):
            check(Decoder(model), assumed.name, embedded_model)
        (record,) = caplog.records
        told = record.__dict__
        assert (told["answer"].startswith(COUNTING.answer), told["assumed"]) == (True, " print(j)")

    def test_two_mixed_up_layers_are_found(self, model: nn.Module, embedded_model: Path) -> None:
        layers = model.model.layers  # type: ignore[union-attr]  # nn.Module types attributes as tensors
        first, second = layers[0].mlp, layers[9].mlp  # type: ignore[index,union-attr]  # likewise
        layers[0].mlp, layers[9].mlp = second, first  # type: ignore[index,union-attr]  # likewise
        try:
            with torch.inference_mode(), pytest.raises(SelfCheckFailed):
                check_golden(Decoder(model), embedded_model, EMBEDDED.golden, verified=True)
        finally:
            layers[0].mlp, layers[9].mlp = first, second  # type: ignore[index,union-attr]  # likewise


def test_the_catalogue_says_whose_answer_was_seen() -> None:
    assert (EMBEDDED.golden_verified, DEEPSEEK.golden_verified) == (True, False)

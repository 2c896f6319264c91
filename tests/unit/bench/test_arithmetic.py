"""Steps on GPUs as they are counted without one."""

import pytest
import torch
from transformers import LlamaConfig

from app.engine.execution.decoder import Decoder
from app.models.catalogue import DEEPSEEK, EMBEDDED
from bench.arithmetic.__main__ import TARGET, document
from bench.arithmetic.launches import META, count, decode_step, lite, llama, prompt_chunk
from bench.arithmetic.pipeline import cut, makespan
from bench.arithmetic.runs import committed
from bench.arithmetic.work import Model
from bench.gpu_check.checkpoint import config_for

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are recorded by Triton's interpreter")


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return lite(config_for(80 * 2**30)[0])


def test_a_decode_step_launches_few_operations_and_never_waits(decoder: Decoder) -> None:
    for batch in (1, 32, 64):
        counted = count(decoder, decode_step([2048] * batch))
        assert counted.in_a_layer <= 16
        assert len(counted.all) <= 500


def test_the_operations_and_shapes_of_a_step_are_the_same_for_any_lengths(decoder: Decoder) -> None:
    """Else it could not be captured for all sequences of one number of rows."""
    one, other = (count(decoder, decode_step(lengths)).all for lengths in ([900, 1024, 1], [1023, 1000, 77]))
    assert one == other


def test_a_prompt_chunk_without_a_context_takes_few_too(decoder: Decoder) -> None:
    assert count(decoder, prompt_chunk(2048, 0)).in_a_layer <= 20


def test_a_layer_of_a_llama_launches_a_third_of_what_its_modules_do() -> None:
    config = LlamaConfig(**{key: value for key, value in EMBEDDED.config().items() if key != "model_type"})
    decoder, modules = llama(config), llama(config, few=False)
    for batch in (1, 32, 64):
        step = decode_step([2048] * batch)
        assert count(decoder, step).in_a_layer <= 10
        assert count(modules, step).in_a_layer >= 29, "the figure of decision 0007"
    assert count(decoder, decode_step([900, 1])).all == count(decoder, decode_step([1023, 77])).all


def test_a_step_that_waits_is_not_counted(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "hidden_states", lambda *_: torch.ones(3, device=META).sum().item())
    with pytest.raises(RuntimeError, match="meta"):
        count(decoder, decode_step([5]))


def test_bytes_and_operations() -> None:
    """15.7 billion parameters in 16 bits are read when every expert is hit, without the embedding."""
    config = DEEPSEEK.config()
    model = Model(config)
    every = model.prefill(1, 0)
    assert every.bytes == pytest.approx(2 * (15.71e9 - config["vocab_size"] * config["hidden_size"]), rel=0.002)
    assert model.decode(10_000, 0).bytes == pytest.approx(every.bytes, rel=1e-6)
    assert model.decode(1, 0).flops == pytest.approx(
        2 * (2.66e9 - config["vocab_size"] * config["hidden_size"]), rel=0.01
    )


def test_parts_of_chunks_have_every_token_once_behind_those_before_it() -> None:
    assert cut([(100, 0)], 4) == [[(25, 0)], [(25, 25)], [(25, 50)], [(25, 75)]]
    assert cut([(30, 8), (70, 200)], 2) == [[(30, 8), (20, 200)], [(50, 220)]]
    assert cut([(2, 0)], 4) == [[(1, 0)], [(1, 1)]]


def test_two_cards_work_at_the_same_time_but_for_one_part_at_each_end() -> None:
    assert makespan([8.0], 2) == 8.0
    assert makespan([2.0] * 4, 2) == 5.0
    assert makespan([2.0] * 4, 1) == 8.0


def test_a_step_that_had_fewer_sequences_than_its_name_says_is_not_taken_for_one_of_as_many() -> None:
    for run in committed().values():
        with pytest.raises(ValueError, match="no step of 32 sequences"):
            run.step(32, 2048)
        assert run.step(8, 2048) < run.step(12, 2048) < run.busy(32)


def test_the_document_is_current() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(), "run python -m bench.arithmetic"

"""lm-eval's log-likelihoods over the stack are those of the model. Its environment takes a gigabyte."""

from pathlib import Path

import pytest

from tests.clients.conftest import RunProgram

pytestmark = [pytest.mark.long, pytest.mark.model]


def test_a_task_of_multiple_choice(
    run_program: RunProgram, embedded_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_FOLDER", str(embedded_model))
    seen = run_program("lm_eval_package.py", "lm-eval")
    assert seen["accuracy"] == 1
    assert len(seen["samples"]) == 4
    for sample in seen["samples"]:
        document = sample["document"]
        expected = [_likelihood(embedded_model, document["question"], choice) for choice in document["choices"]]
        # The stack may serve in bfloat16; without a token more or less it is this close.
        assert sample["choices"] == pytest.approx(expected, rel=0.01, abs=0.1)


def _likelihood(folder: Path, question: str, choice: str) -> float:
    """The natural logarithm of the probability of these words after the question, by the stock model in float32."""
    import torch  # noqa: PLC0415  # for this test alone, of all that are collected here
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  # likewise

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = tokenizer(question + choice).input_ids
    with torch.inference_mode():
        scores = model(torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
    first = len(tokenizer(question).input_ids)
    return sum(float(scores[place - 1, tokens[place]]) for place in range(first, len(tokens)))

"""The embedded model, which every measurement uses, and its tokens."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.models.info import read_model_info
from app.serving.prompt.prompts import Prompts
from stack.config import ROOT
from stack.install.dependencies import EMBEDDED

MODELS_DIR = Path(os.environ.get("MODELS_DIR") or ROOT / "var" / "models")
FOLDER = MODELS_DIR / EMBEDDED
SETTINGS = {"MODEL": EMBEDDED, "MODELS_DIR": str(MODELS_DIR)}
"""For every app that is measured. The other settings come from the environment, or are the defaults."""


def token_prompts(texts: Sequence[str], system: str | None = None) -> list[list[int]]:
    """The tokens of each text as a user's turn in the chat template, after a system turn if there is one."""
    before = () if system is None else (Message("system", system),)
    info = read_model_info(FOLDER, EMBEDDED)
    prompts = Prompts(FOLDER, info)

    def prepare(text: str) -> list[int]:
        request = GenerationRequest(
            id="bench",
            operation=Operation.CHAT,
            sampling=SamplingParams(seed=0),
            messages=(*before, Message("user", text)),
        )
        return list(prompts.prepare(request, info.context_tokens).tokens)

    return [prepare(text) for text in texts]


def text_tokens(text: str) -> int:
    """The number of a text's tokens."""
    return len(_tokenizer().encode(text, add_special_tokens=False).ids)


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))

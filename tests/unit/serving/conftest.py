"""The embedded model's vocabulary, for grammars."""

from pathlib import Path

import pytest

from app.engine.grammars.compiler import Grammars
from app.engine.scripted import SCRIPTED_MODEL
from app.serving.prompt.prompts import Prompts
from app.serving.prompt.tokenizer import ModelTokenizer
from tests.support.walking import Walker


@pytest.fixture(scope="session")
def prompts(embedded_model: Path) -> Prompts:
    return Prompts(embedded_model, SCRIPTED_MODEL)


@pytest.fixture(scope="session")
def model_tokenizer(embedded_model: Path) -> ModelTokenizer:
    return ModelTokenizer(embedded_model)


@pytest.fixture(scope="session")
def grammars(embedded_model: Path) -> Grammars:
    return Grammars(embedded_model, SCRIPTED_MODEL)


@pytest.fixture(scope="session")
def walker(model_tokenizer: ModelTokenizer) -> Walker:
    texts = (model_tokenizer.published.decode([t]).strip() for t in range(model_tokenizer.vocabulary))
    closing = frozenset(t for t, text in enumerate(texts) if text and set(text) <= set('"}]'))
    return Walker(stop=2, closing=closing)

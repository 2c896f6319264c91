"""Every engine passes the same suite. A new one adds its builder here; the suite does not change."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from app.contract.engine import Engine, Phase
from app.contract.options import DType
from app.contract.telemetry import Observers
from app.engine.grammars.compiler import Grammars
from app.engine.layers import experts
from app.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from app.local_engine import local_engine
from app.models.selection import Selection
from app.settings import Settings
from tests.support.tiny import save_tiny_tokenizer, tiny_deepseek, tiny_llama

Build = Callable[[pytest.FixtureRequest], Engine]
"""Makes an engine that is not started. It takes what fixtures it needs from the request."""

BUILDERS: dict[str, Build] = {
    "scripted": lambda request: ScriptedEngine(
        grammars=Grammars(request.getfixturevalue("llama_folder"), SCRIPTED_MODEL)
    ),
    "local llama": lambda request: _local(request.getfixturevalue("llama_folder")),
    "local deepseek": lambda request: _local(request.getfixturevalue("deepseek_folder")),
}
MARKS: dict[str, list[pytest.MarkDecorator]] = {}


def _local(folder: Path) -> Engine:
    settings = Settings(dtype=DType.FLOAT32, max_sequences=4, kv_tokens=8192, prefill_chunk=32)
    return local_engine(settings, Selection(folder.name, folder, (), "a test"), Observers())


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tiny_llama(num_hidden_layers=2).save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def deepseek_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-deepseek"
    tiny_deepseek(yarn=True, num_hidden_layers=2).save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return folder


@pytest.fixture(autouse=True)
def _quick_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start measures the experts for a second, whatever their size."""
    monkeypatch.setattr(experts, "choose", functools.partial(experts.choose, seconds=0.01))


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, [])) for name in BUILDERS])
def unstarted(request: pytest.FixtureRequest) -> Engine:
    return BUILDERS[request.param](request)


@pytest.fixture
async def engine(unstarted: Engine) -> AsyncIterator[Engine]:
    """Started and ready; stopped after the test."""
    await unstarted.start()
    async with asyncio.timeout(120):
        while unstarted.status().phase is not Phase.READY:
            assert unstarted.status().phase is not Phase.FAILED, unstarted.status().detail
            await asyncio.sleep(0.05)  # the protocol tells its phase to those who ask
    yield unstarted
    await unstarted.stop()

"""What the settings make of the local engine."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.local_engine import engine_config
from app.models.placement import Gpu
from app.models.selection import Selection
from app.models.units import GIB
from app.settings import Settings
from tests.support.tiny import tiny_llama


@pytest.fixture(scope="module")
def selection(tmp_path_factory: pytest.TempPathFactory) -> Selection:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama().save_pretrained(folder)
    return Selection("tiny", folder, (), "a test")


@pytest.mark.parametrize(("wanted", "held"), [(0, 24_576), (4096, 4096)])
def test_it_holds_what_the_plan_leaves_room_for_or_what_the_operator_wants(
    selection: Selection, wanted: int, held: int
) -> None:
    config = engine_config(Settings(kv_tokens=wanted, max_sequences=7), selection)
    assert (config.capacity.sequences, config.capacity.kv_tokens) == (7, held)


@pytest.mark.parametrize(("kv_tokens", "sequences"), [(2048, 8), (40_960, 10), (485_790, 118), (4_000_000, 128)])
def test_as_many_requests_run_as_the_gpus_kv_cache_holds_conversations(
    selection: Selection, kv_tokens: int, sequences: int
) -> None:
    on_gpu = replace(selection, gpus=(Gpu(0, "a GPU", 80 * GIB, 80 * GIB),))
    assert engine_config(Settings(kv_tokens=kv_tokens), on_gpu).capacity.sequences == sequences
    assert engine_config(Settings(kv_tokens=kv_tokens, max_sequences=5), on_gpu).capacity.sequences == 5
    assert engine_config(Settings(), selection).capacity.sequences == 32, "without a GPU"


def test_it_serves_the_chosen_model(selection: Selection) -> None:
    config = engine_config(Settings(cache_dir=Path("elsewhere")), selection)
    assert (config.model.name, config.folder, config.cache_dir) == ("tiny", selection.folder, Path("elsewhere"))

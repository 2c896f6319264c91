"""What the settings make of the local engine."""

from pathlib import Path

import pytest

from app.local_engine import engine_config
from app.models.selection import Selection
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


def test_it_serves_the_chosen_model(selection: Selection) -> None:
    config = engine_config(Settings(cache_dir=Path("elsewhere")), selection)
    assert (config.model.name, config.folder, config.cache_dir) == ("tiny", selection.folder, Path("elsewhere"))

"""What the settings make of the local engine."""

from pathlib import Path

import pytest

from app.local_engine import engine_config
from app.models.choice import Choice
from app.settings import Settings
from tests.support.tiny import tiny_llama


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> Choice:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_llama().save_pretrained(folder)
    return Choice("tiny", folder, (), "a test")


@pytest.mark.parametrize(("wanted", "held"), [(0, 24_576), (4096, 4096)])
def test_it_holds_what_the_plan_leaves_room_for_or_what_the_operator_wants(
    choice: Choice, wanted: int, held: int
) -> None:
    config = engine_config(Settings(kv_tokens=wanted, max_sequences=7), choice)
    assert (config.capacity.sequences, config.capacity.kv_tokens) == (7, held)


def test_it_serves_the_chosen_model(choice: Choice) -> None:
    config = engine_config(Settings(cache_dir=Path("elsewhere")), choice)
    assert (config.model.name, config.folder, config.cache_dir) == ("tiny", choice.folder, Path("elsewhere"))

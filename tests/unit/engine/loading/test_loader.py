"""Loading: where weights may not go, and that progress is told."""

from pathlib import Path

import pytest
import torch

from app.engine.errors import LoadError
from app.engine.loading.loader import load, refuse_spill
from app.models.placement import Plan
from tests.support.tiny import tiny_llama


@pytest.mark.parametrize("elsewhere", ["cpu", "disk", torch.device("cpu")])
def test_a_map_that_spills_is_refused_and_names_what_spilled(elsewhere: object) -> None:
    with pytest.raises(LoadError, match=r"model\.layers\.3"):
        refuse_spill({"model.layers.2": 0, "model.layers.3": elsewhere})


def test_a_map_over_gpus_and_a_machine_without_any_are_fine() -> None:
    for device_map in ({"model.layers.2": 0, "model.layers.3": 1}, {"": torch.device("cpu")}, {}):
        refuse_spill(device_map)


def test_weights_come_as_they_were_saved_and_progress_reaches_its_end(tmp_path: Path) -> None:
    stock = tiny_llama()
    stock.save_pretrained(tmp_path)
    told: list[float] = []
    model = load(tmp_path, torch.float32, Plan(0, 0, 0, 1024, ()), told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    loaded = dict(model.named_parameters())
    assert all(torch.equal(loaded[name], weight) for name, weight in stock.named_parameters())
    assert not model.training

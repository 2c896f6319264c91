"""Which model is served on which GPUs, and the reason when none is."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.models import selection as selecting
from app.models.catalogue import DEEPSEEK, EMBEDDED
from app.models.errors import DoesNotFit, GpusUnusable, ModelNotAvailable, UnknownModel
from app.models.gpus import Gpus
from app.models.manifest import seal
from app.models.placement import Gpu
from app.models.selection import Selection, select, select_for_next_start, select_model
from app.models.units import GIB
from app.settings import Settings

MEMORY = 64 * GIB
NONE = Gpus(problem="no NVIDIA driver is here")
BROKEN = Gpus(problem="NVIDIA's driver does not answer", broken=True)


def settings(models_dir: Path, **values: Any) -> Settings:
    return Settings(_env_file=None, models_dir=models_dir, **values)


def cards(*sizes: float, free: float = 1.0) -> tuple[Gpu, ...]:
    return tuple(Gpu(n, "test", round(size * GIB), round(size * GIB * free)) for n, size in enumerate(sizes))


def usable(*sizes: float, free: float = 1.0) -> Gpus:
    return Gpus(cards(*sizes, free=free), cards(*sizes, free=free), driver="580")


def unusable(*sizes: float) -> Gpus:
    return Gpus(cards(*sizes), (), "PyTorch is built without CUDA: install its CUDA build")


def auto(gpus: Gpus, tmp_path: Path, **values: Any) -> Selection:
    return select(settings(tmp_path, **values), gpus, MEMORY)


def put(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    seal(folder, {})


class TestAuto:
    @pytest.mark.parametrize("sizes", [(24, 24), (80,), (4, 80), (48, 24)])
    def test_deepseek_is_served_on_gpus_that_hold_it(self, sizes: tuple[int, ...], tmp_path: Path) -> None:
        selection = auto(usable(*sizes), tmp_path)
        assert (selection.name, selection.gpus) == (DEEPSEEK.name, cards(*sizes))
        assert "fits the visible GPUs" in selection.reason

    @pytest.mark.parametrize("sizes", [(24, 24), (80,)])
    def test_gpus_that_could_hold_it_and_cannot_be_used_end_the_start(
        self, sizes: tuple[int, ...], tmp_path: Path
    ) -> None:
        with pytest.raises(GpusUnusable, match=f"built without CUDA: install.*MODEL={EMBEDDED.name}"):
            auto(unusable(*sizes), tmp_path)

    def test_a_driver_that_fails_ends_the_start_because_the_gpus_are_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(GpusUnusable, match=f"does not answer.*MODEL={EMBEDDED.name}"):
            auto(BROKEN, tmp_path)

    def test_fewer_gpus_than_the_driver_sees_end_the_start_where_all_would_do(self, tmp_path: Path) -> None:
        half = Gpus(cards(24, 24), cards(24), "the driver sees 2 GPUs and PyTorch 1")
        with pytest.raises(GpusUnusable, match="the driver sees 2 GPUs and PyTorch 1"):
            auto(half, tmp_path)

    def test_a_gpu_that_holds_it_alone_is_used_whatever_ails_the_other(self, tmp_path: Path) -> None:
        second = replace(cards(80)[0], index=1)
        selection = auto(Gpus((*cards(4), second), (second,), "GPU 0 is too old"), tmp_path)
        assert (selection.name, selection.gpus) == (DEEPSEEK.name, (second,))
        assert "GPU 0 is too old" in selection.reason

    def test_gpus_that_others_use_end_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(GpusUnusable, match=r"other programs hold memory.*GPU 0 12\.00 GiB of 24\.00 GiB"):
            auto(usable(24, 24, free=0.5), tmp_path)

    @pytest.mark.parametrize(("sizes", "reason"), [((16, 16), "Missing on GPU 1"), ((8,), "Missing on GPU 0")])
    def test_gpus_that_are_too_small_serve_the_small_model(
        self, sizes: tuple[int, ...], reason: str, tmp_path: Path
    ) -> None:
        selection = auto(usable(*sizes), tmp_path)
        assert (selection.name, selection.gpus) == (EMBEDDED.name, cards(*sizes))
        assert f"{DEEPSEEK.name} does not fit the visible GPUs" in selection.reason
        assert reason in selection.reason

    def test_small_gpus_that_cannot_be_used_leave_it_to_the_cpu(self, tmp_path: Path) -> None:
        selection = auto(unusable(8), tmp_path)
        assert (selection.name, selection.gpus) == (EMBEDDED.name, ())
        assert "on the CPU, because the GPUs cannot be used: PyTorch is built without CUDA" in selection.reason

    def test_a_gpu_too_small_even_for_the_small_model_leaves_it_to_the_cpu(self, tmp_path: Path) -> None:
        selection = auto(usable(2), tmp_path)
        assert (selection.name, selection.gpus) == (EMBEDDED.name, ())
        assert "on the CPU, because it does not fit" in selection.reason

    def test_without_gpus_the_small_model_is_served_and_the_reason_said(self, tmp_path: Path) -> None:
        selection = auto(NONE, tmp_path)
        assert (selection.name, selection.gpus) == (EMBEDDED.name, ())
        assert selection.reason == "no GPU is visible: no NVIDIA driver is here"


class TestByName:
    @pytest.mark.parametrize(("gpus", "on"), [(usable(24, 24), 2), (unusable(24, 24), 0), (BROKEN, 0), (NONE, 0)])
    def test_the_small_model_is_served_on_purpose_whatever_the_gpus_do(
        self, gpus: Gpus, on: int, tmp_path: Path
    ) -> None:
        selection = auto(gpus, tmp_path, model=EMBEDDED.name)
        assert (selection.name, len(selection.gpus)) == (EMBEDDED.name, on)
        assert gpus.problem is None or gpus is NONE or gpus.problem in selection.reason

    @pytest.mark.parametrize("gpus", [unusable(24, 24), BROKEN, usable(24, 24, free=0.5)])
    def test_another_is_refused_where_the_gpus_could_hold_it(self, gpus: Gpus, tmp_path: Path) -> None:
        with pytest.raises(GpusUnusable, match=f"MODEL={EMBEDDED.name}.*CUDA_VISIBLE_DEVICES"):
            auto(gpus, tmp_path, model=DEEPSEEK.name)

    def test_another_is_refused_where_the_gpus_are_too_small(self, tmp_path: Path) -> None:
        with pytest.raises(DoesNotFit, match=r"Missing on GPU 1.*CUDA_VISIBLE_DEVICES"):
            auto(usable(16, 16), tmp_path, model=DEEPSEEK.name)

    def test_another_runs_on_the_cpu_where_no_gpu_is_visible_and_memory_holds_it(self, tmp_path: Path) -> None:
        assert auto(NONE, tmp_path, model=DEEPSEEK.name).gpus == ()
        with pytest.raises(DoesNotFit, match="of memory"):
            select(settings(tmp_path, model=DEEPSEEK.name), NONE, 16 * GIB)

    def test_an_unknown_name_is_answered_with_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(UnknownModel, match=f"'gpt'; known are {DEEPSEEK.name}, {EMBEDDED.name}"):
            auto(NONE, tmp_path, model="gpt")


class TestFiles:
    @pytest.fixture(autouse=True)
    def no_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(selecting, "find_gpus", lambda: NONE)

    def test_what_is_not_there_can_be_chosen_and_not_started(self, tmp_path: Path) -> None:
        assert select_for_next_start(settings(tmp_path)).name == EMBEDDED.name
        with pytest.raises(ModelNotAvailable, match=f"python -m app models fetch {EMBEDDED.name}"):
            select_model(settings(tmp_path))
        put(tmp_path / EMBEDDED.name)
        assert select_model(settings(tmp_path)).folder == tmp_path / EMBEDDED.name

    def test_an_unfinished_model_counts_as_missing(self, tmp_path: Path) -> None:
        put(tmp_path / EMBEDDED.name)
        (tmp_path / EMBEDDED.name / "model.safetensors").unlink()
        with pytest.raises(ModelNotAvailable, match="models fetch"):
            select_model(settings(tmp_path, model=EMBEDDED.name))

    def test_a_folder_is_served_under_its_own_name(self, tmp_path: Path) -> None:
        put(tmp_path / "my-model")
        (tmp_path / "my-model" / "config.json").write_text(re.sub("smollm2", "mine", _config()))
        selection = select_model(settings(tmp_path, model=str(tmp_path / "my-model")))
        assert (selection.name, selection.folder) == ("my-model", tmp_path / "my-model")

    def test_a_folder_without_weights_is_refused(self, tmp_path: Path) -> None:
        put(tmp_path / "my-model")
        (tmp_path / "my-model" / "model.safetensors").unlink()
        with pytest.raises(ModelNotAvailable, match="safetensors"):
            select_model(settings(tmp_path, model=str(tmp_path / "my-model")))
        with pytest.raises(ModelNotAvailable, match="does not exist"):
            select_model(settings(tmp_path, model=str(tmp_path / "other")))


def test_a_running_stacks_memory_counts_as_free_for_its_next_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(selecting, "find_gpus", lambda: usable(24, 24, free=0.1))
    assert select_for_next_start(settings(tmp_path)).name == DEEPSEEK.name
    with pytest.raises(GpusUnusable):
        select_model(settings(tmp_path))


def _config() -> str:
    return (Path(selecting.__file__).parent / "configs" / f"{EMBEDDED.name}.json").read_text()

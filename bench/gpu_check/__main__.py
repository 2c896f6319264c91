"""Runs the sections, writes the report after each, and prints the table."""

import argparse
import logging
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

import torch  # after the order of the devices is set

from app.models.driver import ask_driver
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import model_for
from bench.gpu_check.report import Check, Report
from bench.gpu_check.run import run_all
from bench.gpu_check.sections.attention import attention
from bench.gpu_check.sections.baseline import baseline
from bench.gpu_check.sections.captured import captured
from bench.gpu_check.sections.copies import copies
from bench.gpu_check.sections.decode import decode
from bench.gpu_check.sections.environment import environment
from bench.gpu_check.sections.exactness import exactness
from bench.gpu_check.sections.faults import faults
from bench.gpu_check.sections.heads import heads
from bench.gpu_check.sections.kernels import kernels
from bench.gpu_check.sections.llama import llama
from bench.gpu_check.sections.load import load
from bench.gpu_check.sections.memory import memory
from bench.gpu_check.sections.numerics import numerics
from bench.gpu_check.sections.operations import operations
from bench.gpu_check.sections.prefill import parts, prefill, profile_chunk
from bench.gpu_check.sections.profile import profile
from bench.machine import commit

SECTIONS = {
    "environment": environment,
    "faults": faults,
    "exactness": exactness,
    "llama": llama,
    "attention": attention,
    "kernels": kernels,
    "operations": operations,
    "heads": heads,
    "load": load,
    "numerics": numerics,
    "captured": captured,
    "copies": copies,
    "decode": decode,
    "profile": profile,
    "prefill": prefill,
    "parts": parts,
    "profile_chunk": profile_chunk,
    "memory": memory,
    "baseline": baseline,
}


def main() -> int:
    begun = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__)
    parser.add_argument("--seconds", type=float, default=480, help="it ends soon after these; default 480")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="the folder for CARD.json")
    parser.add_argument(
        "--only", nargs="*", choices=list(SECTIONS), help="run these sections, and the environment, only"
    )
    options = parser.parse_args()
    _show_the_engines_log()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # the small model's steps are too short to share
    with tempfile.TemporaryDirectory(dir=_large_folder()) as work:
        bench = _bench(Path(work) / "checkpoint", options.seconds)
        card = " + ".join(gpu.name for gpu in bench.gpus) or "no GPU"
        report = Report(options.out, Check(card, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", commit()))
        chosen = {"environment", *(options.only or SECTIONS)}
        works = {name: partial(section, bench) for name, section in SECTIONS.items() if name in chosen}
        run_all(report, works, until=begun + options.seconds)
    print("\n" + report.table())
    if len(bench.gpus) == 1:
        print("\nOn one card nothing is measured of copies between GPUs, or of one GPU that waits for the other.")
    return 1 if report.failed else 0


def _show_the_engines_log() -> None:
    """On stderr, with the fields of each line: they say why a kernel is not used."""
    handler = logging.StreamHandler()
    handler.setFormatter(_WithFields())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("app.engine").setLevel(logging.INFO)


class _WithFields(logging.Formatter):
    _usual = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in self._usual}
        return f"{record.levelname} {super().format(record)} {fields or ''}".rstrip()[:600]


def _bench(folder: Path, seconds: float) -> Bench:
    gpus = ask_driver().gpus if torch.cuda.is_available() else ()
    config, note = model_for(gpus)
    return Bench(gpus=gpus, config=config, note=note, folder=folder, seconds=seconds)


def _large_folder() -> str | None:
    """A folder in memory for 31 GB of weights, where there is one."""
    shared = Path("/dev/shm")  # noqa: S108  # a checkpoint of random weights, for this run alone
    if not shared.is_dir():
        return None
    about = os.statvfs(shared)
    return str(shared) if about.f_bavail * about.f_frsize > 40 * 2**30 else None


if __name__ == "__main__":
    sys.exit(main())

"""What the sections share: the devices, the checkpoint, and the decoder that the product's start-up loaded."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from app.contract.telemetry import Observers
from app.engine.config import EngineConfig
from app.engine.execution.decoder import Decoder
from app.models.placement import Gpu


@dataclass(slots=True)
class Bench:
    """One check. `ceiling_bytes` and `ceiling_flops` are measured by the first section."""

    gpus: tuple[Gpu, ...]
    config: Any  # a DeepseekV2Config with every field set
    note: str
    folder: Path
    seconds: float
    ceiling_bytes: float = 0.0  # per second
    ceiling_flops: float = 0.0  # per second, bfloat16
    engine_config: EngineConfig | None = None
    decoder: Decoder | None = None
    step_ms: dict[tuple[int, int], float] = field(default_factory=dict)  # of (sequences, context), by `decode`
    observers: Observers = field(default_factory=Observers)

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0) if self.gpus else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.gpus else torch.float32

    @property
    def loaded(self) -> Decoder:
        """Raises RuntimeError when the load failed."""
        if self.decoder is None:
            raise RuntimeError("the model was not loaded: see the section on loading")
        return self.decoder

    @property
    def configured(self) -> EngineConfig:
        """Raises RuntimeError when the load failed."""
        if self.engine_config is None:
            raise RuntimeError("the model was not loaded: see the section on loading")
        return self.engine_config

    def free_memory(self) -> None:
        """Free what earlier sections held. A runner and its reader refer to each other until they are collected."""
        gc.collect()
        if self.gpus:
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        for gpu in self.gpus:
            torch.cuda.synchronize(gpu.index)

    def median_ms(self, run: Callable[[], object], *, tries: int = 10, warm: int = 3) -> float:
        """Milliseconds of one call until the devices are done: the median of `tries`."""
        for _ in range(warm):
            run()
        times = []
        for _ in range(tries):
            self.synchronize()
            begun = time.perf_counter()
            run()
            self.synchronize()
            times.append(time.perf_counter() - begun)
        return sorted(times)[len(times) // 2] * 1000

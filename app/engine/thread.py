"""The inference thread from its first import to its last step. No other thread of the process touches torch."""

import queue
from collections.abc import Callable

import torch

from app.contract.engine import Phase
from app.engine.commands import Cancel, Command, Stop, Submit
from app.engine.config import Brief
from app.engine.execution.cleanup import Cleaner, memory_of
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import Executor
from app.engine.execution.runner import Emission, Runner
from app.engine.health import Vitals
from app.engine.scheduling.scheduler import Scheduler
from app.engine.scheduling.shelves import Shelves
from app.engine.startup import bring_up

CPU_CHUNK = 128
GPU_CHUNK = 512
"""Prompt tokens per step where PREFILL_CHUNK says 0: what one step can take without the others noticing much."""


def think(
    brief: Brief, vitals: Vitals, commands: "queue.SimpleQueue[Command]", emit: Callable[[Emission], None]
) -> None:
    """Bring the model up, then work until told to stop."""
    decoder = bring_up(brief, vitals)
    runner = build_runner(brief, decoder, emit)
    vitals.enter(Phase.READY, "serving")
    _work(runner, commands, vitals)


def build_runner(brief: Brief, decoder: Decoder, emit: Callable[[Emission], None]) -> Runner:
    shelves = Shelves(brief.capacity.kv_tokens, brief.info.context_tokens, brief.settings.share_prefixes)
    on_gpu = decoder.devices[0].type != "cpu"
    chunk = brief.settings.prefill_chunk or (GPU_CHUNK if on_gpu else CPU_CHUNK)
    cleaner = Cleaner(brief.settings.cleanup, memory_of(decoder.devices), brief.observers)
    cleaner.run()  # so that memory is known from the start
    return Runner(
        executor=Executor(decoder, shelves.kv_tokens),
        scheduler=Scheduler(shelves, max_sequences=brief.capacity.sequences, chunk=chunk),
        cleaner=cleaner,
        observers=brief.observers,
        emit=emit,
    )


@torch.inference_mode()
def _work(runner: Runner, commands: "queue.SimpleQueue[Command]", vitals: Vitals) -> None:
    idle = False
    while True:
        vitals.beat(busy=False)
        if not _obey(runner, commands, wait=idle):
            runner.end_all()
            return
        vitals.beat(busy=True)
        idle = not runner.step()


def _obey(runner: Runner, commands: "queue.SimpleQueue[Command]", *, wait: bool) -> bool:
    """Carry out what was asked since the last step. False to stop."""
    try:
        while True:
            command = commands.get(block=wait)
            wait = False
            match command:
                case Submit():
                    runner.submit(command)
                case Cancel(request_id):
                    runner.cancel(request_id)
                case Stop():
                    return False
    except queue.Empty:
        return True

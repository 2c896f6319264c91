"""The inference thread from its first import to its last step. No other thread of the process touches torch."""

import queue
from collections.abc import Callable

import torch

from app.contract.engine import Capacity, Phase
from app.contract.telemetry import Configured, Observers
from app.engine.commands import Cancel, Command, Stop, Submit
from app.engine.config import EngineConfig
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import Executor
from app.engine.execution.graphs.decode_graphs import capture_steps
from app.engine.execution.memory.cleanup import Cleaner, memory_of
from app.engine.execution.memory.most_memory import say_most_memory
from app.engine.execution.memory.pool_size import free_beside_a_step, pages_that_fit
from app.engine.execution.parts import choose_parts, measured
from app.engine.execution.runner import Emission, Runner
from app.engine.health import Health
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.loading.startup import load_decoder
from app.engine.scheduling.scheduler import ALONE, Scheduler
from app.models.driver import ask_driver
from app.models.manifest import source_of

CPU_CHUNK = 128
GPU_CHUNK = 512
"""Prompt tokens per step where PREFILL_CHUNK is 0: few enough that running answers hardly slow down."""


def run_inference(
    config: EngineConfig,
    observers: Observers,
    health: Health,
    commands: "queue.SimpleQueue[Command]",
    emit: Callable[[Emission], None],
) -> None:
    """Load the model, then compute until the command to stop comes."""
    decoder = load_decoder(config, observers, health)
    health.enter(Phase.WARMING, "measuring the memory that is left for the KV cache")
    runner = build_runner(config, decoder, observers, emit)
    health.set_capacity(Capacity(config.capacity.sequences, runner.kv_tokens))
    observers.notify(_configured(config, decoder))
    health.enter(Phase.READY, "serving")
    _work(runner, commands, health)


def _configured(config: EngineConfig, decoder: Decoder) -> Configured:
    driver = ask_driver()
    return Configured(
        model=config.model.name,
        source=source_of(config.folder),
        dtype=str(decoder.dtype).removeprefix("torch."),
        context_tokens=config.model.context_tokens,
        sequences=config.capacity.sequences,
        gpus=tuple(share.gpu.name for share in config.plan.shares),
        driver=driver.version or "",
    )


def build_runner(
    config: EngineConfig, decoder: Decoder, observers: Observers, emit: Callable[[Emission], None]
) -> Runner:
    on_gpu = decoder.devices[0].type != "cpu"
    chunk = config.prefill_chunk or (GPU_CHUNK if on_gpu else CPU_CHUNK)
    cleaner = Cleaner(config.cleanup, memory_of(decoder.devices), observers)
    cleaner.run()  # reports the memory from the start
    pages = pages_that_fit(
        decoder,
        config.capacity.kv_tokens,
        prompt_tokens=ALONE * chunk,
        sequences=config.capacity.sequences,
        measure=free_beside_a_step,
    )
    choose_parts(decoder, (chunk, ALONE * chunk), measured)  # after the measurement: a whole step takes more memory
    say_most_memory(decoder, pages)
    pool = PagePool(pages, PAGE_SIZE, share_prefixes=config.share_prefixes)
    cache = decoder.new_cache(pool.count)
    cleaner.also(lambda: cache.discard(pool.newly_free()))
    return Runner(
        executor=Executor(decoder, cache, capture_steps(decoder, cache, config.capacity.sequences)),
        scheduler=Scheduler(KvManager(pool), max_sequences=config.capacity.sequences, chunk=chunk),
        cleaner=cleaner,
        observers=observers,
        emit=emit,
    )


@torch.inference_mode()
def _work(runner: Runner, commands: "queue.SimpleQueue[Command]", health: Health) -> None:
    idle = False
    while True:
        health.mark_progress(busy=False)
        if not _drain_commands(runner, commands, wait=idle):
            runner.end_all()
            return
        health.mark_progress(busy=True)
        idle = not runner.step()


def _drain_commands(runner: Runner, commands: "queue.SimpleQueue[Command]", *, wait: bool) -> bool:
    """Carry out the commands that came since the last step; with `wait`, wait for one. False to stop."""
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

"""How busy the engine is, for the observers."""

from app.contract.telemetry import EngineLoad, KvTokens, Preemptions
from app.engine.scheduling.scheduler import Scheduler


def load_of(scheduler: Scheduler) -> EngineLoad:
    pool = scheduler.kv.pool
    return EngineLoad(
        running=scheduler.running,
        waiting=scheduler.waiting,
        waits_for="memory" if scheduler.waits_for_memory else "place",
        kv=KvTokens(
            running=(pool.in_use - pool.shared) * pool.size,
            shared=pool.shared * pool.size,
            cached=pool.cached * pool.size,
            free=pool.free * pool.size,
        ),
        evicted_pages=pool.evicted,
        preemptions=Preemptions(**scheduler.preemptions),
    )

"""What operators read of the engine's load: what waits lacks, and each page in one state."""

from app.engine.execution.load import load_of
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.scheduler import Scheduler

SIZE = 8


def scheduler_of(pages: int, places: int) -> Scheduler:
    return Scheduler(KvManager(PagePool(pages, SIZE)), max_sequences=places, chunk=64)


def step(scheduler: Scheduler) -> None:
    decision = scheduler.decide()
    assert decision is not None
    scheduler.advance(decision)
    for chunk in (*decision.decode, *decision.prefill):
        chunk.sequence.tokens.extend([7] * chunk.last)


def test_what_waits_lacks_a_place_also_when_one_has_just_become_free() -> None:
    scheduler = scheduler_of(pages=64, places=1)
    first = TokenSequence("first", [1] * 4, 5)
    scheduler.add(first)
    scheduler.add(TokenSequence("second", [2] * 4, 5))
    step(scheduler)
    assert (load_of(scheduler).waiting, load_of(scheduler).waits_for) == (1, "place")
    scheduler.remove(first, keep=True)
    load = load_of(scheduler)
    assert (load.running, load.waiting, load.waits_for) == (0, 1, "place")
    step(scheduler)
    assert (load_of(scheduler).running, load_of(scheduler).waiting) == (1, 0)


def test_what_waits_lacks_memory_until_it_starts() -> None:
    scheduler = scheduler_of(pages=8, places=4)
    first = TokenSequence("first", [1] * 40, 5)
    scheduler.add(first)
    scheduler.add(TokenSequence("second", [2] * 40, 5))
    step(scheduler)
    assert (load_of(scheduler).waiting, load_of(scheduler).waits_for) == (1, "memory")
    scheduler.remove(first, keep=True)
    assert load_of(scheduler).waits_for == "memory"
    step(scheduler)
    scheduler.add(TokenSequence("third", [3] * 4, 5))
    assert (load_of(scheduler).waiting, load_of(scheduler).waits_for) == (1, "place"), "it was not refused yet"


def test_each_page_counts_in_one_state() -> None:
    scheduler = scheduler_of(pages=64, places=4)
    scheduler.add(TokenSequence("first", [*range(40), 100, 101], 9))
    step(scheduler)
    scheduler.add(TokenSequence("second", [*range(40), 200, 201], 9))
    step(scheduler)
    kv = load_of(scheduler).kv
    assert (kv.shared, kv.running) == (5 * SIZE, 2 * SIZE), "the common pages are not counted with each one's own"
    assert kv.running + kv.shared + kv.cached + kv.free == 64 * SIZE

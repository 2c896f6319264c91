"""The scheduler, driven without a device: random arrivals, lengths, cancellations, and a model of the cache.

The model keeps, for every slot, the tokens whose keys and values would lie there. A sequence whose slot does not
hold exactly its computed tokens would answer wrongly, so that is the invariant.
"""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.scheduling.scheduler import ALONE, Scheduler
from app.engine.scheduling.sequence import Copy, Decision, Sequence, Slot
from app.engine.scheduling.shelves import Shelves, common_prefix

CONTEXT = 2048


@dataclass
class Simulation:
    """Runs decisions on token lists instead of tensors, and checks every step."""

    scheduler: Scheduler
    chunk: int
    memory: dict[Slot, list[int]] = field(default_factory=dict)
    done: list[Sequence] = field(default_factory=list)
    steps: int = 0

    def step(self) -> Decision | None:
        decision = self.scheduler.decide()
        if decision is None:
            return None
        self.steps += 1
        for copy in decision.copies:
            self.copy(copy)
        chunks = (*decision.decode, *decision.prefill)
        assert chunks, "a decision computes something"
        assert len({chunk.sequence.placed for chunk in chunks}) == len(chunks), "no two sequences in one slot"
        budget = self.chunk if decision.decode else ALONE * self.chunk
        assert sum(chunk.length for chunk in decision.prefill) <= budget
        for chunk in chunks:
            sequence, slot = chunk.sequence, chunk.sequence.placed
            assert slot.index < decision.extents[slot.capacity]
            assert len(sequence.tokens) <= slot.capacity
            held = self.memory.get(slot, [])[: chunk.start]
            assert held == sequence.tokens[: chunk.start], "the slot holds what the sequence thinks it holds"
            self.memory[slot] = held + sequence.tokens[chunk.start : chunk.start + chunk.length]
        self.scheduler.advance(decision)
        room = sum(capacity * slots for capacity, slots in self.scheduler.shelves.extents().items())
        assert room <= self.scheduler.shelves.kv_tokens
        for chunk in chunks:
            if chunk.last:
                self.new_token(chunk.sequence)
        return decision

    def copy(self, copy: Copy) -> None:
        source, target = self.memory.get(copy.source, []), self.memory.get(copy.target, [])
        self.memory[copy.target] = source[: copy.length]
        if copy.swap:
            self.memory[copy.source] = target[: copy.length]

    def new_token(self, sequence: Sequence) -> None:
        sequence.tokens.append(sequence.generated + 1000)
        if sequence.generated == sequence.max_tokens:
            self.scheduler.remove(sequence, keep=True)
            self.done.append(sequence)


def make(*, kv_tokens: int = 8192, max_sequences: int = 8, chunk: int = 64, share: bool = False) -> Simulation:
    shelves = Shelves(kv_tokens, CONTEXT, share)
    return Simulation(Scheduler(shelves, max_sequences=max_sequences, chunk=chunk), chunk)


def prompt(length: int, kind: int = 0) -> list[int]:
    """Prompts of one kind share their first half."""
    head = [kind * 7 + i for i in range(length // 2)]
    return head + [random.Random(f"{kind}/{length}").randrange(100, 900) for _ in range(length - len(head))]


arrivals = st.lists(
    st.tuples(
        st.integers(1, 600),  # prompt length
        st.integers(1, 40),  # new tokens
        st.integers(0, 3),  # kind of prompt
        st.sampled_from(["alice", "bob"]),
        st.integers(0, 12),  # steps before it arrives
        st.one_of(st.none(), st.integers(0, 30)),  # cancelled so many steps after its arrival
    ),
    min_size=1,
    max_size=24,
)


@settings(max_examples=150, deadline=None)
@given(
    arrivals=arrivals,
    kv_tokens=st.sampled_from([700, 1024, 3000, 8192]),
    max_sequences=st.integers(1, 9),
    chunk=st.sampled_from([1, 7, 64, 512]),
    share=st.booleans(),
)
def test_everyone_is_served_in_the_end(
    arrivals: list[tuple[int, int, int, str, int, int | None]],
    kv_tokens: int,
    max_sequences: int,
    chunk: int,
    share: bool,
) -> None:
    simulation = make(kv_tokens=kv_tokens, max_sequences=max_sequences, chunk=chunk, share=share)
    cancellations: dict[int, list[Sequence]] = {}
    expected = []
    clock = 0
    for number, (length, new, kind, tenant, wait, cancel_after) in enumerate(arrivals):
        for _ in range(wait):
            clock += 1
            simulation.step()
            cancel(simulation, cancellations.pop(clock, []))
        sequence = Sequence(str(number), prompt(length, kind), new, tenant)
        simulation.scheduler.add(sequence)
        if cancel_after is None:
            expected.append(sequence)
        else:
            cancellations.setdefault(clock + cancel_after + 1, []).append(sequence)
    bound = 10 + sum(length + new for length, new, *_ in arrivals) * 2
    while simulation.scheduler and simulation.steps < bound:
        clock += 1
        simulation.step()
        cancel(simulation, cancellations.pop(clock, []))
    assert not simulation.scheduler, "no deadlock, no starvation"
    assert {s.id for s in expected} <= {s.id for s in simulation.done}
    assert all(s.generated == s.max_tokens for s in simulation.done)
    assert simulation.scheduler.shelves.used == 0


def cancel(simulation: Simulation, sequences: list[Sequence]) -> None:
    for sequence in sequences:
        if sequence in list(simulation.scheduler.sequences()):
            simulation.scheduler.remove(sequence, keep=True)


def test_first_come_first_served() -> None:
    simulation = make(max_sequences=1)
    for name in "abc":
        simulation.scheduler.add(Sequence(name, prompt(10, ord(name)), 3))
    while simulation.step():
        pass
    assert [s.id for s in simulation.done] == ["a", "b", "c"]


def test_a_long_prompt_never_stops_the_others_for_longer_than_a_chunk() -> None:
    simulation = make(chunk=64)
    short = Sequence("short", prompt(10), 50)
    simulation.scheduler.add(short)
    simulation.step()
    simulation.scheduler.add(Sequence("long", prompt(1000, 1), 5))
    while short in list(simulation.scheduler.sequences()):
        decision = simulation.step()
        assert decision is not None
        assert decision.decode[0].sequence is short
        assert sum(chunk.length for chunk in decision.prefill) <= 64


def test_where_nobody_decodes_a_prompt_is_computed_in_fewer_steps() -> None:
    simulation = make(chunk=64)
    simulation.scheduler.add(Sequence("long", prompt(600), 5))
    lengths = []
    while (decision := simulation.step()) is not None and decision.prefill:
        lengths += [chunk.length for chunk in decision.prefill]
    assert lengths == [256, 256, 88]


def test_a_second_turn_prefills_only_what_is_new() -> None:
    simulation = make()
    first = Sequence("first", prompt(200), 20)
    simulation.scheduler.add(first)
    while simulation.step():
        pass
    second = Sequence("second", [*first.tokens, 1, 2, 3], 20)
    simulation.scheduler.add(second)
    decision = simulation.step()
    assert decision is not None
    assert second.cached == len(first.tokens) - 1  # the last generated token was never computed
    assert [chunk.length for chunk in decision.prefill] == [4]
    assert not decision.copies, "it continues in the very slot"


def test_a_prefix_in_use_is_copied() -> None:
    simulation = make()
    running = Sequence("running", prompt(200), 100)
    simulation.scheduler.add(running)
    while running.pending != 1:
        simulation.step()
    simulation.step()
    sharing = Sequence("sharing", [*running.tokens[:150], 5, 5, 5], 20)
    simulation.scheduler.add(sharing)
    decision = simulation.step()
    assert decision is not None
    assert [(copy.source, copy.length) for copy in decision.copies] == [(running.placed, 150)]
    assert sharing.cached == 150
    assert running.slot != sharing.slot


def test_prefixes_are_not_shared_between_tenants_unless_set_so() -> None:
    for share, cached in ((False, 0), (True, 100)):
        simulation = make(share=share)
        simulation.scheduler.add(Sequence("a", prompt(100), 2, "alice"))
        while simulation.step():
            pass
        other = Sequence("b", [*prompt(100), 1], 2, "bob")
        simulation.scheduler.add(other)
        simulation.step()
        assert other.cached == cached


def test_the_least_recently_used_prefix_goes_first() -> None:
    simulation = make(kv_tokens=768)  # three slots of 256
    for name in ("a", "b", "c"):
        simulation.scheduler.add(Sequence(name, prompt(100, ord(name)), 2))
        while simulation.step():
            pass
    again = Sequence("a again", [*prompt(100, ord("a")), 1], 2)  # a is used anew, so b is now the oldest
    simulation.scheduler.add(again)
    while simulation.step():
        pass
    assert again.cached >= 100
    simulation.scheduler.add(Sequence("d", prompt(100, ord("d")), 2))
    while simulation.step():
        pass
    hits = {}
    for name in ("a", "c", "b"):
        probe = Sequence(f"{name} probe", [*prompt(100, ord(name)), 2], 1)
        simulation.scheduler.add(probe)
        while simulation.step():
            pass
        hits[name] = probe.cached >= 100
    assert hits["a"]
    assert not hits["b"]


def test_a_sequence_that_never_fits_is_refused() -> None:
    simulation = make(kv_tokens=512)
    with pytest.raises(ValueError, match="longer than the KV cache"):
        simulation.scheduler.add(Sequence("x", prompt(500), 13))
    with pytest.raises(ValueError, match="prompt"):
        simulation.scheduler.add(Sequence("x", [], 13))


def test_running_sequences_of_a_sparse_shelf_move_together() -> None:
    simulation = make(max_sequences=8)
    for number in range(8):
        simulation.scheduler.add(Sequence(str(number), prompt(20, number), 40 if number in {0, 7} else 4))
    while simulation.scheduler.running != 2:
        simulation.step()
    decision = simulation.step()
    assert decision is not None
    first, last = (chunk.sequence.placed.index for chunk in decision.decode)
    assert last - first == 1


@given(st.lists(st.integers(0, 1), max_size=30), st.lists(st.integers(0, 1), max_size=30), st.integers(0, 30))
def test_common_prefix(a: list[int], b: list[int], shared: int) -> None:
    b = a[:shared] + b
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(a, b) == expected

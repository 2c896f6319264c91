"""The scheduler, driven without a device: random arrivals, lengths, cancellations, and a model of the memory.

The model keeps, for every page, the tokens whose keys and values would be there. A sequence whose pages do not hold
exactly its computed tokens would answer wrongly, so that is the invariant.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision
from app.engine.scheduling.scheduler import ALONE, LARGER_AFTER, SMALLEST_CHUNK, Cause, Scheduler
from app.engine.scheduling.shares import Shares, by_tenant
from tests.support.driving import sequences_of

SIZE = 8


@dataclass
class Simulation:
    """Runs decisions on token lists instead of tensors, and checks every step."""

    scheduler: Scheduler
    chunk: int
    memory: dict[int, list[int | None]] = field(default_factory=dict)
    done: list[TokenSequence] = field(default_factory=list)
    steps: int = 0
    ran: Counter[str] = field(default_factory=Counter)  # sequences of each tenant in the last step
    overtaken: dict[TokenSequence, Counter[str]] = field(default_factory=dict)  # the first of who runs nothing

    def step(self, *, fails: bool = False) -> Decision | None:
        """One step; with `fails` it ends for want of memory after its rows were written, and nothing advances."""
        before = set(self.scheduler._running)
        self.note_who_waits()
        decision = self.scheduler.decide()
        self.check_turns(before)
        self.check_shares()
        self.ran = Counter(sequence.tenant for sequence in self.scheduler._running.values())
        if decision is None:
            return None
        self.steps += 1
        chunks = (*decision.decode, *decision.prefill)
        assert chunks, "a decision computes something"
        budget = self.chunk if decision.decode else ALONE * self.chunk
        assert sum(chunk.length for chunk in decision.prefill) <= budget
        for copy in decision.copies:
            self.memory[copy.target] = list(self.memory[copy.source])
        for chunk in chunks:
            sequence = chunk.sequence
            assert self.held(sequence)[: chunk.start] == sequence.tokens[: chunk.start], "its pages hold its tokens"
            for position in range(chunk.start, chunk.start + chunk.length):
                page = self.memory.setdefault(sequence.pages[position // SIZE], [None] * SIZE)
                page[position % SIZE] = sequence.tokens[position]
        self.check_owners()
        self.clean_up()
        if fails:
            return decision
        self.scheduler.advance(decision)
        for chunk in chunks:
            if chunk.start + chunk.length == len(chunk.sequence.tokens):
                self.new_token(chunk.sequence)
        return decision

    def clean_up(self) -> None:
        """As on a CPU: the memory of free pages is lost."""
        for page in self.scheduler.kv.pool.newly_free():
            self.memory.pop(page, None)

    def held(self, sequence: TokenSequence) -> list[int | None]:
        return [token for page in sequence.pages for token in self.memory.get(page, [None] * SIZE)]

    def check_owners(self) -> None:
        """A page that is not known has one owner, and no page is free and in use at once."""
        running = self.scheduler._running.values()
        own = [page for s in running for page in s.pages[len(s.known) :]]
        known = {known.page for s in running for known in s.known}
        known |= {s.source.page for s in running if s.source is not None}
        assert len(own) == len(set(own)), "no page belongs to two sequences"
        assert not known & set(own)
        pool = self.scheduler.kv.pool
        assert pool.in_use == len(own) + len(known)
        assert pool.free + pool.cached + pool.in_use == pool.count
        for tenant, sequences in by_tenant(running).items():
            held = {page for sequence in sequences for page in sequence.pages}
            assert self.scheduler.kv.held(tenant) == len(held)

    def note_who_waits(self) -> None:
        running = by_tenant(self.scheduler._running.values())
        firsts = {sequence.tenant: sequence for sequence in reversed(list(self.scheduler._waiting))}.values()
        waiting = [sequence for sequence in firsts if sequence.tenant not in running]
        self.overtaken = {sequence: self.overtaken.get(sequence, Counter()) for sequence in waiting}

    def check_turns(self, before: set[str]) -> None:
        """While a tenant that runs nothing waits, each other one starts at most one sequence."""
        started = [s for s in self.scheduler._running.values() if s.id not in before]
        for sequence in self.overtaken.keys() & set(started):
            del self.overtaken[sequence]
        for others in self.overtaken.values():
            others.update(sequence.tenant for sequence in started)
            assert max(others.values(), default=0) <= 1

    def check_shares(self) -> None:
        """The first in turn of those within their share waits only where no other could give back what it lacks."""
        scheduler = self.scheduler
        running = by_tenant(scheduler._running.values())
        tenants = len(running.keys() | set(scheduler._waiting.tenants()))
        if not scheduler._waiting or tenants == 1:
            return
        shares = Shares.of(scheduler._max_sequences, scheduler.kv.pool.count, tenants)
        first = scheduler._entitled(shares)
        if first is None:
            return
        larger = -(-len(first.tokens) // SIZE) + scheduler.running > shares.pages
        large = any(len(own[0].pages) > shares.pages for own in running.values())  # the oldest is nobody's to take
        assert larger or large or tenants > scheduler._max_sequences

    def new_token(self, sequence: TokenSequence) -> None:
        sequence.tokens.append(sequence.generated + 1000)
        if sequence.generated == sequence.max_tokens:
            self.scheduler.remove(sequence, keep=True)
            self.done.append(sequence)


def make(*, pages: int = 128, max_sequences: int = 8, chunk: int = 64, share: bool = False) -> Simulation:
    pool = PagePool(pages, SIZE, share_prefixes=share)
    return Simulation(Scheduler(KvManager(pool), max_sequences=max_sequences, chunk=chunk), chunk)


def prompt(length: int, kind: int = 0) -> list[int]:
    """Prompts of one kind share their first half."""
    head = [kind * 7 + i for i in range(length // 2)]
    return head + [random.Random(f"{kind}/{length}").randrange(100, 900) for _ in range(length - len(head))]


arrivals = st.lists(
    st.tuples(
        st.integers(1, 150),  # prompt length
        st.integers(1, 40),  # new tokens
        st.integers(0, 3),  # kind of prompt
        st.sampled_from(["alice", "bob", "carol", "dave"]),
        st.integers(0, 12),  # steps before it arrives
        st.one_of(st.none(), st.integers(0, 30)),  # cancelled this number of steps after its arrival
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=120, deadline=None)
@given(
    arrivals=arrivals,
    pages=st.sampled_from([24, 30, 60, 400]),
    max_sequences=st.integers(1, 9),
    chunk=st.sampled_from([1, 7, 64]),
    share=st.booleans(),
    failures=st.sets(st.integers(0, 60), max_size=6),
)
def test_every_sequence_ends_whatever_happens_around_it(  # noqa: PLR0917  # hypothesis passes them by name
    arrivals: list[tuple[int, int, int, str, int, int | None]],
    pages: int,
    max_sequences: int,
    chunk: int,
    share: bool,
    failures: set[int],
) -> None:
    """No deadlock and no starvation, with pages for one sequence or for all, cancellations, and failed steps."""
    simulation = make(pages=pages, max_sequences=max_sequences, chunk=chunk, share=share)
    cancellations: dict[int, list[TokenSequence]] = {}
    expected, clock = [], 0

    def tick() -> None:
        nonlocal clock
        clock += 1
        simulation.step(fails=clock in failures)
        cancel(simulation, cancellations.pop(clock, []))

    for number, (length, new, kind, tenant, wait, cancel_after) in enumerate(arrivals):
        for _ in range(wait):
            tick()
        sequence = TokenSequence(str(number), prompt(length, kind), new, tenant)
        simulation.scheduler.add(sequence)
        if cancel_after is None:
            expected.append(sequence)
        else:
            cancellations.setdefault(clock + cancel_after + 1, []).append(sequence)
    bound = 50 + len(failures) + 4 * len(arrivals) * sum(length + new for length, new, *_ in arrivals)
    while sequences_of(simulation.scheduler) and simulation.steps < bound:
        tick()
    assert not sequences_of(simulation.scheduler), "no deadlock, no starvation"
    assert {s.id for s in expected} <= {s.id for s in simulation.done}
    assert all(s.generated == s.max_tokens for s in simulation.done)
    assert simulation.scheduler.kv.pool.in_use == 0, "all counts of holders come to zero"
    assert not any(simulation.scheduler.kv.held(tenant) for tenant in ("alice", "bob"))
    simulation.scheduler.kv.pool.forget_cached()
    assert simulation.scheduler.kv.pool.free == pages
    simulation.clean_up()
    assert not simulation.memory, "no free page keeps its memory"


def cancel(simulation: Simulation, sequences: list[TokenSequence]) -> None:
    for sequence in sequences:
        if sequence in sequences_of(simulation.scheduler):
            simulation.scheduler.remove(sequence, keep=True)


def run(simulation: Simulation) -> None:
    while simulation.step():
        pass


def test_first_come_first_served() -> None:
    simulation = make(max_sequences=1)
    for name in "abc":
        simulation.scheduler.add(TokenSequence(name, prompt(10, ord(name)), 3))
    run(simulation)
    assert [s.id for s in simulation.done] == ["a", "b", "c"]


def test_a_long_prompt_never_stops_the_others_for_longer_than_a_chunk() -> None:
    simulation = make(pages=256, chunk=64)
    short = TokenSequence("short", prompt(10), 50)
    simulation.scheduler.add(short)
    simulation.step()
    simulation.scheduler.add(TokenSequence("long", prompt(1000, 1), 5))
    while short in sequences_of(simulation.scheduler):
        decision = simulation.step()
        assert decision is not None
        assert decision.decode[0].sequence is short
        assert sum(chunk.length for chunk in decision.prefill) <= 64


def test_where_nobody_decodes_a_prompt_is_computed_in_fewer_steps() -> None:
    simulation = make(chunk=64)
    simulation.scheduler.add(TokenSequence("long", prompt(600), 5))
    lengths = []
    while (decision := simulation.step()) is not None and decision.prefill:
        lengths += [chunk.length for chunk in decision.prefill]
    assert lengths == [256, 256, 88]


def test_a_second_turn_prefills_only_what_is_new() -> None:
    simulation = make()
    first = TokenSequence("first", prompt(200), 20)
    simulation.scheduler.add(first)
    run(simulation)
    second = TokenSequence("second", [*first.tokens, 1, 2, 3], 20)
    simulation.scheduler.add(second)
    decision = simulation.step()
    assert decision is not None
    assert second.cached == 219, "all but the last generated token, which was never computed"
    assert [chunk.length for chunk in decision.prefill] == [4]
    assert len(decision.copies) == 1, "the first turn's last page is not full, so it is not shared"


def test_a_copy_needs_a_page_more_only_where_there_is_one() -> None:
    """The sequence fits alone: it must run although the page that it could copy is in its way."""
    for pages, copies in ((4, 0), (5, 1)):
        simulation = make(pages=pages)
        simulation.scheduler.add(TokenSequence("first", [1, 2, 3, 4, 5, 6, 7, 8, 9], 1))
        run(simulation)
        assert simulation.scheduler.kv.pool.cached == 1
        simulation.scheduler.add(TokenSequence("second", [1, 2, 3, 4, 5, *range(50, 76)], 2))
        decision = simulation.step()
        assert decision is not None
        assert len(decision.copies) == copies
        run(simulation)
        assert [s.id for s in simulation.done] == ["first", "second"]


def test_a_copied_page_is_held_until_the_copy_was_made() -> None:
    simulation = make()
    simulation.scheduler.add(TokenSequence("first", prompt(20), 1))
    run(simulation)
    pool = simulation.scheduler.kv.pool
    cached = pool.cached
    second = TokenSequence("second", [*prompt(20)[:13], 1, 2, 3], 2)
    simulation.scheduler.add(second)
    failed = simulation.step(fails=True)
    assert failed is not None
    assert pool.cached == cached - 2, "one page is shared and one is copied"
    again = simulation.step()
    assert again is not None
    assert again.copies == failed.copies
    assert pool.cached == cached - 1


def test_running_sequences_share_the_pages_of_their_common_prompt() -> None:
    simulation = make(pages=64)
    head = prompt(80)
    for name in "abcd":
        simulation.scheduler.add(TokenSequence(name, [*head, ord(name), 1, 2], 20))
    for _ in range(6):
        simulation.step()
    assert simulation.scheduler.running == 4
    assert simulation.scheduler.kv.pool.in_use == 80 // SIZE + 4


def test_tenants_share_only_where_they_may() -> None:
    for share, cached in ((False, 0), (True, 99)):
        simulation = make(share=share)
        for tenant in ("alice", "bob"):
            sequence = TokenSequence(tenant, prompt(100), 2, tenant)
            simulation.scheduler.add(sequence)
            run(simulation)
        assert sequence.cached == cached


def test_memory_follows_what_is_used_and_not_what_may_come() -> None:
    simulation = make(pages=40, max_sequences=32)
    for number in range(12):
        simulation.scheduler.add(TokenSequence(str(number), [number] * 10, 300))
    simulation.step()
    assert simulation.scheduler.running == 12
    assert simulation.scheduler.kv.pool.in_use == 24


def flood(simulation: Simulation, count: int, length: int, new: int, tenant: str = "flood") -> None:
    for number in range(count):
        kind = 50 * len(tenant) + number
        simulation.scheduler.add(TokenSequence(f"{tenant} {number}", prompt(length, kind), new, tenant))


def test_who_runs_nothing_starts_in_the_next_step_whatever_another_has_waiting_and_running() -> None:
    """For want of a place as for want of memory. The flood loses its youngest, and gets the place back afterwards."""
    for pages, places in ((4000, 4), (60, 100)):
        simulation = make(pages=pages, max_sequences=places)
        flood(simulation, 40, 30, 60)
        for _ in range(8):
            simulation.step()
        before = list(simulation.scheduler._running)
        assert simulation.scheduler.waiting > 0
        cause: Cause = "place_share" if places == 4 else "page_share"
        assert simulation.scheduler.preemptions[cause] == 0
        question = TokenSequence("question", prompt(10, 9), 1, "other")
        simulation.scheduler.add(question)
        simulation.step()
        assert question in simulation.done
        assert simulation.scheduler.preemptions[cause] > 0
        simulation.step()
        after = list(simulation.scheduler._running)
        assert after == before[: len(after)]
        assert places > 4 or after == before, "its place back, before the others of its tenant"
        run(simulation)
        assert len(simulation.done) == 41


def test_nobody_is_preempted_for_one_that_does_not_fit_all_the_same() -> None:
    """Its tenant is within its share, but what the other one's oldest holds cannot be had."""
    simulation = make(pages=100, max_sequences=32, chunk=4096)
    scheduler = simulation.scheduler
    scheduler.add(TokenSequence("large", prompt(60 * SIZE), 30, "a"))
    flood(simulation, 6, 2 * SIZE, 30, "a")
    for _ in range(3):
        simulation.step()
    assert scheduler.running == 7
    scheduler.add(TokenSequence("other", prompt(42 * SIZE, 7), 1, "b"))
    for _ in range(5):
        simulation.step()
    assert (scheduler.running, sum(scheduler.preemptions.values())) == (7, 0)
    run(simulation)
    assert len(simulation.done) == 8


def test_a_sequence_that_fails_takes_away_only_what_it_wrote() -> None:
    simulation = make()
    common = prompt(6 * SIZE)
    simulation.scheduler.add(TokenSequence("conversation", [*common, *prompt(4 * SIZE, 3)], 1, "a"))
    run(simulation)
    cached = simulation.scheduler.kv.pool.cached
    failing = TokenSequence("failing", [*common, *prompt(4 * SIZE, 5)], 40, "a")
    simulation.scheduler.add(failing)
    simulation.step()
    simulation.step()
    assert failing.cached == len(common)
    simulation.scheduler.remove(failing, keep=False)
    assert simulation.scheduler.kv.pool.cached == cached, "another conversation's pages, and none of its own"


def test_two_floods_run_equal_numbers() -> None:
    simulation = make(pages=4000, max_sequences=8)
    flood(simulation, 30, 20, 50, "early")
    simulation.step()
    assert simulation.scheduler.running == 8
    flood(simulation, 30, 20, 50, "late")
    for _ in range(200):
        simulation.step()
        assert simulation.ran == {"early": 4, "late": 4}


def test_long_conversations_of_one_tenant_leave_the_other_its_share_of_memory() -> None:
    simulation = make(pages=100, max_sequences=100)
    flood(simulation, 30, 100, 10, "long")
    simulation.step()
    assert simulation.ran == {"long": 7}
    flood(simulation, 60, 10, 20, "short")
    simulation.step()
    assert simulation.ran["short"] * 2 + simulation.ran.total() + 2 > 50, "with another one and its watermark"
    assert simulation.ran["long"] * 13 + simulation.ran["short"] * 2 > 75, "the rest is used"
    run(simulation)
    assert len(simulation.done) == 90


def test_with_fewer_places_than_tenants_they_take_turns() -> None:
    simulation = make(max_sequences=1)
    flood(simulation, 20, 20, 5)
    simulation.step()
    for tenant in ("blue", "red"):
        for number in range(3):
            simulation.scheduler.add(TokenSequence(f"{tenant} {number}", prompt(10, number), 2, tenant))
    run(simulation)
    order = [sequence.tenant for sequence in simulation.done]
    assert order[:10] == ["flood", *["flood", "blue", "red"] * 3]


def test_one_that_needs_more_than_its_share_of_memory_gets_it_in_its_turn() -> None:
    """Although others have something to start in every step."""
    simulation = make(pages=40, max_sequences=8)
    large = TokenSequence("large", prompt(280), 20, "large")
    for number in range(400):
        simulation.scheduler.add(TokenSequence(str(number), [number] * 20, 8, "small"))
        if number == 30:
            simulation.scheduler.add(large)
        simulation.step()
    assert large in simulation.done
    assert [s.id for s in simulation.done].index("large") < 60


def test_what_one_tenant_leaves_the_others_have() -> None:
    simulation = make(pages=4000, max_sequences=8)
    flood(simulation, 20, 20, 50)
    simulation.scheduler.add(TokenSequence("single", prompt(10), 50, "other"))
    simulation.step()
    assert simulation.ran == {"flood": 7, "other": 1}


def test_when_pages_end_the_youngest_of_the_heaviest_tenant_is_preempted() -> None:
    simulation = make(pages=30, max_sequences=8)
    for name, tenant in (("a1", "alice"), ("b1", "bob"), ("b2", "bob"), ("b3", "bob"), ("a2", "alice")):
        simulation.scheduler.add(TokenSequence(name, [ord(c) for c in name] * 16, 100, tenant))
    while not simulation.scheduler.preemptions["growth"]:
        simulation.step()
    assert [s.id for s in sequences_of(simulation.scheduler) if s.preemptions] == ["b3"]
    run(simulation)
    oldest = next(s for s in simulation.done if s.id == "a1")
    assert oldest.preemptions == 0
    assert len(simulation.done) == 5


def test_known_pages_go_before_anybody_is_preempted() -> None:
    simulation = make(pages=30)
    simulation.scheduler.add(TokenSequence("done", prompt(100), 2))
    run(simulation)
    assert simulation.scheduler.kv.pool.cached == 13, "the last of them in part"
    simulation.scheduler.add(TokenSequence("long", prompt(150, 2), 80))
    run(simulation)
    assert sum(simulation.scheduler.preemptions.values()) == 0
    assert simulation.scheduler.kv.pool.evicted > 0


def test_nothing_is_evicted_for_a_sequence_that_does_not_fit_all_the_same() -> None:
    simulation = make(pages=40)
    simulation.scheduler.add(TokenSequence("done", prompt(100), 2))
    run(simulation)
    simulation.scheduler.add(TokenSequence("running", prompt(120, 1), 60))
    simulation.step()
    simulation.step()
    cached = simulation.scheduler.kv.pool.cached
    simulation.scheduler.add(TokenSequence("too long for now", prompt(250, 2), 10))
    simulation.step()
    assert simulation.scheduler.waits_for_memory
    assert simulation.scheduler.kv.pool.cached == cached


def test_nobody_is_admitted_only_to_be_preempted_in_the_next_step() -> None:
    """Pages for both as they are, but none for the next token of the one that runs."""
    simulation = make(pages=4)
    for kind, name in enumerate("ab"):
        simulation.scheduler.add(TokenSequence(name, prompt(2 * SIZE, kind), 8))
    simulation.step()
    assert (simulation.scheduler.running, simulation.scheduler.waiting) == (1, 1)
    run(simulation)
    assert [s.id for s in simulation.done] == ["a", "b"]
    assert sum(simulation.scheduler.preemptions.values()) == 0


def test_a_sequence_that_fits_alone_is_taken_and_a_longer_one_is_not() -> None:
    simulation = make(pages=10)
    simulation.scheduler.add(TokenSequence("fits", prompt(61), 20))
    run(simulation)
    assert [s.id for s in simulation.done] == ["fits"]
    for length, new in ((61, 21), (81, 0), (0, 5), (5, -1)):
        try:
            simulation.scheduler.add(TokenSequence("no", [1] * length, new))
        except ValueError:
            continue
        raise AssertionError(f"{length} + {new} was taken")


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    """The bound of prefill_shares, of one tenant: ceil(n / (b // 2)) steps."""
    simulation = make(pages=4000, chunk=64)
    simulation.scheduler.add(TokenSequence("decoding", [1] * 4, 400))
    simulation.step()
    simulation.scheduler.add(TokenSequence("long", prompt(20_000, 1), 5))
    for _ in range(3):
        simulation.step()
    short = TokenSequence("short", prompt(80, 2), 5)
    simulation.scheduler.add(short)
    steps = 0
    while not short.generated:
        simulation.step()
        steps += 1
    assert steps <= math.ceil(80 / (64 // 2))


def test_no_tenants_prompts_take_the_whole_step() -> None:
    simulation = make(pages=4000, chunk=64)
    for number in range(6):
        simulation.scheduler.add(TokenSequence(f"alice {number}", prompt(3000, number), 5, "alice"))
    bob = TokenSequence("bob", prompt(3000, 9), 5, "bob")
    simulation.scheduler.add(bob)
    decision = simulation.step()
    assert decision is not None
    assert [chunk.length for chunk in decision.prefill if chunk.sequence is bob] == [ALONE * 64 // 2]


def test_a_long_prompt_ends_although_short_ones_keep_coming() -> None:
    simulation = make(pages=4000, chunk=64, max_sequences=8)
    long = TokenSequence("long", prompt(3000, 1), 2)
    simulation.scheduler.add(long)
    for number in range(200):
        simulation.scheduler.add(TokenSequence(str(number), [number] * 40, 1))
        simulation.step()
        if long in simulation.done:
            return
    raise AssertionError("the long prompt starved")


def test_steps_become_smaller_until_one_row_is_left() -> None:
    simulation = make(chunk=64, max_sequences=4)
    for name in "abcd":
        simulation.scheduler.add(TokenSequence(name, [ord(name)] * 4, 30))
    for _ in range(3):
        simulation.step()
    shrunk = 0
    while simulation.scheduler.make_steps_smaller():
        shrunk += 1
    assert simulation.scheduler.limits() == {"prompt_tokens": SMALLEST_CHUNK, "sequences": 1}
    assert shrunk == 4
    rows = []
    for _ in range(8):
        decision = simulation.step()
        assert decision is not None
        rows.append(tuple(chunk.sequence.id for chunk in decision.decode))
    assert rows == [("a",), ("b",), ("c",), ("d",)] * 2, "each has its turn"


def test_smaller_steps_grow_again_when_memory_was_short_for_a_moment() -> None:
    simulation = make(pages=400, chunk=64, max_sequences=4)
    while simulation.scheduler.make_steps_smaller():
        pass
    largest = {"prompt_tokens": 64, "sequences": 4}
    for _ in range(5 * LARGER_AFTER):
        if not simulation.scheduler.running:
            simulation.scheduler.add(TokenSequence("long", prompt(8), 1000))
        simulation.step()
        if simulation.scheduler.limits() == largest:
            break
    assert simulation.scheduler.limits() == largest


HEAD = 12 * SIZE + 3
"""Tokens that prompts of one kind begin with: they do not fill their last page."""


def behind_head(name: str, own: int, new: int, kind: int = 0, tenant: str = "a") -> TokenSequence:
    head = [100_000 * (kind + 1) + i for i in range(HEAD)]
    return TokenSequence(
        name, [*head, *(random.Random(f"{name}/{i}").randrange(90_000) for i in range(own))], new, tenant
    )


def pages_allowed(running: list[TokenSequence]) -> int:
    """The full pages of each head once for its tenant, and each sequence's own behind them."""
    heads = {(sequence.tenant, sequence.tokens[0]) for sequence in running}
    full = HEAD // SIZE
    return full * len(heads) + sum(math.ceil(len(sequence.tokens) / SIZE) - full for sequence in running)


@settings(max_examples=120, deadline=None)
@given(
    arrivals=st.lists(
        st.tuples(
            st.integers(1, 30),  # tokens of its own
            st.integers(1, 20),  # new tokens
            st.integers(0, 1),  # kind of head
            st.sampled_from(["alice", "bob"]),
            st.sampled_from([0, 0, 0, 0, 1, 3]),  # steps before it arrives
            st.one_of(st.none(), st.integers(0, 12)),  # cancelled this number of steps after its arrival
            st.booleans(),  # what a cancelled one wrote may stay
        ),
        min_size=2,
        max_size=20,
    ),
    pages=st.sampled_from([20, 40, 60, 400]),
    max_sequences=st.integers(1, 20),
    chunk=st.sampled_from([2, 7, 64]),
    failures=st.sets(st.integers(0, 30), max_size=6),
)
def test_prompts_that_begin_alike_take_memory_for_that_once_although_they_arrive_at_once(
    arrivals: list[tuple[int, int, int, str, int, int | None, bool]],
    pages: int,
    max_sequences: int,
    chunk: int,
    failures: set[int],
) -> None:
    simulation = make(pages=pages, max_sequences=max_sequences, chunk=chunk)
    scheduler = simulation.scheduler
    ends: dict[int, list[tuple[TokenSequence, bool]]] = {}
    expected, clock = set[str](), 0

    def tick() -> None:
        nonlocal clock
        clock += 1
        decision = simulation.step(fails=clock in failures)
        copied = 0 if decision is None else len(decision.copies)
        assert scheduler.kv.pool.in_use <= pages_allowed(list(scheduler._running.values())) + copied
        for sequence, keep in ends.pop(clock, []):
            if sequence in sequences_of(scheduler):
                scheduler.remove(sequence, keep=keep)

    for number, (own, new, kind, tenant, wait, cancel_after, keep) in enumerate(arrivals):
        for _ in range(wait):
            tick()
        sequence = behind_head(str(number), own, new, kind, tenant)
        scheduler.add(sequence)
        if cancel_after is None:
            expected.add(sequence.id)
        else:
            ends.setdefault(clock + cancel_after + 1, []).append((sequence, keep))
    bound = 50 + len(failures) + 4 * len(arrivals) * sum(HEAD + own + new for own, new, *_ in arrivals)
    while sequences_of(scheduler) and simulation.steps < bound:
        tick()
    assert not sequences_of(scheduler), "no deadlock, no starvation"
    assert expected <= {s.id for s in simulation.done}
    assert scheduler.kv.pool.in_use == 0
    assert not scheduler._followers.remaining()


def test_prompts_that_begin_alike_evict_nobodys_pages_for_copies_of_them() -> None:
    simulation = make(pages=64, max_sequences=16)
    scheduler = simulation.scheduler
    scheduler.add(TokenSequence("document", prompt(20 * SIZE, 3), 1, "other"))
    run(simulation)
    for number in range(10):
        scheduler.add(behind_head(str(number), 4, 8))
    simulation.step()
    assert scheduler.running == 10
    run(simulation)
    assert (scheduler.kv.pool.evicted, sum(scheduler.preemptions.values())) == (0, 0)
    assert [s.cached for s in simulation.done if s.tenant == "a"] == [0, *[HEAD - HEAD % SIZE] * 9]


def test_when_the_one_that_computes_a_common_beginning_is_gone_the_next_one_computes_it() -> None:
    """Cancelled, or failed so that nothing of it may be used."""
    for keep in (True, False):
        simulation = make(chunk=SIZE)
        sequences = [behind_head(name, 4, 3) for name in "abc"]
        for sequence in sequences:
            simulation.scheduler.add(sequence)
        simulation.step()
        assert [bool(sequence.pages) for sequence in sequences] == [True, False, False]
        simulation.scheduler.remove(sequences[0], keep=keep)
        decision = simulation.step()
        assert decision is not None
        assert [(chunk.sequence.id, chunk.start > 0) for chunk in decision.prefill] == [("b", keep)]
        run(simulation)
        assert [s.id for s in simulation.done] == ["b", "c"]


def test_nobody_follows_one_whose_next_page_is_alike_behind_another_beginning() -> None:
    simulation = make(chunk=SIZE)
    scheduler = simulation.scheduler
    mine, others, common = prompt(2 * SIZE, 1), prompt(2 * SIZE, 2), prompt(3 * SIZE, 3)
    scheduler.add(TokenSequence("before", [*mine, 1], 1, "a"))
    run(simulation)
    scheduler.add(TokenSequence("decoding", [1], 40, "a"))
    other = TokenSequence("other", [*others, *common], 3, "a")
    scheduler.add(other)
    while other.computed < 2 * SIZE:
        simulation.step()
    alike = TokenSequence("alike", [*mine, *common], 3, "a")
    scheduler.add(alike)
    simulation.step()
    assert (other.computed // SIZE, bool(alike.pages)) == (3, True)


def test_one_that_begins_otherwise_passes_those_that_wait_for_a_common_beginning() -> None:
    simulation = make(pages=4000, chunk=64)
    for name in "abc":
        simulation.scheduler.add(behind_head(name, 500, 3))
    other = TokenSequence("other", prompt(10, 5), 1, "a")
    simulation.scheduler.add(other)
    simulation.step()
    assert other in simulation.done


def test_a_short_prompt_is_not_late_because_a_long_one_computes_its_beginning() -> None:
    """The bound of prefill_shares, with the step that following takes: another long one came first."""
    simulation = make(pages=4000, chunk=64)
    simulation.scheduler.add(TokenSequence("decoding", [1] * 4, 400))
    simulation.step()
    simulation.scheduler.add(TokenSequence("first", prompt(10_000, 1), 5))
    document = prompt(20_000, 2)
    simulation.scheduler.add(TokenSequence("document", document, 5))
    short = TokenSequence("short", [*document[:90], *range(20)], 5)
    simulation.scheduler.add(short)
    steps = 0
    while not short.generated:
        simulation.step()
        steps += 1
    assert steps <= math.ceil(110 / (64 // 2)) + 1


def test_a_prompt_waits_for_no_page_that_it_does_not_share() -> None:
    """It leaves the document within the page that is computed."""
    simulation = make(pages=4000, chunk=SIZE)
    document = prompt(2000, 2)
    simulation.scheduler.add(TokenSequence("document", document, 5))
    simulation.step()
    short = TokenSequence("short", [*document[: 4 * SIZE + 5], *range(20)], 5)
    simulation.scheduler.add(short)
    simulation.step()
    assert short.pages
    assert short.computed > 4 * SIZE


def test_a_prompt_with_known_pages_does_not_wait_for_one_that_computes_all_of_its_own() -> None:
    """That one wants its prompt's log-probabilities, and is far behind."""
    simulation = make(pages=400, chunk=SIZE)
    simulation.scheduler.add(TokenSequence("earlier", prompt(400, 1)[:100], 1))
    run(simulation)
    simulation.scheduler.add(TokenSequence("scored", prompt(400, 1), 1, top_scores=0))
    question = TokenSequence("question", prompt(400, 1)[:130], 1)
    simulation.scheduler.add(question)
    simulation.step()
    assert question.cached >= 96


def test_pages_that_followers_will_need_are_nobody_elses() -> None:
    simulation = make(pages=47, chunk=SIZE)
    for name in "abcd":
        simulation.scheduler.add(behind_head(name, 10 * SIZE, 1))
    simulation.step()
    assert simulation.scheduler.running == 3, "12 pages of the head, and 11 of each one's own"
    run(simulation)
    assert (len(simulation.done), sum(simulation.scheduler.preemptions.values())) == (4, 0)


def test_a_follower_that_gives_up_its_place_has_lost_nothing_and_does_not_count_as_preempted() -> None:
    simulation = make(max_sequences=2, chunk=SIZE)
    for name in "ab":
        simulation.scheduler.add(behind_head(name, 4, 1))
    simulation.step()
    simulation.scheduler.add(TokenSequence("other", prompt(10, 5), 1, "other"))
    simulation.step()
    assert simulation.ran == {"a": 1, "other": 1}
    run(simulation)
    assert [s.preemptions for s in simulation.done] == [0, 0, 0]
    assert sum(simulation.scheduler.preemptions.values()) == 0

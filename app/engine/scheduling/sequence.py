"""One sequence as the scheduler sees it: token counts and a place in the KV cache, no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.contract.messages import ANONYMOUS


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """A row of a shelf of the KV cache. A shelf holds slots of one capacity, in tokens."""

    capacity: int
    index: int


@dataclass(slots=True, eq=False)
class Sequence:
    """A request between arrival and end.

    `tokens` is the prompt and everything generated so far; the first `computed` of them have their keys and
    values in `slot`. A sequence with one pending token decodes; with more it prefills.
    """

    id: str
    tokens: list[int]
    max_tokens: int
    tenant: str = ANONYMOUS
    prompt_length: int = field(init=False)
    computed: int = 0
    cached: int = 0  # of the prompt, what a cached prefix gave
    slot: Slot | None = None

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)

    @property
    def placed(self) -> Slot:
        """Its slot. Raises RuntimeError while it waits."""
        if self.slot is None:
            raise RuntimeError(f"sequence {self.id} has no slot")
        return self.slot

    @property
    def longest(self) -> int:
        """Tokens that it may come to hold."""
        return self.prompt_length + self.max_tokens

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the first `length` tokens' keys and values from one slot to another before the step; with `swap` the
    target's go the other way."""

    source: Slot
    target: Slot
    length: int
    swap: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `length` tokens of the sequence, from `start`. It ends the pending tokens if `last`: then a token
    is sampled from its last row."""

    sequence: Sequence
    start: int
    length: int

    @property
    def last(self) -> bool:
        return self.start + self.length == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True)
class Decision:
    """One step: the copies first, then one forward pass over all of `decode` and `prefill`."""

    extents: Mapping[int, int]  # slots that the cache must have of each capacity
    copies: tuple[Copy, ...]
    decode: tuple[Chunk, ...]  # one token each, ordered by slot
    prefill: tuple[Chunk, ...]

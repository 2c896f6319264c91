"""What a step computes: the decision of the scheduler."""

from dataclasses import dataclass

from app.engine.kv.sequence import TokenSequence


@dataclass(frozen=True, slots=True)
class SequenceChunk:
    """Compute `length` tokens of the sequence, from `start`. It ends the pending tokens if `last`: then a token
    is sampled from its last row."""

    sequence: TokenSequence
    start: int
    length: int

    @property
    def last(self) -> bool:
        return self.start + self.length == len(self.sequence.tokens)

    @property
    def scored(self) -> range:
        """The places of prompt tokens whose wanted log-probabilities these rows give: each row that of the next."""
        first = max(self.sequence.scored, self.start + 1)
        return range(first, min(self.start + self.length + 1, self.sequence.prompt_length))


@dataclass(frozen=True, slots=True)
class PageCopy:
    """Copy the keys and values of one page to another, in every layer."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Decision:
    """One step: first the copies, then one forward pass over all of `decode` and `prefill`. The block tables are the
    sequences' own."""

    decode: tuple[SequenceChunk, ...]  # one token each
    prefill: tuple[SequenceChunk, ...]
    copies: tuple[PageCopy, ...] = ()

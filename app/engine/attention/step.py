"""One step for attention: its rows, where their keys and values go, and the tokens that each row may see.

A step computes `tokens` rows of hidden state, `[1, tokens, hidden]`: first one row of every decoding sequence,
ordered by the length of its context, then the prompt chunks.
"""

from dataclasses import dataclass

from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, SequenceChunk


@dataclass(frozen=True, slots=True)
class Row:
    """A decoding sequence: one token, which sees `length` tokens, itself included."""

    table: list[int]  # its sequence's pages
    length: int


@dataclass(frozen=True, slots=True)
class Span:
    """A prompt chunk: the positions start…end-1 of a sequence, each of which sees those before it and itself."""

    table: list[int]
    start: int
    end: int
    rows: slice  # of the step


@dataclass(frozen=True, slots=True)
class Scored:
    """Prompt tokens of a chunk whose log-probabilities are wanted: those at `places` of the sequence."""

    sequence: TokenSequence
    places: range
    rows: range  # of the step: each gives the probabilities of the next place


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one forward pass, not yet on a device."""

    tokens: list[int]
    positions: list[int]
    slots: list[int]  # where each row's keys and values go: page * size + place in the page
    decode: tuple[Row, ...]  # the first rows, shortest context first
    spans: tuple[Span, ...]
    sampled: tuple[SequenceChunk, ...]  # the chunks that get a new token
    sampled_rows: list[int]  # the row of each one's next token
    scored: tuple[Scored, ...] = ()


def step_of(decision: Decision, page_size: int) -> Step:
    """The rows of a decision, over pages of `page_size` tokens."""
    decoding = sorted(decision.decode, key=lambda chunk: chunk.start)
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    rows: list[slice] = []  # of each chunk
    for chunk in (*decoding, *decision.prefill):
        pages, end = chunk.sequence.pages, chunk.start + chunk.length
        rows.append(slice(len(tokens), len(tokens) + chunk.length))
        tokens += chunk.sequence.tokens[chunk.start : end]
        positions += range(chunk.start, end)
        slots += [pages[p // page_size] * page_size + p % page_size for p in range(chunk.start, end)]
    prefill = list(zip(decision.prefill, rows[len(decoding) :], strict=True))
    ended = [(chunk, span.stop - 1) for chunk, span in prefill if chunk.last]
    return Step(
        tokens=tokens,
        positions=positions,
        slots=slots,
        decode=tuple(Row(chunk.sequence.pages, chunk.start + 1) for chunk in decoding),
        spans=tuple(
            Span(chunk.sequence.pages, chunk.start, chunk.start + chunk.length, span) for chunk, span in prefill
        ),
        sampled=(*decoding, *(chunk for chunk, _ in ended)),
        sampled_rows=[*range(len(decoding)), *(row for _, row in ended)],
        scored=tuple(_scored(chunk, span) for chunk, span in prefill if chunk.scored),
    )


def _scored(chunk: SequenceChunk, rows: slice) -> Scored:
    places = chunk.scored
    first = rows.start + places.start - 1 - chunk.start
    return Scored(chunk.sequence, places, range(first, first + len(places)))

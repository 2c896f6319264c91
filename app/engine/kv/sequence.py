"""One sequence as the scheduler sees it: its tokens and a block table, no tensors."""

from dataclasses import dataclass, field

from app.contract.progress import Progress
from app.contract.requests import ANONYMOUS
from app.engine.kv.known_pages import KnownPage


@dataclass(slots=True, eq=False)
class TokenSequence:
    """A request between arrival and end.

    `tokens` is the prompt and everything generated so far; the first `computed` of them have their keys and values in
    `pages`. A sequence with one pending token decodes; with more it prefills, also after it was preempted and lost
    its pages.
    """

    id: str
    tokens: list[int]
    max_tokens: int
    tenant: str = ANONYMOUS
    top_scores: int | None = None  # for each prompt token's log-probability, this many most likely ones; None: no
    progress: Progress = field(default_factory=Progress)  # the request's
    prompt_length: int = field(init=False)
    computed: int = 0
    pages: list[int] = field(default_factory=list)  # its block table
    known: list[KnownPage] = field(default_factory=list)  # the first of them, as the pool knows them
    source: KnownPage | None = None  # the page behind them begins as a copy of this one, which is not made yet
    wrote: set[int] = field(default_factory=set)  # of the known pages, those that it computed itself
    scored: int = field(init=False)  # prompt tokens that have their log-probabilities, or need none as the first

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)
        self.scored = self.prompt_length if self.top_scores is None else 1

    @property
    def unscored(self) -> bool:
        """Whether its prompt's rows are wanted, and not only their keys and values."""
        return self.scored < self.prompt_length

    @property
    def cached(self) -> int:
        """Prompt tokens that known pages held already."""
        return self.progress.cached_tokens

    @property
    def preemptions(self) -> int:
        return self.progress.preemptions

    @property
    def longest(self) -> int:
        """The most tokens whose keys and values it will hold: the last generated one is never computed."""
        return self.prompt_length + max(0, self.max_tokens - 1)

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

"""A grammar at work on one sequence, as the sampler sees it."""

from typing import Protocol


class Constraint(Protocol):
    """Pure: no torch. Belongs to one request, and is called from the inference thread, once per token."""

    def allowed(self) -> bytes:
        """The tokens that may come next: a bit for each, the lowest bit of a byte first. Stop tokens are allowed
        where the grammar may end."""
        ...

    def accept(self, token: int) -> None:
        """The token was chosen."""
        ...

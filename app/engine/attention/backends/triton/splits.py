"""Into how many parts a context is split, so that a small batch keeps a whole GPU busy.

It depends on the batch alone and not on lengths: a captured step has one launch grid for every context.
"""

import triton

PROGRAMS = 256
"""About two for each multiprocessor of the cards in question (68 to 132); more would only add work to the merge."""

MOST = 64


def splits_for(programs: int) -> int:
    """A power of two, for `programs` that would run without a split."""
    wanted = min(MOST, max(1, PROGRAMS // programs))
    return 1 << (wanted.bit_length() - 1)


def block(width: int) -> int:
    """The tile that holds `width` in a matrix product: a power of two, at least 16."""
    return max(16, int(triton.next_power_of_2(width)))

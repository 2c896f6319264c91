"""Which running sequence of a shelf moves where, so that they lie close together and room falls free. Pure.

Attention reads the window from the first running sequence to the last, and computes its holes for nobody; a move
costs one copy, a hole something at every step. Slots are indices; `running` rises.
"""

from collections.abc import Sequence

FEW = 8
"""One hole for so many running sequences is left alone."""


def next_move(running: Sequence[int], empty: Sequence[int]) -> tuple[int, int] | None:
    """From which slot to which, or None when all is well. A hole may hold a cached prefix; `empty` ones do not."""
    if not running:
        return None
    return _close_up(running) or _come_down(running, empty)


def _close_up(running: Sequence[int]) -> tuple[int, int] | None:
    """The outermost sequence, where its leaving narrows the window most, to a hole between the others."""
    first, last = running[0], running[-1]
    if last + 1 - first <= len(running) + len(running) // FEW:
        return None
    mover = last if last - running[-2] >= running[1] - first else first
    taken = set(running)
    return mover, next(slot for slot in range(first + 1, last) if slot not in taken)


def _come_down(running: Sequence[int], empty: Sequence[int]) -> tuple[int, int] | None:
    """Empty slots below the last sequence are room that no other shelf can have: not more of them than sequences."""
    below = [slot for slot in empty if slot < running[-1]]
    return (running[-1], below[0]) if len(below) > len(running) else None

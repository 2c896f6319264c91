"""Runs out of memory at one operation of torch, whichever it is."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Failing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's class has no types
    """Within it, operation number `at`, from 1, finds no memory. `reached`: there were as many."""

    def __init__(self, at: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self._left = at

    @property
    def reached(self) -> bool:
        return self._left <= 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._left -= 1
        if self._left == 0:
            raise torch.OutOfMemoryError(f"no memory for {func}")
        return func(*args, **(kwargs or {}))

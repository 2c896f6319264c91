"""Constraints without a grammar library: small enough to know what they must do."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Table:
    """Allows after n tokens what `rule(n)` names; remembers what was chosen, and how often it was asked."""

    rule: Callable[[int], set[int]]
    taken: list[int] = field(default_factory=list)
    asked: int = 0

    def allowed(self) -> bytes:
        self.asked += 1
        bits = sum(1 << token for token in self.rule(len(self.taken)))
        return bits.to_bytes(64, "little")

    def accept(self, token: int) -> None:
        if token not in self.rule(len(self.taken)):
            raise ValueError("not allowed")
        self.taken.append(token)


class Broken:
    """Fails, at the first question or at the first token."""

    def __init__(self, at: str) -> None:
        self._at = at

    def allowed(self) -> bytes:
        if self._at == "allowed":
            raise RuntimeError("broken")
        return b"\xff" * 64

    def accept(self, token: int) -> None:
        raise RuntimeError("broken")

"""Which schemas of tools an engine allows any object for, because the library cannot enforce them."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator

from app.contract.requests import LarkGrammar

_MOST = 1000  # of each kind that are remembered


class LooseSchemas:
    """What was found out, so that each turn of a conversation need not try it again. What is not asked for is
    forgotten first. Safe under threads."""

    def __init__(self) -> None:
        self._refused = _Recent()  # schemas, which the library refuses alone
        self._together = _Recent()  # grammars, with the number of their largest schemas that are left out

    def of(self, grammar: LarkGrammar) -> frozenset[str]:
        """The names of the rules that are known to be left open."""
        names = _largest_first(grammar)
        refused = [name for name in names if self._refused.find(grammar.schemas[name].schema) is not None]
        return frozenset([*refused, *names[: self._together.find(_text(grammar)) or 0]])

    def refuse(self, schema: str) -> None:
        """The library refuses this schema, whatever is beside it."""
        self._refused.note(schema, 1)

    def fewer_together(self, grammar: LarkGrammar) -> Iterator[frozenset[str]]:
        """For a grammar whose schemas are too complex together: more and more rules that may be left open, the
        largest schemas first. The last set that was taken is remembered."""
        most = len(_largest_first(grammar))
        for doublings in range(most.bit_length() + 1 if most else 0):
            self._together.note(_text(grammar), min(2**doublings, most))
            yield self.of(grammar)


class _Recent:
    """Numbers by texts, of which digests are kept. The least recently used one is forgotten."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> int | None:
        digest = _digest(text)
        with self._lock:
            if digest in self._numbers:
                self._numbers.move_to_end(digest)
            return self._numbers.get(digest)

    def note(self, text: str, number: int) -> None:
        with self._lock:
            self._numbers[_digest(text)] = number
            if len(self._numbers) > _MOST:
                self._numbers.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _largest_first(grammar: LarkGrammar) -> list[str]:
    """The rules that need not be enforced."""
    need_not = [name for name, rule in grammar.schemas.items() if not rule.strict]
    return sorted(need_not, key=lambda name: len(grammar.schemas[name].schema), reverse=True)


def _text(grammar: LarkGrammar) -> str:
    return "\n".join([grammar.rules, *(f"{rule.strict} {rule.schema}" for rule in grammar.schemas.values())])
